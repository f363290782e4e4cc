//! Reconciling a log in its order and by its own times, record by record.

use super::{Bounds, Counts, Disagreement, Reconciler};
use crate::audit::entry::{Kind, Record};

/// Somebody who reads a log and reconciles it.
#[derive(Debug)]
pub struct Reading {
    reconciler: Reconciler,
    grace: u64,
    /// When reports that are late were judged last, of the monotonic clock; `None`: nothing was read.
    ticked: Option<u64>,
    before: u64,
}

impl Reading {
    /// One that has read nothing.
    pub fn new(bounds: Bounds) -> Self {
        Self { reconciler: Reconciler::new(bounds), grace: bounds.grace, ticked: None, before: 0 }
    }

    /// Takes the next record.
    pub fn push(&mut self, record: &Record, each: &mut impl FnMut(Disagreement)) {
        let now = record.at.monotonic;
        if self.ticked.is_none() && record.index > 0 {
            self.reconciler.begins_late(now);
        }
        let last = *self.ticked.get_or_insert(now);
        // Nobody took reports before these, and what they say of that comes first.
        let held = match record.entry.kind {
            Kind::Start => now.saturating_sub(self.before),
            Kind::Held => self.grace,
            _ => 0,
        };
        if record.entry.kind == Kind::Start {
            self.reconciler.held(held);
        }
        // Another start of the machine begins from 0 again.
        if held == 0 && (now < last || now - last > self.grace / 2) {
            self.reconciler.tick(now, each);
            self.ticked = Some(now);
        }
        self.before = now;
        self.reconciler.push(record, each);
    }

    /// The log is at its end: what came out of all.
    pub fn finish(self, each: &mut impl FnMut(Disagreement)) -> Counts {
        self.reconciler.finish(each)
    }
}
