//! Leasing permits: the ledger's way to the layers.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::mark::reached;
use crate::policy::plan::SemaphorePlan;
use crate::supervisor::Supervisor;
use crate::supervisor::audit::semaphore as acts;
use crate::supervisor::ledger::{Expired, Ledger, Reply, Request, Turn, Verdict};
use crate::wire::broker::{Answer, FOR_EVER, Refusal};

/// A semaphore whose leases run out again and again says so this often.
const SAYING: Duration = Duration::from_secs(1);

/// The ledger, and what was said of it.
#[derive(Debug)]
pub struct Leases {
    ledger: Ledger,
    said: Vec<Said>,
}

/// What the log has been told of late holders of one semaphore.
#[derive(Clone, Debug, Default)]
struct Said {
    at: Option<Instant>,
    unsaid: u64,
}

impl Leases {
    /// All permits are free.
    pub fn new(plans: &[SemaphorePlan]) -> Self {
        Self { ledger: Ledger::new(plans), said: vec![Said::default(); plans.len()] }
    }

    /// When the next lease or the next wait ends.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.ledger.next_deadline()
    }
}

impl Supervisor<'_> {
    /// Leases a permit to the layer at `place`, or lets it wait.
    pub(super) fn acquire(&mut self, place: usize, request: u32, semaphore: u16, wait: u32) {
        reached("semaphore.acquire.heard");
        let plan = self.plan.facilities.semaphores.get(usize::from(semaphore));
        if !plan.is_some_and(|plan| plan.holders.contains(&self.places[place].seat.instance.layer))
        {
            return self.answer(place, request, Answer::Refused(Refusal::NotGranted));
        }
        let wait = (wait != FOR_EVER).then(|| Duration::from_millis(wait.into()));
        let request = Request { place, number: request, semaphore, wait };
        let turn = self.leases.ledger.acquire(request, Instant::now());
        reached("semaphore.acquire.booked");
        self.carry_out(&turn);
    }

    /// Takes a lease back that the layer at `place` no longer needs. One that isn't its own, or no
    /// longer, changes nothing.
    pub(in crate::supervisor) fn released(&mut self, place: usize, semaphore: u16, fence: u64) {
        reached("semaphore.release.heard");
        let (known, turn) = self.leases.ledger.release(place, semaphore, fence, Instant::now());
        reached("semaphore.release.booked");
        if known {
            self.note_lease(place, semaphore, fence, acts::RELEASE);
        }
        self.carry_out(&turn);
        if !known {
            let late = Expired { place, semaphore, fence };
            self.say_of(late, "gives back a lease that it doesn't hold any more");
        }
    }

    /// The layer at `place` no longer waits.
    pub(super) fn withdraw_acquire(&mut self, place: usize, request: u32) {
        reached("semaphore.withdraw.heard");
        let turn = self.leases.ledger.withdraw(place, request, Instant::now());
        reached("semaphore.withdraw.booked");
        self.carry_out(&turn);
    }

    /// The instance at `place` has died: its permits go on to the next holders, who learn of it.
    pub(in crate::supervisor) fn leave_behind(&mut self, place: usize) {
        reached("semaphore.death.heard");
        let turn = self.leases.ledger.died(place, Instant::now());
        reached("semaphore.death.booked");
        self.carry_out(&turn);
    }

    /// Ends leases and waits whose time has come.
    pub(in crate::supervisor) fn end_what_has_run_out(&mut self) {
        if self.leases.next_deadline().is_none() {
            return;
        }
        let turn = self.leases.ledger.tick(Instant::now());
        if !turn.expired.is_empty() {
            reached("semaphore.expiry.booked");
        }
        self.carry_out(&turn);
    }

    /// Tells everybody what follows. Whoever can't be told is ended, and so gives its permit back.
    fn carry_out(&mut self, turn: &Turn) {
        for expired in &turn.expired {
            self.note_lease(expired.place, expired.semaphore, expired.fence, acts::EXPIRE);
            self.say_of(*expired, "has held a lease for its whole time; the permit goes on");
        }
        if turn.replies.is_empty() {
            return;
        }
        // In this order a holder is never told a later end than the ledger's own.
        let clock = clock_gettime(ClockId::Monotonic);
        let now = Instant::now();
        let clock = Duration::try_from(clock).unwrap_or_default();
        let on_the_clock = |at: Instant| {
            let at = clock.saturating_add(at.saturating_duration_since(now));
            u64::try_from(at.as_nanos()).unwrap_or(u64::MAX)
        };
        for Reply { place, request, verdict } in &turn.replies {
            let answer = match *verdict {
                Verdict::Refused(why) => Answer::Refused(why),
                Verdict::Leased { semaphore, fence, abandoned, until } => {
                    reached("semaphore.lease.before");
                    Answer::Leased { semaphore, fence, abandoned, until: until.map(on_the_clock) }
                }
            };
            self.answer(*place, *request, answer);
        }
    }

    /// Says what a holder does that its policy would rather not see, once in a while.
    fn say_of(&mut self, Expired { place, semaphore, fence }: Expired, what: &str) {
        let semaphores = &self.plan.facilities.semaphores;
        let (Some(plan), Some(said)) = (
            semaphores.get(usize::from(semaphore)),
            self.leases.said.get_mut(usize::from(semaphore)),
        ) else {
            return;
        };
        let now = Instant::now();
        if said.at.is_some_and(|at| now < at + SAYING) {
            said.unsaid += 1;
            return;
        }
        let more = match std::mem::take(&mut said.unsaid) {
            0 => String::new(),
            unsaid => format!(" ({unsaid} like this before)"),
        };
        said.at = Some(now);
        let instance = &self.places[place].seat.instance;
        self.log.say(&format!("{instance} {what}: [semaphore.{}] lease {fence}{more}", plan.name));
    }
}
