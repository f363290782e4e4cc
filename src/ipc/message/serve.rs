//! The loop of a layer that answers calls, so that nobody writes it by hand.

use std::fmt::Display;

use super::caller::Caller;
use super::error::{ChannelError, SendError};
use super::{Channel, Delivery, Event, Message, Method, Replier, blocking};
use crate::ident::Instance;
use crate::trace::{self, Trace};

/// What [`Channel::serve`] gives its handler: a call, or a message that wants no answer.
#[derive(Debug)]
pub struct Request {
    /// Who sent it: as proven in the handshake.
    pub from: Instance,
    /// The method.
    pub method: Method,
    /// What it says.
    pub message: Message,
    /// Who waits for the answer; nobody, if it wants none.
    pub caller: Option<Caller>,
}

impl Channel {
    /// Handles calls and messages, one after the other, until the layer is asked to finish and
    /// nothing is left to receive.
    ///
    /// What the handler returns is the answer; an error is a refusal with its text, of which the
    /// caller gets 1 KiB at most. Neither a caller that has ended nor an answer that the policy
    /// forbids ends the loop: the latter is refused, and says why. Of a message that wants no
    /// answer, what the handler returns is dropped. Peers that come and go are passed over.
    ///
    /// A method with `stream = true` can't be answered so: write a loop over [`Channel::next`].
    ///
    /// ```no_run
    /// # async fn example(sign: cofferdam::ipc::message::Channel) -> Result<(), Box<dyn std::error::Error>> {
    /// sign.serve(async |request| match request.method.as_str() {
    ///     "sign" => Ok(request.message.body),
    ///     _ => Err("there is no such method"),
    /// })
    /// .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn serve<A: Into<Message>, E: Display>(
        &self,
        mut handler: impl AsyncFnMut(Request) -> Result<A, E>,
    ) -> Result<(), ChannelError> {
        while let Some(event) = self.next().await? {
            let Some((request, reply)) = split(event) else { continue };
            let _in_hand = if reply.is_none() { self.take() } else { None };
            let answer = trace::within(trace_of(reply.as_ref()), handler(request)).await;
            let Some(reply) = reply else { continue };
            let done = match checked(&reply, answer) {
                Ok(message) => reply.reply(message).await,
                Err(reason) => reply.refuse(&reason).await,
            };
            go_on(done)?;
        }
        Ok(())
    }
}

impl blocking::Channel {
    /// Handles calls and messages, one after the other, until the layer is asked to finish and
    /// nothing is left to receive. See [`Channel::serve`](super::Channel::serve).
    pub fn serve<A: Into<Message>, E: Display>(
        &self,
        mut handler: impl FnMut(Request) -> Result<A, E>,
    ) -> Result<(), ChannelError> {
        while let Some(event) = self.next()? {
            let Some((request, reply)) = split(event) else { continue };
            let _in_hand = if reply.is_none() { self.0.take() } else { None };
            let answer = trace::run(trace_of(reply.as_ref()), || handler(request));
            let Some(reply) = reply else { continue };
            go_on(match checked(&reply, answer) {
                Ok(message) => reply.blocking().reply(message),
                Err(reason) => reply.blocking().refuse(&reason),
            })?;
        }
        Ok(())
    }
}

/// What of an event is the handler's.
fn split(event: Event) -> Option<(Request, Option<Replier>)> {
    match event {
        Event::Request { from, method, message, reply } => {
            let caller = Some(reply.caller());
            Some((Request { from, method, message, caller }, Some(reply)))
        }
        Event::Message { from, method, message } => {
            Some((Request { from, method, message, caller: None }, None))
        }
        Event::PeerRestarted { .. }
        | Event::PeerGone(_)
        | Event::PeerBroke { .. }
        | Event::PeerDown => None,
    }
}

/// What the handler is at: this very call, or the message that has just come.
fn trace_of(reply: Option<&Replier>) -> Option<Trace> {
    reply.map_or_else(trace::current, Replier::trace)
}

/// The answer, or why there is none: also one that the policy forbids, which may be what the
/// request was meant to bring about.
fn checked<A: Into<Message>, E: Display>(
    reply: &Replier,
    answer: Result<A, E>,
) -> Result<Message, String> {
    let message = answer.map(Into::into).map_err(|error| error.to_string())?;
    reply.check(&message, false).map_err(|violation| violation.to_string())?;
    Ok(message)
}

/// What of an answer's outcome ends the loop.
fn go_on(done: Result<Delivery, SendError>) -> Result<(), ChannelError> {
    match done {
        Err(SendError::System(error)) => Err(error),
        _ => Ok(()),
    }
}
