//! The same channel for code that waits by blocking its thread.
//!
//! It may be used from inside an async task too, where a callback can't wait otherwise: it looks
//! at the sockets itself, with `poll(2)`, and needs neither the runtime nor the driver. The
//! thread's other tasks stand still meanwhile, so give it a time limit there.

use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{CallError, ChannelError, SendError};
use super::state::{Parcel, State, Submitted};
use super::{Event, Message, parcel};
use crate::ident::Instance;
use crate::wire::record::Kind;

/// A channel whose verbs block. A handle; clones are the same end.
#[derive(Clone, Debug)]
pub struct Channel(super::Channel);

impl Channel {
    pub(super) fn new(channel: super::Channel) -> Self {
        Self(channel)
    }

    /// Sends a message to the peer that has least to do. Waits while all are full or there is
    /// none, at most for `time`; after [`SendError::Timeout`] the message was not taken.
    pub fn send(
        &self,
        method: &str,
        message: impl Into<Message>,
        time: Option<Duration>,
    ) -> Result<(), SendError> {
        self.post(None, method, message.into(), time)
    }

    /// Sends a message to one instance; fails if that has ended.
    pub fn send_to(
        &self,
        peer: &Instance,
        method: &str,
        message: impl Into<Message>,
        time: Option<Duration>,
    ) -> Result<(), SendError> {
        self.post(Some(peer), method, message.into(), time)
    }

    /// Sends many messages, of which small ones share records: many times faster than one by
    /// one. Returns when the kernel has all of them. After an error, those before the one that
    /// it is about are on their way.
    pub fn send_all<M: Into<Message>>(
        &self,
        method: &str,
        messages: impl IntoIterator<Item = M>,
        time: Option<Duration>,
    ) -> Result<(), SendError> {
        let deadline = deadline(time);
        for message in messages {
            let mut message = message.into();
            let (number, descriptions) = self.0.check(Kind::Message, method, &message)?;
            let parcel = parcel(Kind::Message, number, &mut message, &descriptions);
            let mut parcel = Parcel { hold: true, ..parcel };
            let attempt = |state: &mut State| match state.submit(None, &mut parcel) {
                Submitted::Taken { .. } => Some(()),
                Submitted::Full | Submitted::Gone => None,
            };
            self.0.shared.block(deadline, attempt)?.ok_or(SendError::Timeout)?;
        }
        let flushed = |state: &mut State| {
            state.flush();
            (!state.unsent()).then_some(())
        };
        self.0.shared.block(deadline, flushed)?.ok_or(SendError::Timeout)
    }

    /// Calls a method of the peer that has least to do, and waits for the answer, in all at most
    /// for `time`.
    pub fn call(
        &self,
        method: &str,
        message: impl Into<Message>,
        time: Option<Duration>,
    ) -> Result<Message, CallError> {
        self.0.call_blocking(method, message.into(), deadline(time))
    }

    /// Calls with a typed request and answer, both by postcard.
    pub fn call_typed<Q, R>(
        &self,
        method: &str,
        request: &Q,
        time: Option<Duration>,
    ) -> Result<R, CallError>
    where
        Q: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        let request = Message::encode(request).map_err(CallError::Encode)?;
        self.call(method, request, time)?.decode().map_err(CallError::Decode)
    }

    /// Receives the next event, or [`ChannelError::Timeout`]; in a layer that is asked to finish,
    /// [`ChannelError::Stopping`] once nothing is left to receive. Answer requests with
    /// [`Replier::reply_blocking`](super::Replier::reply_blocking).
    pub fn recv(&self, time: Option<Duration>) -> Result<Event, ChannelError> {
        let item = self.0.shared.block_until(deadline(time), true, State::take)?;
        item.map(|item| self.0.event(item)).ok_or(ChannelError::Timeout)
    }

    /// Waits until there is a peer to talk to, at most for `time`; then gives those there are.
    pub fn wait_for_peer(&self, time: Option<Duration>) -> Result<Vec<Instance>, ChannelError> {
        let attempt = |state: &mut State| Some(state.peers()).filter(|peers| !peers.is_empty());
        self.0.shared.block(deadline(time), attempt)?.ok_or(ChannelError::Timeout)
    }

    fn post(
        &self,
        to: Option<&Instance>,
        method: &str,
        mut message: Message,
        time: Option<Duration>,
    ) -> Result<(), SendError> {
        let (number, descriptions) = self.0.check(Kind::Message, method, &message)?;
        let mut parcel = parcel(Kind::Message, number, &mut message, &descriptions);
        let mut taken = None;
        let attempt = |state: &mut State| {
            if taken.is_none() {
                match state.submit(to, &mut parcel) {
                    Submitted::Taken { link, ticket, .. } => taken = Some((link, ticket)),
                    Submitted::Gone => return Some(Err(SendError::NotDelivered(to.cloned()))),
                    Submitted::Full => {}
                }
            }
            let (link, ticket) = taken?;
            match state.sent(link, ticket) {
                Some(true) => Some(Ok(())),
                Some(false) => None,
                None => Some(Err(SendError::NotDelivered(to.cloned()))),
            }
        };
        match self.0.shared.block(deadline(time), attempt)? {
            Some(result) => result,
            // What was taken can't be taken back: it goes with the channel's next verb.
            None if taken.is_some() => Ok(()),
            None => Err(SendError::Timeout),
        }
    }
}

/// A time limit that lies beyond what the clock can tell is none.
fn deadline(time: Option<Duration>) -> Option<Instant> {
    time.and_then(|time| Instant::now().checked_add(time))
}
