//! Answering calls: by one message, or by a stream of them.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::Message;
use super::check::{check_answer, check_message, parcel};
use super::error::{SendError, Violation};
use super::state::{FORSAKEN, Parcel, Posting, State, Target};
use super::wait::{Shared, Who};
use crate::channel::Rules;
use crate::ident::Instance;
use crate::wire::limits::{REASON, SHARED_PAYLOAD};
use crate::wire::record::{Descriptor, Kind};

/// Takes the answer to one call. Dropping it refuses the call, so that no caller waits for ever.
///
/// An answer to a call that its caller has given up is dropped without an error: nobody is to
/// blame.
pub struct Replier {
    shared: Arc<Shared>,
    rules: Arc<Rules>,
    link: u64,
    peer: Instance,
    method: u16,
    call: u32,
    deadline: Option<Instant>,
    answered: bool,
}

/// Takes the stream of messages that answers one call. Dropping it before [`StreamReplier::end`]
/// ends the stream with a refusal, so that no caller takes what it has for the whole.
pub struct StreamReplier(Replier);

impl Replier {
    pub(super) fn new(
        shared: Arc<Shared>,
        rules: Arc<Rules>,
        link: u64,
        peer: Instance,
        method: u16,
        call: u32,
        deadline: Option<Instant>,
    ) -> Self {
        Self { shared, rules, link, peer, method, call, deadline, answered: false }
    }

    /// Who waits for the answer.
    pub fn peer(&self) -> &Instance {
        &self.peer
    }

    /// Until when the caller waits. Give it on to what is called for this call's sake:
    /// [`Channel::call_by`](super::Channel::call_by).
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// How long the caller still waits; nothing once its time is over. `None`: for ever.
    pub fn time_left(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Whether the caller has given the call up, has ended, or waits no more because the deadline
    /// has passed. Looks at the socket, but not past messages that nobody has received.
    pub fn is_cancelled(&self) -> bool {
        self.time_left() == Some(Duration::ZERO)
            || self.shared.with(|state| {
                state.is_cancelled(self.link, self.call) || {
                    state.pump();
                    state.is_cancelled(self.link, self.call)
                }
            })
    }

    /// Waits until [`Replier::is_cancelled`]: for `tokio::select!` beside the work.
    pub async fn cancelled(&self) {
        let who = Who::Answerer(self.link, self.call);
        let gone = |state: &mut State| state.is_cancelled(self.link, self.call).then_some(());
        // A system that refuses to watch the socket gives no reason to stop the work.
        let given_up = async {
            if self.shared.wait(who, gone).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        match self.deadline {
            Some(deadline) => {
                let _ = tokio::time::timeout_at(deadline.into(), given_up).await;
            }
            None => given_up.await,
        }
    }

    /// Answers. Waits while the caller is full. If the policy forbids the answer, or if the
    /// future is dropped before the answer is on its way, the call is refused.
    pub async fn reply(mut self, message: impl Into<Message>) -> Result<(), SendError> {
        let mut message = message.into();
        let descriptions = self.check(&message, false)?;
        self.answer(Kind::Reply, &mut message, &descriptions).await
    }

    /// Answers with a value, by postcard.
    pub async fn reply_typed<R: Serialize + ?Sized>(self, value: &R) -> Result<(), SendError> {
        let message = Message::encode(value).map_err(SendError::Encode)?;
        self.reply(message).await
    }

    /// Answers with a stream, if the policy has `stream = true` for this method. Otherwise the
    /// call is refused.
    pub fn stream(self) -> Result<StreamReplier, Violation> {
        check_answer(&self.rules, self.method, true)?;
        Ok(StreamReplier(self))
    }

    /// Declines, with the reason for the caller; at most 1 KiB of it is sent.
    pub async fn refuse(mut self, reason: &str) -> Result<(), SendError> {
        let mut message = Message::from(bounded(reason).as_bytes());
        self.answer(Kind::Refusal, &mut message, &[]).await
    }

    /// [`Replier::reply`] in this thread.
    pub fn reply_blocking(mut self, message: impl Into<Message>) -> Result<(), SendError> {
        let mut message = message.into();
        let descriptions = self.check(&message, false)?;
        self.answer_blocking(Kind::Reply, &mut message, &descriptions, None)
    }

    /// [`Replier::refuse`] in this thread.
    pub fn refuse_blocking(mut self, reason: &str) -> Result<(), SendError> {
        let mut message = Message::from(bounded(reason).as_bytes());
        self.answer_blocking(Kind::Refusal, &mut message, &[], None)
    }

    fn check(&self, message: &Message, streams: bool) -> Result<Vec<Descriptor>, Violation> {
        check_answer(&self.rules, self.method, streams)?;
        check_message(&self.rules, self.method, message)
    }

    async fn answer(
        &mut self,
        kind: Kind,
        message: &mut Message,
        descriptions: &[Descriptor],
    ) -> Result<(), SendError> {
        let shared = Arc::clone(&self.shared);
        // Items share records as messages do, where a driver sends them when the task waits.
        let hold = kind == Kind::Item && shared.driven();
        if shared.wait(Who::Sender, self.attempt(kind, message, descriptions, hold)).await?? {
            shared.wake_driver();
        }
        Ok(())
    }

    fn answer_blocking(
        &mut self,
        kind: Kind,
        message: &mut Message,
        descriptions: &[Descriptor],
        end: Option<Instant>,
    ) -> Result<(), SendError> {
        let shared = Arc::clone(&self.shared);
        let done = shared.block(end, self.attempt(kind, message, descriptions, false))?;
        done.unwrap_or(Err(SendError::Timeout)).map(drop)
    }

    fn attempt<'a>(
        &'a mut self,
        kind: Kind,
        message: &'a mut Message,
        descriptions: &'a [Descriptor],
        hold: bool,
    ) -> impl FnMut(&mut State) -> Option<Result<bool, SendError>> + 'a {
        let target = Target::Caller { peer: &self.peer, link: self.link, call: self.call };
        let leave = hold && message.fds.is_empty() && message.body.len() <= SHARED_PAYLOAD;
        let parcel = Parcel { hold, ..parcel(kind, self.method, message, descriptions) };
        let mut posting =
            if leave { Posting::leaving(target, parcel) } else { Posting::new(target, parcel) };
        let answered = &mut self.answered;
        move |state| {
            let result = posting.attempt(state);
            *answered |= kind != Kind::Item && posting.is_settled();
            result
        }
    }
}

impl StreamReplier {
    /// Who reads the stream.
    pub fn peer(&self) -> &Instance {
        &self.0.peer
    }

    /// [`Replier::deadline`]
    pub fn deadline(&self) -> Option<Instant> {
        self.0.deadline
    }

    /// [`Replier::time_left`]
    pub fn time_left(&self) -> Option<Duration> {
        self.0.time_left()
    }

    /// [`Replier::is_cancelled`]
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }

    /// [`Replier::cancelled`]
    pub async fn cancelled(&self) {
        self.0.cancelled().await;
    }

    /// Sends one message of the stream. Waits while the reader has no room for it, and
    /// meanwhile holds up nothing but this stream.
    ///
    /// [`SendError::Cancelled`] says that nobody wants any more. [`SendError::Clogged`] can come
    /// where one thread answers calls in turn: receive what waits, and go on.
    pub async fn send(&mut self, message: impl Into<Message>) -> Result<(), SendError> {
        let mut message = message.into();
        let descriptions = self.0.check(&message, true)?;
        self.0.answer(Kind::Item, &mut message, &descriptions).await
    }

    /// Sends a value, by postcard.
    pub async fn send_typed<R: Serialize + ?Sized>(&mut self, value: &R) -> Result<(), SendError> {
        let message = Message::encode(value).map_err(SendError::Encode)?;
        self.send(message).await
    }

    /// Ends the stream: what was sent is the whole.
    pub async fn end(mut self) -> Result<(), SendError> {
        self.0.answer(Kind::End, &mut Message::default(), &[]).await
    }

    /// Ends the stream before it is whole, with the reason for the caller; at most 1 KiB of it is
    /// sent.
    pub async fn fail(self, reason: &str) -> Result<(), SendError> {
        self.0.refuse(reason).await
    }

    /// [`StreamReplier::send`] in this thread, at most for `time`; after [`SendError::Timeout`]
    /// the message may be on its way.
    pub fn send_blocking(
        &mut self,
        message: impl Into<Message>,
        time: Option<Duration>,
    ) -> Result<(), SendError> {
        let mut message = message.into();
        let descriptions = self.0.check(&message, true)?;
        let end = time.and_then(|time| Instant::now().checked_add(time));
        self.0.answer_blocking(Kind::Item, &mut message, &descriptions, end)
    }

    /// [`StreamReplier::end`] in this thread.
    pub fn end_blocking(mut self) -> Result<(), SendError> {
        self.0.answer_blocking(Kind::End, &mut Message::default(), &[], None)
    }

    /// [`StreamReplier::fail`] in this thread.
    pub fn fail_blocking(self, reason: &str) -> Result<(), SendError> {
        self.0.refuse_blocking(reason)
    }
}

impl Drop for Replier {
    fn drop(&mut self) {
        if !self.answered {
            let (link, method, call) = (self.link, self.method, self.call);
            if self.shared.with(|state| state.decline(link, method, call, FORSAKEN)) {
                self.shared.wake_driver();
            }
        }
    }
}

impl fmt::Debug for Replier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replier").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl fmt::Debug for StreamReplier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamReplier").field("peer", &self.0.peer).finish_non_exhaustive()
    }
}

/// The longest beginning of `reason` that fits in a refusal.
fn bounded(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(REASON)]
}
