//! How long looking pays.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long it pays to look before sleeping.
///
/// It grows when looking found something, shrinks when it didn't, and comes back when a sleep
/// turns out to have been shorter than the wake-up costs. Where others want the processor too,
/// who gives it away is later than who sleeps: then it doesn't look for some time.
#[derive(Debug)]
pub(crate) struct Patience {
    /// In microseconds.
    budget: AtomicU32,
    /// So many times it doesn't look.
    rest: AtomicU32,
    /// How many times it won't when it finds the processor crowded once more.
    next_rest: AtomicU32,
}

impl Patience {
    /// The longest look. Waking an idle processor costs some 60 µs; past that, sleep is cheaper.
    const MOST: u32 = 50;
    /// The shortest look that can find anything: a few context switches.
    const LEAST: u32 = 4;
    /// A sleep shorter than this was mostly the waking up.
    const SHORT: Duration = Duration::from_micros(200);
    /// Giving the processor away for longer than this says that others keep it for their whole
    /// turn, which is some milliseconds.
    const CROWDED: Duration = Duration::from_micros(500);
    /// Waits without a look after that; each time twice as many, so that such turns are little among
    /// them however long they are, up to some seconds' worth of waits.
    const REST: u32 = 256;
    const LONGEST_REST: u32 = 1 << 16;

    /// Tries again and again for as long as it pays, giving the processor away in between.
    pub(crate) fn look<R, E>(
        &self,
        mut attempt: impl FnMut() -> Result<Option<R>, E>,
    ) -> Result<Option<R>, E> {
        let Some(budget) = self.budget() else { return Ok(None) };
        let begin = Instant::now();
        loop {
            std::thread::yield_now();
            let found = attempt()?;
            let time = begin.elapsed();
            if time >= Self::CROWDED {
                let rest = self.next_rest.load(Ordering::Relaxed);
                self.rest.store(rest, Ordering::Relaxed);
                self.next_rest.store((rest * 2).min(Self::LONGEST_REST), Ordering::Relaxed);
                return Ok(found);
            }
            if found.is_some() {
                self.budget.store(Self::MOST, Ordering::Relaxed);
                self.next_rest.store(Self::REST, Ordering::Relaxed);
                return Ok(found);
            }
            if time >= budget {
                self.budget.store(self.budget.load(Ordering::Relaxed) / 2, Ordering::Relaxed);
                return Ok(None);
            }
        }
    }

    fn budget(&self) -> Option<Duration> {
        let rest = self.rest.load(Ordering::Relaxed);
        if rest > 0 {
            // Threads that come at once may count one rest for two.
            self.rest.store(rest - 1, Ordering::Relaxed);
            return None;
        }
        let micros = self.budget.load(Ordering::Relaxed);
        (micros >= Self::LEAST).then(|| Duration::from_micros(micros.into()))
    }

    /// It has slept, for so long.
    pub(crate) fn slept(&self, time: Duration) {
        if time < Self::SHORT {
            let more = self.budget.load(Ordering::Relaxed) * 2 + Self::LEAST;
            self.budget.store(more.min(Self::MOST), Ordering::Relaxed);
        }
    }
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            budget: AtomicU32::new(Self::MOST),
            rest: AtomicU32::new(0),
            next_rest: AtomicU32::new(Self::REST),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_finds_the_processor_crowded_rests_from_looking() {
        let patience = Patience::default();
        let mut attempts = 0;
        let mut look = |time: Duration| {
            let before = attempts;
            let found = patience.look(|| {
                attempts += 1;
                std::thread::sleep(time);
                Ok::<_, ()>(None::<()>)
            });
            assert_eq!(found, Ok(None));
            attempts > before
        };
        for rest in [Patience::REST, 2 * Patience::REST] {
            assert!(look(Patience::CROWDED));
            for _ in 0..rest {
                assert!(!look(Duration::ZERO));
            }
        }
        assert!(look(Duration::ZERO));
    }
}
