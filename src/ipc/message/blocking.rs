//! The same channel for code that waits by blocking its thread.
//!
//! It may be used from inside an async task too, where a callback can't wait otherwise: it looks
//! at the sockets itself, with `poll(2)`, and needs neither the runtime nor the driver. The
//! thread's other tasks stand still meanwhile, so give it a time limit there.

use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::check::request;
use super::error::{CallError, ChannelError, SendError};
use super::state::{SendOperation, SendRequest, State, Target};
use super::{Event, Message, PendingCall, ReplyStream};
use crate::ident::Instance;
use crate::ipc::companion::Ends;
use crate::trace;
use crate::wire::record::Kind;

/// A channel whose verbs block. A handle; clones are the same end.
#[derive(Clone, Debug)]
pub struct Channel(pub(super) super::Channel);

/// A call of one method, before it is made: [`Channel::call`].
#[must_use = "no call is made before `send`, `send_typed`, `begin` or `stream`"]
#[derive(Clone, Copy, Debug)]
pub struct Call<'a>(super::Call<'a>);

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
            let request = request(Kind::Message, number, &mut message, &descriptions);
            let mut request = SendRequest { hold: true, ..request };
            let attempt = |state: &mut State| match state.try_post(&mut request) {
                Ok(taken) => taken.then_some(Ok(())),
                Err(error) => Some(Err(error)),
            };
            self.0.shared.block(deadline, attempt)?.ok_or(SendError::Timeout)??;
        }
        let flushed = |state: &mut State| {
            state.flush();
            (!state.unsent()).then_some(())
        };
        self.0.shared.block(deadline, flushed)?.ok_or(SendError::Timeout)
    }

    /// A call of `method`. It goes to the peer that has least to do; while all peers are full, or
    /// while there is none, it waits.
    pub fn call<'a>(&'a self, method: &'a str) -> Call<'a> {
        Call(self.0.call(method))
    }

    /// Receives the next event, or [`ChannelError::Timeout`]; in a layer that is asked to finish,
    /// [`ChannelError::Stopping`] once nothing is left to receive. Answer requests with
    /// [`Replier::blocking`](super::Replier::blocking).
    pub fn recv(&self, time: Option<Duration>) -> Result<Event, ChannelError> {
        trace::done();
        let item = self.0.shared.block_until(deadline(time), Ends::WithLayer, State::take)?;
        item.map(|item| self.0.event(item)).ok_or(ChannelError::Timeout)
    }

    /// The next event, or `None` once the layer is asked to finish and nothing is left to receive.
    pub fn next(&self) -> Result<Option<Event>, ChannelError> {
        match self.recv(None) {
            Ok(event) => Ok(Some(event)),
            Err(ChannelError::Stopping) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Waits until there is a peer to talk to, at most for `time`; then gives those there are.
    pub fn wait_for_peer(&self, time: Option<Duration>) -> Result<Vec<Instance>, ChannelError> {
        let attempt = |state: &mut State| match state.down() {
            Some(layer) => Some(Err(ChannelError::PeerDown(layer))),
            None => Some(state.peers()).filter(|peers| !peers.is_empty()).map(Ok),
        };
        self.0.shared.block(deadline(time), attempt)?.ok_or(ChannelError::Timeout)?
    }

    fn post(
        &self,
        to: Option<&Instance>,
        method: &str,
        mut message: Message,
        time: Option<Duration>,
    ) -> Result<(), SendError> {
        let (number, descriptions) = self.0.check(Kind::Message, method, &message)?;
        let request = request(Kind::Message, number, &mut message, &descriptions);
        let mut send = SendOperation::new(to.map_or(Target::Any, Target::Peer), request);
        let attempt = |state: &mut State| send.attempt(state);
        match self.0.shared.block(deadline(time), attempt)? {
            Some(result) => result.map(drop),
            // What was taken can't be taken back: it goes with the channel's next verb.
            None if send.is_taken() => Ok(()),
            None => Err(SendError::Timeout),
        }
    }
}

impl Call<'_> {
    /// See [`Call::timeout`](super::Call::timeout).
    pub fn timeout(self, time: Duration) -> Self {
        Self(self.0.timeout(time))
    }

    /// See [`Call::deadline`](super::Call::deadline).
    pub const fn deadline(self, deadline: Option<Instant>) -> Self {
        Self(self.0.deadline(deadline))
    }

    /// See [`Call::idempotent`](super::Call::idempotent).
    pub const fn idempotent(self) -> Self {
        Self(self.0.idempotent())
    }

    /// Makes the call, and waits for the answer.
    pub fn send(self, message: impl Into<Message>) -> Result<Message, CallError> {
        let message = message.into();
        for _ in 1..self.0.attempts() {
            match self.begin(message.try_clone()?)?.blocking().answer(None) {
                Err(error) if error.is_for_another_try() => {}
                answer => return answer,
            }
        }
        self.begin(message)?.blocking().answer(None)
    }

    /// The same with a value as request and as answer, both by postcard.
    pub fn send_typed<Q, R>(self, request: &Q) -> Result<R, CallError>
    where
        Q: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        let request = Message::encode(request).map_err(CallError::Encode)?;
        self.send(request)?.decode().map_err(CallError::Decode)
    }

    /// Makes the call and does not wait for the answer yet, which another thread may do. Waits
    /// while all peers are full, or while there is none, and not past the deadline.
    pub fn begin(self, message: impl Into<Message>) -> Result<PendingCall, CallError> {
        self.0.begin_blocking(message.into(), false)
    }

    /// Calls a method that answers by a stream; see [`ReplyStream::blocking`]. The deadline
    /// is that of the whole stream.
    pub fn stream(self, message: impl Into<Message>) -> Result<ReplyStream, CallError> {
        self.0.begin_blocking(message.into(), true).map(ReplyStream::new)
    }
}

/// A time limit that lies beyond what the clock can tell is none.
fn deadline(time: Option<Duration>) -> Option<Instant> {
    time.and_then(|time| Instant::now().checked_add(time))
}
