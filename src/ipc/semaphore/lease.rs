//! A lease: a permit for a while.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::Semaphore;
use crate::ident::Name;

/// A permit that this layer holds; dropping it gives it back.
///
/// Where the policy sets a time (`lease`), the permit goes to the next holder when that has passed,
/// whatever this one does: what it does later happens beside that holder. So code whose lease may
/// run out sends [`fence`](Lease::fence) along with every order to what the permit guards, which
/// refuses a number that is smaller than one it has seen.
#[derive(Debug)]
#[must_use = "dropping a lease gives the permit back"]
pub struct Lease {
    semaphore: Semaphore,
    fence: u64,
    abandoned: bool,
    /// When it runs out, by `CLOCK_MONOTONIC`.
    until: Option<Duration>,
}

/// The lease had run out: the permit may be another holder's by now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`[semaphore.{semaphore}] lease`: lease {fence} has run out, its permit may be another's")]
pub struct Expired {
    /// The semaphore.
    pub semaphore: Name,
    /// The lease.
    pub fence: u64,
}

impl Lease {
    pub(super) fn new(
        semaphore: Semaphore,
        fence: u64,
        abandoned: bool,
        until: Option<Duration>,
    ) -> Self {
        Self { semaphore, fence, abandoned, until }
    }

    /// The lease's number. It is larger than that of every earlier lease of this semaphore, of
    /// whichever layer.
    pub fn fence(&self) -> u64 {
        self.fence
    }

    /// Whether the permit's last holder died with it or let its time run out: what it guards may
    /// be half done.
    pub fn abandoned(&self) -> bool {
        self.abandoned
    }

    /// The time that is left; `None` has no end.
    ///
    /// The ledger counts on the same clock (`CLOCK_MONOTONIC`), so this is never more than what
    /// is really left. The clock stands while the machine sleeps, for all alike.
    pub fn remaining(&self) -> Option<Duration> {
        self.until.map(|until| until.saturating_sub(now()))
    }

    /// Whether its time has passed.
    pub fn is_expired(&self) -> bool {
        self.remaining() == Some(Duration::ZERO)
    }

    /// `Ok` as long as it holds: to be asked right before what the permit guards.
    pub fn check(&self) -> Result<(), Expired> {
        let expired = || Expired { semaphore: self.semaphore.name().clone(), fence: self.fence };
        if self.is_expired() { Err(expired()) } else { Ok(()) }
    }

    /// Waits until its time has passed; for ever if it has no end.
    pub async fn expired(&self) {
        while let Some(left) = self.remaining().filter(|left| !left.is_zero()) {
            tokio::time::sleep(left).await;
        }
        if self.until.is_none() {
            std::future::pending::<()>().await;
        }
    }

    /// Gives the permit back, and says whether it was held until now.
    pub fn release(self) -> Result<(), Expired> {
        self.check()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // One that has run out was taken back already.
        let shared = &self.semaphore.0;
        shared.broker.release(shared.number, self.fence, self.is_expired());
    }
}

fn now() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default()
}
