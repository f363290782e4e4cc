//! The protocol of one link as its receiver sees it: what was called, and how often.
//!
//! A peer that breaks it is taken as compromised: the sender's own end knows the same policy.

use std::time::{Duration, Instant};

use super::fault::{MethodRule, PeerFault};
use crate::policy::plan::{ChannelPlan, MethodPlan, Rate};
use crate::wire::record::Kind;

/// What the peer has called on one link so far. A new life of the peer is a new link.
#[derive(Clone, Debug, Default)]
pub struct Progress(Vec<Calls>);

/// The calls of one method.
#[derive(Clone, Debug, Default)]
struct Calls {
    called: bool,
    bucket: Option<Bucket>,
}

impl Progress {
    /// Nothing was called yet.
    pub fn new(plan: &ChannelPlan) -> Self {
        Self(vec![Calls::default(); plan.methods.len()])
    }

    /// Counts what came, or says which rule it breaks. Answers are no calls and always pass.
    ///
    /// `now` is only asked where a rule counts time.
    pub fn admit(
        &mut self,
        plan: &ChannelPlan,
        kind: Kind,
        method: u16,
        now: impl FnOnce() -> Instant,
    ) -> Result<(), PeerFault> {
        let place = usize::from(method);
        if !matches!(kind, Kind::Message | Kind::Request) {
            return Ok(());
        }
        // A channel without methods has no protocol.
        let Some(rules) = plan.methods.get(place) else { return Ok(()) };
        let broken = |rule| Err(fault(plan, rules, rule));
        let first = rules.after.and_then(|first| self.0.get(usize::from(first)));
        if first.is_some_and(|first| !first.called) {
            return broken(MethodRule::After);
        }
        let Some(own) = self.0.get_mut(place) else { return Ok(()) };
        if rules.once && own.called {
            return broken(MethodRule::Once);
        }
        if let Some(rate) = rules.rate {
            let now = now();
            let bucket = own.bucket.get_or_insert_with(|| Bucket::full(rate, now));
            if !bucket.take(rate, now) {
                return broken(MethodRule::Rate);
            }
        }
        own.called = true;
        Ok(())
    }
}

fn fault(plan: &ChannelPlan, method: &MethodPlan, rule: MethodRule) -> PeerFault {
    PeerFault::Protocol { channel: plan.name.clone(), method: method.name.clone(), rule }
}

/// A token bucket: it holds [`Rate::count`] tokens, fills up in [`Rate::per`], and each call takes
/// one. So a burst of the whole count is fine, and so is a steady stream at the rate.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    /// Time that is paid for, at most [`Rate::per`]: one call costs `per / count`.
    saved: Duration,
    last: Instant,
}

impl Bucket {
    /// One that is full.
    pub fn full(rate: Rate, now: Instant) -> Self {
        Self { saved: rate.per, last: now }
    }

    /// Takes a token, if there is one.
    pub fn take(&mut self, rate: Rate, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.last);
        self.saved = self.saved.saturating_add(since).min(rate.per);
        self.last = now;
        // A rate counts at least one; rounding down favours the peer by nanoseconds.
        let price = rate.per / rate.count.max(1);
        match self.saved.checked_sub(price) {
            Some(left) => {
                self.saved = left;
                true
            }
            None => false,
        }
    }
}
