//! Reports in the order in which they say that things happened: the log has them in the order in
//! which they came, each layer's with a delay of its own.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::audit::entry::{Facility, Form, Kind, Record, Side, Trace, Verdict, Who};
use crate::audit::runs;
use crate::audit::traced::taken_up;

/// How much later than others a report may come, in nanoseconds.
const LATE: u64 = 1_000_000_000;
/// The most that are waited with.
const MOST: usize = 1 << 15;
/// The most messages of a batch that are told apart.
const OF_BATCH: u32 = 256;

/// What of a report matters to ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// When it happened, by its reporter.
    pub(super) at: u64,
    /// The record's number.
    pub(super) record: u64,
    /// When the log took it, in real time.
    pub(super) real: u64,
    pub(super) exit: bool,
    pub(super) broker: bool,
    pub(super) side: Side,
    pub(super) verdict: Verdict,
    pub(super) facility: Facility,
    pub(super) edge: u16,
    pub(super) form: Form,
    pub(super) method: u32,
    pub(super) call: u32,
    pub(super) sequence: u64,
    pub(super) trace: Option<Trace>,
    /// Whether a trace is taken up, and the one before it.
    pub(super) takes_up: bool,
    pub(super) before: Option<Trace>,
    pub(super) reporter: Who,
    pub(super) peer: Who,
}

impl Ord for Seen {
    /// The earliest is the greatest, for that is what a heap gives first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.record, other.call).cmp(&(self.at, self.record, self.call))
    }
}

impl PartialOrd for Seen {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Reports that wait for those before them.
#[derive(Debug, Default)]
pub(super) struct Order(BinaryHeap<Seen>);

impl Order {
    /// Takes a record in, if it says something of that kind.
    pub(super) fn push(&mut self, record: &Record) {
        let entry = &record.entry;
        match entry.kind {
            Kind::Exit | Kind::Broker => {}
            Kind::Use if matches!(entry.side, Side::Sender | Side::Receiver | Side::None) => {}
            _ => return,
        }
        let seen = Seen {
            at: if entry.reported == 0 { record.at.monotonic } else { entry.reported },
            record: record.index,
            real: record.at.real,
            exit: entry.kind == Kind::Exit,
            broker: entry.kind == Kind::Broker,
            side: entry.side,
            verdict: entry.verdict,
            facility: entry.facility,
            edge: entry.edge,
            form: entry.form,
            method: entry.method,
            call: entry.value,
            sequence: entry.sequence,
            trace: entry.trace,
            takes_up: taken_up(entry).is_some(),
            before: taken_up(entry).and_then(|(_, before)| before),
            reporter: entry.reporter,
            peer: entry.peer,
        };
        if entry.form != Form::Batch {
            self.0.push(seen);
            return;
        }
        for run in runs::of(entry) {
            let (form, method) = (run.form, u32::from(run.method));
            // Messages of a batch share its number: one stands for all, unless each has its trace.
            let alike = run.call == 0 && run.trace.is_none();
            let messages = if alike { 1 } else { run.messages.min(OF_BATCH) };
            for n in 0..messages {
                let (call, trace) = (run.call.wrapping_add(n), run.trace_of(n));
                self.0.push(Seen { form, method, call, trace, ..seen });
            }
        }
    }

    /// The earliest that nothing can come before any more, at this moment of the log.
    pub(super) fn pop(&mut self, now: u64) -> Option<Seen> {
        let first = self.0.peek()?;
        let due = first.at.saturating_add(LATE) < now || now == u64::MAX || self.0.len() > MOST;
        if due { self.0.pop() } else { None }
    }
}
