//! What one policy grants that another doesn't: authority, not text.
//!
//! Facts are compared by layer, act and object. Of a fact that both have, the conditions of a
//! system call and the bounds are compared by what they mean: a narrower condition or a lower rate
//! is a loss, and a different one that is neither wider nor narrower (another path, another
//! address) is both a gain and a loss.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::act::Act;
use super::calls::expressions;
use super::explain::is_goal;
use super::facts::{Bound, Fact};
use super::reach::{Step, Ways};
use super::settings::{Setting, settings};
use crate::ident::Name;
use crate::policy::plan::{CallRule, Never, Plan};
use crate::policy::syscall::by_name;
use crate::policy::syscall::meaning::implies;

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

impl Diff {
    /// Whether the new one grants anything that the old one doesn't.
    pub fn gained(&self) -> bool {
        !self.reach_gained.is_empty() || self.changes.iter().any(|it| it.gain != Gain::Lost)
    }

    /// Whether there is no difference in authority.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
            && self.reach_gained.is_empty()
            && self.reach_lost.is_empty()
            && self.guards_lost.is_empty()
            && self.guards_gained.is_empty()
    }
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
        ..Diff::default()
    };
    for layer in olds.union(&news) {
        facts(before.facts.of(layer.as_str()), after.facts.of(layer.as_str()), &mut diff.changes);
        if let (Some(was), Some(is)) = (old.layer(layer.as_str()), new.layer(layer.as_str())) {
            for (was, is) in settings(was).iter().zip(&settings(is)) {
                setting(layer, was, is, &mut diff.changes);
            }
        }
    }
    diff.changes.sort();
    let (was, is) = (reached(&before), reached(&after));
    diff.reach_gained = difference(&after, &is, &was);
    diff.reach_lost = difference(&before, &was, &is);
    diff
}

/// Compares the facts of one layer; both lists are sorted by object and act.
fn facts(old: &[Fact], new: &[Fact], out: &mut Vec<Change>) {
    only(new, old, Gain::Gained, out);
    only(old, new, Gain::Lost, out);
    for is in new {
        let Some(was) = find(old, &is.object, is.act) else { continue };
        forms(was, is, out);
        for (was, bound_is) in was.bounds.iter().zip(&is.bounds) {
            if let Some(gain) = bound(was, bound_is) {
                let (was, text) = (was.text.clone(), bound_is.text.clone());
                let kind = ChangeKind::Bound(is.act, is.object.clone(), bound_is.name, was, text);
                out.push(Change { layer: is.layer.clone(), gain, kind, rule: is.rule.clone() });
            }
        }
    }
}

/// The facts that only the first list has.
fn only(mine: &[Fact], others: &[Fact], gain: Gain, out: &mut Vec<Change>) {
    for fact in mine {
        let alone = |object| {
            find(others, object, fact.act).is_none() && find(mine, object, fact.act).is_some()
        };
        // A method of a channel that changes as a whole is told with the channel.
        if alone(&fact.object) && !parent(&fact.object).is_some_and(alone) {
            let (layer, rule) = (fact.layer.clone(), fact.rule.clone());
            let kind = ChangeKind::Act(fact.act, fact.object.clone());
            out.push(Change { layer, gain, kind, rule });
        }
    }
}

fn find<'f>(list: &'f [Fact], object: &str, act: Act) -> Option<&'f Fact> {
    let found = list.binary_search_by(|it| (it.object.as_str(), it.act).cmp(&(object, act)));
    found.ok().map(|at| &list[at])
}

/// `channel.sign` of `channel.sign.hello`, `signal.reload` of `signal.reload.HUP`.
fn parent(object: &str) -> Option<&str> {
    let whole = object.starts_with("channel.") || object.starts_with("signal.");
    let (dot, _) = object.match_indices('.').nth(1).filter(|_| whole)?;
    Some(&object[..dot])
}

/// Compares the forms of one system call.
fn forms(old: &Fact, new: &Fact, out: &mut Vec<Change>) {
    if old.calls == new.calls {
        return;
    }
    let beyond = |some: &[CallRule], others: &[CallRule]| -> Vec<CallRule> {
        let covered = |rule: &&CallRule| !others.iter().any(|wide| implies(rule, wide));
        some.iter().filter(covered).cloned().collect()
    };
    let (lost, gained) = (beyond(&old.calls, &new.calls), beyond(&new.calls, &old.calls));
    let gain = match (gained.is_empty(), lost.is_empty()) {
        (true, true) => return,
        (false, true) => Gain::Gained,
        (true, false) => Gain::Lost,
        (false, false) => Gain::Changed,
    };
    let number = new.object.strip_prefix("syscall.").and_then(by_name).unwrap_or(u32::MAX);
    let kind = ChangeKind::Forms(
        new.object.clone(),
        expressions(number, &lost),
        expressions(number, &gained),
    );
    out.push(Change { layer: new.layer.clone(), gain, kind, rule: new.rule.clone() });
}

/// How a bound changed.
fn bound(old: &Bound, new: &Bound) -> Option<Gain> {
    match new.amount.cmp(&old.amount) {
        std::cmp::Ordering::Greater => Some(Gain::Gained),
        std::cmp::Ordering::Less => Some(Gain::Lost),
        std::cmp::Ordering::Equal if old.text == new.text => None,
        std::cmp::Ordering::Equal => Some(Gain::Changed),
    }
}

fn setting(layer: &Name, old: &Setting, new: &Setting, out: &mut Vec<Change>) {
    if let Some(gain) = bound(&old.bound, &new.bound) {
        let (was, is) = (old.bound.text.clone(), new.bound.text.clone());
        let kind = ChangeKind::Setting(new.name.clone(), was, is);
        out.push(Change { layer: layer.clone(), gain, kind, rule: new.rule.clone() });
    }
}

/// What each layer reaches in some number of steps: layers, what is outside of the daemon, and
/// what is kept.
type Reach<'w> = BTreeMap<&'w Name, HashSet<Goal<'w>>>;

/// A layer, or another object.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Goal<'w> {
    Layer(&'w Name),
    Object(&'w str),
}

fn reached(ways: &Ways) -> Reach<'_> {
    let goals = ways.facts.all().iter().filter(|fact| is_goal(&fact.object));
    let goals: Vec<(usize, &Fact)> =
        goals.filter_map(|fact| Some((ways.flows.place(fact.layer.as_str())?, fact))).collect();
    let mut reach = BTreeMap::new();
    for place in 0..ways.flows.len() {
        let (moved, told) = ways.reached_from(place);
        let others = (0..moved.len()).filter(|at| moved[*at] && *at != place);
        let others = others.map(|at| Goal::Layer(ways.flows.name(at)));
        let objects = goals
            .iter()
            .filter(|(holder, fact)| moved[*holder] || told[*holder] && fact.act.learns())
            .map(|(_, fact)| Goal::Object(fact.object.as_str()));
        reach.insert(ways.flows.name(place), others.chain(objects).collect());
    }
    reach
}

/// What is reached in one plan only, and not by the layer itself, which its facts tell already.
/// Of a layer that the other plan has not, nothing: it would fill pages with what follows.
fn difference(of: &Ways, some: &Reach<'_>, others: &Reach<'_>) -> Vec<Reached> {
    let mut found = Vec::new();
    for (layer, goals) in some {
        let Some(known) = others.get(layer) else { continue };
        let mut only: Vec<&Goal<'_>> = goals.difference(known).collect();
        only.sort_unstable();
        for goal in only {
            let object = match goal {
                Goal::Layer(name) => format!("layer.{name}"),
                Goal::Object(object) => (*object).to_owned(),
            };
            let way = of.reach(layer.as_str(), &object, &Act::ALL, &[]);
            let through = |way: &Vec<Step>| way.len() > 1 || matches!(goal, Goal::Layer(_));
            if let Some(way) = way.filter(through) {
                found.push(Reached { layer: (*layer).clone(), object, way });
            }
        }
    }
    found
}
