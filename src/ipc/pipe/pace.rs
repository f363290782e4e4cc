//! Keeping to a rate: so many units in a while. Pure: time comes in as a parameter.

use std::time::{Duration, Instant};

use crate::policy::plan::Rate;

/// A token bucket: it holds [`Rate::count`] units and fills up in [`Rate::per`]. So a burst of the
/// whole count is fine, and so is a steady stream at the rate; over a while of `t` no more than
/// `count + count * t / per` get through.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    rate: Rate,
    /// Time that is paid for, at most [`Rate::per`]: one unit costs `per / count`.
    saved: Duration,
    last: Instant,
}

impl Pace {
    /// A full bucket.
    pub(crate) fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, saved: rate.per, last: now }
    }

    /// How many units may pass now, at most `wanted`; or when the next few may. Nothing is taken
    /// yet.
    pub(crate) fn allows(&mut self, wanted: usize, now: Instant) -> Result<usize, Instant> {
        let since = now.saturating_duration_since(self.last);
        self.saved = self.saved.saturating_add(since).min(self.rate.per);
        self.last = now;
        let count = self.saved.as_nanos() * u128::from(self.rate.count) / self.rate.per.as_nanos();
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(wanted);
        if count > 0 || wanted == 0 { Ok(count) } else { Err(now + self.a_few()) }
    }

    /// So many units have passed.
    pub(crate) fn pass(&mut self, count: usize) {
        self.saved = self.saved.saturating_sub(self.price(count as u128));
    }

    /// The time in which a sixteenth of the bucket fills, or one unit if that takes longer: short
    /// enough for a smooth stream, long enough that waking up costs little.
    fn a_few(&self) -> Duration {
        (self.rate.per / 16).max(self.price(1))
    }

    /// Rounded up, so that no unit is cheaper than it should be.
    fn price(&self, count: u128) -> Duration {
        let nanos = (self.rate.per.as_nanos() * count).div_ceil(u128::from(self.rate.count.max(1)));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_passes_than_the_rate_says() {
        let begin = Instant::now();
        for (count, per) in [(1, 1000), (7, 1000), (1000, 1), (1 << 20, 1000), (u32::MAX, 1)] {
            let per = Duration::from_millis(per);
            let mut pace = Pace::new(Rate { count, per }, begin);
            let (mut now, mut passed, mut steps) = (begin, 0_u64, 0);
            while now - begin < per * 10 && steps < 100_000 {
                steps += 1;
                match pace.allows(1 << 16, now) {
                    Ok(some) => {
                        pace.pass(some);
                        passed += some as u64;
                    }
                    Err(then) => {
                        assert!(then > now && then - now <= per, "{count} in {per:?}");
                        now = then;
                    }
                }
            }
            let bound =
                u128::from(count) + u128::from(count) * (now - begin).as_nanos() / per.as_nanos();
            assert!(u128::from(passed) <= bound, "{count} in {per:?}: {passed} of {bound}");
            if now - begin >= per * 10 {
                assert!(passed >= u64::from(count) * 9, "{count} in {per:?}: {passed}");
            }
        }
    }

    #[test]
    fn what_was_not_used_is_not_saved_for_ever() {
        let begin = Instant::now();
        let mut pace = Pace::new(Rate { count: 10, per: Duration::from_secs(1) }, begin);
        assert_eq!(pace.allows(100, begin + Duration::from_hours(1)), Ok(10));
    }
}
