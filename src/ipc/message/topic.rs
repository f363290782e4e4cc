//! Telling many layers the same: one publisher, and a channel to each layer that subscribes.
//!
//! A topic is nothing but a one-way method of several channels, so each subscriber has sealed
//! links of its own, and a slow or dead one holds up neither the publisher nor the others. Before
//! each message stands its number, u64 little-endian.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::error::{ChannelError, SendError, Violation};
use super::state::State;
use super::wait::Who;
use super::{Channel, Event, Message};
use crate::ident::Instance;
use crate::ipc::Blocking;
use crate::wire::record::Kind;

/// Bytes of a number.
const NUMBER: usize = size_of::<u64>();

/// The publishing end of a topic. A handle; clones are the same end.
#[derive(Clone)]
pub struct Publisher {
    channels: Arc<[(Channel, u16)]>,
    method: Arc<str>,
    depth: usize,
    retain: bool,
    next: Arc<Mutex<u64>>,
}

/// The subscribing end of a topic.
#[derive(Debug)]
pub struct Subscriber {
    channel: Channel,
    method: String,
    /// The last number of each copy of the publisher.
    last: BTreeMap<u16, (u64, u64)>,
}

/// One message of a topic.
#[derive(Debug)]
pub struct Publication {
    /// Who published it: as proven in the handshake.
    pub from: Instance,
    /// Its number. They begin at 0 with each life of the publisher.
    pub number: u64,
    /// How many before it this subscriber has missed, because it was slow. What was published
    /// before it came is not counted.
    pub missed: u64,
    /// What was published.
    pub body: Vec<u8>,
}

impl Publisher {
    /// Publishes on a method that this end of all these channels may send messages of.
    ///
    /// `depth` is how many messages wait at most for one instance of a subscriber, besides what
    /// its socket holds; at least one.
    pub fn new(channels: &[Channel], method: &str, depth: usize) -> Result<Self, Violation> {
        let nothing = Message::default();
        let numbered = channels.iter().map(|channel| {
            let (number, _) = channel.check(Kind::Message, method, &nothing)?;
            Ok((channel.clone(), number))
        });
        let channels = numbered.collect::<Result<Arc<[_]>, _>>()?;
        let next = Arc::new(Mutex::new(0));
        Ok(Self { channels, method: method.into(), depth: depth.max(1), retain: false, next })
    }

    /// Has a subscriber that comes, or comes back, get the last message first.
    #[must_use]
    pub fn retaining(self) -> Self {
        Self { retain: true, ..self }
    }

    /// Publishes to every instance that is there now, and never waits: who has `depth` messages
    /// waiting loses the oldest of them. How many were lost, over all subscribers.
    ///
    /// What finds no room goes with the channels' next verbs or their driver.
    pub fn publish(&self, body: &[u8]) -> Result<u64, Violation> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let message = Message::from([&next.to_le_bytes(), body].concat());
        for (channel, _) in &*self.channels {
            channel.check(Kind::Message, &self.method, &message)?;
        }
        *next += 1;
        let body: Arc<[u8]> = message.body.into();
        let mut lost = 0;
        for (channel, number) in &*self.channels {
            lost += channel.shared.with(|state| {
                if self.retain {
                    state.retain(*number, &body);
                }
                state.publish(*number, &body, self.depth)
            });
            channel.shared.wake_driver();
        }
        Ok(lost)
    }

    /// Waits until nothing waits here for a subscriber: for publishers that would rather be slow
    /// than lose.
    pub async fn flush(&self) -> Result<(), ChannelError> {
        for (channel, number) in &*self.channels {
            let done = |state: &mut State| state.has_published(*number).then_some(());
            channel.shared.wait(Who::Sender, done).await?;
        }
        Ok(())
    }

    /// The same verbs, blocking the thread.
    pub fn blocking(&self) -> Blocking<&Self> {
        Blocking(self)
    }
}

impl Blocking<&Publisher> {
    /// Waits until nothing waits here for a subscriber, at most for `time`.
    pub fn flush(&self, time: Option<Duration>) -> Result<(), SendError> {
        let end = time.and_then(|time| Instant::now().checked_add(time));
        for (channel, number) in &*self.0.channels {
            let done = |state: &mut State| state.has_published(*number).then_some(());
            channel.shared.block(end, done)?.ok_or(SendError::Timeout)?;
        }
        Ok(())
    }
}

impl Subscriber {
    /// Subscribes to a method of a channel, by which nothing else should come.
    pub fn new(channel: Channel, method: &str) -> Self {
        Self { channel, method: method.to_owned(), last: BTreeMap::new() }
    }

    /// The next message. What else comes by the channel is passed over, and calls are refused:
    /// who wants it receives from the channel, and gives each event to [`Subscriber::read`].
    pub async fn next(&mut self) -> Result<Publication, ChannelError> {
        loop {
            let event = self.channel.recv().await?;
            if let Ok(publication) = self.read(event) {
                return Ok(publication);
            }
        }
    }

    /// The same verbs, blocking the thread.
    pub fn blocking(&mut self) -> Blocking<&mut Self> {
        Blocking(self)
    }

    /// Reads an event of the channel. What is no message of the topic is given back.
    #[allow(clippy::result_large_err)]
    pub fn read(&mut self, event: Event) -> Result<Publication, Event> {
        let Event::Message { from, method, mut message } = event else { return Err(event) };
        let number = message.body.first_chunk::<NUMBER>().copied().map(u64::from_le_bytes);
        let (Some(number), true) = (number, method == self.method.as_str()) else {
            return Err(Event::Message { from, method, message });
        };
        message.body.drain(..NUMBER);
        let before = self.last.insert(from.index, (from.generation, number));
        let missed = match before {
            Some((life, last)) if life == from.generation => {
                number.saturating_sub(last).saturating_sub(1)
            }
            _ => 0,
        };
        Ok(Publication { from, number, missed, body: message.body })
    }
}

impl Blocking<&mut Subscriber> {
    /// The next message, at most for `time` after the last thing that came.
    pub fn next(&mut self, time: Option<Duration>) -> Result<Publication, ChannelError> {
        loop {
            let event = self.0.channel.blocking().recv(time)?;
            if let Ok(publication) = self.0.read(event) {
                return Ok(publication);
            }
        }
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("method", &self.method).finish_non_exhaustive()
    }
}
