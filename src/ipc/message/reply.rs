//! Answering calls: by one message, or by a stream of them.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::Message;
use super::caller::Caller;
use super::check::{check_answer, check_message, request};
use super::error::{SendError, Violation};
use super::state::{FORSAKEN, SendOperation, SendOutcome, SendRequest, State, Target};
use super::wait::{Shared, Who};
use crate::channel::Rules;
use crate::ident::Instance;
use crate::ipc::Blocking;
use crate::ipc::gauge::InHand;
use crate::trace::{Held, Trace};
use crate::wire::limits::{REASON, SHARED_PAYLOAD};
use crate::wire::record::{Descriptor, Kind};

/// Takes the answer to one call. Dropping it refuses the call, so that no caller waits for ever.
///
/// An answer that nobody waits for any more is dropped without an error: nobody is to blame.
pub struct Replier {
    caller: Caller,
    rules: Arc<Rules>,
    peer: Instance,
    method: u16,
    answered: bool,
    held: Held,
    /// As long as this is to be answered.
    _in_hand: Option<InHand>,
}

/// What became of an answer. Neither is a failure of who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It is on its way.
    Sent,
    /// The caller has given the call up, or has ended. The answer was dropped.
    NobodyWaits,
}

/// Takes the stream of messages that answers one call. Dropping it before [`StreamReplier::end`]
/// ends the stream with a refusal, so that no caller takes what it has for the whole.
pub struct StreamReplier(Replier);

impl Replier {
    pub(super) fn new(
        caller: Caller,
        rules: Arc<Rules>,
        peer: Instance,
        method: u16,
        held: Held,
    ) -> Self {
        let in_hand = caller.shared.take();
        Self { caller, rules, peer, method, answered: false, held, _in_hand: in_hand }
    }

    /// Who waits, for who looks after it apart from the answer.
    pub(super) fn caller(&self) -> Caller {
        self.caller.clone()
    }

    /// Who waits for the answer.
    pub fn peer(&self) -> &Instance {
        &self.peer
    }

    /// The trace of the call, for who handles it in another task than the one that received it:
    /// [`trace::within`](crate::trace::within).
    pub fn trace(&self) -> Option<Trace> {
        self.held.trace()
    }

    /// Until when the caller waits. Give it on to what is called for this call's sake:
    /// [`Call::deadline`](super::Call::deadline).
    pub fn deadline(&self) -> Option<Instant> {
        self.caller.deadline()
    }

    /// How long the caller still waits; nothing once its time is over. `None`: for ever.
    pub fn time_left(&self) -> Option<Duration> {
        self.caller.time_left()
    }

    /// Whether the caller has given the call up, has ended, or waits no more because the deadline
    /// has passed. Looks at the socket, but not past messages that nobody has received.
    pub fn is_cancelled(&self) -> bool {
        self.caller.is_cancelled()
    }

    /// Waits until [`Replier::is_cancelled`]: for `tokio::select!` beside the work.
    pub async fn cancelled(&self) {
        self.caller.cancelled().await;
    }

    /// Answers. Waits while the caller is full. If the policy forbids the answer, or if the
    /// future is dropped before the answer is on its way, the call is refused.
    ///
    /// An error is of this layer or the system, and never because the caller has ended: see
    /// [`Delivery`].
    pub async fn reply(mut self, message: impl Into<Message>) -> Result<Delivery, SendError> {
        let mut message = message.into();
        let descriptions = self.check(&message, false)?;
        self.answer(Kind::Reply, &mut message, &descriptions).await
    }

    /// Answers with a value, by postcard.
    pub async fn reply_typed<R: Serialize + ?Sized>(
        self,
        value: &R,
    ) -> Result<Delivery, SendError> {
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
    pub async fn refuse(mut self, reason: &str) -> Result<Delivery, SendError> {
        let mut message = Message::from(bounded(reason).as_bytes());
        self.answer(Kind::Refusal, &mut message, &[]).await
    }

    /// The same verbs, blocking the thread.
    pub fn blocking(self) -> Blocking<Self> {
        Blocking(self)
    }

    pub(super) fn check(
        &self,
        message: &Message,
        streams: bool,
    ) -> Result<Vec<Descriptor>, Violation> {
        check_answer(&self.rules, self.method, streams)?;
        check_message(&self.rules, self.method, message)
    }

    async fn answer(
        &mut self,
        kind: Kind,
        message: &mut Message,
        descriptions: &[Descriptor],
    ) -> Result<Delivery, SendError> {
        let shared = Arc::clone(&self.caller.shared);
        // Items share records as messages do, where a driver sends them when the task waits.
        let hold = kind == Kind::Item && shared.driven();
        let posted = shared.wait(Who::Sender, self.attempt(kind, message, descriptions, hold));
        Ok(delivered(&shared, posted.await??))
    }

    fn block(
        &mut self,
        kind: Kind,
        message: &mut Message,
        descriptions: &[Descriptor],
        end: Option<Instant>,
    ) -> Result<Delivery, SendError> {
        let shared = Arc::clone(&self.caller.shared);
        let posted = shared.block(end, self.attempt(kind, message, descriptions, false))?;
        Ok(delivered(&shared, posted.unwrap_or(Err(SendError::Timeout))?))
    }

    fn attempt<'a>(
        &'a mut self,
        kind: Kind,
        message: &'a mut Message,
        descriptions: &'a [Descriptor],
        hold: bool,
    ) -> impl FnMut(&mut State) -> Option<Result<SendOutcome, SendError>> + 'a {
        let Caller { link, call, .. } = self.caller;
        let target = Target::Caller { link, call };
        let leave = hold && message.fds.is_empty() && message.body.len() <= SHARED_PAYLOAD;
        let request = SendRequest { hold, ..request(kind, self.method, message, descriptions) };
        let mut send = if leave {
            SendOperation::leaving(target, request)
        } else {
            SendOperation::new(target, request)
        };
        let answered = &mut self.answered;
        move |state| {
            let result = send.attempt(state);
            *answered |= kind != Kind::Item && send.is_decided();
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
        self.0.deadline()
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
    /// [`ControlFlow::Break`] says that nobody reads any more: the reader has given the stream up,
    /// or has ended. [`SendError::Clogged`] can come where one thread answers calls in turn:
    /// receive what waits, and go on.
    pub async fn send(
        &mut self,
        message: impl Into<Message>,
    ) -> Result<ControlFlow<()>, SendError> {
        let mut message = message.into();
        let descriptions = self.0.check(&message, true)?;
        self.0.answer(Kind::Item, &mut message, &descriptions).await.map(Into::into)
    }

    /// Sends a value, by postcard.
    pub async fn send_typed<R: Serialize + ?Sized>(
        &mut self,
        value: &R,
    ) -> Result<ControlFlow<()>, SendError> {
        let message = Message::encode(value).map_err(SendError::Encode)?;
        self.send(message).await
    }

    /// Ends the stream: what was sent is the whole.
    pub async fn end(mut self) -> Result<Delivery, SendError> {
        self.0.answer(Kind::End, &mut Message::default(), &[]).await
    }

    /// Ends the stream before it is whole, with the reason for the caller; at most 1 KiB of it is
    /// sent.
    pub async fn fail(self, reason: &str) -> Result<Delivery, SendError> {
        self.0.refuse(reason).await
    }

    /// The same verbs, blocking the thread.
    pub fn blocking(self) -> Blocking<Self> {
        Blocking(self)
    }
}

impl Blocking<Replier> {
    /// [`Replier::reply`] in this thread.
    pub fn reply(self, message: impl Into<Message>) -> Result<Delivery, SendError> {
        let Self(mut replier) = self;
        let mut message = message.into();
        let descriptions = replier.check(&message, false)?;
        replier.block(Kind::Reply, &mut message, &descriptions, None)
    }

    /// [`Replier::refuse`] in this thread.
    pub fn refuse(self, reason: &str) -> Result<Delivery, SendError> {
        let Self(mut replier) = self;
        let mut message = Message::from(bounded(reason).as_bytes());
        replier.block(Kind::Refusal, &mut message, &[], None)
    }
}

impl Blocking<StreamReplier> {
    /// [`StreamReplier::send`] in this thread, at most for `time`; after [`SendError::Timeout`]
    /// the message may be on its way.
    pub fn send(
        &mut self,
        message: impl Into<Message>,
        time: Option<Duration>,
    ) -> Result<ControlFlow<()>, SendError> {
        let Self(StreamReplier(replier)) = self;
        let mut message = message.into();
        let descriptions = replier.check(&message, true)?;
        let end = time.and_then(|time| Instant::now().checked_add(time));
        replier.block(Kind::Item, &mut message, &descriptions, end).map(Into::into)
    }

    /// [`StreamReplier::end`] in this thread.
    pub fn end(self) -> Result<Delivery, SendError> {
        let Self(StreamReplier(mut replier)) = self;
        replier.block(Kind::End, &mut Message::default(), &[], None)
    }

    /// [`StreamReplier::fail`] in this thread.
    pub fn fail(self, reason: &str) -> Result<Delivery, SendError> {
        self.0.0.blocking().refuse(reason)
    }
}

impl Drop for Replier {
    fn drop(&mut self) {
        if !self.answered {
            let Caller { shared, link, call, .. } = &self.caller;
            if shared.with(|state| state.decline(*link, self.method, *call, FORSAKEN)) {
                shared.wake_driver();
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

impl From<Delivery> for ControlFlow<()> {
    fn from(delivery: Delivery) -> Self {
        match delivery {
            Delivery::Sent => Self::Continue(()),
            Delivery::NobodyWaits => Self::Break(()),
        }
    }
}

/// Tells the driver what is left for it to do.
fn delivered(shared: &Shared, posted: SendOutcome) -> Delivery {
    match posted {
        SendOutcome::Done => Delivery::Sent,
        SendOutcome::Held => {
            shared.wake_driver();
            Delivery::Sent
        }
        SendOutcome::Unwanted => {
            shared.wake_driver();
            Delivery::NobodyWaits
        }
    }
}

/// The longest beginning of `reason` that fits in a refusal.
fn bounded(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(REASON)]
}
