//! The way of a request through the layers: what came in at one, and what that did elsewhere
//! while it was at it.
//!
//! A record that names its [trace](super::entry::Trace) says which step it follows from, and that is
//! certain as far as its reporter is honest. Of all others it is concluded from
//! time: the same instance did it after it had the request and before it answered. Where it was at
//! several requests at once, the one that it got last is taken, and the conclusion is marked.
//! One-way messages and accepted connections are never answered, so what follows within [`AFTER`]
//! counts as following from the last one; that is marked if another one was nearly as near.

mod order;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use self::order::{Order, Seen};
use super::entry::{Facility, Form, Kind, Record, Side, Trace, Verdict, Who};

/// For how long what an instance does counts as following from a message, in nanoseconds.
pub const AFTER: u64 = 2_000_000_000;
/// So many times nearer than others a message must be to be taken for the cause without a doubt.
const NEARER: u64 = 3;
/// The most steps of a way that are kept; more are counted.
pub const STEPS: usize = 48;
/// The most ways that are under way at once.
const OPEN: usize = 4_096;
/// The most requests that one instance is known to be at.
const AT_ONCE: usize = 256;

/// What a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A request, with its answer.
    Request,
    /// A message without one.
    Message,
    /// What the supervisor's broker was asked for.
    Asked,
    /// Another use of a facility.
    Act,
}

/// One step of a way: a message, a request with its answer, or another act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The step from which it followed, by its place in the way.
    pub parent: Option<usize>,
    /// The kind of the facility.
    pub facility: Facility,
    /// Its number.
    pub edge: u16,
    /// The method or act.
    pub method: u32,
    /// What it is.
    pub what: What,
    /// Who did it.
    pub from: Who,
    /// At whom; [`Who::NOBODY`] if at no layer.
    pub to: Who,
    /// When it was done, by the monotonic clock in nanoseconds.
    pub begun: u64,
    /// When the answer was there, or the message; `None` if that is not known.
    pub ended: Option<u64>,
    /// Whether it was refused.
    pub refused: bool,
    /// Whether its record says from what it followed; otherwise that is concluded from time.
    pub certain: bool,
    /// Whether it may as well have followed from another request.
    pub unsure: bool,
}

/// A way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// Its first record's number.
    pub record: u64,
    /// When the log took that: real time, nanoseconds.
    pub at: u64,
    /// Its steps, in order; the first one is where it begins.
    pub steps: Vec<Step>,
    /// Steps that are not kept.
    pub more: u64,
    /// When the last of it was reported.
    pub last: u64,
    /// Its trace, if a record names one.
    pub trace: Option<Trace>,
    /// Of a request by a connection that was there before: when it came, by the monotonic clock.
    pub since: Option<u64>,
}

impl Way {
    /// From its beginning to the last of it, in nanoseconds.
    pub fn took(&self) -> u64 {
        let first = self.steps.first();
        let end = first.filter(|step| step.what == What::Request).and_then(|step| step.ended);
        end.unwrap_or(self.last).saturating_sub(self.begun())
    }

    /// When it began, by the monotonic clock in nanoseconds.
    pub fn begun(&self) -> u64 {
        self.since.unwrap_or_else(|| self.steps.first().map_or(0, |step| step.begun))
    }

    /// Whether some of it may belong to another one.
    pub fn unsure(&self) -> bool {
        self.steps.iter().any(|step| step.unsure)
    }
}

/// A step of a way that is under way.
#[derive(Clone, Copy, Debug)]
struct At {
    way: u64,
    step: usize,
    since: u64,
}

/// Which ways are asked for.
struct Wanted(Box<dyn Fn(&Way) -> bool + Send>);

impl std::fmt::Debug for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wanted")
    }
}

/// Finds the ways in a log, as its records come.
#[derive(Debug)]
pub struct Ways {
    most: usize,
    wanted: Option<Wanted>,
    order: Order,
    open: BTreeMap<u64, Way>,
    next: u64,
    /// Requests by edge, caller, callee and call.
    calls: HashMap<(u16, Who, Who, u32), At>,
    /// Messages on the wire by facility, edge, ends and number.
    flying: HashMap<(Facility, u16, Who, Who, u64), At>,
    /// The requests that an instance is at.
    busy: HashMap<Who, Vec<At>>,
    /// Steps by their spans.
    spans: HashMap<u64, At>,
    /// The steps that led to a span whose way is over, from a connection on.
    origins: HashMap<u64, Arc<[Step]>>,
    /// The messages that it got, newest last.
    got: HashMap<Who, VecDeque<At>>,
    swept: u64,
    newest: VecDeque<Arc<Way>>,
    slowest: Vec<Arc<Way>>,
    all: u64,
    unsure: u64,
}

/// The ways that were found.
#[derive(Debug, Default)]
pub struct Found {
    /// How many there are.
    pub all: u64,
    /// How many may be mixed up with others.
    pub unsure: u64,
    /// The newest, newest first.
    pub newest: Vec<Arc<Way>>,
    /// The slowest, slowest first.
    pub slowest: Vec<Arc<Way>>,
}

impl Ways {
    /// Keeps so many of the newest and of the slowest.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            wanted: None,
            order: Order::default(),
            open: BTreeMap::new(),
            next: 0,
            calls: HashMap::new(),
            flying: HashMap::new(),
            busy: HashMap::new(),
            got: HashMap::new(),
            spans: HashMap::new(),
            origins: HashMap::new(),
            swept: 0,
            newest: VecDeque::new(),
            slowest: Vec::new(),
            all: 0,
            unsure: 0,
        }
    }

    /// Of these alone.
    #[must_use]
    pub fn only(self, wanted: impl Fn(&Way) -> bool + Send + 'static) -> Self {
        Self { wanted: Some(Wanted(Box::new(wanted))), ..self }
    }

    /// Takes the next record of the log in.
    pub fn take(&mut self, record: &Record) {
        // Numbers mean something else under another policy, and time begins anew with a machine.
        if matches!(record.entry.kind, Kind::Start | Kind::Policy) {
            self.finish_open();
        }
        self.order.push(record);
        while let Some(seen) = self.order.pop(record.at.monotonic) {
            self.see(&seen);
        }
    }

    /// Ends every way, and gives what was found.
    pub fn finish(mut self) -> Found {
        self.finish_open();
        let Self { all, unsure, newest, slowest, .. } = self;
        Found { all, unsure, newest: newest.into_iter().rev().collect(), slowest }
    }

    fn finish_open(&mut self) {
        while let Some(seen) = self.order.pop(u64::MAX) {
            self.see(&seen);
        }
        while let Some((_, way)) = self.open.pop_first() {
            self.done(way);
        }
        self.calls.clear();
        self.flying.clear();
        self.busy.clear();
        self.got.clear();
        self.spans.clear();
        self.origins.clear();
        self.swept = 0;
    }

    fn see(&mut self, seen: &Seen) {
        if seen.at.saturating_sub(self.swept) > AFTER / 2 {
            self.sweep(seen.at);
        }
        if seen.exit {
            self.busy.remove(&seen.peer);
            self.got.remove(&seen.peer);
            return;
        }
        if seen.takes_up {
            return self.taken_up(seen);
        }
        let sends = seen.side != Side::Receiver;
        match (seen.facility, seen.form) {
            (Facility::Channel, Form::Request) if sends => self.request(seen),
            (Facility::Channel, Form::Request) => self.requested(seen),
            (Facility::Channel, Form::Reply | Form::Refusal | Form::End) => self.answered(seen),
            (Facility::Channel, Form::Message) | (Facility::Queue | Facility::Pipe, _)
                if !seen.broker =>
            {
                if sends {
                    self.message(seen);
                } else {
                    self.received(seen);
                }
            }
            (Facility::Channel | Facility::None, _) => {}
            (Facility::Listen | Facility::Fifo, _) => self.received(seen),
            // The receiver's word about what the broker did already.
            (Facility::Signal, _) if !seen.broker => {}
            // Reading what is published moves nothing.
            (Facility::Region | Facility::MappedFile, _) if !sends => {}
            _ => {
                let step = Step { ended: Some(seen.at), ..step(seen, seen.reporter, seen.peer) };
                self.act(seen, step, false);
            }
        }
    }

    /// A caller says that it sent a request.
    fn request(&mut self, seen: &Seen) {
        let step = Step { what: What::Request, ..step(seen, seen.reporter, seen.peer) };
        if let Some(at) = self.act(seen, step, true) {
            self.calls.insert((seen.edge, seen.reporter, seen.peer, seen.call), at);
        }
    }

    /// A callee says that it has a request.
    fn requested(&mut self, seen: &Seen) {
        let key = (seen.edge, seen.peer, seen.reporter, seen.call);
        let known = self.calls.get(&key).copied();
        let at = known.unwrap_or_else(|| {
            // Its caller didn't say so, so nothing is known before it.
            let step = Step { what: What::Request, ..step(seen, seen.peer, seen.reporter) };
            self.follow_or_begin(seen, step)
        });
        self.calls.insert(key, at);
        self.touch(at, seen);
        let busy = self.busy.entry(seen.reporter).or_default();
        if busy.len() >= AT_ONCE {
            busy.remove(0);
        }
        busy.push(At { since: seen.at, ..at });
    }

    /// One end says that a request was answered.
    fn answered(&mut self, seen: &Seen) {
        let sends = seen.side != Side::Receiver;
        let (asker, callee) =
            if sends { (seen.peer, seen.reporter) } else { (seen.reporter, seen.peer) };
        let key = (seen.edge, asker, callee, seen.call);
        let Some(&at) = self.calls.get(&key) else { return };
        self.touch(at, seen);
        let refused = seen.form == Form::Refusal;
        if let Some(step) = self.step(at) {
            step.refused |= refused;
            step.ended = Some(seen.at);
        }
        if sends {
            if let Some(busy) = self.busy.get_mut(&callee) {
                busy.retain(|one| (one.way, one.step) != (at.way, at.step));
            }
            return;
        }
        self.calls.remove(&key);
        if at.step == 0
            && let Some(way) = self.open.remove(&at.way)
        {
            self.done(way);
        }
    }

    /// A sender says that it sent a message.
    fn message(&mut self, seen: &Seen) {
        let step = Step { what: What::Message, ..step(seen, seen.reporter, seen.peer) };
        if let Some(at) = self.act(seen, step, true) {
            self.flying.insert(flight(seen, seen.reporter, seen.peer), at);
        }
    }

    /// A receiver says that it has a message, a line or a connection.
    fn received(&mut self, seen: &Seen) {
        let traced = seen.trace.and_then(|trace| self.spans.get(&trace.span()).copied());
        // A queue's sender doesn't know who will receive.
        let known = traced.or_else(|| {
            self.flying
                .remove(&flight(seen, seen.peer, seen.reporter))
                .or_else(|| self.flying.remove(&flight(seen, seen.peer, Who::NOBODY)))
        });
        let at = known.unwrap_or_else(|| {
            let step = Step { what: What::Message, ..step(seen, seen.peer, seen.reporter) };
            self.follow_or_begin(seen, step)
        });
        self.touch(at, seen);
        if let Some(step) = self.step(at) {
            step.ended = Some(seen.at);
            step.to = seen.reporter;
        }
        let got = self.got.entry(seen.reporter).or_default();
        got.push_back(At { since: seen.at, ..at });
        if got.len() > AT_ONCE {
            got.pop_front();
        }
    }

    /// An instance did something: in which way, and from which step does it follow?
    fn act(&mut self, seen: &Seen, mut step: Step, begins: bool) -> Option<At> {
        if let Some(from) = self.parent(seen) {
            step.certain = true;
            return self.follow(seen, step, from);
        }
        let who = seen.reporter;
        let open = &self.open;
        let gone = |at: &At| !open.contains_key(&at.way);
        let old = |at: &At| seen.at.saturating_sub(at.since) > AFTER || gone(at);
        if let Some(busy) = self.busy.get_mut(&who) {
            while busy.last().is_some_and(gone) {
                busy.pop();
            }
        }
        if let Some(got) = self.got.get_mut(&who) {
            while got.front().is_some_and(old) {
                got.pop_front();
            }
            while got.back().is_some_and(old) {
                got.pop_back();
            }
        }
        let (busy, got) = (self.busy.get(&who), self.got.get(&who));
        let requests = busy.map_or(0, Vec::len);
        let from = busy.and_then(|all| all.last()).or_else(|| got.and_then(|all| all.back()));
        let Some(&from) = from else { return begins.then(|| self.begin(seen, step)) };
        step.unsure = requests > 1 || requests == 0 && near_another(got, seen.at);
        self.follow(seen, step, from)
    }

    /// The step that a record says it follows from, if that is under way.
    fn parent(&self, seen: &Seen) -> Option<At> {
        let from = self.spans.get(&seen.trace?.parent())?;
        self.open.contains_key(&from.way).then_some(*from)
    }

    /// What only its receiver reports.
    fn follow_or_begin(&mut self, seen: &Seen, step: Step) -> At {
        let from = self.parent(seen);
        let follows = from.and_then(|from| self.follow(seen, Step { certain: true, ..step }, from));
        follows.unwrap_or_else(|| self.begin(seen, step))
    }

    /// Adds a step to a way; `None` if that has too many.
    fn follow(&mut self, seen: &Seen, mut step: Step, from: At) -> Option<At> {
        step.parent = Some(from.step);
        let way = self.open.get_mut(&from.way)?;
        way.last = way.last.max(seen.at);
        if way.steps.len() >= STEPS {
            way.more += 1;
            return None;
        }
        way.steps.push(step);
        let at = At { way: from.way, step: way.steps.len() - 1, since: seen.at };
        self.note(seen, at);
        Some(at)
    }

    /// Remembers which step a span is.
    fn note(&mut self, seen: &Seen, at: At) {
        let Some(trace) = seen.trace else { return };
        if let Some(way) = self.open.get_mut(&at.way) {
            way.trace.get_or_insert(trace);
        }
        self.spans.insert(trace.span(), at);
    }

    /// A layer took up a trace: a way of its own, which begins at the connection by which it came.
    fn taken_up(&mut self, seen: &Seen) {
        let known = seen.before.and_then(|it| {
            let at = self.spans.get(&it.span());
            let chain = at.and_then(|at| Some(chain(self.open.get(&at.way)?, at.step)));
            chain.or_else(|| self.origins.get(&it.span()).map(|steps| steps.to_vec()))
        });
        let steps = known.unwrap_or_else(|| vec![step(seen, seen.reporter, Who::NOBODY)]);
        let at = self.begin(seen, step(seen, seen.reporter, Who::NOBODY));
        let last = steps.len() - 1;
        if let Some(way) = self.open.get_mut(&at.way) {
            (way.steps, way.since) = (steps, Some(seen.at));
        }
        self.note(seen, At { step: last, ..at });
    }

    /// A way begins.
    fn begin(&mut self, seen: &Seen, step: Step) -> At {
        if self.open.len() >= OPEN
            && let Some((_, oldest)) = self.open.pop_first()
        {
            self.done(oldest);
        }
        let (way, steps) = (self.next, vec![step]);
        self.next += 1;
        let (record, at, last) = (seen.record, seen.real, seen.at);
        let begun = Way { record, at, steps, more: 0, last, trace: None, since: None };
        self.open.insert(way, begun);
        let at = At { way, step: 0, since: seen.at };
        self.note(seen, at);
        at
    }

    fn step(&mut self, at: At) -> Option<&mut Step> {
        self.open.get_mut(&at.way)?.steps.get_mut(at.step)
    }

    fn touch(&mut self, at: At, seen: &Seen) {
        if let Some(way) = self.open.get_mut(&at.way) {
            way.last = way.last.max(seen.at);
        }
    }

    /// Ends ways that nothing can follow from any more, and forgets what belongs to none.
    fn sweep(&mut self, now: u64) {
        self.swept = now;
        let waits = |way: &Way| {
            let patience = if way
                .steps
                .iter()
                .any(|step| step.what == What::Request && step.ended.is_none())
            {
                30 * AFTER
            } else {
                AFTER
            };
            now.saturating_sub(way.last) <= patience
        };
        let over: Vec<u64> =
            self.open.iter().filter(|(_, way)| !waits(way)).map(|(number, _)| *number).collect();
        let over_spans = self.spans.extract_if(|_, at| over.binary_search(&at.way).is_ok());
        for (span, at) in over_spans {
            let Some(way) = self.open.get(&at.way) else { continue };
            let connects = |step: &Step| step.facility == Facility::Listen;
            if way.steps.first().is_some_and(connects) {
                if self.origins.len() >= OPEN {
                    self.origins.clear();
                }
                self.origins.insert(span, chain(way, at.step).into());
            }
        }
        for number in over {
            if let Some(way) = self.open.remove(&number) {
                self.done(way);
            }
        }
        let open = &self.open;
        self.calls.retain(|_, at| open.contains_key(&at.way));
        self.flying.retain(|_, at| open.contains_key(&at.way));
        self.spans.retain(|_, at| open.contains_key(&at.way));
        self.busy.retain(|_, all| !all.is_empty());
        self.got.retain(|_, all| !all.is_empty());
    }

    /// Keeps a way that is over, if it is one of the newest or slowest. A message from which
    /// nothing followed is no way.
    fn done(&mut self, way: Way) {
        let request = way.steps.first().is_some_and(|step| step.what == What::Request);
        if !request && way.steps.len() < 2 {
            return;
        }
        if self.wanted.as_ref().is_some_and(|Wanted(wanted)| !wanted(&way)) {
            return;
        }
        self.all += 1;
        self.unsure += u64::from(way.unsure());
        if self.most == 0 {
            return;
        }
        let way = Arc::new(way);
        if self.newest.len() >= self.most {
            self.newest.pop_front();
        }
        self.newest.push_back(way.clone());
        let slower = self.slowest.partition_point(|other| other.took() >= way.took());
        if slower < self.most {
            self.slowest.insert(slower, way);
            self.slowest.truncate(self.most);
        }
    }
}

/// Whether the message before the last is less than [`NEARER`] times as far away.
fn near_another(got: Option<&VecDeque<At>>, now: u64) -> bool {
    let mut ago =
        got.into_iter().flat_map(|all| all.iter().rev()).map(|at| now.saturating_sub(at.since));
    match (ago.next(), ago.next()) {
        (Some(last), Some(before)) => before < last.saturating_mul(NEARER),
        _ => false,
    }
}

fn flight(seen: &Seen, from: Who, to: Who) -> (Facility, u16, Who, Who, u64) {
    (seen.facility, seen.edge, from, to, seen.sequence)
}

fn step(seen: &Seen, from: Who, to: Who) -> Step {
    Step {
        parent: None,
        facility: seen.facility,
        edge: seen.edge,
        method: seen.method,
        what: if seen.broker { What::Asked } else { What::Act },
        from,
        to,
        begun: seen.at,
        ended: None,
        refused: matches!(seen.verdict, Verdict::Refused | Verdict::Killed),
        certain: false,
        unsure: false,
    }
}

/// The steps that lead to one, from the first on.
fn chain(way: &Way, step: usize) -> Vec<Step> {
    let mut chain = Vec::new();
    let mut next = Some(step);
    while let Some(step) = next.and_then(|at| way.steps.get(at)) {
        chain.push(step.clone());
        next = step.parent;
    }
    chain.reverse();
    for (place, step) in chain.iter_mut().enumerate() {
        step.parent = place.checked_sub(1);
    }
    chain
}
