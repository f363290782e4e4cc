//! Taking requests until the daemon stops, and a little longer.

use std::time::Duration;

use tokio::time::sleep;

use cofferdam::Layer;
use cofferdam::ipc::message::{Channel, ChannelError, Event, Message, Replier};

/// How long nobody has asked before a stopping layer ends. All layers are asked to stop at once,
/// and the parsers still finish what they have.
const QUIET: Duration = Duration::from_secs(1);

/// The requests on one channel.
pub(crate) struct Requests {
    layer: Layer,
    channel: Channel,
    stopping: bool,
}

impl Requests {
    /// Those that come on `channel`, a channel to this layer.
    pub(crate) fn new(layer: &Layer, channel: Channel) -> Self {
        Self { layer: layer.clone(), channel, stopping: false }
    }

    /// The next request; `None` when the layer is to stop and nobody is left who would ask.
    pub(crate) async fn next(&mut self) -> Result<Option<(Message, Replier)>, ChannelError> {
        loop {
            let event = tokio::select! {
                event = self.channel.recv() => event?,
                () = self.layer.stopping(), if !self.stopping => {
                    self.stopping = true;
                    continue;
                }
                () = sleep(QUIET), if self.stopping => return Ok(None),
            };
            match event {
                Event::Request { message, reply, .. } => return Ok(Some((message, reply))),
                Event::PeerGone(_) if self.stopping && self.channel.peers().is_empty() => {
                    return Ok(None);
                }
                _ => {}
            }
        }
    }
}
