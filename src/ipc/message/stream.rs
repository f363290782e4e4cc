//! Streams of messages that answer one call, at the caller's end.

use std::fmt;
use std::time::{Duration, Instant};

use super::error::CallError;
use super::{Message, PendingCall};
use crate::ipc::Blocking;

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

impl ReplyStream {
    pub(super) const fn new(call: PendingCall) -> Self {
        Self { call, over: false }
    }

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

    /// The same verbs, blocking the thread.
    pub fn blocking(&mut self) -> Blocking<&mut Self> {
        Blocking(self)
    }

    /// Gives the rest up. The peer's handler learns it.
    pub fn cancel(self) {}
}

impl Blocking<&mut ReplyStream> {
    /// The next message, at most after `time`. After [`CallError::Timeout`] it can be asked again.
    pub fn next(&mut self, time: Option<Duration>) -> Option<Result<Message, CallError>> {
        let Self(stream) = self;
        if stream.over {
            return None;
        }
        let end = time.and_then(|time| Instant::now().checked_add(time));
        let item = stream.call.block_for_item(end);
        stream.over = !matches!(item, Some(Ok(_) | Err(CallError::Timeout)));
        item
    }
}

impl fmt::Debug for ReplyStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplyStream").field("call", &self.call).finish_non_exhaustive()
    }
}
