//! Making calls: to whom, how, and until when.

use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::check::request;
use super::error::CallError;
use super::state::SendRequest;
use super::{Channel, Message, PendingCall, ReplyStream};
use crate::wire::record::Kind;

/// A call of one method, before it is made: [`Channel::call`].
///
/// ```no_run
/// # use std::time::Duration;
/// # async fn example(keeper: cofferdam::ipc::message::Channel) -> Result<(), Box<dyn std::error::Error>> {
/// let answer = keeper.call("sign").timeout(Duration::from_secs(2)).send(b"digest").await?;
/// let (key, number): (String, u64) = keeper.call("find").send_typed("digest").await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "no call is made before `send`, `send_typed`, `begin` or `stream`"]
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    channel: &'a Channel,
    method: &'a str,
    pub(super) deadline: Option<Instant>,
    pub(super) idempotent: bool,
}

/// How often an idempotent call is made in all. A request that kills whoever handles it must not
/// take the peer down for good.
pub(super) const ATTEMPTS: u32 = 3;

impl Channel {
    /// A call of `method`. It goes to the peer that has least to do; while all peers are full, or
    /// while there is none, it waits.
    pub const fn call<'a>(&'a self, method: &'a str) -> Call<'a> {
        Call { channel: self, method, deadline: None, idempotent: false }
    }
}

impl Call<'_> {
    /// Limits how long the caller waits, from now on. The limit travels with the call: its handler
    /// sees how much of it is left, and a call whose time is over before a handler has it is not
    /// begun.
    ///
    /// After the time [`CallError::Deadline`] says whether the call may have been executed.
    pub fn timeout(self, time: Duration) -> Self {
        // A time limit that lies beyond what the clock can tell is none.
        self.deadline(Instant::now().checked_add(time))
    }

    /// The same with an instant, or without limit. What a handler calls for its own caller's sake
    /// takes over the deadline of that call: `channel.call(method).deadline(reply.deadline())`.
    pub const fn deadline(mut self, deadline: Option<Instant>) -> Self {
        self.deadline = deadline;
        self
    }

    /// Says that it does no harm to execute the call twice. If the peer ends before it has
    /// answered, the call is made again of its next instance or of another peer, three times in
    /// all and within the deadline. [`begin`](Self::begin) and [`stream`](Self::stream) make it
    /// once all the same.
    pub const fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// Makes the call, and waits for the answer.
    ///
    /// Dropping the future gives the call up: the peer is told, and what it answers all the same
    /// is dropped. It may have executed the call.
    pub async fn send(self, message: impl Into<Message>) -> Result<Message, CallError> {
        let message = message.into();
        for _ in 1..self.attempts() {
            let copy = message.try_clone()?;
            match self.begin(copy).await?.answer().await {
                Err(error) if error.is_for_another_try() => {}
                answer => return answer,
            }
        }
        self.begin(message).await?.answer().await
    }

    /// The same with a value as request and as answer, both by postcard.
    pub async fn send_typed<Q, R>(self, request: &Q) -> Result<R, CallError>
    where
        Q: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        let request = Message::encode(request).map_err(CallError::Encode)?;
        self.send(request).await?.decode().map_err(CallError::Decode)
    }

    /// Makes the call and does not wait for the answer yet. Waits while all peers are full, or
    /// while there is none, and not past the deadline.
    pub async fn begin(self, message: impl Into<Message>) -> Result<PendingCall, CallError> {
        let mut message = message.into();
        let (number, descriptions) = self.channel.check_call(self.method, &message, false)?;
        let request = request(Kind::Request, number, &mut message, &descriptions);
        self.channel.place(SendRequest { deadline: self.deadline, ..request }).await
    }

    /// Calls a method that answers by a stream. The deadline is that of the whole stream.
    pub async fn stream(self, message: impl Into<Message>) -> Result<ReplyStream, CallError> {
        let mut message = message.into();
        let (number, descriptions) = self.channel.check_call(self.method, &message, true)?;
        let request = request(Kind::Request, number, &mut message, &descriptions);
        let call = self.channel.place(SendRequest { deadline: self.deadline, ..request }).await?;
        Ok(ReplyStream::new(call))
    }

    /// [`Call::begin`] and [`Call::stream`] in this thread.
    pub(super) fn begin_blocking(
        self,
        mut message: Message,
        streams: bool,
    ) -> Result<PendingCall, CallError> {
        let (number, descriptions) = self.channel.check_call(self.method, &message, streams)?;
        let request = request(Kind::Request, number, &mut message, &descriptions);
        self.channel.place_blocking(SendRequest { deadline: self.deadline, ..request })
    }

    /// How often it is made at most.
    pub(super) const fn attempts(&self) -> u32 {
        if self.idempotent { ATTEMPTS } else { 1 }
    }
}
