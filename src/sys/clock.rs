//! Clocks, in nanoseconds.

use rustix::time::{ClockId, clock_gettime};

/// Reads a clock; on most machines without a system call (`vdso(7)`).
pub fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    // Neither clock is before its beginning, nor will be past 584 years.
    let part = |part: i64| u64::try_from(part).unwrap_or(0);
    part(time.tv_sec).saturating_mul(1_000_000_000).saturating_add(part(time.tv_nsec))
}
