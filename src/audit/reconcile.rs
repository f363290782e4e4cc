//! Matching what both ends of every edge report.
//!
//! A message is identified by its edge, both instances with their generations, and its sequence.
//! One report alone proves nothing: the two must be there and say the same. Memory is bounded by
//! [`Bounds`] whatever is reported, so this runs live in the auditor as well as over a log.
//!
//! Whom to believe, where two ends differ, can't be told from their reports: a
//! [`Disagreement`] names both. Two ends that lie together are noticed only by a witness.

use std::collections::{BTreeMap, HashMap};

use super::entry::{Entry, Facility, Form, Kind, Record, Side, Who};
use super::hash::Hash;
use super::query::{Filter, query};
use super::store::{Store, StoreError};

/// How much is remembered, and for how long an end may be late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Reports that wait for their other half, in all.
    pub pending: usize,
    /// Directions of edges between two instances.
    pub streams: usize,
    /// Holes in one stream's sequences.
    pub holes: usize,
    /// How long a report waits for its other half before that is missed, in nanoseconds.
    pub grace: u64,
}

impl Default for Bounds {
    /// 65,536 reports, 4,096 streams, 64 holes, half a second: so an alarm comes within a second
    /// if [`Reconciler::tick`] is called four times in one.
    fn default() -> Self {
        Self { pending: 1 << 16, streams: 1 << 12, holes: 64, grace: 500_000_000 }
    }
}

/// One direction of an edge, between two instances in one life each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stream {
    /// The kind of the facility.
    pub facility: Facility,
    /// Its number.
    pub edge: u16,
    /// Who sends.
    pub sender: Who,
    /// Who receives.
    pub receiver: Who,
}

/// In what two ends disagree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// Only the sender reports it, and one of the two ended then: no fault.
    InFlight,
    /// One half is missing, and its reporter said that it lost so many reports.
    Lost,
    /// Only the receiver reports it: it is made up, or the sender hid it.
    Forged,
    /// Both report it, differently.
    Altered,
    /// Only the sender reports it though the receiver reported later ones, or nobody does.
    Gap,
    /// Only the sender reports it so far, and the receiver is late. May still be matched; told
    /// once until the receiver reports again.
    Overdue,
    /// One end reports the same number twice.
    Repeated,
    /// A reporter named more streams than there may be; its report was put aside.
    Flood,
}

/// A disagreement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disagreement {
    /// What it is.
    pub outcome: Outcome,
    /// Between whom.
    pub stream: Stream,
    /// The messages' numbers: from here,
    pub from: u64,
    /// up to here, not counted.
    pub to: u64,
    /// The record of one of the reports, if there is one.
    pub record: Option<u64>,
}

/// How many messages came to what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Both ends said the same.
    pub matched: u64,
    /// The others.
    pub others: BTreeMap<Outcome, u64>,
}

impl Counts {
    /// How many messages came to `outcome`.
    pub fn of(&self, outcome: Outcome) -> u64 {
        self.others.get(&outcome).copied().unwrap_or(0)
    }

    /// Whether nobody is under suspicion.
    pub fn honest(&self) -> bool {
        self.others.keys().all(|outcome| matches!(outcome, Outcome::InFlight | Outcome::Lost))
    }
}

/// A report that waits for its other half.
#[derive(Clone, Copy, Debug)]
struct Half {
    side: Side,
    record: u64,
    since: u64,
    says: Says,
}

/// What both ends must agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Says {
    hash: Hash,
    method: u32,
    length: u64,
    descriptors: u8,
    form: Form,
}

impl Says {
    fn of(entry: &Entry) -> Self {
        let Entry { hash, method, length, descriptors, form, .. } = *entry;
        Self { hash, method, length, descriptors, form }
    }
}

#[derive(Debug, Default)]
struct State {
    waiting: BTreeMap<u64, Half>,
    /// What is settled: beginning and end of each run of numbers.
    done: BTreeMap<u64, u64>,
    /// Since when there has been a hole in that.
    hole_since: Option<u64>,
    /// The number behind the highest that sender and receiver reported.
    high: [u64; 2],
    /// When one of the two ended.
    ended: Option<u64>,
    overdue: bool,
}

/// Matches reports as they come.
#[derive(Debug)]
pub struct Reconciler {
    bounds: Bounds,
    streams: HashMap<Stream, State>,
    waiting: usize,
    /// Reports that reporters said they lost, and that no missing half was put down to yet.
    losses: HashMap<Who, u64>,
    counts: Counts,
}

impl Reconciler {
    /// One that has seen nothing.
    pub fn new(bounds: Bounds) -> Self {
        let (streams, losses, counts) = (HashMap::new(), HashMap::new(), Counts::default());
        Self { bounds, streams, waiting: 0, losses, counts }
    }

    /// What has come out so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// How many reports wait for their other half.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Takes a record in. Kinds that say nothing about messages change nothing.
    pub fn push(&mut self, record: &Record, each: &mut impl FnMut(Disagreement)) {
        let (entry, now) = (&record.entry, record.at.monotonic);
        match entry.kind {
            Kind::Use => self.report(record, each),
            Kind::Exit => {
                for (stream, state) in &mut self.streams {
                    if stream.sender == entry.peer || stream.receiver == entry.peer {
                        state.ended.get_or_insert(now);
                    }
                }
            }
            Kind::Loss if self.losses.len() < self.bounds.streams => {
                let lost = self.losses.entry(entry.reporter).or_default();
                *lost = lost.saturating_add(entry.length);
            }
            _ => {}
        }
    }

    fn report(&mut self, record: &Record, each: &mut impl FnMut(Disagreement)) {
        let entry = &record.entry;
        let (sender, receiver, end) = match entry.side {
            Side::Sender => (entry.reporter, entry.peer, 0),
            Side::Receiver => (entry.peer, entry.reporter, 1),
            _ => return,
        };
        let stream = Stream { facility: entry.facility, edge: entry.edge, sender, receiver };
        let number = entry.sequence;
        let index = Some(record.index);
        if !self.streams.contains_key(&stream) && self.streams.len() >= self.bounds.streams {
            tell(
                &mut self.counts,
                each,
                Outcome::Flood,
                stream,
                number..number.saturating_add(1),
                index,
            );
            return;
        }
        let state = self.streams.entry(stream).or_default();
        state.high[end] = state.high[end].max(number.saturating_add(1));
        let half = Half {
            side: entry.side,
            record: record.index,
            since: record.at.monotonic,
            says: Says::of(entry),
        };
        let last = number.saturating_add(1);
        match state.waiting.get(&number) {
            None if state.is_done(number) => {
                tell(&mut self.counts, each, Outcome::Repeated, stream, number..last, index);
                return;
            }
            None => {
                state.waiting.insert(number, half);
                self.waiting += 1;
            }
            Some(other) if other.side == half.side => {
                tell(&mut self.counts, each, Outcome::Repeated, stream, number..last, index);
                return;
            }
            Some(other) => {
                if other.says == half.says {
                    self.counts.matched += 1;
                } else {
                    tell(&mut self.counts, each, Outcome::Altered, stream, number..last, index);
                }
                state.waiting.remove(&number);
                state.settle(number);
                state.overdue = false;
                self.waiting -= 1;
            }
        }
        if state.done.len() > self.bounds.holes {
            state.close_hole(stream, &mut self.counts, each);
        }
        if self.waiting > self.bounds.pending {
            self.make_room(each);
        }
    }

    /// Judges at once half of what waits in the fullest stream: the one that floods pays, and the
    /// search for it is paid for by many reports.
    fn make_room(&mut self, each: &mut impl FnMut(Disagreement)) {
        let Self { streams, waiting, losses, counts, .. } = self;
        if let Some((stream, state)) = streams.iter_mut().max_by_key(|(_, s)| s.waiting.len()) {
            let half = state.waiting.len() / 2 + 1;
            *waiting -= judge(*stream, state, u64::MAX, 0, losses, counts, each, half);
        }
    }

    /// Judges what has waited too long at `now`, of the monotonic clock. To be called a few times
    /// a second.
    pub fn tick(&mut self, now: u64, each: &mut impl FnMut(Disagreement)) {
        let Self { bounds, streams, waiting, losses, counts } = self;
        streams.retain(|stream, state| {
            *waiting -= judge(*stream, state, now, bounds.grace, losses, counts, each, usize::MAX);
            if state.done.len() < 2 {
                state.hole_since = None;
            } else if now.saturating_sub(*state.hole_since.get_or_insert(now)) > bounds.grace {
                state.close_hole(*stream, counts, each);
            }
            let over = state.ended.is_some_and(|at| now.saturating_sub(at) > 2 * bounds.grace);
            !(over && state.waiting.is_empty())
        });
    }

    /// Judges everything that is left, as if all instances had ended.
    pub fn finish(mut self, each: &mut impl FnMut(Disagreement)) -> Counts {
        for (stream, state) in &mut self.streams {
            state.ended.get_or_insert(0);
            let most = usize::MAX;
            judge(*stream, state, u64::MAX, 0, &mut self.losses, &mut self.counts, each, most);
            while state.done.len() > 1 {
                state.close_hole(*stream, &mut self.counts, each);
            }
        }
        self.counts
    }
}

fn tell(
    counts: &mut Counts,
    each: &mut impl FnMut(Disagreement),
    outcome: Outcome,
    stream: Stream,
    numbers: std::ops::Range<u64>,
    record: Option<u64>,
) {
    let count = counts.others.entry(outcome).or_default();
    *count = count.saturating_add(numbers.end.saturating_sub(numbers.start).max(1));
    each(Disagreement { outcome, stream, from: numbers.start, to: numbers.end, record });
}

/// Judges the reports of a stream that waited longer than `grace`, at most so many. Says how many
/// are settled.
#[expect(clippy::too_many_arguments, reason = "the parts of a reconciler, borrowed apart")]
fn judge(
    stream: Stream,
    state: &mut State,
    now: u64,
    grace: u64,
    losses: &mut HashMap<Who, u64>,
    counts: &mut Counts,
    each: &mut impl FnMut(Disagreement),
    most: usize,
) -> usize {
    let late = |half: &Half| now.saturating_sub(half.since) > grace;
    let old: Vec<(u64, Half)> = state
        .waiting
        .iter()
        .filter(|(_, half)| late(half))
        .map(|(number, half)| (*number, *half))
        .take(most)
        .collect();
    let mut settled = 0;
    for (number, half) in old {
        let silent = if half.side == Side::Sender { stream.receiver } else { stream.sender };
        let ended = state.ended.is_some();
        let lost = losses.get_mut(&silent).filter(|lost| **lost > 0);
        let outcome = match half.side {
            // One message may have been sent, and its sender killed before it could say so.
            Side::Receiver if ended && number == state.high[0] => Outcome::InFlight,
            _ if lost.is_some() => Outcome::Lost,
            Side::Receiver => Outcome::Forged,
            _ if number < state.high[1] => Outcome::Gap,
            _ if ended => Outcome::InFlight,
            // Making room for others.
            _ if most < usize::MAX => Outcome::Gap,
            _ => Outcome::Overdue,
        };
        if outcome == Outcome::Overdue {
            if !state.overdue {
                state.overdue = true;
                tell(
                    counts,
                    each,
                    outcome,
                    stream,
                    number..number.saturating_add(1),
                    Some(half.record),
                );
            }
            continue;
        }
        if let (Outcome::Lost, Some(lost)) = (outcome, lost) {
            *lost -= 1;
        }
        tell(counts, each, outcome, stream, number..number.saturating_add(1), Some(half.record));
        state.waiting.remove(&number);
        state.settle(number);
        settled += 1;
    }
    settled
}

impl State {
    fn is_done(&self, number: u64) -> bool {
        self.done.range(..=number).next_back().is_some_and(|(_, end)| number < *end)
    }

    fn settle(&mut self, number: u64) {
        let mut from = number;
        let mut to = number.saturating_add(1);
        if let Some((&start, &end)) = self.done.range(..=number).next_back()
            && end >= number
        {
            (from, to) = (start, to.max(end));
        }
        if let Some(end) = self.done.remove(&to) {
            to = end;
        }
        self.done.insert(from, to);
    }

    /// Gives up on the lowest hole in what is settled: nobody reported those numbers.
    fn close_hole(
        &mut self,
        stream: Stream,
        counts: &mut Counts,
        each: &mut impl FnMut(Disagreement),
    ) {
        let mut runs = self.done.iter();
        let (Some((&start, &from)), Some((&to, &end))) = (runs.next(), runs.next()) else { return };
        // What waits in the hole has one reporter, and is judged on its own.
        let mut next = from;
        let waiting: Vec<u64> = self.waiting.range(from..to).map(|(number, _)| *number).collect();
        for number in waiting.into_iter().chain([to]) {
            if next < number {
                tell(counts, each, Outcome::Gap, stream, next..number, None);
            }
            next = number.saturating_add(1);
        }
        self.done.remove(&to);
        self.done.insert(start, end);
        self.hole_since = None;
    }
}

/// Reconciles a whole log, in its order and by its own times.
pub fn reconcile(
    store: &Store,
    bounds: Bounds,
    mut each: impl FnMut(Disagreement),
) -> Result<Counts, StoreError> {
    let mut reconciler = Reconciler::new(bounds);
    let mut ticked = 0;
    query(store, &Filter { full: true, ..Filter::default() }, |record| {
        let now = record.at.monotonic;
        if now.saturating_sub(ticked) > bounds.grace / 2 {
            reconciler.tick(now, &mut each);
            ticked = now;
        }
        reconciler.push(&record, &mut each);
        true
    })?;
    Ok(reconciler.finish(&mut each))
}
