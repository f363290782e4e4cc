//! What a layer reports of the regions that it uses: each object once, and the messages of a ring
//! in large numbers together, for a message is quicker than a report.

use crate::report::{Facts, Side, Tap};
use crate::wire::report::acts;

/// The most messages of a ring that no report has told of yet.
const UNTOLD: u64 = 1 << 16;

/// Reports an object that is about to be published, or that was read for the first time.
pub(super) fn object(tap: &Tap, side: Side, number: u64, bytes: &[u8]) {
    let (sequence, length) = (number, bytes.len() as u64);
    let facts = Facts { method: acts::OBJECT, sequence, length, ..tap.facts(side) };
    tap.report(&facts, &[], &[]);
}

/// Counts the messages of one end of a ring.
///
/// They are told when there have been 1, 2, 4 and so on, later after every [`UNTOLD`], and when
/// the end is dropped. So what a killed end had no time to tell is no more than what it has told.
#[derive(Debug)]
pub(super) struct Tally {
    tap: Tap,
    side: Side,
    count: u64,
    told: u64,
    due: u64,
}

impl Tally {
    pub(super) fn new(tap: Tap, side: Side) -> Self {
        Self { tap, side, count: 0, told: 0, due: 1 }
    }

    /// There was another message.
    #[inline]
    pub(super) fn add(&mut self) {
        self.count += 1;
        if self.count >= self.due {
            self.tell();
        }
    }

    #[cold]
    fn tell(&mut self) {
        let (sequence, length) = (self.count, self.count - self.told);
        let facts = Facts { method: acts::RING, sequence, length, ..self.tap.facts(self.side) };
        self.tap.report(&facts, &[], &[]);
        self.told = self.count;
        self.due = self.count + self.count.min(UNTOLD);
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        if self.count > self.told {
            self.tell();
        }
    }
}
