//! A call on its way: waiting for the answer, giving up.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::error::{CallError, ChannelError, SendError};
use super::state::{EXPIRED, SendRequest, State};
use super::wait::{Shared, Who};
use super::{Channel, Message};
use crate::ipc::Blocking;

/// A call that the peer has not answered yet. Dropping it gives the call up.
#[must_use = "dropping it gives the call up"]
pub struct PendingCall {
    shared: Arc<Shared>,
    call: u32,
    deadline: Option<Instant>,
}

impl PendingCall {
    /// Waits for the answer, and not past the deadline.
    pub async fn answer(self) -> Result<Message, CallError> {
        let take = |state: &mut State| state.take_answer(self.call);
        let answer = until(self.deadline, self.shared.wait(Who::Caller(self.call), take)).await;
        let Some(answer) = answer else { return Err(out_of_time(self.deadline, true)) };
        self.judge(answer.map_err(SendError::from)?)
    }

    /// The same verbs, blocking the thread.
    pub fn blocking(self) -> Blocking<Self> {
        Blocking(self)
    }

    /// Gives the call up. The peer's handler learns it; its answer is dropped.
    pub fn cancel(self) {}

    pub(super) fn answer_until(self, patience: Option<Instant>) -> Result<Message, CallError> {
        let take = |state: &mut State| state.take_answer(self.call);
        let end = earlier(self.deadline, patience);
        let answer = self.shared.block(end, take).map_err(SendError::from)?;
        let Some(answer) = answer else { return Err(out_of_time(self.deadline, true)) };
        self.judge(answer)
    }

    /// The next item of the stream that answers it; `None` in it after the last one.
    pub(super) async fn item(&self) -> Option<Result<Message, CallError>> {
        let take = |state: &mut State| state.take_item(self.call);
        let item = until(self.deadline, self.shared.wait(Who::Caller(self.call), take)).await;
        match item {
            Some(Ok(item)) => item.map(|item| self.judge(item)),
            Some(Err(error)) => Some(Err(SendError::from(error).into())),
            None => Some(Err(out_of_time(self.deadline, true))),
        }
    }

    pub(super) fn block_for_item(
        &self,
        patience: Option<Instant>,
    ) -> Option<Result<Message, CallError>> {
        let take = |state: &mut State| state.take_item(self.call);
        match self.shared.block(earlier(self.deadline, patience), take) {
            Ok(Some(item)) => item.map(|item| self.judge(item)),
            Ok(None) => Some(Err(out_of_time(self.deadline, true))),
            Err(error) => Some(Err(SendError::from(error).into())),
        }
    }

    /// A refusal that comes after the deadline comes of it: the handler has seen it pass a moment
    /// before this end looked. A peer that says it has not begun the call is believed.
    fn judge(&self, answer: Result<Message, CallError>) -> Result<Message, CallError> {
        match answer {
            Err(CallError::Refused { reason, .. })
                if self.deadline.is_some_and(|deadline| deadline <= Instant::now()) =>
            {
                Err(CallError::Deadline { may_have_executed: reason != EXPIRED })
            }
            answer => answer,
        }
    }
}

impl Channel {
    /// Hands a call to a link.
    pub(super) async fn place(
        &self,
        mut request: SendRequest<'_>,
    ) -> Result<PendingCall, CallError> {
        let deadline = request.deadline;
        let placed = |state: &mut State| state.place_call(&mut request);
        let call = until(deadline, self.shared.wait(Who::Sender, placed)).await;
        let call = call.ok_or(NOT_EXECUTED)?.map_err(SendError::from)??;
        Ok(PendingCall { shared: Arc::clone(&self.shared), call, deadline })
    }

    /// The same in this thread.
    pub(super) fn place_blocking(
        &self,
        mut request: SendRequest<'_>,
    ) -> Result<PendingCall, CallError> {
        let deadline = request.deadline;
        let placed = |state: &mut State| state.place_call(&mut request);
        let call = self.shared.block(deadline, placed).map_err(SendError::from)?;
        let call = call.ok_or(NOT_EXECUTED)??;
        Ok(PendingCall { shared: Arc::clone(&self.shared), call, deadline })
    }
}

impl Blocking<PendingCall> {
    /// Waits for the answer, at most for `time`, and not past the deadline.
    pub fn answer(self, time: Option<Duration>) -> Result<Message, CallError> {
        self.0.answer_until(time.and_then(|time| Instant::now().checked_add(time)))
    }
}

impl Drop for PendingCall {
    fn drop(&mut self) {
        if self.shared.with(|state| state.abandon(self.call)) {
            self.shared.wake_driver();
        }
    }
}

impl fmt::Debug for PendingCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingCall").field("call", &self.call).finish_non_exhaustive()
    }
}

/// What a caller is told whose time is over: its own patience has no say in what the peer does.
fn out_of_time(deadline: Option<Instant>, may_have_executed: bool) -> CallError {
    match deadline {
        Some(deadline) if deadline <= Instant::now() => CallError::Deadline { may_have_executed },
        _ => CallError::Timeout,
    }
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}

/// Waits for `future`, and not past the deadline.
async fn until<R>(
    deadline: Option<Instant>,
    future: impl Future<Output = Result<R, ChannelError>>,
) -> Option<Result<R, ChannelError>> {
    match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline.into(), future).await.ok(),
        None => Some(future.await),
    }
}

const NOT_EXECUTED: CallError = CallError::Deadline { may_have_executed: false };
