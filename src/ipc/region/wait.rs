//! Waiting for somebody who shares nothing but memory.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

use super::Region;
use super::error::RegionError;
use super::watch::{self, Bell, Spot, Watch};
use crate::ipc::message::Companion;

/// The longest that a thread sleeps on memory alone. It is woken sooner there than by another
/// thread, but not by its supervisor: so who waits longer has [`Watch`] wake it, and sleeps on all
/// that it must hear.
const SLICE: Duration = Duration::from_millis(50);

/// How long a thread looks before it sleeps: waking an idle processor costs some 60 µs.
const LOOK: Duration = Duration::from_micros(50);

/// How often a task looks before it sleeps, giving way to others in between.
const LOOKS: u32 = 32;

/// How often a task is woken for nothing before it takes its time: whoever shares the memory can
/// wake it as often as he likes.
const FALSE_ALARMS: u32 = 16;

/// A task's longest sleep where nobody watches for it: so an idle one looks 60 times a second.
const LONGEST: Duration = Duration::from_millis(16);

/// How a task waits: it looks a few times, then sleeps until it is woken.
#[derive(Debug, Default)]
pub(super) struct Pace {
    looks: u32,
    alarms: u32,
    sleeps: u32,
}

impl Pace {
    /// Waits before the next look. `arm_wakeup` says where to sleep, if that is still to be done.
    pub(super) async fn pause(
        &mut self,
        region: &Region,
        arm_wakeup: impl FnOnce() -> Result<Option<Spot>, RegionError>,
    ) -> Result<(), RegionError> {
        if self.looks < LOOKS {
            self.looks += 1;
            tokio::task::yield_now().await;
            return Ok(());
        }
        if self.alarms < FALSE_ALARMS {
            let Some(spot) = arm_wakeup()? else { return Ok(()) };
            let _sign = Sign(region, spot);
            if watch::changed(region, spot).await {
                self.alarms += 1;
                return Ok(());
            }
        }
        self.alarms = 0;
        let time = Duration::from_millis(1 << self.sleeps.min(4));
        self.sleeps += 1;
        tokio::time::sleep(time.min(LONGEST)).await;
        Ok(())
    }
}

/// How a thread waits: it looks for a while, then sleeps, and hears its supervisor meanwhile.
#[derive(Debug)]
pub(super) struct Patience<'a> {
    region: &'a Region,
    begin: Instant,
    until: Option<Instant>,
    looks: u32,
    /// It has slept for a whole [`SLICE`].
    is_idle: bool,
}

impl<'a> Patience<'a> {
    /// Waits for `time` at most; `None` is for ever.
    pub(super) fn new(time: Option<Duration>, region: &'a Region) -> Self {
        let begin = Instant::now();
        let until = time.and_then(|time| begin.checked_add(time));
        Self { region, begin, until, looks: 0, is_idle: false }
    }

    /// Waits before the next look. `arm_wakeup` says where to sleep, if that is still to be done.
    pub(super) fn pause(
        &mut self,
        arm_wakeup: impl FnOnce() -> Result<Option<Spot>, RegionError>,
    ) -> Result<(), RegionError> {
        self.looks += 1;
        if !self.looks.is_multiple_of(64) {
            std::hint::spin_loop();
            return Ok(());
        }
        let now = Instant::now();
        let left = self.until.map(|until| until.saturating_duration_since(now));
        if left == Some(Duration::ZERO) {
            return Err(RegionError::Timeout);
        }
        if now.duration_since(self.begin) < LOOK {
            rustix::thread::sched_yield();
            return Ok(());
        }
        self.sleep(left, arm_wakeup)?;
        // Whatever woke it, it looks once more before it sleeps.
        self.looks = 62;
        Ok(())
    }

    fn sleep(
        &mut self,
        left: Option<Duration>,
        arm_wakeup: impl FnOnce() -> Result<Option<Spot>, RegionError>,
    ) -> Result<(), RegionError> {
        let gone = RegionError::Stopping;
        let companion = match &self.region.0.companion {
            Some(companion) => Some(companion.upgrade().ok_or(gone)?),
            None => None,
        };
        let companion = companion.as_deref();
        // Hung before it is asked whether the layer is to finish, so nothing is missed in between.
        let stop = match companion {
            Some(companion) if self.is_idle => Some(companion.stop_bell()?),
            _ => None,
        };
        if let Some(companion) = companion {
            companion.attend()?;
            if companion.is_stopping() {
                return Err(RegionError::Stopping);
            }
        }
        let Some(spot) = arm_wakeup()? else { return Ok(()) };
        let _sign = Sign(self.region, spot);
        if self.is_idle && idle(self.region, spot, companion, stop, left)? {
            return Ok(());
        }
        let begin = Instant::now();
        let time = left.map_or(SLICE, |left| left.min(SLICE));
        self.region.0.memory.wait(spot.at, spot.expected, time);
        self.is_idle = begin.elapsed() >= SLICE;
        Ok(())
    }
}

/// Sleeps until the word has changed, the supervisor has said something or the time has passed.
/// False: nobody watches the word.
fn idle(
    region: &Region,
    spot: Spot,
    companion: Option<&dyn Companion>,
    stop: Option<Arc<OwnedFd>>,
    left: Option<Duration>,
) -> Result<bool, RegionError> {
    let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
    let event = Arc::new(eventfd(0, flags).map_err(std::io::Error::from)?);
    let watch = Watch::begin(region, spot, Bell::Thread(Arc::clone(&event)));
    let Some(_watch) = watch else { return Ok(false) };
    let control = companion.map(Companion::socket);
    let all = [Some(event), control, stop];
    let watched = all.iter().flatten();
    let mut fds: Vec<_> =
        watched.map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)).collect();
    let left = left.and_then(|left| Timespec::try_from(left).ok());
    match poll(&mut fds, left.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(true),
        Err(error) => Err(std::io::Error::from(error).into()),
    }
}

/// A sign that somebody sleeps, until he doesn't.
struct Sign<'a>(&'a Region, Spot);

impl Drop for Sign<'_> {
    fn drop(&mut self) {
        let Self(region, spot) = self;
        if spot.is_sign {
            region.0.memory.store(spot.at, 0);
        }
    }
}
