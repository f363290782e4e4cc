//! Moments of a log on one line: records have two clocks, of which one may jump.

use crate::audit::Record;

/// By how much the clocks may drift before another offset between them is taken, in nanoseconds.
const SLACK: u64 = 100_000_000;
const SECOND: u64 = 1_000_000_000;

/// Moments of both clocks on one line: nanoseconds since a second before the first record.
#[derive(Default)]
pub(super) struct Clock {
    /// What is taken from the real clock.
    base: Option<u64>,
    /// What is added to the monotonic one to get the real one.
    offset: i128,
}

impl Clock {
    /// Takes a record's moment in.
    pub(super) fn see(&mut self, record: &Record) {
        let (real, monotonic) = (i128::from(record.at.real), i128::from(record.at.monotonic));
        let first = self.base.is_none();
        self.base.get_or_insert(record.at.real.saturating_sub(SECOND));
        if first || (real - monotonic - self.offset).unsigned_abs() > SLACK.into() {
            self.offset = real - monotonic;
        }
    }

    /// A moment of the monotonic clock.
    pub(super) fn at(&self, monotonic: u64) -> u64 {
        let base = i128::from(self.base.unwrap_or(0));
        u64::try_from(i128::from(monotonic) + self.offset - base).unwrap_or(0)
    }

    /// When a record's event happened: as its reporter says, but not after the log took it.
    pub(super) fn of(&self, record: &Record) -> u64 {
        match record.entry.reported {
            0 => self.at(record.at.monotonic),
            reported => self.at(reported.min(record.at.monotonic)),
        }
    }

    /// What moments are counted from: nanoseconds since 1970.
    pub(super) fn base(&self) -> Option<u64> {
        self.base
    }

    /// A moment of the monotonic clock, in nanoseconds since 1970.
    pub(super) fn real(&self, monotonic: u64) -> u64 {
        self.at(monotonic).saturating_add(self.base.unwrap_or(0))
    }
}
