//! The protocol of one link: what was called, and how often.
//!
//! A peer that breaks it is taken as compromised: the sender's own end knows the same policy, and
//! has what comes too early wait ([`Pace`]).

use std::time::{Duration, Instant};

use super::fault::{MethodRule, PeerFault};
use crate::policy::plan::{ChannelPlan, MethodPlan, Rate};
use crate::wire::record::Kind;

/// What the peer has called on one link so far. A new life of the peer is a new link.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    calls: Vec<Calls>,
    is_timed: bool,
    quiet: Option<Instant>,
}

/// The calls of one method.
#[derive(Clone, Debug, Default)]
struct Calls {
    called: bool,
    bucket: Option<Bucket>,
}

impl Progress {
    /// Nothing was called yet.
    pub fn new(plan: &ChannelPlan) -> Self {
        let calls = vec![Calls::default(); plan.methods.len()];
        Self { calls, is_timed: is_timed(plan), quiet: None }
    }

    /// Notes that nothing waits to be received: what comes later was sent later. So a receiver that
    /// was away for a while doesn't take for a flood what was sent at its time and has gathered.
    ///
    /// `now` is only asked where a rule counts time.
    pub fn nothing_came(&mut self, now: impl FnOnce() -> Instant) {
        if self.is_timed {
            self.quiet = Some(now());
        }
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
        let first = rules.after.and_then(|first| self.calls.get(usize::from(first)));
        if first.is_some_and(|first| !first.called) {
            return broken(MethodRule::After);
        }
        let Some(own) = self.calls.get_mut(place) else { return Ok(()) };
        if rules.once && own.called {
            return broken(MethodRule::Once);
        }
        if let Some(rate) = rules.rate {
            let now = now();
            let quiet = self.quiet.unwrap_or(now);
            // A witness may hold up what was sent at its time, and nobody sees that it does.
            let most = if plan.witness { rate.per * 2 } else { rate.per };
            let bucket = own.bucket.get_or_insert(Bucket { saved: most, last: quiet });
            bucket.fill(most, quiet, now);
            if !bucket.spend(rate) {
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

fn is_timed(plan: &ChannelPlan) -> bool {
    plan.methods.iter().any(|method| method.rate.is_some())
}

/// When this end may call what: it keeps the policy's rates by itself, so that whoever sends too
/// much by mistake waits, and isn't taken as compromised.
#[derive(Clone, Debug, Default)]
pub struct Pace(Vec<Option<Bucket>>);

impl Pace {
    /// Nothing was called yet.
    pub fn new(plan: &ChannelPlan) -> Self {
        Self(if is_timed(plan) { vec![None; plan.methods.len()] } else { Vec::new() })
    }

    /// When the next call of a method may go out, if that is later than `now`, which is only asked
    /// where a rule counts time.
    pub fn due(
        &mut self,
        plan: &ChannelPlan,
        kind: Kind,
        method: u16,
        now: impl FnOnce() -> Instant,
    ) -> Option<Instant> {
        let (bucket, rate) = self.of(plan, kind, method)?;
        let now = now();
        let bucket = bucket.get_or_insert_with(|| Bucket::full(rate, now));
        bucket.fill(rate.per, now, now);
        let missing = bucket.missing(rate);
        (!missing.is_zero()).then(|| now + missing)
    }

    /// Counts a call that went out, after [`due`](Self::due) had nothing against it.
    pub fn count(&mut self, plan: &ChannelPlan, kind: Kind, method: u16) {
        if let Some((Some(bucket), rate)) = self.of(plan, kind, method) {
            bucket.spend(rate);
        }
    }

    fn of(
        &mut self,
        plan: &ChannelPlan,
        kind: Kind,
        method: u16,
    ) -> Option<(&mut Option<Bucket>, Rate)> {
        let bucket = self.0.get_mut(usize::from(method))?;
        let is_call = matches!(kind, Kind::Message | Kind::Request);
        let rate = plan.methods.get(usize::from(method))?.rate.filter(|_| is_call)?;
        Some((bucket, rate))
    }
}

/// A token bucket: it holds [`Rate::count`] tokens, fills up in [`Rate::per`], and each call takes
/// one. So a burst of the whole count is fine, and so is a steady stream at the rate.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    /// Time that is paid for: one call costs `per / count`.
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
        self.fill(rate.per, now, now);
        self.spend(rate)
    }

    /// Saves the time since it was last filled: `most` until `quiet`, and all of it afterwards.
    fn fill(&mut self, most: Duration, quiet: Instant, now: Instant) {
        if quiet >= self.last {
            let until = quiet.saturating_duration_since(self.last);
            self.saved = self.saved.saturating_add(until).min(most);
            self.last = quiet;
        }
        let since = now.saturating_duration_since(self.last);
        self.saved = self.saved.saturating_add(since);
        self.last = self.last.max(now);
    }

    fn spend(&mut self, rate: Rate) -> bool {
        match self.saved.checked_sub(price(rate)) {
            Some(left) => {
                self.saved = left;
                true
            }
            None => false,
        }
    }

    /// How long it takes until there is a token.
    fn missing(&self, rate: Rate) -> Duration {
        price(rate).saturating_sub(self.saved)
    }
}

/// A rate counts at least one; rounding down favours the peer by nanoseconds.
fn price(rate: Rate) -> Duration {
    rate.per / rate.count.max(1)
}
