//! What went over each edge: messages, bytes, refusals, and how long calls took.
//!
//! Memory is bounded: by the edges and methods of a policy, and by what [`Calls`] remembers. A batch
//! counts as the messages in it.

use std::collections::BTreeMap;

use super::calls::Calls;
use super::histogram::Histogram;
use crate::audit::entry::{Entry, Facility, Form, Kind, Record, Side, Verdict, Who};
use crate::audit::runs;
use crate::wire::report::acts;

/// The most edges, and the most methods of one, that are told apart: more than policies have, for
/// numbers in a log may be anything.
const MOST: usize = 4_096;
/// An edge, by numbers. Addresses are numbered in their layer's own table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::cli) struct EdgeId {
    /// The kind of facility.
    pub(in crate::cli) facility: Facility,
    /// Its number.
    pub(in crate::cli) edge: u16,
    /// Of an address, whose it is; otherwise [`Who::NOBODY`]'s layer.
    pub(in crate::cli) layer: u16,
}

impl EdgeId {
    /// An edge that has two ends, and so is nobody's own.
    pub(in crate::cli) const fn both(facility: Facility, edge: u16) -> Self {
        Self { facility, edge, layer: Who::NOBODY.layer }
    }

    /// Where an entry's act took place; `None` if at no edge.
    pub(in crate::cli) fn of(entry: &Entry) -> Option<Self> {
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

/// Whose act a record of kind `use` or `broker` is about: a receiver that refuses tells of its peer's.
pub(in crate::cli) fn whom(entry: &Entry) -> Who {
    let by_receiver = entry.kind == Kind::Use && entry.side == Side::Receiver;
    if by_receiver { entry.peer } else { entry.reporter }
}

/// What went over one edge, or was asked of one method.
#[derive(Clone, Debug, Default)]
pub(in crate::cli) struct Count {
    /// Records about it.
    pub(in crate::cli) records: u64,
    /// Messages that senders report.
    pub(in crate::cli) sent: u64,
    /// Messages that receivers report.
    pub(in crate::cli) received: u64,
    /// Bytes that senders report.
    pub(in crate::cli) bytes_sent: u64,
    /// Bytes that receivers report.
    pub(in crate::cli) bytes_received: u64,
    /// What the broker did, and other uses that have no two ends.
    pub(in crate::cli) acts: u64,
    /// Acts that were refused, or ended the one who tried.
    pub(in crate::cli) refused: u64,
    /// Acts that were allowed and failed.
    pub(in crate::cli) failed: u64,
    /// Calls that were answered with a refusal of the answerer's own.
    pub(in crate::cli) declined: u64,
    /// How long calls took, as their callers saw it.
    pub(in crate::cli) latency: Histogram,
}

impl Count {
    /// How many messages and acts there were: a message that only one end reports counts.
    pub(in crate::cli) fn messages(&self) -> u64 {
        self.sent.max(self.received).saturating_add(self.acts)
    }

    /// How many bytes they had.
    pub(in crate::cli) fn bytes(&self) -> u64 {
        self.bytes_sent.max(self.bytes_received)
    }

    fn add(&mut self, entry: &Entry, messages: u64) {
        self.records += 1;
        let (count, bytes) = match (entry.kind, entry.side) {
            (Kind::Use, Side::Sender) => (&mut self.sent, &mut self.bytes_sent),
            (Kind::Use, Side::Receiver) => (&mut self.received, &mut self.bytes_received),
            _ => {
                // How large what was mapped is, and the like, went nowhere.
                match entry.verdict {
                    Verdict::Refused | Verdict::Killed => self.refused += 1,
                    Verdict::Failed => self.failed += 1,
                    Verdict::None | Verdict::Allowed => self.acts += 1,
                }
                return;
            }
        };
        // A length that is a count.
        let length = match (entry.facility, entry.method) {
            (Facility::Signal, _) | (Facility::Region, acts::RING) => 0,
            _ => entry.length,
        };
        match entry.verdict {
            Verdict::Refused | Verdict::Killed => self.refused += 1,
            Verdict::Failed => {
                self.failed += 1;
                // It was reported before it was tried.
                if matches!(entry.facility, Facility::Queue | Facility::MappedFile) {
                    *count = count.saturating_sub(messages);
                    *bytes = bytes.saturating_sub(length);
                }
            }
            Verdict::None | Verdict::Allowed => {
                *count = count.saturating_add(messages);
                *bytes = bytes.saturating_add(length);
            }
        }
    }

    /// Adds what another one counted.
    pub(in crate::cli) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in [
            (&mut self.records, other.records),
            (&mut self.sent, other.sent),
            (&mut self.received, other.received),
            (&mut self.bytes_sent, other.bytes_sent),
            (&mut self.bytes_received, other.bytes_received),
            (&mut self.acts, other.acts),
            (&mut self.refused, other.refused),
            (&mut self.failed, other.failed),
            (&mut self.declined, other.declined),
        ] {
            *mine = mine.saturating_add(theirs);
        }
        self.latency.join(&other.latency);
    }
}

/// What went over one edge.
#[derive(Clone, Debug, Default)]
pub(in crate::cli) struct Edge {
    /// In all.
    pub(in crate::cli) all: Count,
    /// By method, of a channel.
    pub(in crate::cli) methods: BTreeMap<u32, Count>,
    /// Messages or uses by the layer that reports them, and on which side.
    pub(in crate::cli) layers: BTreeMap<(u16, Side), u64>,
    /// Reports that were lost.
    pub(in crate::cli) lost: u64,
}

/// What went over all edges of one policy.
#[derive(Debug, Default)]
pub(in crate::cli) struct Traffic {
    edges: BTreeMap<EdgeId, Edge>,
    calls: Calls,
}

impl Traffic {
    /// What went over each edge.
    pub(in crate::cli) fn edges(&self) -> &BTreeMap<EdgeId, Edge> {
        &self.edges
    }

    /// How many calls were not measured since too many were open.
    pub(in crate::cli) fn unmeasured(&self) -> u64 {
        self.calls.unmeasured
    }

    /// Takes a record in. Kinds that say nothing about edges change nothing.
    pub(in crate::cli) fn take(&mut self, record: &Record) {
        let entry = &record.entry;
        if entry.kind == Kind::Exit {
            self.calls.push(entry, |_| {});
        }
        let Some(place) = EdgeId::of(entry) else { return };
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

    fn used(&mut self, place: EdgeId, entry: &Entry) {
        let edge = self.edges.entry(place).or_default();
        if place.facility != Facility::Channel {
            let ring = (place.facility, entry.method) == (Facility::Region, acts::RING);
            let messages = if ring { entry.length } else { 1 };
            edge.all.add(entry, messages);
            edge.layer(entry, messages);
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
        self.calls.push(entry, |call| {
            let took = call.to - call.from;
            let method = edge.methods.get_mut(&call.method);
            for count in [Some(&mut edge.all), method].into_iter().flatten() {
                count.latency.add(took);
                count.declined += u64::from(call.refused);
            }
        });
    }
}

impl Edge {
    fn layer(&mut self, entry: &Entry, messages: u64) {
        let key = (entry.reporter.layer, entry.side);
        let known = self.layers.len() < MOST || self.layers.contains_key(&key);
        if known && matches!(entry.verdict, Verdict::Allowed | Verdict::None) {
            let count = self.layers.entry(key).or_default();
            *count = count.saturating_add(messages);
        }
    }
}
