//! Semaphores: permits that layers lease from the ledger.
//!
//! The ledger is a layer of the framework's own, whose next life knows every lease. So a permit outlives whoever holds it: the death of a holder
//! gives it back, and the next holder learns of it ([`Lease::abandoned`]). Every lease has a
//! number that only grows ([`Lease::fence`]): whatever the permit guards can refuse the orders of
//! a holder that is late by it.

pub mod blocking;
mod lease;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::broker::{Answered, Broker};
use crate::ident::Name;
use crate::mark::reached;
use crate::policy::plan::SemaphorePlan;
use crate::wire::broker::{Answer, Ask, FOR_EVER, Refusal};

pub use lease::{Expired, Lease};

/// A semaphore of which this layer may hold permits. A handle; clones are the same semaphore.
#[derive(Clone, Debug)]
pub struct Semaphore(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    broker: Arc<Broker>,
    number: u16,
    plan: SemaphorePlan,
}

/// Why there is no lease.
#[derive(Debug, thiserror::Error)]
pub enum AcquireError {
    /// This instance holds a permit of another semaphore, before which this one would have to be
    /// taken.
    #[error("{}", order_text(.semaphore, *.order))]
    Order {
        /// The semaphore that was asked for.
        semaphore: Name,
        /// Its place in the order.
        order: Option<u32>,
    },
    /// No permit was free in time.
    #[error("`[semaphore.{0}] permits`: none was free in time")]
    Timeout(Name),
    /// More requests of this instance wait than the ledger keeps.
    #[error("`[semaphore.{0}]`: too many requests of this layer wait already")]
    Limit(Name),
    /// The layer was asked to finish while it waited.
    #[error("`[semaphore.{0}]`: this layer is asked to finish")]
    Stopping(Name),
    /// The ledger is gone, or refused what its own policy grants.
    #[error("`[semaphore.{semaphore}]`: {error}")]
    System {
        /// The semaphore that was asked for.
        semaphore: Name,
        /// What happened.
        error: io::Error,
    },
}

impl Semaphore {
    /// Permit number `number` of the plan; a layer gets its semaphores by
    /// [`Layer::semaphore`](crate::Layer::semaphore).
    pub(crate) fn new(broker: Arc<Broker>, number: u16, plan: SemaphorePlan) -> Self {
        Self(Arc::new(Shared { broker, number, plan }))
    }

    /// Its name in the policy.
    pub fn name(&self) -> &Name {
        &self.0.plan.name
    }

    /// The same semaphore for code that blocks.
    pub fn blocking(&self) -> blocking::Semaphore {
        blocking::Semaphore(self.clone())
    }

    /// Leases a permit, and waits until one is free. Those who ask first get first, whichever
    /// layer they are in.
    ///
    /// Dropping the future withdraws the request; a permit that was on its way goes back.
    pub async fn acquire(&self) -> Result<Lease, AcquireError> {
        self.ask(FOR_EVER).await
    }

    /// Leases a permit if one is free; `None` if not.
    pub async fn try_acquire(&self) -> Result<Option<Lease>, AcquireError> {
        at_once(self.ask(0).await)
    }

    /// Leases a permit, and waits until one is free, at most for `time`, which is rounded up to
    /// milliseconds; from 49 days on it has no end.
    pub async fn acquire_timeout(&self, time: Duration) -> Result<Lease, AcquireError> {
        self.ask(millis(time)).await
    }

    async fn ask(&self, wait: u32) -> Result<Lease, AcquireError> {
        reached("semaphore.acquire.before");
        let answered = self.0.broker.ask(self.request(wait)).await;
        self.lease(answered)
    }

    fn request(&self, wait: u32) -> Ask {
        Ask::Acquire { semaphore: self.0.number, wait }
    }

    /// Nothing between the answer and the lease can fail: a permit that has come is held.
    fn lease(&self, answered: io::Result<Answered>) -> Result<Lease, AcquireError> {
        let semaphore = self.name().clone();
        match answered {
            Ok((Answer::Leased { fence, abandoned, until, .. }, _)) => {
                reached("semaphore.acquire.got");
                Ok(Lease::new(self.clone(), fence, abandoned, until.map(Duration::from_nanos)))
            }
            Ok((Answer::Refused(Refusal::Order), _)) => {
                Err(AcquireError::Order { semaphore, order: self.0.plan.order })
            }
            Ok((Answer::Refused(Refusal::Timeout), _)) => Err(AcquireError::Timeout(semaphore)),
            Ok((Answer::Refused(Refusal::Limit), _)) => Err(AcquireError::Limit(semaphore)),
            Ok((other, _)) => {
                let error = io::Error::other(format!("the ledger answers {other:?}"));
                Err(AcquireError::System { semaphore, error })
            }
            Err(error) => Err(AcquireError::System { semaphore, error }),
        }
    }
}

/// Without a permit at once there is none.
fn at_once(result: Result<Lease, AcquireError>) -> Result<Option<Lease>, AcquireError> {
    match result {
        Ok(lease) => Ok(Some(lease)),
        Err(AcquireError::Timeout(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(FOR_EVER)
}

fn order_text(semaphore: &Name, order: Option<u32>) -> String {
    match order {
        Some(order) => format!(
            "`[semaphore.{semaphore}] order = {order}`: this layer holds a permit of the same or a \
             higher place; take them from low to high"
        ),
        None => format!(
            "`[semaphore.{semaphore}]` has no `order`: it is never taken while another one is held"
        ),
    }
}
