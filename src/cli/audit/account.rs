//! One account of a log's facts: what every verb says in numbers it has from here.
//!
//! What each number counts stands in `docs/audit.md`, section "What is counted". Numbers of policies
//! that followed one another are put together by name.

use std::collections::BTreeMap;

use super::names::{Names, edge, layer, method};
use super::traffic::{Count, Edge, Traffic, whom};
use crate::audit::entry::{Kind, Record, Side, Verdict};

/// The most layers that are told apart: more than policies have, for numbers in a log may be anything.
const MOST: usize = 4_096;

/// What went over an edge, by names.
#[derive(Clone, Debug, Default)]
pub(in crate::cli) struct OfEdge {
    /// In all.
    pub(in crate::cli) all: Count,
    /// By method, of a channel.
    pub(in crate::cli) methods: BTreeMap<String, Count>,
    /// Messages and uses by the layer that reports them, and on which side.
    pub(in crate::cli) layers: BTreeMap<(String, Side), u64>,
    /// Reports that were lost.
    pub(in crate::cli) lost: u64,
}

/// What became of a layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct OfLayer {
    /// Lives that began.
    pub(in crate::cli) lives: u64,
    /// Lives that ended.
    pub(in crate::cli) exits: u64,
    /// Those of them that ended otherwise than with exit code 0.
    pub(in crate::cli) failures: u64,
    /// Acts that the kernel refused it.
    pub(in crate::cli) denials: u64,
    /// Acts of it that the framework refused.
    pub(in crate::cli) refused: u64,
    /// Its reports that were lost.
    pub(in crate::cli) lost: u64,
}

impl OfLayer {
    fn merge(&mut self, other: &Self) {
        let Self { lives, exits, failures, denials, refused, lost } = other;
        for (mine, theirs) in [
            (&mut self.lives, lives),
            (&mut self.exits, exits),
            (&mut self.failures, failures),
            (&mut self.denials, denials),
            (&mut self.refused, refused),
            (&mut self.lost, lost),
        ] {
            *mine = mine.saturating_add(*theirs);
        }
    }
}

/// The account of the records that were [taken](Account::take).
#[derive(Debug)]
pub(in crate::cli) struct Account<'a> {
    names: &'a Names,
    /// Which of the names are in force, and a record of that time.
    era: (usize, u64),
    traffic: Traffic,
    numbered: BTreeMap<u16, OfLayer>,
    total: Total,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub(in crate::cli) struct Total {
    /// How many records there are.
    pub(in crate::cli) records: u64,
    /// Records of each kind.
    pub(in crate::cli) kinds: BTreeMap<Kind, u64>,
    /// The earliest and the latest moment of the real clock: nanoseconds since 1970.
    pub(in crate::cli) period: Option<(u64, u64)>,
    /// What went over each edge.
    pub(in crate::cli) edges: BTreeMap<String, OfEdge>,
    /// What became of each layer.
    pub(in crate::cli) layers: BTreeMap<String, OfLayer>,
    /// Calls that were not measured since too many were open.
    pub(in crate::cli) unmeasured: u64,
}

impl Total {
    /// How many records there are of a kind.
    pub(in crate::cli) fn of(&self, kind: Kind) -> u64 {
        self.kinds.get(&kind).copied().unwrap_or(0)
    }

    /// How long the records took to come, in nanoseconds.
    pub(in crate::cli) fn span(&self) -> u64 {
        self.period.map_or(0, |(from, to)| to - from)
    }
}

impl<'a> Account<'a> {
    /// Nothing was taken yet.
    pub(in crate::cli) fn new(names: &'a Names) -> Self {
        let (traffic, total) = (Traffic::default(), Total::default());
        Self { names, era: (0, 0), traffic, numbered: BTreeMap::new(), total }
    }

    /// Takes the next record.
    pub(in crate::cli) fn take(&mut self, record: &Record) {
        let era = self.names.era(record.index);
        if era != self.era.0 {
            self.fold();
        }
        self.era = (era, record.index);
        self.total.records += 1;
        *self.total.kinds.entry(record.entry.kind).or_default() += 1;
        let real = record.at.real;
        let (from, to) = self.total.period.unwrap_or((real, real));
        self.total.period = Some((from.min(real), to.max(real)));
        self.layer(record);
        self.traffic.take(record);
    }

    fn layer(&mut self, record: &Record) {
        let entry = &record.entry;
        let refused = matches!(entry.verdict, Verdict::Refused | Verdict::Killed)
            && entry.side != Side::Witness;
        let who = match entry.kind {
            Kind::Spawn | Kind::Exit | Kind::Denial => entry.peer,
            Kind::Loss => entry.reporter,
            Kind::Use | Kind::Broker if refused => whom(entry),
            _ => return,
        };
        if self.numbered.len() >= MOST && !self.numbered.contains_key(&who.layer) {
            return;
        }
        let layer = self.numbered.entry(who.layer).or_default();
        match entry.kind {
            Kind::Spawn => layer.lives += 1,
            Kind::Exit => {
                layer.exits += 1;
                layer.failures += u64::from(entry.value != 0);
            }
            Kind::Denial => layer.denials += 1,
            Kind::Loss => layer.lost = layer.lost.saturating_add(entry.length),
            _ => layer.refused += 1,
        }
    }

    /// Puts what was counted under one policy to what was under those before.
    fn fold(&mut self) {
        let (traffic, numbered) =
            (std::mem::take(&mut self.traffic), std::mem::take(&mut self.numbered));
        let tables = self.names.at(self.era.1);
        for (place, more) in traffic.edges() {
            let Some(name) = edge(tables, *place) else { continue };
            let Edge { all, methods, layers, lost } = more;
            let sum = self.total.edges.entry(name).or_default();
            sum.all.merge(all);
            sum.lost = sum.lost.saturating_add(*lost);
            for (number, count) in methods {
                let name = method(tables, Kind::Use, (place.facility, place.edge), *number);
                let name = name.map_or_else(String::new, Into::into);
                sum.methods.entry(name).or_default().merge(count);
            }
            for ((number, side), count) in layers {
                let mine = sum.layers.entry((layer(tables, *number).into_owned(), *side));
                let mine = mine.or_default();
                *mine = mine.saturating_add(*count);
            }
        }
        for (number, more) in &numbered {
            let name = layer(tables, *number).into_owned();
            self.total.layers.entry(name).or_default().merge(more);
        }
        self.total.unmeasured += traffic.unmeasured();
    }

    /// The account of all that was taken.
    pub(in crate::cli) fn finish(mut self) -> Total {
        self.fold();
        self.total
    }
}
