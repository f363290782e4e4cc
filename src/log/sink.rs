//! Where events go: through this process's standard error, to the writer of the log.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tracing::level_filters::LevelFilter;

use super::filter_of;
use crate::policy::plan::LogLevel;
use crate::text::neutralise;
use crate::wire::event::{Event, Mark};

/// How long an event waits for room, in nanoseconds, unless one has waited in vain just before.
const PATIENCE: i64 = 100_000_000;

/// How this layer's events are known. Set once, before the layer's code runs.
static SINK: OnceLock<(Mark, LevelFilter)> = OnceLock::new();

/// One event at a time: who has seen that there is room writes.
static WRITING: Mutex<()> = Mutex::new(());

/// Events that found no room since that was told last.
static LOST: AtomicU32 = AtomicU32::new(0);

/// Whether the last event found no room.
static IS_FULL: AtomicBool = AtomicBool::new(false);

/// From now on this process is a layer: its events begin with this mark, and those that say less than
/// `level` are left out.
pub(crate) fn begin(mark: Mark, level: LogLevel) {
    if SINK.set((mark, filter_of(level))).is_ok() {
        // What was decided for the supervisor's process no longer holds.
        tracing::callsite::rebuild_interest_cache();
    }
}

/// Which events are told.
pub(super) fn level() -> LevelFilter {
    SINK.get().map_or(LevelFilter::INFO, |(_, level)| *level)
}

/// Tells an event, or counts it as lost.
pub(super) fn tell(mut event: Event) {
    let Some((mark, _)) = SINK.get() else { return print(&event) };
    let _alone = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    event.lost = LOST.swap(0, Ordering::Relaxed);
    let lost = event.lost;
    let is_written = has_room() && is_written(&event.frame(*mark));
    IS_FULL.store(!is_written, Ordering::Relaxed);
    if !is_written {
        LOST.store(lost.saturating_add(1), Ordering::Relaxed);
    }
}

/// Whether a frame can be written now: a pipe that polls writable takes so much (pipe(7)).
fn has_room() -> bool {
    let wait = if IS_FULL.load(Ordering::Relaxed) { 0 } else { PATIENCE };
    let wait = Timespec { tv_sec: 0, tv_nsec: wait };
    let stderr = io::stderr();
    let mut fds = [PollFd::new(&stderr, PollFlags::OUT)];
    loop {
        match poll(&mut fds, Some(&wait)) {
            Err(Errno::INTR) => {}
            polled => return polled.is_ok_and(|ready| ready > 0),
        }
    }
}

/// Writes a frame in one piece.
fn is_written(frame: &[u8]) -> bool {
    loop {
        match rustix::io::write(io::stderr(), frame) {
            Err(Errno::INTR) => {}
            written => return written.is_ok(),
        }
    }
}

/// Where there is no writer of the log: a line.
fn print(event: &Event) {
    let Event { level, target, message, .. } = event;
    let text = format!("{}: {target}: {message}", level.name().to_ascii_uppercase());
    let line = format!("{}\n", neutralise(text.as_bytes()));
    let _ = rustix::io::write(io::stderr(), line.as_bytes());
}
