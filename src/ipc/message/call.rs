//! Calls and their answers.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{CallError, SendError, Violation};
use super::state::{Parcel, State, Submitted};
use super::wait::{Shared, Who};
use super::{Channel, Message, check_message, parcel};
use crate::channel::Rules;
use crate::ident::Instance;
use crate::wire::limits::REASON;
use crate::wire::record::{Descriptor, Kind};

impl Channel {
    /// Calls a method of the peer that has least to do, and waits for the answer. Waits before
    /// that while all peers are full, or while there is none.
    ///
    /// Dropping the future gives the call up; the peer may execute it all the same.
    pub async fn call(
        &self,
        method: &str,
        message: impl Into<Message>,
    ) -> Result<Message, CallError> {
        let mut message = message.into();
        let (number, descriptions) = self.check(Kind::Request, method, &message)?;
        let mut parcel = parcel(Kind::Request, number, &mut message, &descriptions);
        let placed = |state: &mut State| place(state, &mut parcel);
        let call = self.shared.wait(Who::Sender, placed).await.map_err(SendError::from)?;
        let waiting = Waiting { shared: &self.shared, call };
        let answer = |state: &mut State| waiting.take(state);
        self.shared.wait(Who::Caller(call), answer).await.map_err(SendError::from)?
    }

    /// [`Channel::call`] that gives up after a while.
    pub async fn call_timeout(
        &self,
        method: &str,
        message: impl Into<Message>,
        time: Duration,
    ) -> Result<Message, CallError> {
        let answer = tokio::time::timeout(time, self.call(method, message)).await;
        answer.unwrap_or(Err(CallError::Timeout))
    }

    /// Calls with a typed request and answer, both by postcard.
    pub async fn call_typed<Q, R>(&self, method: &str, request: &Q) -> Result<R, CallError>
    where
        Q: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        let request = Message::encode(request).map_err(CallError::Encode)?;
        self.call(method, request).await?.decode().map_err(CallError::Decode)
    }

    /// The same in this thread.
    pub(super) fn call_blocking(
        &self,
        method: &str,
        mut message: Message,
        deadline: Option<Instant>,
    ) -> Result<Message, CallError> {
        let (number, descriptions) = self.check(Kind::Request, method, &message)?;
        let mut parcel = parcel(Kind::Request, number, &mut message, &descriptions);
        let placed = |state: &mut State| place(state, &mut parcel);
        let call = self.shared.block(deadline, placed).map_err(SendError::from)?;
        let call = call.ok_or(CallError::Timeout)?;
        let waiting = Waiting { shared: &self.shared, call };
        let answer = |state: &mut State| waiting.take(state);
        let answer = self.shared.block(deadline, answer).map_err(SendError::from)?;
        answer.unwrap_or(Err(CallError::Timeout))
    }
}

fn place(state: &mut State, parcel: &mut Parcel<'_>) -> Option<u32> {
    match state.submit(None, parcel) {
        Submitted::Taken { call, .. } => Some(call),
        Submitted::Full | Submitted::Gone => None,
    }
}

/// A call in flight; dropping it gives the call up.
struct Waiting<'a> {
    shared: &'a Shared,
    call: u32,
}

impl Waiting<'_> {
    fn take(&self, state: &mut State) -> Option<Result<Message, CallError>> {
        match state.calls.get_mut(&self.call) {
            None => Some(Err(CallError::NotDelivered(None))),
            Some(call) => {
                let outcome = call.outcome.take()?;
                state.calls.remove(&self.call);
                Some(outcome)
            }
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.shared.with(|state| state.abandon(self.call));
    }
}

/// Takes the answer to one call. Dropping it refuses the call, so that no caller waits for ever.
pub struct Replier {
    shared: Arc<Shared>,
    rules: Arc<Rules>,
    link: u64,
    peer: Instance,
    method: u16,
    call: u32,
    answered: bool,
}

impl Replier {
    pub(super) fn new(
        shared: Arc<Shared>,
        rules: Arc<Rules>,
        link: u64,
        peer: Instance,
        method: u16,
        call: u32,
    ) -> Self {
        Self { shared, rules, link, peer, method, call, answered: false }
    }

    /// Who waits for the answer.
    pub fn peer(&self) -> &Instance {
        &self.peer
    }

    /// Answers. Waits while the caller is full. If the policy forbids the answer, or if the
    /// future is dropped before the answer is on its way, the call is refused.
    pub async fn reply(mut self, message: impl Into<Message>) -> Result<(), SendError> {
        let mut message = message.into();
        let descriptions = self.check(&message)?;
        self.answer(Kind::Reply, &mut message, &descriptions).await
    }

    /// Answers with a value, by postcard.
    pub async fn reply_typed<R: Serialize + ?Sized>(self, value: &R) -> Result<(), SendError> {
        let message = Message::encode(value).map_err(SendError::Encode)?;
        self.reply(message).await
    }

    /// Declines, with the reason for the caller; at most 1 KiB of it is sent.
    pub async fn refuse(mut self, reason: &str) -> Result<(), SendError> {
        let mut message = Message::from(bounded(reason).as_bytes());
        self.answer(Kind::Refusal, &mut message, &[]).await
    }

    /// [`Replier::reply`] in this thread.
    pub fn reply_blocking(mut self, message: impl Into<Message>) -> Result<(), SendError> {
        let mut message = message.into();
        let descriptions = self.check(&message)?;
        self.answer_blocking(Kind::Reply, &mut message, &descriptions)
    }

    /// [`Replier::refuse`] in this thread.
    pub fn refuse_blocking(mut self, reason: &str) -> Result<(), SendError> {
        let mut message = Message::from(bounded(reason).as_bytes());
        self.answer_blocking(Kind::Refusal, &mut message, &[])
    }

    fn check(&self, message: &Message) -> Result<Vec<Descriptor>, Violation> {
        check_message(&self.rules, self.method, message)
    }

    async fn answer(
        &mut self,
        kind: Kind,
        message: &mut Message,
        descriptions: &[Descriptor],
    ) -> Result<(), SendError> {
        let shared = Arc::clone(&self.shared);
        shared.wait(Who::Sender, self.attempt(kind, message, descriptions)).await?
    }

    fn answer_blocking(
        &mut self,
        kind: Kind,
        message: &mut Message,
        descriptions: &[Descriptor],
    ) -> Result<(), SendError> {
        let shared = Arc::clone(&self.shared);
        let done = shared.block(None, self.attempt(kind, message, descriptions))?;
        done.unwrap_or(Err(SendError::Timeout))
    }

    fn attempt<'a>(
        &'a mut self,
        kind: Kind,
        message: &'a mut Message,
        descriptions: &'a [Descriptor],
    ) -> impl FnMut(&mut State) -> Option<Result<(), SendError>> + 'a {
        let (link, call) = (self.link, self.call);
        let mut parcel = parcel(kind, self.method, message, descriptions);
        let (answered, peer) = (&mut self.answered, &self.peer);
        let mut taken = None;
        move |state| {
            if taken.is_none() {
                match state.answer(link, call, &mut parcel) {
                    Submitted::Taken { ticket, .. } => {
                        *answered = true;
                        taken = Some(ticket);
                    }
                    Submitted::Gone => *answered = true,
                    Submitted::Full => return None,
                }
            }
            match taken.and_then(|ticket| state.sent(link, ticket)) {
                Some(true) => Some(Ok(())),
                Some(false) => None,
                None => Some(Err(SendError::NotDelivered(Some(peer.clone())))),
            }
        }
    }
}

impl Drop for Replier {
    fn drop(&mut self) {
        if !self.answered {
            self.shared.with(|state| state.forsake(self.link, self.method, self.call));
            self.shared.wake_driver();
        }
    }
}

impl fmt::Debug for Replier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replier").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// The longest beginning of `reason` that fits in a refusal.
fn bounded(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(REASON)]
}
