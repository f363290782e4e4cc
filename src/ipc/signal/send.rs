//! Sending signals.

use std::io;
use std::sync::Arc;

use crate::ident::{Instance, Name};
use crate::ipc::broker::{Answered, Broker};
use crate::mark::reached;
use crate::policy::plan::SignalPlan;
use crate::policy::signal::{signal_name, signal_number};
use crate::report::Tap;
use crate::wire::broker::{Answer, Ask, EVERY_COPY, Refusal};

/// What this layer may send by one grant. A handle; clones are the same grant.
#[derive(Clone, Debug)]
pub struct Sender(Arc<Shared>);

/// A [`Sender`] whose verbs block.
#[derive(Clone, Debug)]
pub struct BlockingSender(Sender);

#[derive(Debug)]
struct Shared {
    broker: Arc<Broker>,
    number: u16,
    plan: SignalPlan,
    tap: Option<Tap>,
}

/// Why a signal was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The grant doesn't name this signal.
    #[error("`[signal.{grant}] send = [{allowed}]`: `{signal}` is not among them")]
    NotGranted {
        /// The grant.
        grant: Name,
        /// What was asked for.
        signal: String,
        /// What it allows.
        allowed: String,
    },
    /// The instance is of another layer than the grant's.
    #[error("`[signal.{grant}] to = \"{to}\"`: {instance} is another layer")]
    WrongLayer {
        /// The grant.
        grant: Name,
        /// Whom it reaches.
        to: Name,
        /// Who was meant.
        instance: Instance,
    },
    /// More often than the grant's `rate`; nothing was sent.
    #[error("`[signal.{grant}] rate`: signals are sent more often than that")]
    Rate {
        /// The grant.
        grant: Name,
    },
    /// Whom it is meant for isn't running (any more). A new life of it may come.
    #[error("`[signal.{grant}] to = \"{to}\"`: it is not running")]
    PeerDead {
        /// The grant.
        grant: Name,
        /// Whom it reaches.
        to: Name,
    },
    /// The supervisor is gone, or the kernel refused.
    #[error("`[signal.{grant}]`: {error}")]
    System {
        /// The grant.
        grant: Name,
        /// What happened.
        error: io::Error,
    },
}

impl Sender {
    /// What isn't asked for is reported to `tap`; the supervisor reports what is.
    pub(crate) fn new(
        broker: Arc<Broker>,
        number: u16,
        plan: SignalPlan,
        tap: Option<Tap>,
    ) -> Self {
        Self(Arc::new(Shared { broker, number, plan, tap }))
    }

    /// The grant's name in the policy.
    pub fn name(&self) -> &Name {
        &self.0.plan.name
    }

    /// The same grant for code that blocks.
    pub fn blocking(&self) -> BlockingSender {
        BlockingSender(self.clone())
    }

    /// Sends `signal`, written as in the policy (`HUP`), to every running instance of the grant's
    /// layer. When it returns, the kernel has it.
    ///
    /// A future that is dropped may have sent it all the same.
    pub async fn send(&self, signal: &str) -> Result<(), SendError> {
        self.ask(self.request(signal, EVERY_COPY, 0)?).await
    }

    /// Sends to one copy of the layer, whichever life it is in.
    pub async fn send_to_copy(&self, index: u16, signal: &str) -> Result<(), SendError> {
        self.ask(self.request(signal, index, 0)?).await
    }

    /// Sends to exactly that instance, never to its successor.
    pub async fn send_to(&self, instance: &Instance, signal: &str) -> Result<(), SendError> {
        self.ask(self.request_for(instance, signal)?).await
    }

    async fn ask(&self, ask: Ask) -> Result<(), SendError> {
        reached("signal.send.before");
        let answered = self.0.broker.ask(ask).await;
        self.outcome(answered)
    }

    fn request_for(&self, instance: &Instance, signal: &str) -> Result<Ask, SendError> {
        if instance.layer != self.0.plan.to {
            let (to, instance) = (self.0.plan.to.clone(), instance.clone());
            let error = SendError::WrongLayer { grant: self.name().clone(), to, instance };
            return Err(self.refused(signal, error));
        }
        self.request(signal, instance.index, instance.generation)
    }

    fn request(&self, signal: &str, index: u16, generation: u64) -> Result<Ask, SendError> {
        let plan = &self.0.plan;
        if let Some(signal) = signal_number(signal).filter(|number| plan.send.contains(number)) {
            return Ok(Ask::Signal { grant: self.0.number, index, generation, signal });
        }
        let quoted = |number: &u8| {
            signal_name(*number).map_or_else(String::new, |name| format!("\"{name}\""))
        };
        let allowed = plan.send.iter().map(quoted).collect::<Vec<_>>().join(", ");
        let (grant, asked) = (plan.name.clone(), signal.to_owned());
        Err(self.refused(signal, SendError::NotGranted { grant, signal: asked, allowed }))
    }

    /// Reports that nothing was sent.
    fn refused(&self, signal: &str, error: SendError) -> SendError {
        if let Some(tap) = &self.0.tap {
            let number = signal_number(signal).map_or(0, u32::from);
            tap.refused(number, &error.to_string());
        }
        error
    }

    fn outcome(&self, answered: io::Result<Answered>) -> Result<(), SendError> {
        reached("signal.send.answered");
        let grant = self.name().clone();
        let error = match answered {
            Ok((Answer::Done, _)) => return Ok(()),
            Ok((Answer::Refused(Refusal::Limit), _)) => return Err(SendError::Rate { grant }),
            Ok((Answer::Refused(Refusal::PeerDead), _)) => {
                return Err(SendError::PeerDead { grant, to: self.0.plan.to.clone() });
            }
            Ok((Answer::Refused(Refusal::System(errno)), _)) => io::Error::from_raw_os_error(errno),
            Ok((other, _)) => io::Error::other(format!("the supervisor answers {other:?}")),
            Err(error) => error,
        };
        Err(SendError::System { grant, error })
    }
}

impl BlockingSender {
    /// Sends to every running instance; see [`Sender::send`].
    pub fn send(&self, signal: &str) -> Result<(), SendError> {
        self.ask(self.0.request(signal, EVERY_COPY, 0)?)
    }

    /// Sends to one copy; see [`Sender::send_to_copy`].
    pub fn send_to_copy(&self, index: u16, signal: &str) -> Result<(), SendError> {
        self.ask(self.0.request(signal, index, 0)?)
    }

    /// Sends to exactly that instance; see [`Sender::send_to`].
    pub fn send_to(&self, instance: &Instance, signal: &str) -> Result<(), SendError> {
        self.ask(self.0.request_for(instance, signal)?)
    }

    fn ask(&self, ask: Ask) -> Result<(), SendError> {
        reached("signal.send.before");
        self.0.outcome(self.0.0.broker.ask_blocking(ask))
    }
}
