//! How long looking pays.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long it pays to look before sleeping, in microseconds.
///
/// It grows when looking found something, shrinks when it didn't, and comes back when a sleep
/// turns out to have been shorter than the wake-up costs.
#[derive(Debug)]
pub(in crate::ipc) struct Patience(AtomicU32);

impl Patience {
    /// The longest look. Waking an idle processor costs some 60 µs; past that, sleep is cheaper.
    const MOST: u32 = 50;
    /// The shortest look that can find anything: a few context switches.
    const LEAST: u32 = 4;
    /// A sleep shorter than this was mostly the waking up.
    const SHORT: Duration = Duration::from_micros(200);

    fn budget(&self) -> Option<Duration> {
        let micros = self.0.load(Ordering::Relaxed);
        (micros >= Self::LEAST).then(|| Duration::from_micros(micros.into()))
    }

    /// Tries again and again for as long as it pays, giving the processor away in between.
    pub(in crate::ipc) fn look<R, E>(
        &self,
        mut attempt: impl FnMut() -> Result<Option<R>, E>,
    ) -> Result<Option<R>, E> {
        let Some(budget) = self.budget() else { return Ok(None) };
        let begin = Instant::now();
        loop {
            std::thread::yield_now();
            let found = attempt()?;
            let time = begin.elapsed();
            if let Some(result) = found {
                // Others want the processor: who sleeps gets it back sooner than who gives it away.
                if time > Self::SHORT {
                    self.wasted();
                } else {
                    self.paid();
                }
                return Ok(Some(result));
            }
            if time >= budget {
                self.wasted();
                return Ok(None);
            }
        }
    }

    fn paid(&self) {
        self.0.store(Self::MOST, Ordering::Relaxed);
    }

    fn wasted(&self) {
        self.0.store(self.0.load(Ordering::Relaxed) / 2, Ordering::Relaxed);
    }

    pub(in crate::ipc) fn slept(&self, time: Duration) {
        if time < Self::SHORT {
            let more = self.0.load(Ordering::Relaxed) * 2 + Self::LEAST;
            self.0.store(more.min(Self::MOST), Ordering::Relaxed);
        }
    }
}

impl Default for Patience {
    fn default() -> Self {
        Self(AtomicU32::new(Self::MOST))
    }
}
