//! What a former life of the auditor has logged already.
//!
//! Reports stay in their rings until they are written, and an auditor may be killed between the
//! two; so the next one finds some reports in the ring that are in the log too. Which ones, the
//! log tells: by its progress records, and the reports behind them.

use std::collections::HashMap;

use crate::audit::entry::{Entry, Kind, Record, Side, Who};
use crate::audit::log::segment_number;
use crate::audit::query::{Filter, query};
use crate::audit::reconcile::{Reconciler, gave_up};
use crate::audit::store::{Store, StoreError};

/// Segments that are read at first. Each begins with the progress of all reporters, and the last
/// but one is there because the last may be too young for that.
const SEGMENTS: usize = 2;

/// How many reports of each reporter are in the log.
#[derive(Debug, Default)]
pub(super) struct Logged {
    next: HashMap<Who, u64>,
    /// The records that were read begin within this run of the daemon, or before it.
    whole: bool,
}

impl Logged {
    /// Reads the end of the log: what this `run` of the daemon has written. `reconciler` learns
    /// what waits for its other half.
    pub(super) fn read(
        store: &Store,
        run: u64,
        reconciler: &mut Reconciler,
    ) -> Result<Self, StoreError> {
        let mut segments: Vec<u64> =
            store.names()?.iter().filter_map(|name| segment_number(name)).collect();
        segments.sort_unstable();
        let recent = segments.iter().rev().nth(SEGMENTS - 1);
        let first = recent.map(|&number| crate::audit::log::first_record(store, number));
        let first = first.transpose()?.flatten().unwrap_or(0);
        let mut logged = Self { whole: first == 0, ..Self::default() };
        let mut learn = |logged: &mut Self, first| {
            query(store, &Filter { full: true, first, ..Filter::default() }, |record| {
                logged.learn(&record, run);
                if first > 0 && record.index == first {
                    reconciler.begins_late(record.at.monotonic);
                }
                reconciler.push(&record, &mut |_| {});
                true
            })
        };
        learn(&mut logged, first)?;
        if !logged.whole {
            logged = Self { whole: true, ..Self::default() };
            learn(&mut logged, 0)?;
        }
        Ok(logged)
    }

    fn learn(&mut self, Record { entry, .. }: &Record, run: u64) {
        match entry.kind {
            Kind::Progress if entry.reporter == Who::AUDITOR => {
                // The beginning of a life, of this run or of another.
                self.whole = true;
                if entry.length != run {
                    self.next.clear();
                }
            }
            Kind::Progress => drop(self.next.insert(entry.reporter, entry.sequence)),
            // Of what it can't be seen which helper's it is, a progress record comes behind it.
            Kind::Broker if entry.side == Side::Helper && !gave_up(entry) => {
                let next = self.next.entry(entry.peer).or_default();
                *next = next.saturating_add(1);
            }
            Kind::Use | Kind::Loss | Kind::Denial if entry.side != Side::Supervisor => {
                let next = self.next.entry(entry.reporter).or_default();
                *next = next.saturating_add(reports(entry));
            }
            _ if entry.side == Side::Supervisor => {
                *self.next.entry(Who::SUPERVISOR).or_default() += 1;
            }
            _ => {}
        }
    }

    /// The number of the next report of `who`.
    pub(super) fn next(&self, who: Who) -> u64 {
        self.next.get(&who).copied().unwrap_or(0)
    }
}

/// How many numbers of its reporter a record takes.
pub(super) fn reports(entry: &Entry) -> u64 {
    if entry.kind == Kind::Loss { entry.length } else { 1 }
}

/// The record that says where a life of the auditor begins.
pub(super) fn life(run: u64, generation: u64) -> Entry {
    let (sequence, length, reporter) = (generation, run, Who::AUDITOR);
    Entry { sequence, length, reporter, ..Entry::new(Kind::Progress) }
}

/// The record that says how many reports of `who` are in the log.
pub(super) fn progress(who: Who, next: u64) -> Entry {
    Entry { reporter: who, sequence: next, ..Entry::new(Kind::Progress) }
}
