//! The same channel for code that waits by blocking its thread.
//!
//! It may be used from inside an async task too, where a callback can't wait otherwise: it looks
//! at the sockets itself, with `poll(2)`, and needs neither the runtime nor the driver. The
//! thread's other tasks stand still meanwhile, so give it a time limit there.

use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::check::parcel;
use super::error::{CallError, ChannelError, SendError};
use super::state::{Parcel, Posting, State, Target};
use super::{Event, Message, PendingCall, ReplyStream};
use crate::ident::Instance;
use crate::ipc::companion::Ends;
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
            let attempt = |state: &mut State| state.try_post(&mut parcel).then_some(());
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
        let end = deadline(time);
        self.begin_until(method, message.into(), None, end)?.answer_until(end)
    }

    /// Calls with a deadline that travels with the call; see
    /// [`call_within`](super::Channel::call_within).
    pub fn call_within(
        &self,
        method: &str,
        message: impl Into<Message>,
        time: Duration,
    ) -> Result<Message, CallError> {
        self.call_by(method, message, deadline(Some(time)))
    }

    /// The same with an instant, as a handler has of its own caller, or without limit.
    pub fn call_by(
        &self,
        method: &str,
        message: impl Into<Message>,
        deadline: Option<Instant>,
    ) -> Result<Message, CallError> {
        self.begin(method, message, deadline)?.answer_blocking(None)
    }

    /// Calls a method and does not wait for the answer yet, which another thread may do. Waits
    /// while all peers are full, or while there is none, and not past the deadline.
    pub fn begin(
        &self,
        method: &str,
        message: impl Into<Message>,
        deadline: Option<Instant>,
    ) -> Result<PendingCall, CallError> {
        self.begin_until(method, message.into(), deadline, None)
    }

    /// Calls a method that answers by a stream; see [`ReplyStream::next_blocking`]. The deadline
    /// is that of the whole stream, and travels with the call.
    pub fn call_stream(
        &self,
        method: &str,
        message: impl Into<Message>,
        deadline: Option<Instant>,
    ) -> Result<ReplyStream, CallError> {
        self.0.call_stream_blocking(method, message.into(), deadline)
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
        let item = self.0.shared.block_until(deadline(time), Ends::WithLayer, State::take)?;
        item.map(|item| self.0.event(item)).ok_or(ChannelError::Timeout)
    }

    /// Waits until there is a peer to talk to, at most for `time`; then gives those there are.
    pub fn wait_for_peer(&self, time: Option<Duration>) -> Result<Vec<Instance>, ChannelError> {
        let attempt = |state: &mut State| Some(state.peers()).filter(|peers| !peers.is_empty());
        self.0.shared.block(deadline(time), attempt)?.ok_or(ChannelError::Timeout)
    }

    fn begin_until(
        &self,
        method: &str,
        mut message: Message,
        deadline: Option<Instant>,
        patience: Option<Instant>,
    ) -> Result<PendingCall, CallError> {
        let (number, descriptions) = self.0.check_call(method, &message, false)?;
        let parcel = parcel(Kind::Request, number, &mut message, &descriptions);
        self.0.place_blocking(Parcel { deadline, ..parcel }, patience)
    }

    fn post(
        &self,
        to: Option<&Instance>,
        method: &str,
        mut message: Message,
        time: Option<Duration>,
    ) -> Result<(), SendError> {
        let (number, descriptions) = self.0.check(Kind::Message, method, &message)?;
        let parcel = parcel(Kind::Message, number, &mut message, &descriptions);
        let mut posting = Posting::new(to.map_or(Target::Any, Target::Peer), parcel);
        let attempt = |state: &mut State| posting.attempt(state);
        match self.0.shared.block(deadline(time), attempt)? {
            Some(result) => result.map(drop),
            // What was taken can't be taken back: it goes with the channel's next verb.
            None if posting.is_taken() => Ok(()),
            None => Err(SendError::Timeout),
        }
    }
}

/// A time limit that lies beyond what the clock can tell is none.
fn deadline(time: Option<Duration>) -> Option<Instant> {
    time.and_then(|time| Instant::now().checked_add(time))
}
