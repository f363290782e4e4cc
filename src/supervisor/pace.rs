//! How often a layer is listened to.
//!
//! Whatever a layer asks for costs the supervisor time, which all layers share, and a record, which
//! the log has to take. So each is listened to at a bounded rate, and what it says beyond waits in
//! its own socket: it waits then, and nobody else.

use std::time::{Duration, Instant};

use super::Supervisor;
use crate::policy::plan::LogFull;

/// The most messages of one layer that are handled in a second. A layer that asks and waits for the
/// answer comes to some ten thousand on a fast machine.
const RATE: u32 = 20_000;

/// How many may come at once.
const BURST: u32 = 2_000;

/// What one message costs.
const EACH: Duration = Duration::from_nanos(1_000_000_000 / RATE as u64);

/// One place's pace: a token bucket, told by the time at which it is full.
#[derive(Debug)]
pub struct Pace {
    full: Instant,
}

impl Pace {
    /// A full bucket.
    pub fn new(now: Instant) -> Self {
        Self { full: now }
    }

    /// Takes a token. False: there is none.
    pub fn take(&mut self, now: Instant) -> bool {
        let ready = self.ready_at(now).is_none();
        if ready {
            self.full = self.full.max(now) + EACH;
        }
        ready
    }

    /// When there is a token, if there is none at `now`.
    pub fn ready_at(&self, now: Instant) -> Option<Instant> {
        let at = (self.full + EACH).checked_sub(EACH * BURST)?;
        (at > now).then_some(at)
    }
}

impl Supervisor<'_> {
    /// When the layer at `place` is listened to again, if it isn't now.
    pub(super) fn throttled_until(&self, place: usize, now: Instant) -> Option<Instant> {
        if self.role(place).is_some() {
            return None;
        }
        let waits = self.waits_for_room(place).then(|| now + super::audit::FLUSH);
        self.places[place].pace.ready_at(now).max(waits)
    }

    /// Takes a turn for one more message of a layer, if there is one left.
    pub(super) fn takes_turn(&mut self, place: usize) -> bool {
        let now = Instant::now();
        self.role(place).is_some()
            || (!self.waits_for_room(place) && self.places[place].pace.take(now))
    }

    /// Whether what is done for a layer finds no room in the log now, and has to wait for some.
    fn waits_for_room(&self, place: usize) -> bool {
        let Some(audit) = &self.audit else { return false };
        self.plan.audit.on_full == LogFull::Block
            && !self.stopping
            && audit.is_full_of(&self.places[place].seat.instance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_heard_at_once_and_then_one_after_another() {
        let begin = Instant::now();
        let mut pace = Pace::new(begin);
        assert_eq!((0..BURST * 2).filter(|_| pace.take(begin)).count(), BURST as usize);
        let next = pace.ready_at(begin).expect("none is left");
        assert!(next > begin && next <= begin + EACH);
        assert!(pace.take(next));
        assert!(!pace.take(next));
        let later = next + EACH * BURST * 3;
        assert_eq!((0..BURST * 2).filter(|_| pace.take(later)).count(), BURST as usize);
    }
}
