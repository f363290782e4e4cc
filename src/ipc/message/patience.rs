//! How long looking pays.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How long it pays to look before sleeping, in microseconds.
///
/// It grows when looking found something, shrinks when it didn't, and comes back when a sleep
/// turns out to have been shorter than the wake-up costs.
pub(in crate::ipc) struct Patience(AtomicU32);

impl Patience {
    /// The longest look. Waking an idle processor costs some 60 µs; past that, sleep is cheaper.
    const MOST: u32 = 50;
    /// The shortest look that can find anything: a few context switches.
    const LEAST: u32 = 4;
    /// A sleep shorter than this was mostly the waking up.
    const SHORT: Duration = Duration::from_micros(200);

    pub(in crate::ipc) fn budget(&self) -> Option<Duration> {
        let micros = self.0.load(Ordering::Relaxed);
        (micros >= Self::LEAST).then(|| Duration::from_micros(micros.into()))
    }

    pub(in crate::ipc) fn paid(&self) {
        self.0.store(Self::MOST, Ordering::Relaxed);
    }

    pub(in crate::ipc) fn wasted(&self) {
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
