//! Matching what both ends of every edge report.
//!
//! A message is identified by its edge, both instances with their generations, and its sequence.
//! One report alone proves nothing: the two must be there and say the same, and on a channel with
//! a witness the three. With a witness ends the link, and the next one is another stream. A queue's sender doesn't know who will receive, so there the sender alone
//! identifies the stream. What has one end that reports needs no partner.
//!
//! Memory is bounded by [`Bounds`] whatever is reported, so this runs live in the auditor as well
//! as over a log.
//!
//! Whom to believe, where two ends differ, can't be told from their reports: a
//! [`Disagreement`] names both. Two ends that lie together are noticed only by a witness.

mod half;
mod outcome;
mod queue;
mod reading;
mod stream;
mod ways;
mod witness;

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;

use self::half::Half;
pub use self::outcome::{Counts, Disagreement, Outcome};
use self::outcome::{Teller, tell};
use self::queue::Queues;
pub use self::reading::Reading;
use self::stream::State;
use self::ways::{Way, Ways};
use self::witness::Seen;
use super::entry::{Entry, Facility, Kind, Record, Side, Verdict, Who};
use super::query::{Effort, Filter, query};
use super::store::{Store, StoreError};
use super::tables::Tables;
use crate::wire::report::link_of;

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
    /// Who receives; of a queue, nobody in particular.
    pub receiver: Who,
    /// Which link between the two, where a witness relays it: how many witnesses there were before.
    pub link: u64,
}

/// Matches reports as they come.
#[derive(Debug)]
pub struct Reconciler {
    bounds: Bounds,
    ways: Ways,
    streams: HashMap<Stream, State>,
    waiting: usize,
    /// Reports that reporters said they lost, and that no missing half was put down to yet.
    losses: HashMap<Who, u64>,
    queues: Queues,
    seen: Seen,
    /// Links through witnesses of up to this generation are over.
    links_over: u64,
    counts: Counts,
    /// Which run of the daemon the records are of.
    run: Option<u64>,
    /// Records before this one may have their other half before the first that is kept.
    lonely: u64,
    /// Until when that goes on, of the monotonic clock, from the first record's moment on.
    lonely_until: Option<(u64, u64)>,
}

impl Reconciler {
    /// One that has seen nothing.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            ways: Ways::default(),
            streams: HashMap::new(),
            waiting: 0,
            losses: HashMap::new(),
            queues: Queues::default(),
            seen: Seen::default(),
            links_over: 0,
            counts: Counts::default(),
            run: None,
            lonely: 0,
            lonely_until: None,
        }
    }

    /// What the numbers in all records from here on mean, where no policy record says it.
    pub fn learn(&mut self, tables: &Tables) {
        self.ways = Ways::of(tables);
    }

    /// Records before the first one that will come were dropped, and that one is of the moment
    /// `now` of the monotonic clock: reports around it may have no other half any more.
    pub fn begins_late(&mut self, now: u64) {
        self.lonely = u64::MAX;
        self.lonely_until = Some((now, now.saturating_add(self.bounds.grace)));
    }

    /// What has come out so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// How many reports wait for their other half.
    pub fn waiting(&self) -> usize {
        self.waiting + self.seen.parked()
    }

    /// Takes a record in. Kinds that say nothing about messages change nothing.
    pub fn push(&mut self, record: &Record, each: &mut impl FnMut(Disagreement)) {
        let (entry, now) = (&record.entry, record.at.monotonic);
        if self.lonely_until.is_some_and(|(from, to)| !(from..=to).contains(&now)) {
            (self.lonely, self.lonely_until) = (record.index, None);
        }
        match entry.kind {
            Kind::Use => self.report(record, each),
            Kind::Exit => self.ended(entry.peer, now),
            Kind::Held if entry.reporter == Who::AUDITOR => self.held(entry.length),
            Kind::Loss if self.losses.len() < self.bounds.streams => {
                let lost = self.losses.entry(entry.reporter).or_default();
                *lost = lost.saturating_add(entry.length);
            }
            Kind::Policy => {
                if let Some(tables) = Tables::parse(&entry.detail) {
                    self.learn(&tables);
                }
            }
            Kind::Broker if gave_up(entry) => {
                let stream = queue_of(entry, entry.peer);
                self.half(stream, entry.sequence, Half::dropped(record), each);
            }
            Kind::Progress if entry.reporter == Who::AUDITOR => {
                if self.run.is_some_and(|run| run != entry.length) {
                    self.another_run(each);
                }
                self.run = Some(entry.length);
            }
            _ => {}
        }
    }

    /// For so long, in nanoseconds, no reports were taken: what waits has not waited for that. What
    /// comes now was held up too, so it all gets its whole time once more.
    pub fn held(&mut self, time: u64) {
        let by = time.saturating_add(self.bounds.grace);
        for state in self.streams.values_mut() {
            state.held(by);
        }
        self.seen.held(by);
    }

    fn ended(&mut self, who: Who, now: u64) {
        if self.ways.witness == Some(who.layer) {
            self.links_over = who.generation;
        }
        let links_over = self.links_over;
        for (stream, state) in &mut self.streams {
            let cut = state.way == Way::Witnessed && stream.link < links_over;
            if stream.sender == who || stream.receiver == who || cut {
                state.ended.get_or_insert(now);
            }
        }
        self.queues.receiver_ended(&self.ways, who);
        self.seen.ended(who);
    }

    /// The daemon began again, perhaps after it ended without a word: all lives are others, though
    /// they have the same numbers.
    fn another_run(&mut self, each: &mut impl FnMut(Disagreement)) {
        let Self { ways, streams, losses, counts, queues, seen, lonely, .. } = self;
        let (witness, lonely) = (ways.witness, *lonely);
        let mut teller = Teller { losses, counts, each, witness, lonely };
        for (stream, mut state) in streams.drain() {
            state.ended.get_or_insert(0);
            state.judge_all(stream, (queues, seen), &mut teller);
        }
        seen.over(&mut teller);
        losses.clear();
        self.queues = Queues::default();
        self.waiting = 0;
        self.links_over = 0;
    }

    fn report(&mut self, record: &Record, each: &mut impl FnMut(Disagreement)) {
        let entry = &record.entry;
        // What its sender refused or failed to send was no message.
        let unsent = matches!(entry.verdict, Verdict::Refused | Verdict::Failed);
        if !ways::two_ended(entry.facility) || entry.side == Side::Sender && unsent {
            if entry.facility == Facility::Queue {
                self.take_back(entry, each);
            }
            return;
        }
        let (sender, receiver) = match entry.side {
            Side::Sender => (entry.reporter, entry.peer),
            Side::Receiver => (entry.peer, entry.reporter),
            Side::None
                if refuses(entry)
                    && self.ways.way(entry.facility, entry.edge) == Way::Witnessed =>
            {
                (entry.peer, entry.reporter)
            }
            Side::Witness => {
                if self.ways.way(entry.facility, entry.edge) == Way::Witnessed {
                    let waiting = |stream: &Stream| {
                        self.streams.get(stream)?.waiting.get(&entry.sequence).copied()
                    };
                    match self.seen.stream(record, waiting) {
                        Some(stream) => {
                            self.half(stream, entry.sequence, Half::of(record), each);
                        }
                        None => self.seen.park(record, self.bounds.pending),
                    }
                }
                return;
            }
            _ => return,
        };
        let receiver = if entry.facility == Facility::Queue { Who::NOBODY } else { receiver };
        let (facility, edge) = (entry.facility, entry.edge);
        let witnessed = self.ways.way(facility, edge) == Way::Witnessed;
        let link = if witnessed { link_of(entry.sequence) } else { 0 };
        let stream = Stream { facility, edge, sender, receiver, link };
        let half = if refuses(entry) { Half::refusal(record) } else { Half::of(record) };
        self.half(stream, entry.sequence, half, each);
    }

    fn half(
        &mut self,
        stream: Stream,
        number: u64,
        half: Half,
        each: &mut impl FnMut(Disagreement),
    ) {
        let full = self.streams.len() >= self.bounds.streams;
        let state = match self.streams.entry(stream) {
            Slot::Occupied(slot) => slot.into_mut(),
            Slot::Vacant(slot) => match self.ways.way(stream.facility, stream.edge) {
                Way::OneSided => return,
                _ if full => {
                    let index = Some(half.record);
                    let told = Disagreement::of(Outcome::Flood, stream, number, index);
                    tell(&mut self.counts, each, told);
                    return;
                }
                way => {
                    let mut state = State::new(way);
                    if way == Way::Witnessed {
                        self.seen.known(&stream);
                        // The end of its witness was told before what an end said of it.
                        let over = stream.link < self.links_over;
                        state.ended = over.then_some(half.since);
                    }
                    slot.insert(state)
                }
            },
        };
        let before = state.waiting.len();
        if half.is_refusal() {
            state.refuse(stream, number, half, &mut self.counts, each);
        } else {
            state.take(stream, number, half, &mut self.counts, each);
        }
        if state.way == Way::Witnessed
            && let Some(half) = self.seen.unpark(&stream, number, state.waiting.get(&number), false)
        {
            state.take(stream, number, half, &mut self.counts, each);
        }
        self.waiting = self.waiting + state.waiting.len() - before;
        if state.done.len() > self.bounds.holes {
            state.close_hole(stream, &mut self.counts, each);
        }
        if self.waiting > self.bounds.pending {
            self.make_room(each);
        }
    }

    /// A queue's sender takes back what it reported.
    fn take_back(&mut self, entry: &Entry, each: &mut impl FnMut(Disagreement)) {
        let stream = queue_of(entry, entry.reporter);
        let Some(state) = self.streams.get_mut(&stream) else { return };
        let before = state.waiting.len();
        state.take_back(entry.sequence);
        self.waiting = self.waiting + state.waiting.len() - before;
        if state.done.len() > self.bounds.holes {
            state.close_hole(stream, &mut self.counts, each);
        }
    }

    /// Judges at once half of what waits in the fullest stream: the one that floods pays, and the
    /// search for it is paid for by many reports.
    fn make_room(&mut self, each: &mut impl FnMut(Disagreement)) {
        let Self { ways, streams, waiting, losses, counts, queues, seen, lonely, .. } = self;
        let (witness, lonely) = (ways.witness, *lonely);
        if let Some((stream, state)) = streams.iter_mut().max_by_key(|(_, s)| s.waiting.len()) {
            let half = state.waiting.len() / 2 + 1;
            let mut teller = Teller { losses, counts, each, witness, lonely };
            *waiting -= state.judge(*stream, (u64::MAX, 0), half, (queues, seen), &mut teller);
        }
    }

    /// Judges what has waited too long at `now`, of the monotonic clock. To be called a few times
    /// a second.
    pub fn tick(&mut self, now: u64, each: &mut impl FnMut(Disagreement)) {
        let Self { bounds, ways, streams, waiting, losses, counts, queues, seen, lonely, .. } =
            self;
        let (witness, lonely) = (ways.witness, *lonely);
        let in_queues = streams.iter().filter(|(_, state)| state.way == Way::Queue);
        let missed =
            in_queues.map(|(stream, state)| (stream.edge, state.sent_only(now, bounds.grace)));
        queues.count(ways, missed);
        streams.retain(|stream, state| {
            let mut teller = Teller { losses, counts, each, witness, lonely };
            let late = (now, bounds.grace);
            *waiting -= state.judge(*stream, late, usize::MAX, (queues, seen), &mut teller);
            if state.done.len() < 2 {
                state.hole_since = None;
            } else if now.saturating_sub(*state.hole_since.get_or_insert(now)) > bounds.grace {
                state.close_hole(*stream, counts, each);
            }
            let over = state.ended.is_some_and(|at| now.saturating_sub(at) > 2 * bounds.grace);
            let gone = over && state.waiting.is_empty();
            if gone {
                seen.forget(stream);
            }
            !gone
        });
        seen.judge((now, bounds.grace), &mut Teller { losses, counts, each, witness, lonely });
    }

    /// Judges everything that is left, as if all instances had ended.
    pub fn finish(mut self, each: &mut impl FnMut(Disagreement)) -> Counts {
        let Self { ways, streams, losses, counts, queues, seen, lonely, .. } = &mut self;
        let (witness, lonely) = (ways.witness, *lonely);
        for (stream, state) in streams {
            state.ended.get_or_insert(0);
            let mut teller = Teller { losses, counts, each, witness, lonely };
            state.judge_all(*stream, (queues, seen), &mut teller);
        }
        seen.judge((u64::MAX, 0), &mut Teller { losses, counts, each, witness, lonely });
        self.counts
    }
}

/// Whether a receiver says that a record breaks a rule, and that it ends the link.
fn refuses(entry: &Entry) -> bool {
    entry.side == Side::None
        && entry.verdict == Verdict::Refused
        && entry.facility == Facility::Channel
}

/// Whether the broker gave up a full queue's oldest message, and knows whose it was.
pub(crate) fn gave_up(entry: &Entry) -> bool {
    let made_room = entry.facility == Facility::Queue && entry.method == 1;
    made_room && entry.length > 0 && entry.peer != Who::NOBODY
}

/// What a sender sends on a queue, whoever will receive it.
fn queue_of(entry: &Entry, sender: Who) -> Stream {
    Stream { facility: Facility::Queue, edge: entry.edge, sender, receiver: Who::NOBODY, link: 0 }
}

/// Reconciles a whole log, in its order and by its own times.
pub fn reconcile(
    store: &Store,
    bounds: Bounds,
    mut each: impl FnMut(Disagreement),
) -> Result<(Counts, Effort), StoreError> {
    let mut reading = Reading::new(bounds);
    let effort = query(store, &Filter { full: true, ..Filter::default() }, |record| {
        reading.push(&record, &mut each);
        true
    })?;
    Ok((reading.finish(&mut each), effort))
}
