//! What went over each edge: messages, bytes, refusals, and how long calls took.
//!
//! Memory is bounded: by the edges and methods of a policy, and by [`PENDING`] calls that wait for
//! their answer. A batch counts as the messages in it.

use std::collections::{BTreeMap, HashMap};

use super::entry::{Entry, Facility, Form, Kind, Record, Side, Verdict, Who};
use super::runs;

/// The most calls whose answers are waited for.
pub const PENDING: usize = 1 << 16;
/// The most edges, and the most methods of one, that are told apart: more than policies have, for
/// numbers in a log may be anything.
const MOST: usize = 4_096;
/// How long an answer is waited for where there is no room for more calls, in nanoseconds.
const PATIENCE: u64 = 10_000_000_000;

/// An edge, by numbers. Addresses are numbered in their layer's own table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The kind of facility.
    pub facility: Facility,
    /// Its number.
    pub edge: u16,
    /// Of an address, whose it is; otherwise [`Who::NOBODY`]'s layer.
    pub layer: u16,
}

impl Place {
    /// Where an entry's act took place; `None` if at no edge.
    pub fn of(entry: &Entry) -> Option<Self> {
        let anybody = Who::NOBODY.layer;
        let number = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
        let (edge, layer) = match entry.facility {
            Facility::None | Facility::Syscall | Facility::Landlock => return None,
            Facility::Listen => (entry.edge, entry.reporter.layer),
            Facility::Connect => (number(entry.method), entry.reporter.layer),
            _ => (entry.edge, anybody),
        };
        Some(Self { facility: entry.facility, edge, layer })
    }
}

/// What went over one edge, or was asked of one method.
#[derive(Clone, Debug, Default)]
pub struct Count {
    /// Records about it.
    pub records: u64,
    /// Messages, or uses, that senders and the broker report.
    pub sent: u64,
    /// Messages, or uses, that receivers report.
    pub received: u64,
    /// Bytes that senders report.
    pub bytes_sent: u64,
    /// Bytes that receivers report.
    pub bytes_received: u64,
    /// Acts that were refused, or ended the one who tried.
    pub refused: u64,
    /// Acts that were allowed and failed.
    pub failed: u64,
    /// How long calls took, as their callers saw it.
    pub latency: Latency,
}

impl Count {
    /// How many messages or uses there were: one that only one end reports counts.
    pub fn messages(&self) -> u64 {
        self.sent.max(self.received)
    }

    /// How many bytes they had.
    pub fn bytes(&self) -> u64 {
        self.bytes_sent.max(self.bytes_received)
    }

    fn add(&mut self, entry: &Entry, messages: u64) {
        self.records += 1;
        match entry.verdict {
            Verdict::Refused | Verdict::Killed => {
                self.refused += 1;
                return;
            }
            Verdict::Failed => self.failed += 1,
            Verdict::None | Verdict::Allowed => {}
        }
        let (count, bytes) = if entry.side == Side::Receiver {
            (&mut self.received, &mut self.bytes_received)
        } else {
            (&mut self.sent, &mut self.bytes_sent)
        };
        *count = count.saturating_add(messages);
        // A signal's length is a count, and a broker's act has none.
        if entry.facility != Facility::Signal {
            *bytes = bytes.saturating_add(entry.length);
        }
    }

    /// Adds what another one counted.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in [
            (&mut self.records, other.records),
            (&mut self.sent, other.sent),
            (&mut self.received, other.received),
            (&mut self.bytes_sent, other.bytes_sent),
            (&mut self.bytes_received, other.bytes_received),
            (&mut self.refused, other.refused),
            (&mut self.failed, other.failed),
        ] {
            *mine = mine.saturating_add(theirs);
        }
        self.latency.merge(&other.latency);
    }
}

/// What went over one edge.
#[derive(Clone, Debug, Default)]
pub struct Edge {
    /// In all.
    pub all: Count,
    /// By method, of a channel.
    pub methods: BTreeMap<u32, Count>,
    /// Messages or uses by the layer that reports them, and on which side.
    pub layers: BTreeMap<(u16, Side), u64>,
    /// Reports that were lost.
    pub lost: u64,
}

/// What went over all edges of one policy.
#[derive(Debug, Default)]
pub struct Traffic {
    edges: BTreeMap<Place, Edge>,
    pending: HashMap<(u16, Who, Who, u32), (u64, u32)>,
}

impl Traffic {
    /// What went over each edge.
    pub fn edges(&self) -> &BTreeMap<Place, Edge> {
        &self.edges
    }

    /// Takes a record in. Kinds that say nothing about edges change nothing.
    pub fn take(&mut self, record: &Record) {
        let entry = &record.entry;
        let Some(place) = Place::of(entry) else { return };
        if self.edges.len() >= MOST && !self.edges.contains_key(&place) {
            return;
        }
        match entry.kind {
            // The witness repeats what the ends say.
            Kind::Use if entry.side != Side::Witness => self.used(place, entry),
            Kind::Broker => self.used(place, entry),
            Kind::Loss => {
                let edge = self.edges.entry(place).or_default();
                edge.lost = edge.lost.saturating_add(entry.length);
            }
            _ => {}
        }
    }

    fn used(&mut self, place: Place, entry: &Entry) {
        let edge = self.edges.entry(place).or_default();
        if place.facility != Facility::Channel {
            edge.all.add(entry, 1);
            edge.layer(entry, 1);
            return;
        }
        let runs = runs::of(entry);
        let messages = runs.iter().map(|run| u64::from(run.messages)).sum();
        edge.all.add(entry, messages);
        edge.layer(entry, messages);
        for run in &runs {
            let method = u32::from(run.method);
            if run.form != Form::None
                && (edge.methods.len() < MOST || edge.methods.contains_key(&method))
            {
                let length = if entry.form == Form::Batch { 0 } else { entry.length };
                let of_method = edge.methods.entry(method).or_default();
                of_method.add(&Entry { length, detail: Vec::new(), ..*entry }, run.messages.into());
            }
        }
        if entry.verdict == Verdict::Allowed || entry.verdict == Verdict::None {
            for run in runs.iter().filter(|run| run.call != 0) {
                for call in (0..run.messages.min(4_096)).map(|n| run.call.wrapping_add(n)) {
                    self.call(place, entry, run, call);
                }
            }
        }
    }

    /// Measures calls, from the caller's report of its request to that of the answer.
    fn call(&mut self, place: Place, entry: &Entry, run: &runs::Run, call: u32) {
        match (run.form, entry.side) {
            (Form::Request, Side::Sender) => {
                if self.pending.len() >= PENDING {
                    let now = entry.reported;
                    self.pending.retain(|_, (since, _)| now.saturating_sub(*since) < PATIENCE);
                }
                if self.pending.len() < PENDING {
                    let key = (place.edge, entry.reporter, entry.peer, call);
                    self.pending.insert(key, (entry.reported, run.method.into()));
                }
            }
            (Form::Reply | Form::Refusal | Form::End, Side::Receiver) => {
                let key = (place.edge, entry.reporter, entry.peer, call);
                let Some((since, method)) = self.pending.remove(&key) else { return };
                let took = entry.reported.saturating_sub(since);
                let edge = self.edges.entry(place).or_default();
                edge.all.latency.add(took);
                if let Some(method) = edge.methods.get_mut(&method) {
                    method.latency.add(took);
                }
            }
            (Form::Cancel, Side::Sender) => {
                self.pending.remove(&(place.edge, entry.reporter, entry.peer, call));
            }
            _ => {}
        }
    }
}

impl Edge {
    fn layer(&mut self, entry: &Entry, messages: u64) {
        let key = (entry.reporter.layer, entry.side);
        let known = self.layers.len() < MOST || self.layers.contains_key(&key);
        if known && matches!(entry.verdict, Verdict::Allowed | Verdict::None | Verdict::Failed) {
            let count = self.layers.entry(key).or_default();
            *count = count.saturating_add(messages);
        }
    }

    /// Adds what another one counted, whose methods and layers have the same numbers.
    pub fn merge(&mut self, other: &Self) {
        self.all.merge(&other.all);
        for (method, count) in &other.methods {
            self.methods.entry(*method).or_default().merge(count);
        }
        for (layer, count) in &other.layers {
            let mine = self.layers.entry(*layer).or_default();
            *mine = mine.saturating_add(*count);
        }
        self.lost = self.lost.saturating_add(other.lost);
    }
}

/// Durations, counted in steps of a sixteenth of their size: a quantile is at most 7 % off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    steps: Vec<u32>,
    count: u64,
    longest: u64,
}

/// Sixteen steps for each doubling.
const STEPS: u32 = 16;

impl Latency {
    /// Counts a duration in nanoseconds in.
    pub fn add(&mut self, nanoseconds: u64) {
        let step = Self::step(nanoseconds);
        if self.steps.len() <= step {
            self.steps.resize(step + 1, 0);
        }
        self.steps[step] = self.steps[step].saturating_add(1);
        self.count += 1;
        self.longest = self.longest.max(nanoseconds);
    }

    fn step(value: u64) -> usize {
        let doublings = (value | 1).ilog2().saturating_sub(4);
        let place = u64::from(doublings * STEPS) + (value >> doublings);
        usize::try_from(place).unwrap_or(usize::MAX)
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The longest, in nanoseconds.
    pub fn longest(&self) -> u64 {
        self.longest
    }

    /// The duration that `percent` of them don't exceed, in nanoseconds; `None` without any.
    pub fn quantile(&self, percent: u32) -> Option<u64> {
        let wanted = (u128::from(self.count) * u128::from(percent)).div_ceil(100).max(1);
        let mut seen = 0_u128;
        for (step, count) in (0_u64..).zip(&self.steps) {
            seen += u128::from(*count);
            if seen >= wanted {
                let doublings = (step / u64::from(STEPS)).saturating_sub(1);
                let least = (step - doublings * u64::from(STEPS)) << doublings;
                let wide = (1_u64 << doublings) - 1;
                return Some(least.saturating_add(wide).min(self.longest));
            }
        }
        None
    }

    fn merge(&mut self, other: &Self) {
        if self.steps.len() < other.steps.len() {
            self.steps.resize(other.steps.len(), 0);
        }
        for (mine, theirs) in self.steps.iter_mut().zip(&other.steps) {
            *mine = mine.saturating_add(*theirs);
        }
        self.count += other.count;
        self.longest = self.longest.max(other.longest);
    }
}

#[cfg(test)]
mod tests {
    use super::Latency;

    #[test]
    fn quantiles_are_near() {
        let mut latency = Latency::default();
        assert_eq!(latency.quantile(50), None);
        for n in 1..=10_000_u64 {
            latency.add(n * 1_000);
        }
        for (percent, exact) in [(1, 100_000), (50, 5_000_000), (99, 9_900_000), (100, 10_000_000)]
        {
            let found = latency.quantile(percent).unwrap();
            assert!(found >= exact && found - exact <= exact / 14, "{percent}: {found}");
        }
        assert_eq!((latency.count(), latency.longest()), (10_000, 10_000_000));
        latency.add(u64::MAX);
        latency.add(0);
        assert_eq!(latency.quantile(100), Some(u64::MAX));
        assert_eq!(latency.quantile(0), Some(0));
    }

    #[test]
    fn merged_ones_are_as_if_counted_by_one() {
        let (mut a, mut b, mut both) = (Latency::default(), Latency::default(), Latency::default());
        for n in 0..1_000 {
            (if n % 3 == 0 { &mut a } else { &mut b }).add(n * n);
            both.add(n * n);
        }
        a.merge(&b);
        assert_eq!(a, both);
    }
}
