//! What one policy grants that another doesn't: authority, not text.
//!
//! Facts are compared by layer, act and object. Of a fact that both have, the conditions of a
//! system call and the bounds are compared by what they mean: a narrower condition or a lower rate
//! is a loss, and a different one that is neither wider nor narrower (another path, another
//! address) is both a gain and a loss.
//!
//! What a layer reaches through others is compared too, and past whom: a layer that every way
//! passed and that one passes no more guards nothing now.

mod bypass;
mod through;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use through::Reach;

use super::calls::{entry, expressions};
use super::settings::{self, Setting, settings};
use crate::ident::Name;
use crate::policy::plan::{AuditPlan, CallRule, LayerPlan, Never, Plan};
use crate::policy::syscall::meaning::implies;
use crate::policy::ways::act::Act;
use crate::policy::ways::facts::{Bound, Fact, syscall};
use crate::policy::ways::reach::{Step, Ways};

/// The differences between two plans.
#[derive(Debug, Default)]
pub struct Diff {
    /// Layers that only the new one has.
    pub new_layers: Vec<Name>,
    /// Layers that only the old one has.
    pub old_layers: Vec<Name>,
    /// Authority by layer, sorted.
    pub changes: Vec<Change>,
    /// What a layer reaches through others in the new one only, sorted.
    pub reach_gained: Vec<Reached>,
    /// What it reached in the old one only, sorted; of the old one are the ways.
    pub reach_lost: Vec<Reached>,
    /// What a layer reaches in both, in the new one also past layers that it had to pass; sorted.
    pub bypass_gained: Vec<Bypass>,
    /// What it reached past them in the old one only; of the old one are the ways.
    pub bypass_lost: Vec<Bypass>,
    /// The evidence that there is of all layers: changes of the audit log, in the order of
    /// [`settings::log`]. What is recorded of each facility is a bound of
    /// those who use it.
    pub log: Vec<LogChange>,
    /// Changes of the daemon as a whole, in the order of [`settings::daemon`].
    pub daemon: Vec<LogChange>,
    /// What must never be possible in the old one only.
    pub guards_lost: Vec<Never>,
    /// What must never be possible in the new one only.
    pub guards_gained: Vec<Never>,
}

/// A change of one layer's authority.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// Whose.
    pub layer: Name,
    /// Whether it is more or less than before.
    pub gain: Gain,
    /// What it is about.
    pub kind: ChangeKind,
    /// The path of the rule: in the new policy, or in the old one if it is only there.
    pub rule: String,
}

/// A change of the audit log, or of the daemon as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogChange {
    /// Less evidence, or another reader, counts as gained.
    pub gain: Gain,
    /// The setting: `log`, `on-full`, `keep`.
    pub name: String,
    /// What it was.
    pub old: String,
    /// What it is.
    pub new: String,
    /// The path of the rule, in either policy.
    pub rule: String,
}

/// More or less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Gain {
    /// More authority, or less protection.
    Gained,
    /// Less authority, or more protection.
    Lost,
    /// Neither contains the other. It counts as gained.
    Changed,
}

/// What a change is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// The layer may do it in one of the two only.
    Act(Act, String),
    /// It may in both, within different bounds: the bound's name, the old text and the new one.
    Bound(Act, String, &'static str, String, String),
    /// It may make a call in both, in different forms: those of the old one only, and those of the
    /// new one only.
    Forms(String, Vec<String>, Vec<String>),
    /// A setting: its name, the old text and the new one.
    Setting(String, String, String),
}

/// Something that a layer reaches through others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Who.
    pub layer: Name,
    /// Reaches what.
    pub object: String,
    /// By the shortest way.
    pub way: Vec<Step>,
}

/// Something that a layer reaches through others in both, and in one of them past layers that every
/// way passes in the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bypass {
    /// Who.
    pub layer: Name,
    /// Reaches what.
    pub object: String,
    /// Without passing these.
    pub without: Vec<Name>,
    /// By the shortest way that passes none of them.
    pub way: Vec<Step>,
}

impl Diff {
    /// Whether the new one grants anything that the old one doesn't.
    pub fn gained(&self) -> bool {
        !self.new_layers.is_empty()
            || !self.reach_gained.is_empty()
            || !self.bypass_gained.is_empty()
            || self.changes.iter().any(|it| it.gain != Gain::Lost)
            || self.log.iter().chain(&self.daemon).any(|it| it.gain != Gain::Lost)
    }

    /// Whether there is no difference in authority.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
            && self.log.is_empty()
            && self.daemon.is_empty()
            && self.new_layers.is_empty()
            && self.old_layers.is_empty()
            && self.reach_gained.is_empty()
            && self.reach_lost.is_empty()
            && self.bypass_gained.is_empty()
            && self.bypass_lost.is_empty()
            && self.guards_lost.is_empty()
            && self.guards_gained.is_empty()
    }
}

/// The difference in lines, for a person who has neither policy at hand.
pub fn lines(diff: &Diff) -> Vec<String> {
    let sign = |gain| match gain {
        Gain::Gained => "+",
        Gain::Changed => "~",
        Gain::Lost => "-",
    };
    let mut lines = Vec::new();
    lines.extend(diff.new_layers.iter().map(|layer| format!("+ {layer}: a new layer")));
    lines.extend(diff.old_layers.iter().map(|layer| format!("- {layer}: no layer any more")));
    let is_call = |it: &&Change| matches!(it.kind, ChangeKind::Act(Act::Make, _));
    let mut calls: BTreeMap<(&Name, Gain), Vec<&str>> = BTreeMap::new();
    for Change { layer, gain, kind, .. } in diff.changes.iter().filter(is_call) {
        if let ChangeKind::Act(_, object) = kind {
            let name = object.strip_prefix("syscall.").unwrap_or(object);
            calls.entry((layer, *gain)).or_default().push(name);
        }
    }
    for ((layer, gain), calls) in calls {
        let (sign, names) = (sign(gain), calls.join(", "));
        let plural = if calls.len() == 1 { "" } else { "s" };
        lines.push(format!("{sign} {layer}: makes {} system call{plural}: {names}", calls.len()));
    }
    for Change { layer, gain, kind, .. } in diff.changes.iter().filter(|it| !is_call(it)) {
        let text = match kind {
            ChangeKind::Act(act, object) => format!("{} {object}", act.verb()),
            ChangeKind::Bound(act, object, name, was, is) => {
                format!("{} {object}: {name} from {was} to {is}", act.verb())
            }
            ChangeKind::Setting(name, was, is) => format!("{name} from {was} to {is}"),
            ChangeKind::Forms(object, lost, gained) => format!(
                "makes {object} as {} (before: {})",
                if gained.is_empty() { "before".to_owned() } else { gained.join(" or ") },
                if lost.is_empty() { "less".to_owned() } else { lost.join(" or ") },
            ),
        };
        lines.push(format!("{} {layer}: {text}", sign(*gain)));
    }
    for LogChange { gain, name, old, new, .. } in &diff.log {
        lines.push(format!("{} the audit log: {name} from {old} to {new}", sign(*gain)));
    }
    for LogChange { gain, name, old, new, .. } in &diff.daemon {
        lines.push(format!("{} the daemon: {name} from {old} to {new}", sign(*gain)));
    }
    let through = [("+", &diff.reach_gained, "reaches"), ("-", &diff.reach_lost, "reached")];
    for (sign, reached, verb) in through {
        lines.extend(
            reached
                .iter()
                .map(|it| format!("{sign} {}: {verb} {} through others", it.layer, it.object)),
        );
    }
    let past = [("+", &diff.bypass_gained, "reaches"), ("-", &diff.bypass_lost, "reached")];
    for (sign, bypasses, verb) in past {
        lines.extend(bypasses.iter().map(|it| {
            let without: Vec<_> = it.without.iter().map(Name::as_str).collect();
            let without = without.join(" or ");
            format!("{sign} {}: {verb} {} without passing {without}", it.layer, it.object)
        }));
    }
    for (guards, word) in [(&diff.guards_lost, "no longer"), (&diff.guards_gained, "from now on")] {
        lines.extend(guards.iter().map(|Never { layer, reach, .. }| {
            format!("{word} refused: that {layer} reaches {reach}")
        }));
    }
    lines
}

/// Compares two plans.
pub fn diff(old: &Plan, new: &Plan) -> Diff {
    let (before, after) = (Ways::of(old), Ways::of(new));
    let names = |plan: &Plan| -> BTreeSet<Name> {
        plan.layers.iter().map(|layer| layer.name.clone()).collect()
    };
    let (olds, news) = (names(old), names(new));
    let mut diff = Diff {
        new_layers: news.difference(&olds).cloned().collect(),
        old_layers: olds.difference(&news).cloned().collect(),
        guards_lost: old.never.iter().filter(|it| !new.never.contains(it)).cloned().collect(),
        guards_gained: new.never.iter().filter(|it| !old.never.contains(it)).cloned().collect(),
        log: log(&old.audit, &new.audit),
        daemon: compared(settings::daemon(old), settings::daemon(new)),
        ..Diff::default()
    };
    for name in olds.union(&news) {
        let layer = name.as_str();
        facts(before.facts.of(layer), after.facts.of(layer), &mut diff.changes);
        if let (Some(was), Some(is)) = (old.layer(layer), new.layer(layer)) {
            forms(was, is, &mut diff.changes);
            for (was, is) in settings(was).iter().zip(&settings(is)) {
                setting(name, was, is, &mut diff.changes);
            }
        }
    }
    diff.changes.sort();
    let goals = through::goals(&before, &after);
    let (was, is) = (Reach::of(&before, &goals), Reach::of(&after, &goals));
    diff.reach_gained = through::difference(&goals, &is, &was);
    diff.reach_lost = through::difference(&goals, &was, &is);
    diff.bypass_gained = bypass::bypasses(&goals, &is, &was);
    diff.bypass_lost = bypass::bypasses(&goals, &was, &is);
    diff
}

/// Compares the facts of one layer.
fn facts(old: &[Fact], new: &[Fact], out: &mut Vec<Change>) {
    for pair in side_by_side(old, new) {
        match pair {
            (Some(was), Some(is)) => bounds(was, is, out),
            (None, Some(is)) => only(is, new, old, Gain::Gained, out),
            (Some(was), None) => only(was, old, new, Gain::Lost, out),
            (None, None) => {}
        }
    }
}

/// Walks two sorted lists of facts at once: what both have is one pair.
fn side_by_side<'f>(
    old: &'f [Fact],
    new: &'f [Fact],
) -> impl Iterator<Item = (Option<&'f Fact>, Option<&'f Fact>)> {
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    std::iter::from_fn(move || {
        let order = match (old.peek(), new.peek()) {
            (Some(was), Some(is)) => was.key().cmp(&is.key()),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return None,
        };
        let was = if order.is_le() { old.next() } else { None };
        let is = if order.is_ge() { new.next() } else { None };
        Some((was, is))
    })
}

/// Tells a fact that only one of the lists has, `mine`. A method of a channel that changes as a
/// whole is told with the channel.
fn only(fact: &Fact, mine: &[Fact], others: &[Fact], gain: Gain, out: &mut Vec<Change>) {
    // That any descriptor is passed is told by their kinds, and a directory of its own by the key.
    if fact.act == Act::Own || fact.act == Act::Pass && !fact.object.contains(".fds.") {
        return;
    }
    let alone = |object| {
        fact.act != Act::Pass && has(mine, object, fact.act) && !has(others, object, fact.act)
    };
    if !parent(&fact.object).is_some_and(alone) {
        let kind = ChangeKind::Act(fact.act, fact.object.to_string());
        out.push(Change { layer: fact.layer.clone(), gain, kind, rule: fact.rule.to_string() });
    }
}

fn has(list: &[Fact], object: &str, act: Act) -> bool {
    list.binary_search_by(|it| it.key().cmp(&(object, act))).is_ok()
}

/// `channel.sign` of `channel.sign.hello`, `signal.reload` of `signal.reload.HUP`.
fn parent(object: &str) -> Option<&str> {
    let whole = object.starts_with("channel.") || object.starts_with("signal.");
    let (dot, _) = object.match_indices('.').nth(1).filter(|_| whole)?;
    Some(&object[..dot])
}

/// Compares the bounds of what a layer may do in both.
fn bounds(old: &Fact, new: &Fact, out: &mut Vec<Change>) {
    if new.act == Act::Own {
        return;
    }
    for (was, is) in old.bounds.iter().zip(&new.bounds) {
        if let Some(gain) = bound(was, is) {
            let (was, text) = (was.text.clone(), is.text.clone());
            let kind = ChangeKind::Bound(new.act, new.object.to_string(), is.name, was, text);
            out.push(Change { layer: new.layer.clone(), gain, kind, rule: new.rule.to_string() });
        }
    }
}

/// Compares the forms of the system calls that a layer may make in both.
fn forms(old: &LayerPlan, new: &LayerPlan, out: &mut Vec<Change>) {
    for is in &new.syscalls {
        let Some(was) = entry(old, is.number) else { continue };
        if was.allow == is.allow || was.allow.is_empty() || is.allow.is_empty() {
            continue;
        }
        let (lost, gained) = (beyond(&was.allow, &is.allow), beyond(&is.allow, &was.allow));
        let gain = match (gained.is_empty(), lost.is_empty()) {
            (true, true) => continue,
            (false, true) => Gain::Gained,
            (true, false) => Gain::Lost,
            (false, false) => Gain::Changed,
        };
        let (lost, gained) = (expressions(is.number, &lost), expressions(is.number, &gained));
        let kind = ChangeKind::Forms(syscall(is.number), lost, gained);
        let rule = format!("layer.{}.syscalls", new.name);
        out.push(Change { layer: new.name.clone(), gain, kind, rule });
    }
}

/// The alternatives of a call that none of the others contains.
fn beyond(some: &[CallRule], others: &[CallRule]) -> Vec<CallRule> {
    let covered = |rule: &CallRule| others.iter().any(|wide| implies(rule, wide));
    some.iter().filter(|rule| !covered(rule)).cloned().collect()
}

/// How a bound changed.
fn bound(old: &Bound, new: &Bound) -> Option<Gain> {
    match new.amount.cmp(&old.amount) {
        Ordering::Greater => Some(Gain::Gained),
        Ordering::Less => Some(Gain::Lost),
        Ordering::Equal if old.text == new.text => None,
        Ordering::Equal => Some(Gain::Changed),
    }
}

/// Compares the logs. How one is kept that was not there, or is there no more, says nothing.
fn log(old: &AuditPlan, new: &AuditPlan) -> Vec<LogChange> {
    let mut changes = compared(settings::log(old), settings::log(new));
    if changes.first().is_some_and(|first| first.name == "log") {
        changes.truncate(1);
    }
    changes
}

fn compared(old: Vec<Setting>, new: Vec<Setting>) -> Vec<LogChange> {
    let change = |(was, is): (Setting, Setting)| {
        let gain = bound(&was.bound, &is.bound)?;
        let (old, new) = (was.bound.text, is.bound.text);
        Some(LogChange { gain, name: is.name, old, new, rule: is.rule })
    };
    old.into_iter().zip(new).filter_map(change).collect()
}

fn setting(layer: &Name, old: &Setting, new: &Setting, out: &mut Vec<Change>) {
    if let Some(gain) = bound(&old.bound, &new.bound) {
        let (was, is) = (old.bound.text.clone(), new.bound.text.clone());
        let kind = ChangeKind::Setting(new.name.clone(), was, is);
        out.push(Change { layer: layer.clone(), gain, kind, rule: new.rule.clone() });
    }
}
