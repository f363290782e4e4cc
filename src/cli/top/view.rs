//! What is known of a daemon by its log, as it grows.

use std::collections::{BTreeMap, VecDeque};

use crate::audit::entry::{Kind, Record, Side, Verdict, Who};
use crate::audit::follow::{Event, Follower};
use crate::audit::query::{Filter, query};
use crate::audit::store::{Store, StoreError};
use crate::cli::audit::Failure;
use crate::cli::audit::names::{self, Names};
use crate::cli::audit::tail::last_segment;
use crate::cli::audit::time;
use crate::cli::audit::traffic::{Edge, EdgeId, Traffic, whom};
use crate::text::neutralise;

const SECOND: u64 = 1_000_000_000;
/// Over so many seconds rates are measured.
const SECONDS: u64 = 5;
/// The most alarms that are kept.
const ALARMS: usize = 32;
/// The most instances that are kept.
const PLACES: usize = 4_096;

/// An instance, or its place where it is down.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Seat {
    /// Its name: `keeper/0.g2`.
    pub(in crate::cli) name: String,
    /// When its life began, or when it ended: real time.
    pub(in crate::cli) since: u64,
    /// How it ended; `None` while it lives.
    pub(in crate::cli) ended: Option<String>,
    /// How many lives it has had.
    pub(in crate::cli) lives: u64,
    /// How the last life that ended did, and by which limit if one ended it.
    pub(in crate::cli) last_end: Option<String>,
    /// Its receipt in brief.
    pub(in crate::cli) receipt: String,
    /// What it was refused, and what the kernel refused it.
    pub(in crate::cli) refused: u64,
    pub(in crate::cli) denied: u64,
}

/// Messages and bytes of each edge.
type Counts = BTreeMap<EdgeId, (u64, u64)>;

/// An edge's numbers.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Row {
    pub(in crate::cli) name: String,
    pub(in crate::cli) edge: Edge,
    /// Messages and bytes in the last seconds, and how long these were in nanoseconds.
    pub(in crate::cli) recent: (u64, u64, u64),
}

/// Everything.
#[derive(Debug)]
pub(in crate::cli) struct View {
    follower: Follower,
    names: Names,
    seats: BTreeMap<(u16, u16), Seat>,
    traffic: Traffic,
    /// Messages and bytes of each edge at the beginning of each of the last seconds.
    marks: VecDeque<(u64, Counts)>,
    /// The newest of what was reported, and of what is now: monotonic time.
    now: u64,
    /// The last record's real time.
    pub(in crate::cli) last: u64,
    pub(in crate::cli) live: bool,
    pub(in crate::cli) records: u64,
    pub(in crate::cli) alarms: VecDeque<(u64, String)>,
    /// Counts since the daemon's last start.
    pub(in crate::cli) alarm_count: u64,
    pub(in crate::cli) lost: u64,
    /// Whether a part of the log couldn't be read.
    pub(in crate::cli) damaged: bool,
    /// How lives ended since the daemon's last start: by layer and how, and how often.
    pub(in crate::cli) ends: BTreeMap<(String, String), u64>,
}

impl View {
    /// Who lives and what went wrong since the last start; edges begin with the last segment.
    pub(in crate::cli) fn begin(store: &Store) -> Result<Self, Failure> {
        let first = last_segment(store)?;
        let names = Names::read(store)?;
        let mut view = Self {
            follower: Follower::new(first),
            names,
            seats: BTreeMap::new(),
            traffic: Traffic::default(),
            marks: VecDeque::new(),
            now: 0,
            last: 0,
            live: false,
            records: 0,
            alarms: VecDeque::new(),
            alarm_count: 0,
            lost: 0,
            damaged: false,
            ends: BTreeMap::new(),
        };
        let kinds = vec![
            Kind::Start,
            Kind::Spawn,
            Kind::Receipt,
            Kind::Exit,
            Kind::Denial,
            Kind::Loss,
            Kind::Alarm,
        ];
        query(store, &Filter { kinds, ..Filter::default() }, |record| {
            if record.index < first {
                view.tell(&record);
            }
            record.index < first
        })?;
        Ok(view)
    }

    /// Takes in what is new.
    pub(in crate::cli) fn look(&mut self, store: &Store) -> Result<(), StoreError> {
        self.live = store.is_held();
        let mut follower = std::mem::replace(&mut self.follower, Follower::new(0));
        let done = follower.look(store, |event| {
            match event {
                Event::Record(record) => self.take(&record),
                Event::Damaged { .. } => self.damaged = true,
                Event::Missed { .. } => {}
            }
            true
        });
        self.follower = follower;
        if self.live {
            let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
            let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
            self.pass(seconds * SECOND + u64::try_from(now.tv_nsec).unwrap_or(0));
        }
        done
    }

    fn take(&mut self, record: &Record) {
        if record.entry.kind == Kind::Policy {
            let before = self.names.at(record.index.saturating_sub(1)).policy.clone();
            self.names.learn(record);
            if self.names.at(record.index).policy != before {
                // Numbers mean something else now.
                self.traffic = Traffic::default();
                self.marks.clear();
            }
        }
        if record.entry.kind == Kind::Start {
            self.now = 0;
            self.marks.clear();
        }
        self.pass(record.at.monotonic);
        self.traffic.take(record);
        self.tell(record);
        self.records = record.index + 1;
        self.last = record.at.real;
    }

    /// Time goes on: at each new second the counts are noted.
    fn pass(&mut self, now: u64) {
        if now / SECOND != self.now / SECOND || self.marks.is_empty() {
            let edges = self.traffic.edges().iter();
            let counts = edges.map(|(place, it)| (*place, (it.all.messages(), it.all.bytes())));
            self.marks.push_back((now, counts.collect()));
        }
        self.now = self.now.max(now);
        while self.marks.len() > 1
            && self.marks.front().is_some_and(|(at, _)| at + SECONDS * SECOND < self.now)
        {
            self.marks.pop_front();
        }
    }

    fn tell(&mut self, record: &Record) {
        let entry = &record.entry;
        let of = |who: Who| (who.layer, who.copy);
        match entry.kind {
            Kind::Start => {
                self.seats.clear();
                self.ends.clear();
                (self.alarm_count, self.lost) = (0, 0);
                self.alarms.clear();
            }
            Kind::Spawn
                if self.seats.len() < PLACES || self.seats.contains_key(&of(entry.peer)) =>
            {
                let name = names::instance(self.names.at(record.index), entry.peer);
                let name = name.map_or_else(String::new, |it| it.to_string());
                let fresh = Seat {
                    name: String::new(),
                    since: 0,
                    ended: None,
                    lives: 0,
                    last_end: None,
                    receipt: String::new(),
                    refused: 0,
                    denied: 0,
                };
                let seat = self.seats.entry(of(entry.peer)).or_insert(fresh);
                (seat.name, seat.since, seat.ended) = (name, record.at.real, None);
                seat.lives += 1;
                seat.receipt.clear();
            }
            Kind::Receipt => {
                if let Some(seat) = self.seats.get_mut(&of(entry.peer)) {
                    seat.receipt = brief(&entry.detail);
                }
            }
            Kind::Exit => {
                if let Some(seat) = self.seats.get_mut(&of(entry.peer)) {
                    let ended = names::ended(entry.value);
                    let layer = seat.name.split('/').next().unwrap_or_default().to_owned();
                    if self.ends.len() < PLACES {
                        *self.ends.entry((layer, ended.clone())).or_default() += 1;
                    }
                    let limit = neutralise(&entry.detail);
                    let by = if limit.is_empty() { limit } else { format!(" by {limit}") };
                    seat.last_end = Some(format!("{ended}{by}"));
                    (seat.since, seat.ended) = (record.at.real, Some(ended));
                }
            }
            Kind::Denial => {
                if let Some(seat) = self.seats.get_mut(&of(entry.peer)) {
                    seat.denied += 1;
                }
            }
            Kind::Loss => self.lost = self.lost.saturating_add(entry.length),
            Kind::Alarm => {
                self.alarm_count += 1;
                self.alarms.push_back((record.at.real, neutralise(&entry.detail)));
                if self.alarms.len() > ALARMS {
                    self.alarms.pop_front();
                }
            }
            Kind::Use | Kind::Broker
                if matches!(entry.verdict, Verdict::Refused | Verdict::Killed)
                    && entry.side != Side::Witness =>
            {
                if let Some(seat) = self.seats.get_mut(&of(whom(entry))) {
                    seat.refused += 1;
                }
            }
            _ => {}
        }
    }

    /// The instances, by layer and copy.
    pub(in crate::cli) fn seats(&self) -> impl ExactSizeIterator<Item = &Seat> {
        self.seats.values()
    }

    /// The edges, the busiest first.
    pub(in crate::cli) fn rows(&self) -> Vec<Row> {
        let tables = self.names.at(u64::MAX);
        let mark = self.marks.front();
        let row = |(place, edge): (&EdgeId, &Edge)| {
            let all = (edge.all.messages(), edge.all.bytes());
            let (since, before) = mark.map_or((self.now, (0, 0)), |(at, counts)| {
                (*at, counts.get(place).copied().unwrap_or_default())
            });
            let (messages, bytes) =
                (all.0.saturating_sub(before.0), all.1.saturating_sub(before.1));
            Row {
                name: names::edge(tables, *place).unwrap_or_default(),
                edge: edge.clone(),
                recent: (messages, bytes, self.now.saturating_sub(since).max(SECOND)),
            }
        };
        let mut rows: Vec<Row> = self.traffic.edges().iter().map(row).collect();
        rows.sort_by(|a, b| {
            let busy = |row: &Row| (row.recent.0, row.edge.all.messages());
            busy(b).cmp(&busy(a)).then_with(|| a.name.cmp(&b.name))
        });
        rows
    }

    /// The daemon's name and its policy's id.
    pub(in crate::cli) fn title(&self) -> (&str, &str) {
        let tables = self.names.at(u64::MAX);
        (&tables.daemon, tables.policy.get(..12).unwrap_or(&tables.policy))
    }

    /// The policy's whole id.
    pub(in crate::cli) fn policy(&self) -> &str {
        &self.names.at(u64::MAX).policy
    }

    /// The moment that is shown: now of a log that is written, else its last record's.
    pub(in crate::cli) fn moment(&self) -> u64 {
        if self.live { time::now() } else { self.last }
    }
}

/// Of a receipt, how many protections are in force, and how many only in part or not at all.
fn brief(receipt: &[u8]) -> String {
    let text = String::from_utf8_lossy(receipt);
    let count = |word: &str| text.lines().filter(|line| line.contains(word)).count();
    let (full, part, none) = (count("enforced"), count("fallback"), count("missing"));
    let words = [(full, "on"), (part, "part"), (none, "off")].into_iter();
    let words = words.filter(|(count, word)| *count > 0 || *word == "on");
    words.map(|(count, word)| format!("{count} {word}")).collect::<Vec<_>>().join(" ")
}
