//! Which grants of a policy were ever used: least privilege from evidence.
//!
//! A grant counts as used if one record says that it was, whoever reports it. What no record can
//! say is told apart from what none says: see [`Blind`].

use std::collections::{BTreeMap, BTreeSet};

use super::entry::{Entry, Facility, Kind, Record, Side, Verdict};
use super::rules::Rules;
use super::tables::Tables;
use crate::ident::hex;
use crate::policy::plan::{Audit, ChannelPlan, DirectoryKind, MapRight, MethodPlan, Plan, Program};
use crate::policy::syscall::by_name;
use crate::review::tighten::Cut;

/// Why a log can't tell whether a grant is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Blind {
    /// The facility has `audit = "none"`.
    NotAudited,
    /// One of its ends is a foreign program, which reports nothing.
    Foreign,
    /// The kernel tells nobody of it.
    Kernel,
    /// The layer may open it by its path, without this library, which leaves no record.
    ByPath,
}

impl Blind {
    /// In words.
    pub const fn why(self) -> &'static str {
        match self {
            Self::NotAudited => "it has audit = \"none\"",
            Self::Foreign => "a foreign program reports nothing",
            Self::Kernel => "the kernel tells nobody of it",
            Self::ByPath => "the layer may open it by its path, which leaves no record",
        }
    }
}

/// Something that a policy grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The rule, as a place in the policy. Two that stand in no place of their own: `.write`
    /// behind a grant of `rw`, and `.fds` of a channel.
    pub rule: String,
    /// Why no record can tell, if none can.
    pub blind: Option<Blind>,
}

impl Grant {
    /// The table that it stands in: `channel.sign`, `layer.front`.
    fn table(&self) -> &str {
        let mut dots = self.rule.match_indices('.').map(|(at, _)| at);
        dots.nth(1).map_or(&self.rule, |at| &self.rule[..at])
    }
}

/// What a log says about the use of a policy's grants.
#[derive(Debug)]
pub struct Usage {
    id: String,
    grants: Vec<Grant>,
    /// Records under another policy count too.
    any_policy: bool,
    /// The rules of the policy in force where the records stand.
    now: Option<Era>,
    used: BTreeSet<String>,
    evidence: Evidence,
}

#[derive(Debug)]
struct Era {
    /// The policy's id, as the log has it.
    told: String,
    id: String,
    plan: Plan,
    rules: Rules,
    counts: bool,
}

/// How much there is to go by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Records that were counted.
    pub records: u64,
    /// When the log took the first and the last of them: real time, nanoseconds.
    pub period: Option<(u64, u64)>,
    /// Lives of instances that began in it.
    pub lives: u64,
    /// Reports that were lost, which nobody can count.
    pub lost: u64,
    /// Records of other policies, by the policy's id.
    pub others: BTreeMap<String, u64>,
    /// Records whose policy can't be read.
    pub unread: u64,
}

impl Usage {
    /// Nothing was used yet. Only records under this very policy count, unless `any_policy`: then
    /// those under others do too, by the names of their rules.
    pub fn of(plan: &Plan, any_policy: bool) -> Self {
        let id = hash_of(plan);
        let (used, evidence) = (BTreeSet::new(), Evidence::default());
        Self { id, grants: grants(plan), any_policy, now: None, used, evidence }
    }

    /// Takes the next record of the log in.
    pub fn take(&mut self, record: &Record) {
        let entry = &record.entry;
        if entry.kind == Kind::Policy {
            self.policy(entry);
        }
        let Some(era) = &self.now else {
            // What stands before the first policy is about the log itself.
            self.evidence.unread += u64::from(matches!(entry.kind, Kind::Use | Kind::Broker));
            return;
        };
        if !era.counts {
            let count = self.evidence.others.entry(era.id.clone()).or_default();
            *count = count.saturating_add(1);
            return;
        }
        let evidence = &mut self.evidence;
        evidence.records += 1;
        let first = evidence.period.map_or(record.at.real, |(first, _)| first);
        evidence.period = Some((first, record.at.real));
        match entry.kind {
            Kind::Spawn => evidence.lives += 1,
            Kind::Loss => evidence.lost = evidence.lost.saturating_add(entry.length),
            Kind::Use | Kind::Broker
                if matches!(entry.verdict, Verdict::Allowed | Verdict::Failed | Verdict::None) =>
            {
                mark(era, entry, &mut self.used);
            }
            _ => {}
        }
    }

    fn policy(&mut self, entry: &Entry) {
        let Some(tables) = Tables::parse(&entry.detail) else { return };
        // Every segment begins with it.
        if self.now.as_ref().is_some_and(|era| era.told == tables.policy) {
            return;
        }
        let plan = crate::policy::check("the log's policy", tables.text.as_bytes()).plan;
        self.now = plan.map(|plan| {
            let id = hash_of(&plan);
            let counts = self.any_policy || id == self.id;
            Era { told: tables.policy, id, rules: Rules::of(&plan), plan, counts }
        });
    }

    /// How much there was to go by.
    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// The policy's id, in hexadecimal digits.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The grants that records can tell of and none does.
    pub fn unused(&self) -> impl Iterator<Item = &Grant> {
        self.judged().filter(|grant| !self.used.contains(&grant.rule))
    }

    /// The grants that records can tell of: also those of which they might not, and do.
    pub fn judged(&self) -> impl Iterator<Item = &Grant> {
        let told = |it: &&Grant| it.blind.is_none_or(|blind| self.is_told(it, blind));
        self.grants.iter().filter(told)
    }

    /// The grants that no record can tell of.
    pub fn blind(&self) -> impl Iterator<Item = (&Grant, Blind)> {
        let blind = self.grants.iter().filter_map(|grant| Some((grant, grant.blind?)));
        blind.filter(|(grant, blind)| !self.is_told(grant, *blind))
    }

    fn is_told(&self, grant: &Grant, blind: Blind) -> bool {
        blind == Blind::ByPath && self.used.contains(&grant.rule)
    }

    /// What to take out of the policy: facilities that nobody uses as a whole, and what is unused
    /// of the others.
    pub fn cuts(&self) -> Vec<Cut> {
        let mut tables: BTreeMap<&str, (usize, Vec<&Grant>)> = BTreeMap::new();
        for grant in &self.grants {
            tables.entry(grant.table()).or_default().0 += 1;
        }
        for grant in self.unused() {
            tables.entry(grant.table()).or_default().1.push(grant);
        }
        let mut cuts = Vec::new();
        for (table, (all, unused)) in tables {
            let rules = |grants: &[&Grant]| grants.iter().map(|it| it.rule.clone()).collect();
            if unused.len() == all && !table.starts_with("layer.") {
                cuts.push(Cut { rules: rules(&unused), path: table.to_owned() });
                continue;
            }
            for grant in &unused {
                // With the grant of `rw` goes its `w`.
                let whole = grant.rule.strip_suffix(".write");
                if whole.is_some_and(|whole| unused.iter().any(|other| other.rule == whole)) {
                    continue;
                }
                cuts.push(Cut { rules: rules(&[*grant]), path: grant.rule.clone() });
            }
        }
        cuts
    }
}

fn hash_of(plan: &Plan) -> String {
    plan.id().map_or_else(|_| String::new(), |id| hex(&id.0))
}

/// Notes every rule that a record says was used.
fn mark(era: &Era, entry: &Entry, used: &mut BTreeSet<String>) {
    let mut add = |rule: &str| {
        if !used.contains(rule) {
            used.insert(rule.to_owned());
        }
    };
    era.rules.each(entry, |rule| {
        let Some(name) = usize::try_from(rule).ok().and_then(|at| era.rules.names().get(at)) else {
            return;
        };
        add(name);
        // One end of a pipe is nothing without the other.
        if let (Facility::Pipe, Some((pipe, _))) = (entry.facility, name.rsplit_once('.')) {
            add(pipe);
        }
        if matches!(entry.facility, Facility::Region | Facility::MappedFile)
            && entry.side == Side::Sender
        {
            add(&format!("{name}.write"));
        }
    });
    if entry.facility == Facility::Channel
        && entry.descriptors > 0
        && let Some(channel) = era.plan.channels.get(usize::from(entry.edge))
    {
        add(&carrier(channel, channel.methods.get(entry.method as usize)));
    }
}

/// The rule by which messages of a method carry descriptors.
fn carrier(channel: &ChannelPlan, method: Option<&MethodPlan>) -> String {
    match method.filter(|method| method.fds.is_some()) {
        Some(method) => format!("channel.{}.methods.{}.fds", channel.name, method.name),
        None => format!("channel.{}.fds", channel.name),
    }
}

/// Whether a layer may open what lies at a file's path without this library, which opens by
/// `openat2` alone, and without a helper.
fn by_path(plan: &Plan, file: &str, layer: &str) -> bool {
    let Some(layer) = plan.layer(layer) else { return false };
    let file = plan.files.iter().find(|it| it.name == *file);
    let opens = |name| {
        let number = by_name(name);
        layer.syscalls.iter().any(|call| Some(call.number) == number && !call.allow.is_empty())
    };
    file.is_some_and(|it| !it.is_brokered(&layer.name))
        && ["open", "openat", "creat"].into_iter().any(opens)
}

/// The facilities of which the log keeps nothing, as `channel.sign`.
pub fn unaudited(plan: &Plan) -> BTreeSet<String> {
    let parts = plan.parts().into_iter();
    parts.filter(|part| part.audit == Audit::None).map(|part| part.object()).collect()
}

/// Why a log can't tell whether any of these rules is used; `None` if of one it can, and `Kernel` if
/// they are no grants of which a log tells.
pub fn why_blind(plan: &Plan, rules: &[String]) -> Option<Blind> {
    let is_it = |grant: &&Grant| {
        let beneath = |rule: &String| {
            let rest = grant.rule.strip_prefix(rule.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        rules.iter().any(beneath)
    };
    let found: Vec<Grant> = grants(plan).into_iter().filter(|it| is_it(&it)).collect();
    if found.iter().any(|it| it.blind.is_none()) {
        return None;
    }
    Some(found.iter().find_map(|it| it.blind).unwrap_or(Blind::Kernel))
}

/// Everything that a plan grants and that is a rule of its own, or a part of one.
fn grants(plan: &Plan) -> Vec<Grant> {
    let foreign = |name: &str| {
        plan.layer(name).is_some_and(|layer| matches!(layer.program, Program::Exec(_)))
    };
    let silent = unaudited(plan);
    let blind = |rule: &str| {
        let parts: Vec<&str> = rule.split('.').collect();
        match parts.as_slice() {
            [kind, name, ..] if silent.contains(&format!("{kind}.{name}")) => {
                Some(Blind::NotAudited)
            }
            ["file", .., "execute" | "symlink" | "socket" | "fifo"] => Some(Blind::Kernel),
            // The layer opens what it likes in there, by itself.
            ["layer", _, kind] if DirectoryKind::ALL.iter().any(|it| it.name() == *kind) => {
                Some(Blind::Kernel)
            }
            ["file", _, "grant", layer, _] | ["layer", layer, ..] if foreign(layer) => {
                Some(Blind::Foreign)
            }
            ["file", name, "grant", layer, _] => {
                by_path(plan, name, layer).then_some(Blind::ByPath)
            }
            ["pipe", name] => {
                let pipe = plan.facilities.pipes.iter().find(|pipe| pipe.name == **name);
                let bare = |pipe: &&crate::policy::plan::PipePlan| {
                    pipe.raw || foreign(pipe.from.as_str()) || foreign(pipe.to.as_str())
                };
                pipe.filter(bare).map(|_| Blind::Foreign)
            }
            _ => None,
        }
    };
    let mut rules: Vec<String> = Vec::new();
    for name in Rules::of(plan).names() {
        let pipe = name.starts_with("pipe.").then(|| name.rsplit_once('.')).flatten();
        match pipe {
            // System calls are no grants of their own: a log can't tell which are needed.
            _ if name.ends_with(".syscalls") && name.matches('.').count() == 2 => {}
            Some((_, "to")) => {}
            Some((pipe, _)) => rules.push(pipe.to_owned()),
            None => rules.push(name.clone()),
        }
    }
    for layer in &plan.layers {
        let kinds = layer.directories.iter().map(|it| it.kind.name());
        rules.extend(kinds.map(|kind| format!("layer.{}.{kind}", layer.name)));
    }
    for channel in &plan.channels {
        rules.extend((channel.fds.max > 0).then(|| carrier(channel, None)));
        let own = channel.methods.iter().filter(|it| it.fds.as_ref().is_some_and(|it| it.max > 0));
        rules.extend(own.map(|method| carrier(channel, Some(method))));
    }
    let regions = plan.facilities.regions.iter().map(|it| ("region", &it.name, &it.grant));
    let files = plan.facilities.mapped_files.iter().map(|it| ("mapped-file", &it.name, &it.grant));
    for (kind, name, grant) in regions.chain(files) {
        let writers = grant.iter().filter(|(_, right)| **right == MapRight::ReadWrite);
        rules.extend(writers.map(|(layer, _)| format!("{kind}.{name}.grant.{layer}.write")));
    }
    rules.sort();
    rules.into_iter().map(|rule| Grant { blind: blind(&rule), rule }).collect()
}
