//! Topics: one message for the layers at the other ends of several channels.

use crate::ipc::message::{Publisher, Subscriber};
use crate::layer::{Layer, LayerError};

impl Layer {
    /// Publishes on the method `method` of these channels, each of which leads to the instances of
    /// one subscriber; see [`Publisher::new`].
    pub fn topic(
        &self,
        channels: &[&str],
        method: &str,
        depth: usize,
    ) -> Result<Publisher, LayerError> {
        let channels = channels.iter().map(|name| self.channel(name));
        let channels = channels.collect::<Result<Vec<_>, _>>()?;
        Ok(Publisher::new(&channels, method, depth)?)
    }

    /// Subscribes to what is published on the method `method` of a channel.
    pub fn subscribe(&self, channel: &str, method: &str) -> Result<Subscriber, LayerError> {
        Ok(Subscriber::new(self.channel(channel)?, method))
    }
}
