//! The same semaphore for code that waits by blocking its thread.

use std::time::Duration;

use super::{AcquireError, FOR_EVER, Lease, at_once, millis};
use crate::ident::Name;
use crate::mark::reached;

/// A semaphore whose verbs block. A handle; clones are the same semaphore.
#[derive(Clone, Debug)]
pub struct Semaphore(pub(super) super::Semaphore);

impl Semaphore {
    /// Its name in the policy.
    pub fn name(&self) -> &Name {
        self.0.name()
    }

    /// Leases a permit, and waits until one is free, or until the layer is asked to finish
    /// ([`AcquireError::Stopping`]). Who needs one to finish gives a time.
    pub fn acquire(&self) -> Result<Lease, AcquireError> {
        reached("semaphore.acquire.before");
        let shared = &self.0.0;
        match shared.broker.ask_blocking_unless_stopping(self.0.request(FOR_EVER)) {
            Ok(None) => Err(AcquireError::Stopping(self.name().clone())),
            Ok(Some(answered)) => self.0.lease(Ok(answered)),
            Err(error) => self.0.lease(Err(error)),
        }
    }

    /// Leases a permit if one is free; `None` if not.
    pub fn try_acquire(&self) -> Result<Option<Lease>, AcquireError> {
        at_once(self.ask(0))
    }

    /// Leases a permit, and waits until one is free, at most for `time`.
    pub fn acquire_timeout(&self, time: Duration) -> Result<Lease, AcquireError> {
        self.ask(millis(time))
    }

    fn ask(&self, wait: u32) -> Result<Lease, AcquireError> {
        reached("semaphore.acquire.before");
        self.0.lease(self.0.0.broker.ask_blocking(self.0.request(wait)))
    }
}
