//! Waiting for somebody who shares nothing but memory.

use std::sync::Weak;
use std::time::{Duration, Instant};

use super::error::RegionError;
use crate::ipc::message::Companion;

/// The longest that a thread sleeps before it attends to its supervisor.
const SLICE: Duration = Duration::from_millis(50);

/// How long a thread looks before it sleeps: waking an idle processor costs some 60 µs.
const LOOK: Duration = Duration::from_micros(50);

/// How often a task looks before it sleeps, giving way to others in between.
const LOOKS: u32 = 32;

/// A task's longest sleep. Nothing in shared memory can wake the runtime, so this bounds how late
/// a task learns that something has come: an idle one looks 60 times a second.
const LONGEST: Duration = Duration::from_millis(16);

/// How a task waits: it looks a few times, then sleeps for longer and longer.
#[derive(Debug, Default)]
pub struct Pace(u32);

impl Pace {
    /// Waits before the next look.
    pub async fn pause(&mut self) {
        self.0 = self.0.saturating_add(1);
        match self.0.checked_sub(LOOKS) {
            None => tokio::task::yield_now().await,
            Some(sleeps) => {
                let time = Duration::from_millis(1 << sleeps.min(4));
                tokio::time::sleep(time.min(LONGEST)).await;
            }
        }
    }
}

/// How a thread waits: it looks for a while, then sleeps, and attends to its supervisor now and
/// then.
#[derive(Debug)]
pub struct Patience<'a> {
    begin: Instant,
    until: Option<Instant>,
    looks: u32,
    companion: Option<&'a Weak<dyn Companion>>,
}

impl<'a> Patience<'a> {
    /// Waits for `time` at most; `None` is for ever.
    pub fn new(time: Option<Duration>, companion: Option<&'a Weak<dyn Companion>>) -> Self {
        let begin = Instant::now();
        let until = time.and_then(|time| begin.checked_add(time));
        Self { begin, until, looks: 0, companion }
    }

    /// Waits before the next look; `sleep` sleeps for a while at most.
    pub fn pause(&mut self, sleep: impl FnOnce(Duration)) -> Result<(), RegionError> {
        self.looks += 1;
        if !self.looks.is_multiple_of(64) {
            std::hint::spin_loop();
            return Ok(());
        }
        let now = Instant::now();
        let left = self.until.map_or(SLICE, |until| until.saturating_duration_since(now));
        if left.is_zero() {
            return Err(RegionError::Timeout);
        }
        if now.duration_since(self.begin) < LOOK {
            rustix::thread::sched_yield();
            return Ok(());
        }
        self.attend()?;
        sleep(left.min(SLICE));
        // Whatever woke it, it looks once more before it sleeps.
        self.looks = 62;
        Ok(())
    }

    fn attend(&self) -> Result<(), RegionError> {
        let Some(companion) = self.companion else { return Ok(()) };
        let companion = companion.upgrade().ok_or(RegionError::Stopping)?;
        companion.attend().map_err(RegionError::System)?;
        if companion.is_stopping() { Err(RegionError::Stopping) } else { Ok(()) }
    }
}
