//! Streams of messages that answer one call, at the caller's end.

use std::fmt;
use std::time::{Duration, Instant};

use super::call::PendingCall;
use super::check::parcel;
use super::error::CallError;
use super::state::Parcel;
use super::{Channel, Message};
use crate::wire::record::Kind;

/// The messages that answer a call of a method with `stream = true`.
///
/// The peer may be ahead of the reader by at most 256 messages and, at the method's `max`, 256 KiB
/// (one message in any case): a slow reader makes that stream wait, and nothing else. Dropping it
/// gives the call up.
#[must_use = "dropping it gives the call up"]
pub struct ReplyStream {
    call: PendingCall,
    over: bool,
}

impl Channel {
    /// Calls a method that answers by a stream. Waits while all peers are full, or while there is
    /// none.
    pub async fn call_stream(
        &self,
        method: &str,
        message: impl Into<Message>,
    ) -> Result<ReplyStream, CallError> {
        self.call_stream_by(method, message, None).await
    }

    /// The same with a deadline for the whole of the stream, which travels with the call.
    pub async fn call_stream_by(
        &self,
        method: &str,
        message: impl Into<Message>,
        deadline: Option<Instant>,
    ) -> Result<ReplyStream, CallError> {
        let mut message = message.into();
        let (number, descriptions) = self.check_call(method, &message, true)?;
        let parcel = parcel(Kind::Request, number, &mut message, &descriptions);
        let call = self.place(Parcel { deadline, ..parcel }).await?;
        Ok(ReplyStream { call, over: false })
    }

    /// The same in this thread.
    pub(super) fn call_stream_blocking(
        &self,
        method: &str,
        mut message: Message,
        deadline: Option<Instant>,
    ) -> Result<ReplyStream, CallError> {
        let (number, descriptions) = self.check_call(method, &message, true)?;
        let parcel = parcel(Kind::Request, number, &mut message, &descriptions);
        let call = self.place_blocking(Parcel { deadline, ..parcel }, None)?;
        Ok(ReplyStream { call, over: false })
    }
}

impl ReplyStream {
    /// The next message. `None` after the last one of a whole stream, and after an error, which
    /// comes once and after everything that was received before it. Dropping the future loses
    /// nothing.
    pub async fn next(&mut self) -> Option<Result<Message, CallError>> {
        if self.over {
            return None;
        }
        let item = self.call.item().await;
        self.over = !matches!(item, Some(Ok(_)));
        item
    }

    /// The same in this thread. After [`CallError::Timeout`] it can be asked again.
    pub fn next_blocking(&mut self, time: Option<Duration>) -> Option<Result<Message, CallError>> {
        if self.over {
            return None;
        }
        let end = time.and_then(|time| Instant::now().checked_add(time));
        let item = self.call.item_blocking(end);
        self.over = !matches!(item, Some(Ok(_) | Err(CallError::Timeout)));
        item
    }

    /// Gives the rest up. The peer's handler learns it.
    pub fn cancel(self) {}
}

impl fmt::Debug for ReplyStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplyStream").field("call", &self.call).finish_non_exhaustive()
    }
}
