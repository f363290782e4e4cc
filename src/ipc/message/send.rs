//! Sending messages that want no answer, and receiving.

use std::time::Duration;

use super::check::request;
use super::state::{SendOperation, SendOutcome, SendRequest, State, Target};
use super::wait::Who;
use super::{Channel, ChannelError, Event, Message, SendError};
use crate::ident::Instance;
use crate::trace;
use crate::wire::limits::SHARED_PAYLOAD;
use crate::wire::record::Kind;

impl Channel {
    /// Sends a message to the peer that has least to do. Waits while all are full, or while
    /// there is none, as during a restart.
    ///
    /// `Ok` says that the message is on its way: in the kernel, or in a small queue that the
    /// driver empties. It does not say that the peer has read it.
    pub async fn send(&self, method: &str, message: impl Into<Message>) -> Result<(), SendError> {
        self.post(None, method, message.into()).await
    }

    /// Sends a message to one instance; fails if that has ended.
    pub async fn send_to(
        &self,
        peer: &Instance,
        method: &str,
        message: impl Into<Message>,
    ) -> Result<(), SendError> {
        self.post(Some(peer), method, message.into()).await
    }

    /// Sends a message if some peer has room now; else gives it back.
    pub fn try_send(&self, method: &str, message: Message) -> Result<(), (SendError, Message)> {
        let mut message = message;
        let (number, descriptions) = match self.check(Kind::Message, method, &message) {
            Ok(checked) => checked,
            Err(violation) => return Err((violation.into(), message)),
        };
        let mut request = request(Kind::Message, number, &mut message, &descriptions);
        match self.shared.with(|state| state.try_post(&mut request)) {
            Ok(true) => {
                self.shared.wake_driver();
                Ok(())
            }
            Ok(false) => Err((SendError::Full, message)),
            Err(error) => Err((error, message)),
        }
    }

    /// [`Channel::send`] that gives up after a while; then the message was not taken.
    pub async fn send_timeout(
        &self,
        method: &str,
        message: impl Into<Message>,
        time: Duration,
    ) -> Result<(), SendError> {
        let sent = tokio::time::timeout(time, self.send(method, message)).await;
        sent.unwrap_or(Err(SendError::Timeout))
    }

    /// Receives the next event. Dropping the future loses nothing.
    ///
    /// What this task does from then on, until it receives again or has answered, is done for what
    /// came, and is [traced](crate::trace) so.
    pub fn recv(&self) -> impl Future<Output = Result<Event, ChannelError>> + Send {
        trace::done();
        async {
            let item = self.shared.wait(Who::Receiver, State::take).await?;
            Ok(self.event(item))
        }
    }

    /// The next event, or `None` once the layer is asked to finish and nothing is left to receive.
    /// Dropping the future loses nothing.
    pub fn next(&self) -> impl Future<Output = Result<Option<Event>, ChannelError>> + Send {
        trace::done();
        let take = |state: &mut State| match state.take() {
            Some(item) => Some(Some(item)),
            None if self.shared.is_stopping() => {
                state.pump();
                Some(state.take())
            }
            None => None,
        };
        async move {
            let item = self.shared.wait(Who::Receiver, take).await?;
            Ok(item.map(|item| self.event(item)))
        }
    }

    /// The next event, if one is there now.
    pub fn try_recv(&self) -> Option<Event> {
        trace::done();
        let item = self.shared.with(|state| {
            state.take().or_else(|| {
                state.pump();
                state.take()
            })
        })?;
        Some(self.event(item))
    }

    async fn post(
        &self,
        to: Option<&Instance>,
        method: &str,
        mut message: Message,
    ) -> Result<(), SendError> {
        let (number, descriptions) = self.check(Kind::Message, method, &message)?;
        let driven = self.shared.driven();
        // What may stay in the link's small queue when the driver takes care of it.
        let leave = driven && message.fds.is_empty() && message.body.len() <= SHARED_PAYLOAD;
        let request = SendRequest {
            hold: driven,
            ..request(Kind::Message, number, &mut message, &descriptions)
        };
        let target = to.map_or(Target::Any, Target::Peer);
        let mut send = if leave {
            SendOperation::leaving(target, request)
        } else {
            SendOperation::new(target, request)
        };
        let posted = self.shared.wait(Who::Sender, |state: &mut State| send.attempt(state));
        if posted.await?? == SendOutcome::Held {
            self.shared.wake_driver();
        }
        Ok(())
    }
}
