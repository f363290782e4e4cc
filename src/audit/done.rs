//! Whether a layer ever did what a policy lets it: how often, and when.

use super::entry::{Facility, Form, Kind, Record, Side, Verdict};
use super::rules::Rules;
use super::tables::Tables;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deed {
    /// Who does it.
    pub layer: String,
    /// The rules that allow it, as places in the policy; what stands beneath one counts too.
    pub rules: Vec<String>,
    /// Whether the layer takes what comes from others, and doesn't begin it.
    pub receives: bool,
}

/// One of the times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time {
    /// The record that says so.
    pub record: u64,
    /// When the log took it: real time, nanoseconds.
    pub at: u64,
}

/// How often something was done.
#[derive(Debug)]
pub struct Done {
    deed: Deed,
    now: Option<Era>,
    /// Records of the layer that say that it was.
    pub count: u64,
    /// The first of them and the last.
    pub times: Option<(Time, Time)>,
    /// Records that say that it was refused.
    pub refused: u64,
    /// Lives of the layer.
    pub lives: u64,
}

#[derive(Debug)]
struct Era {
    /// The policy's id, as the log has it.
    told: String,
    rules: Rules,
    /// Whether each of the rules is asked for.
    wanted: Vec<bool>,
    layer: Option<u16>,
}

impl Deed {
    fn has(&self, rule: &str) -> bool {
        self.rules.iter().any(|it| {
            rule.strip_prefix(it.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    }
}

impl Done {
    /// Nothing was done yet. Records of every policy count, by the names of their rules.
    pub fn new(deed: Deed) -> Self {
        Self { deed, now: None, count: 0, times: None, refused: 0, lives: 0 }
    }

    /// Takes the next record of the log in.
    pub fn take(&mut self, record: &Record) {
        let entry = &record.entry;
        if entry.kind == Kind::Policy {
            return self.policy(record);
        }
        let Some(era) = &self.now else { return };
        if entry.kind == Kind::Spawn && Some(entry.peer.layer) == era.layer {
            self.lives += 1;
        }
        let receives = entry.kind == Kind::Use && entry.side == Side::Receiver;
        let is_use = matches!(entry.kind, Kind::Use | Kind::Broker) && entry.side != Side::Witness;
        let answers =
            !matches!(entry.form, Form::None | Form::Message | Form::Request | Form::Batch);
        if !is_use
            || Some(entry.reporter.layer) != era.layer
            || receives != self.deed.receives
            || entry.facility == Facility::Channel && answers
        {
            return;
        }
        let mut is_it = false;
        era.rules.each(entry, |rule| {
            let wanted = usize::try_from(rule).ok().and_then(|at| era.wanted.get(at));
            is_it |= wanted.is_some_and(|it| *it);
        });
        if !is_it {
            return;
        }
        if matches!(entry.verdict, Verdict::Refused | Verdict::Killed) {
            self.refused += 1;
            return;
        }
        self.count += 1;
        let time = Time { record: record.index, at: record.at.real };
        self.times = Some((self.times.map_or(time, |(first, _)| first), time));
    }

    fn policy(&mut self, record: &Record) {
        let Some(tables) = Tables::parse(&record.entry.detail) else { return };
        // Every segment begins with it.
        if self.now.as_ref().is_some_and(|era| era.told == tables.policy) {
            return;
        }
        let plan = crate::policy::check("the log's policy", tables.text.as_bytes()).plan;
        self.now = plan.map(|plan| {
            let rules = Rules::of(&plan);
            let wanted = rules.names().iter().map(|name| self.deed.has(name)).collect();
            let layer = tables.layers.iter().position(|name| *name == self.deed.layer);
            let layer = layer.and_then(|at| u16::try_from(at).ok());
            Era { told: tables.policy, rules, wanted, layer }
        });
    }
}
