//! What a report tells, gathered in one look at the log, in bounded memory.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::thread::ScopedJoinHandle;

use crate::audit::entry::{Entry, Facility, Kind, Record, Side, Verdict, Who};
use crate::audit::query::{Effort, Filter, query};
use crate::audit::reconcile::{Bounds, Counts, reconcile};
use crate::audit::store::{Store, StoreError};
use crate::audit::tables::Tables;
use crate::audit::usage::Usage;
use crate::audit::verify::{self, Verified};
use crate::audit::ways::{Found, Ways};
use crate::cli::audit::account::{Account, Total};
use crate::cli::audit::filter::{Sieve, Wanted, Window};
use crate::cli::audit::names::{self, Names};
use crate::cli::audit::traffic::whom;
use crate::policy::plan::Plan;

/// The most lives that are shown, the newest ones.
const LIVES: usize = 400;
/// The most alarms that are shown, the newest ones.
const ALARMS: usize = 200;
/// The most different refusals, denials and losses that are told apart.
const GROUPS: usize = 2_000;
/// How many parts the time of the log has.
pub(super) const PARTS: usize = 240;

/// Everything.
pub(super) struct Story {
    pub(super) names: Names,
    /// The last policy of the log, if it can be read.
    pub(super) plan: Option<Plan>,
    /// What was counted.
    pub(super) total: Total,
    pub(super) density: Density,
    pub(super) lives: Lives,
    /// Who was refused what: layer, act, at what, why, rule.
    pub(super) refusals: Groups<5>,
    /// What the kernel refused: layer, what, detail.
    pub(super) denials: Groups<3>,
    /// Whose reports were lost, and where.
    pub(super) losses: Groups<2>,
    pub(super) alarms: VecDeque<(u64, u64, Vec<u8>)>,
    pub(super) ways: Found,
    pub(super) usage: Option<Usage>,
    pub(super) reconciled: Counts,
    pub(super) verified: Verified,
    pub(super) live: bool,
    pub(super) effort: Effort,
    /// Whether a part of the log was asked for.
    pub(super) narrowed: bool,
}

impl Story {
    /// Reads the log: to verify it, to reconcile it, and to tell what is wanted of it. Each of these
    /// reads all of it, so they do so side by side.
    pub(super) fn gather(
        store: &Store,
        names: Names,
        ways: usize,
        wanted: &Wanted,
        window: &Window,
    ) -> Result<Self, StoreError> {
        let live = store.is_held();
        let last = names.eras().last().map(|(_, tables)| tables);
        let plan = last.and_then(plan_of);
        let mut usage = plan.as_ref().map(|plan| Usage::of(plan, false));
        let mut ways = Ways::new(ways);
        if wanted.narrows() {
            let (names, wanted) = (names.clone(), wanted.clone());
            ways = ways.only(move |way| wanted.goes_by(names.at(way.record), way));
        }
        let mut telling = Telling::new(&names);
        let mut sieve = Sieve::new(wanted.clone());
        let narrowed = wanted.narrows() || window.since.is_some() || window.until.is_some();
        let in_time = |real: u64| {
            window.since.is_none_or(|since| real >= since)
                && window.until.is_none_or(|until| real < until)
        };
        let (verified, reconciled, effort) = std::thread::scope(|scope| {
            let verified = scope.spawn(|| {
                let options = verify::Options { live, ..verify::Options::default() };
                verify::verify(store, &options)
            });
            let reconciled = scope.spawn(|| reconcile(store, Bounds::default(), |_| {}));
            let effort = query(store, &Filter { full: true, ..Filter::default() }, |record| {
                if let Some(usage) = &mut usage {
                    usage.take(&record);
                }
                if in_time(record.at.real) {
                    ways.take(&record);
                    if !narrowed || sieve.accepts(&names, &record) {
                        telling.take(&record);
                    }
                }
                true
            });
            (joined(verified), joined(reconciled), effort)
        });
        let (verified, (reconciled, _), effort) = (verified?, reconciled?, effort?);
        let Telling { account, density, lives, refusals, denials, losses, alarms, .. } = telling;
        let total = account.finish();
        Ok(Self {
            plan,
            total,
            density,
            lives,
            refusals,
            denials,
            losses,
            alarms,
            ways: ways.finish(),
            usage,
            reconciled,
            verified,
            live,
            effort,
            narrowed,
            names,
        })
    }

    /// The tables of the last policy.
    pub(super) fn tables(&self) -> &Tables {
        self.names.at(u64::MAX)
    }
}

/// What a thread comes to; its panic is this one's.
fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The plan that the tables' text makes.
fn plan_of(tables: &Tables) -> Option<Plan> {
    crate::policy::check("the log's policy", tables.text.as_bytes()).plan
}

struct Telling<'a> {
    names: &'a Names,
    account: Account<'a>,
    density: Density,
    lives: Lives,
    refusals: Groups<5>,
    denials: Groups<3>,
    losses: Groups<2>,
    alarms: VecDeque<(u64, u64, Vec<u8>)>,
}

impl<'a> Telling<'a> {
    fn new(names: &'a Names) -> Self {
        Self {
            names,
            account: Account::new(names),
            density: Density::default(),
            lives: Lives::default(),
            refusals: Groups::default(),
            denials: Groups::default(),
            losses: Groups::default(),
            alarms: VecDeque::new(),
        }
    }

    fn take(&mut self, record: &Record) {
        let entry = &record.entry;
        let refused = matches!(entry.verdict, Verdict::Refused | Verdict::Killed);
        self.density.add(record.at.real, refused || entry.kind == Kind::Denial);
        match entry.kind {
            Kind::Spawn | Kind::Exit => self.lives.take(record),
            Kind::Start => self.lives.all_over(record.at.real),
            Kind::Alarm => {
                self.density.mark(record.at.real);
                if self.alarms.len() >= ALARMS {
                    self.alarms.pop_front();
                }
                self.alarms.push_back((record.index, record.at.real, entry.detail.clone()));
            }
            Kind::Denial => {
                let said = self.names.say(record);
                let layer = said.peer.map(|it| it.layer.into_owned()).unwrap_or_default();
                let kind =
                    if entry.facility == Facility::Landlock { "Landlock" } else { "system call" };
                let what = said.method.map_or_else(|| kind.to_owned(), |it| format!("{kind} {it}"));
                self.denials.add([layer, what, said.detail.unwrap_or_default()], 1, record);
            }
            Kind::Loss => {
                let said = self.names.say(record);
                let layer = said.reporter.map(|it| it.layer.into_owned()).unwrap_or_default();
                let edge = said.edge.unwrap_or_else(|| "anywhere".to_owned());
                self.losses.add([layer, edge], entry.length, record);
            }
            Kind::Use | Kind::Broker if refused && entry.side != Side::Witness => {
                self.refusal(record);
            }
            _ => {}
        }
        self.account.take(record);
    }

    fn refusal(&mut self, record: &Record) {
        let entry = &record.entry;
        let said = self.names.say(record);
        let layer = |it: names::Instance<'_>| it.layer.into_owned();
        let who = names::instance(self.names.at(record.index), whom(entry));
        // What no part of the policy names is named in words alone.
        let edge = said.edge.clone().or_else(|| said.detail.clone()).unwrap_or_default();
        let act = match entry.facility {
            Facility::Connect | Facility::Listen => String::new(),
            _ => said.method.map_or_else(String::new, Into::into),
        };
        let why = said.meaning.unwrap_or_else(|| match entry.verdict {
            Verdict::Killed => format!("killed, code {}", entry.value),
            _ => format!("code {}", entry.value),
        });
        let rule = said.rule.map_or_else(|| "none".to_owned(), Into::into);
        let who = who.map(layer).unwrap_or_default();
        self.refusals.add([who, act, edge, why, rule], 1, record);
    }
}

/// Equal things, counted.
#[derive(Debug)]
pub(super) struct Groups<const N: usize> {
    kinds: HashMap<[String; N], Group>,
    /// How many there are that are not told apart.
    pub(super) others: u64,
    /// How many there are in all.
    pub(super) all: u64,
}

/// How many there are, and the last one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    pub(super) count: u64,
    pub(super) last: u64,
    pub(super) record: u64,
}

impl<const N: usize> Default for Groups<N> {
    fn default() -> Self {
        Self { kinds: HashMap::new(), others: 0, all: 0 }
    }
}

impl<const N: usize> Groups<N> {
    fn add(&mut self, what: [String; N], count: u64, record: &Record) {
        self.all = self.all.saturating_add(count);
        if self.kinds.len() >= GROUPS && !self.kinds.contains_key(&what) {
            self.others = self.others.saturating_add(count);
            return;
        }
        let fresh = Group { count: 0, last: 0, record: 0 };
        let group = self.kinds.entry(what).or_insert(fresh);
        group.count = group.count.saturating_add(count);
        (group.last, group.record) = (record.at.real, record.index);
    }

    /// The most frequent first.
    pub(super) fn sorted(&self) -> Vec<(&[String; N], Group)> {
        let mut all: Vec<_> = self.kinds.iter().map(|(what, group)| (what, *group)).collect();
        all.sort_by(|a, b| b.1.count.cmp(&a.1.count).then_with(|| a.0.cmp(b.0)));
        all
    }
}

/// Records over time, in at most [`PARTS`] equal parts, which grow with what there is to tell: times
/// in which nothing happened take none.
#[derive(Clone, Debug)]
pub(super) struct Density {
    pub(super) from: Option<u64>,
    /// Length of a part in nanoseconds.
    pub(super) width: u64,
    /// Records, refusals and alarms of each part in which there are any, by its place from the first.
    pub(super) parts: BTreeMap<u64, [u64; 3]>,
}

impl Default for Density {
    fn default() -> Self {
        Self { from: None, width: 1_000_000, parts: BTreeMap::new() }
    }
}

impl Density {
    fn add(&mut self, at: u64, refused: bool) {
        let part = self.part(at);
        part[0] += 1;
        part[1] += u64::from(refused);
    }

    fn mark(&mut self, at: u64) {
        self.part(at)[2] += 1;
    }

    fn part(&mut self, at: u64) -> &mut [u64; 3] {
        let from = *self.from.get_or_insert(at);
        // A clock that was put back: what came then is at the beginning.
        let since = at.saturating_sub(from);
        while self.parts.len() >= PARTS && !self.parts.contains_key(&(since / self.width)) {
            self.width = self.width.saturating_mul(2);
            for (place, part) in std::mem::take(&mut self.parts) {
                let sum = self.parts.entry(place / 2).or_default();
                sum.iter_mut().zip(part).for_each(|(sum, count)| *sum += count);
            }
        }
        self.parts.entry(since / self.width).or_default()
    }

    /// When something happened: spans of time, of which no two are near each other.
    pub(super) fn busy(&self) -> Vec<(u64, u64)> {
        let from = self.from.unwrap_or(0);
        let begin = |place: u64| from.saturating_add(place.saturating_mul(self.width));
        // A break says more than a short gap only where it saves much of the picture.
        let near = (self.parts.len() as u64 / 4).max(4);
        let mut busy: Vec<(u64, u64)> = Vec::new();
        for &place in self.parts.keys() {
            match busy.last_mut() {
                Some((_, end)) if place.saturating_sub(*end) <= near => *end = place + 1,
                _ => busy.push((place, place + 1)),
            }
        }
        busy.into_iter().map(|(first, end)| (begin(first), begin(end))).collect()
    }
}

/// A life of an instance.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    pub(super) who: Who,
    /// Real time, nanoseconds.
    pub(super) from: u64,
    pub(super) to: Option<u64>,
    /// The wait status, if it is known.
    pub(super) status: Option<u32>,
    /// The record that says that it began.
    pub(super) record: u64,
}

/// The newest lives.
#[derive(Debug, Default)]
pub(super) struct Lives {
    pub(super) shown: VecDeque<Life>,
    /// How many there were in all.
    pub(super) all: u64,
    /// How many ended otherwise than with exit code 0.
    pub(super) failed: u64,
}

impl Lives {
    fn take(&mut self, record: &Record) {
        let Entry { kind, peer, value, .. } = record.entry;
        if kind == Kind::Spawn {
            self.all += 1;
            if self.shown.len() >= LIVES {
                self.shown.pop_front();
            }
            let (from, record) = (record.at.real, record.index);
            self.shown.push_back(Life { who: peer, from, to: None, status: None, record });
            return;
        }
        self.failed += u64::from(value != 0);
        let open = |life: &&mut Life| life.who == peer && life.to.is_none();
        if let Some(life) = self.shown.iter_mut().rev().find(open) {
            (life.to, life.status) = (Some(record.at.real), Some(value));
        }
    }

    /// A new run begins: nobody of the one before is there any more.
    fn all_over(&mut self, at: u64) {
        for life in self.shown.iter_mut().filter(|life| life.to.is_none()) {
            life.to = Some(at);
        }
    }
}
