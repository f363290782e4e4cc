//! How much one client may have a helper do, by the clock.
//!
//! A client beyond its allowance is not ended: the helper reads nothing more of it for a while, and
//! so its own socket holds it back. What the policy refuses costs more, so that a client which
//! tries what it may not do can't fill the log with it.

use std::time::{Duration, Instant};

/// What a request costs.
pub(super) const REQUEST: i64 = 1;

/// What a request costs besides that is refused.
pub(super) const REFUSED: i64 = 31;

/// What comes back in a second, and is there at most: several times what one client can use that
/// waits for each answer, and eight thousand refusals.
const RATE: i64 = 256 << 10;

/// One client's.
#[derive(Debug)]
pub(super) struct Allowance {
    left: i64,
    at: Instant,
}

impl Allowance {
    /// A whole one.
    pub(super) fn new(now: Instant) -> Self {
        Self { left: RATE, at: now }
    }

    /// Takes from it; what isn't there is owed.
    pub(super) fn take(&mut self, cost: i64) {
        self.left -= cost;
    }

    /// Until when nothing more is to be read; `None`: not at all.
    pub(super) fn rest(&mut self, now: Instant) -> Option<Instant> {
        if self.left > 0 {
            return None;
        }
        let passed = now.saturating_duration_since(self.at).as_micros();
        let back = i64::try_from(passed).unwrap_or(RATE).saturating_mul(RATE) / 1_000_000;
        (self.left, self.at) = (self.left.saturating_add(back).min(RATE), now);
        let owed = u64::try_from(1 - self.left).ok().filter(|&owed| owed > 0)?;
        let rate = RATE.unsigned_abs();
        Some(now + Duration::from_micros((owed * 1_000_000).div_ceil(rate)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_too_much_rests_until_it_has_come_back() {
        let now = Instant::now();
        let mut allowance = Allowance::new(now);
        allowance.take(RATE - 1);
        assert_eq!(allowance.rest(now), None);
        allowance.take(1 + REFUSED);
        let until = allowance.rest(now).unwrap();
        assert!(until > now && until < now + Duration::from_millis(2));
        assert_eq!(allowance.rest(until), None);
        allowance.take(10 * RATE);
        assert!(allowance.rest(until).unwrap() > until + Duration::from_secs(9));
        // It never saves up more than a whole one.
        let later = until + Duration::from_hours(1);
        assert_eq!(allowance.rest(later), None);
        allowance.take(RATE);
        assert!(allowance.rest(later).is_some());
    }
}
