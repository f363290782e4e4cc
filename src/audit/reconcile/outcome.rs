//! What matching comes to.

use std::collections::{BTreeMap, HashMap};

use super::Stream;
use crate::audit::entry::{Side, Who};

/// In what the ends disagree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// One end alone reports it, and the other can't have any more: one of the two ended, it waits
    /// in a queue, or it is at the beginning of what is kept of the log. No fault.
    InFlight,
    /// One half is missing, and its reporter said that it lost so many reports.
    Lost,
    /// A full queue gave it up for a later one, as the policy says and the broker reported.
    Dropped,
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
    /// The witness reports it, and an end doesn't.
    Hidden,
    /// Both ends report it, and the witness doesn't: they made it up, or went around it.
    Unwitnessed,
}

impl Outcome {
    /// All there are.
    pub const ALL: [Self; 11] = [
        Self::InFlight,
        Self::Lost,
        Self::Dropped,
        Self::Forged,
        Self::Altered,
        Self::Gap,
        Self::Overdue,
        Self::Repeated,
        Self::Flood,
        Self::Hidden,
        Self::Unwitnessed,
    ];

    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InFlight => "in-flight",
            Self::Lost => "lost",
            Self::Dropped => "dropped",
            Self::Forged => "forged",
            Self::Altered => "altered",
            Self::Gap => "gap",
            Self::Overdue => "overdue",
            Self::Repeated => "repeated",
            Self::Flood => "flood",
            Self::Hidden => "hidden",
            Self::Unwitnessed => "unwitnessed",
        }
    }

    /// Whether somebody is under suspicion.
    pub const fn suspicious(self) -> bool {
        !matches!(self, Self::InFlight | Self::Lost | Self::Dropped)
    }
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
    /// The end that the witness and the other end contradict, or that is silent about what the
    /// witness reports. `None` where there is no witness, or it is no help.
    pub against: Option<Side>,
}

impl Disagreement {
    /// One about a single message.
    pub(super) fn of(outcome: Outcome, stream: Stream, number: u64, record: Option<u64>) -> Self {
        let to = number.saturating_add(1);
        Self { outcome, stream, from: number, to, record, against: None }
    }
}

/// How many messages came to what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All ends said the same.
    pub matched: u64,
    /// All ends said the same, and the receiver refused it by a rule.
    pub refused: u64,
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
        !self.others.keys().any(|outcome| outcome.suspicious())
    }
}

/// Counts a disagreement and tells it.
pub(super) fn tell(counts: &mut Counts, each: &mut impl FnMut(Disagreement), told: Disagreement) {
    let count = counts.others.entry(told.outcome).or_default();
    *count = count.saturating_add(told.to.saturating_sub(told.from).max(1));
    each(told);
}

/// What judging needs of a reconciler besides the stream.
pub(super) struct Teller<'a, F> {
    pub(super) losses: &'a mut HashMap<Who, u64>,
    pub(super) counts: &'a mut Counts,
    pub(super) each: &'a mut F,
    /// The witness's layer.
    pub(super) witness: Option<u16>,
    /// Records before this one may have their other half before the first that is kept.
    pub(super) lonely: u64,
}

impl<F: FnMut(Disagreement)> Teller<'_, F> {
    pub(super) fn tell(&mut self, told: Disagreement) {
        tell(self.counts, self.each, told);
    }

    pub(super) fn is_lonely(&self, record: u64) -> bool {
        record < self.lonely
    }

    /// Puts a missing report down to those that a reporter who is `silent` lost, if some are left.
    pub(super) fn lost(&mut self, silent: impl Fn(Who) -> bool) -> bool {
        if self.losses.is_empty() {
            return false;
        }
        let left = self.losses.iter_mut().find(|(who, lost)| **lost > 0 && silent(**who));
        left.map(|(_, lost)| *lost -= 1).is_some()
    }
}
