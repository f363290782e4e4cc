//! Reach: could this layer, wholly compromised, have that done or get to know it?
//!
//! There are two kinds of ways to an object:
//! - **by moving others**: the layer sends to a second one, which sends to a third, and the last
//!   one does something to the object. Any act counts, and so does the last layer itself
//!   (`layer.keeper`).
//! - **by being told**: a layer learns what is in the object, and its data comes, layer by layer, to
//!   the one that asks. Only acts that learn count: to read, to list, to receive.
//!
//! What flows from whom to whom is in [`flow`](super::flow). That a layer on the way does its
//! work right is not assumed: it may do for the one before it whatever it may do by itself. So the
//! answer is never better than the truth, and may be worse.

use std::collections::VecDeque;
use std::fmt;

use super::act::Act;
use super::facts::{Fact, Facts, facts};
use super::flow::{Flow, Flows};
use crate::ident::Name;
use crate::policy::plan::Plan;

/// One step of a way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Who acts.
    pub layer: Name,
    /// What it does.
    pub act: Act,
    /// With what.
    pub object: String,
    /// Whom it reaches by that; `None` at the object itself.
    pub to: Option<Name>,
    /// The path of the rule that lets it, such as `file.key.grant.keeper`.
    pub rule: String,
    sentence: String,
}

impl fmt::Display for Step {
    /// A sentence without a full stop: `parser calls sign on channel.sign`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.sentence)
    }
}

impl Step {
    fn flow(flow: &Flow, flows: &Flows) -> Self {
        Self {
            layer: flows.name(flow.from).clone(),
            act: flow.act,
            object: flow.object.clone(),
            to: Some(flows.name(flow.to).clone()),
            rule: flow.rule.clone(),
            sentence: flow.sentence.clone(),
        }
    }

    fn fact(fact: &Fact) -> Self {
        Self {
            layer: fact.layer.clone(),
            act: fact.act,
            object: fact.object.to_string(),
            to: None,
            rule: fact.rule.to_string(),
            sentence: fact.to_string(),
        }
    }
}

/// The shortest way from a layer to an object, or `None` if there is none. The first step may be
/// the only one: the layer may do it by itself.
///
/// `object` is as in [`Fact::object`], or `layer.NAME`. Ways that pass a layer of
/// `through_except` don't count, unless it is where the way begins, or is the object itself. Of
/// several shortest ways, those by moving others come before those by being told, and then the
/// order of the plan decides.
///
/// Who asks more than once of one plan makes [`Ways`].
pub fn reach(plan: &Plan, from: &str, object: &str, through_except: &[Name]) -> Option<Vec<Step>> {
    Ways::of(plan).reach(from, object, &Act::ALL, through_except)
}

/// The facts and flows of a plan, ready for many questions.
#[derive(Debug)]
pub struct Ways {
    /// What each layer may do by itself.
    pub facts: Facts,
    /// Whose bytes reach whom.
    pub flows: Flows,
}

impl Ways {
    /// Makes them.
    pub fn of(plan: &Plan) -> Self {
        Self { facts: facts(plan), flows: Flows::of(plan) }
    }

    /// As [`reach`], for some acts only; a way to a layer has no act.
    pub fn reach(
        &self,
        from: &str,
        object: &str,
        acts: &[Act],
        through_except: &[Name],
    ) -> Option<Vec<Step>> {
        let start = self.flows.place(from)?;
        let goal = object.strip_prefix("layer.").map(|layer| self.flows.place(layer));
        let names = self.flows.names().iter().enumerate();
        let barred: Vec<bool> = names
            .map(|(at, name)| {
                at != start && Some(Some(at)) != goal && through_except.contains(name)
            })
            .collect();
        if let Some(goal) = goal {
            let goal = goal?;
            let search = Search::forth(&self.flows, start, &barred);
            return (goal != start).then(|| search.steps(goal, &self.flows)).flatten();
        }
        let ends: Vec<(usize, &Fact)> = self
            .facts
            .about(object)
            .filter(|fact| acts.contains(&fact.act))
            .filter_map(|fact| Some((self.flows.place(fact.layer.as_str())?, fact)))
            .filter(|(at, _)| !barred[*at])
            .collect();
        if ends.is_empty() {
            return None;
        }
        let forth = Search::forth(&self.flows, start, &barred);
        let back = Search::back(&self.flows, start, &barred);
        let moved = ends.iter().filter_map(|(at, fact)| Some((forth.far[*at]?, 0, *at, *fact)));
        let told = ends
            .iter()
            .filter(|(_, fact)| fact.act.learns())
            .filter_map(|(at, fact)| Some((back.far[*at]?, 1, *at, *fact)));
        let (_, kind, at, fact) = moved.chain(told).min_by_key(|(far, kind, ..)| (*far, *kind))?;
        let end = Step::fact(fact);
        if kind == 0 {
            let mut steps = forth.steps(at, &self.flows)?;
            steps.push(end);
            Some(steps)
        } else {
            let mut steps = vec![end];
            steps.extend(back.steps(at, &self.flows)?);
            Some(steps)
        }
    }

    /// For each layer by its place: whether the one at `start` may move it, and whether its data
    /// may come there. Both are true of `start` itself.
    pub fn reached_from(&self, start: usize) -> (Vec<bool>, Vec<bool>) {
        let free = vec![false; self.flows.names().len()];
        let found = |search: Search<'_>| search.far.iter().map(Option::is_some).collect();
        let forth = found(Search::forth(&self.flows, start, &free));
        (forth, found(Search::back(&self.flows, start, &free)))
    }
}

/// Breadth first: how far every layer is, and by which flow it was found.
struct Search<'f> {
    far: Vec<Option<usize>>,
    by: Vec<Option<&'f Flow>>,
    forth: bool,
}

impl<'f> Search<'f> {
    /// Along the flows, to those whom `start` may move.
    fn forth(flows: &'f Flows, start: usize, barred: &[bool]) -> Self {
        let next = |at| flows.from(at).iter().map(|flow| (flow.to, flow)).collect();
        Self::run(flows.names().len(), start, barred, true, next)
    }

    /// Against the flows of data, to those whose data may come to `start`.
    fn back(flows: &'f Flows, start: usize, barred: &[bool]) -> Self {
        let next = |at| flows.into(at).map(|flow| (flow.from, flow)).collect();
        Self::run(flows.names().len(), start, barred, false, next)
    }

    fn run(
        layers: usize,
        start: usize,
        barred: &[bool],
        forth: bool,
        next: impl Fn(usize) -> Vec<(usize, &'f Flow)>,
    ) -> Self {
        let mut search = Self { far: vec![None; layers], by: vec![None; layers], forth };
        search.far[start] = Some(0);
        let mut waiting = VecDeque::from([(start, 0)]);
        while let Some((at, far)) = waiting.pop_front() {
            for (to, flow) in next(at) {
                if search.far[to].is_none() && !barred[to] {
                    search.far[to] = Some(far + 1);
                    search.by[to] = Some(flow);
                    waiting.push_back((to, far + 1));
                }
            }
        }
        search
    }

    /// The flows between the start and `end`, in the order in which the bytes go.
    fn steps(&self, end: usize, flows: &Flows) -> Option<Vec<Step>> {
        self.far[end]?;
        let mut steps = Vec::new();
        let mut at = end;
        while let Some(flow) = self.by[at] {
            steps.push(Step::flow(flow, flows));
            at = if self.forth { flow.from } else { flow.to };
        }
        if self.forth {
            steps.reverse();
        }
        Some(steps)
    }
}

#[cfg(test)]
mod tests;
