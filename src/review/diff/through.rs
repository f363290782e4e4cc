//! What layers reach through others in one of two plans only.

use std::collections::{BTreeSet, HashMap};

use super::Reached;
use crate::ident::Name;
use crate::policy::ways::act::Act;
use crate::policy::ways::reach::{Step, Ways};
use crate::review::explain::is_goal;

/// What is worth reaching in either plan: layers, then what is outside of the daemon or kept.
pub(super) fn goals(old: &Ways, new: &Ways) -> Vec<String> {
    let layers: BTreeSet<&Name> = old.flows.names().iter().chain(new.flows.names()).collect();
    let facts = old.facts.all().chain(new.facts.all()).map(|fact| &*fact.object);
    let objects: BTreeSet<&str> = facts.filter(|object| is_goal(object)).collect();
    let layers = layers.iter().map(|layer| format!("layer.{layer}"));
    layers.chain(objects.into_iter().map(str::to_owned)).collect()
}

/// What the layers of one plan reach.
pub(super) struct Reach<'p> {
    pub(super) ways: &'p Ways,
    /// The goal that each layer is, by its place.
    pub(super) layer_goals: Vec<Option<usize>>,
    /// What each layer does to a goal by itself.
    pub(super) held: Vec<Held>,
    /// Of each layer by its place: which of the goals it reaches, in some number of steps.
    pub(super) reached: Vec<Vec<bool>>,
}

/// That a layer does something to a goal.
pub(super) struct Held {
    pub(super) goal: usize,
    pub(super) holder: usize,
    /// Whether it learns what is there.
    pub(super) learns: bool,
}

impl<'p> Reach<'p> {
    pub(super) fn of(ways: &'p Ways, goals: &[String]) -> Self {
        let at: HashMap<&str, usize> =
            goals.iter().enumerate().map(|(at, goal)| (goal.as_str(), at)).collect();
        let names = ways.flows.names().iter();
        let layer_goals: Vec<_> =
            names.map(|name| at.get(format!("layer.{name}").as_str()).copied()).collect();
        let held: Vec<Held> = ways
            .facts
            .all()
            .filter_map(|fact| {
                let holder = ways.flows.place(fact.layer.as_str())?;
                Some(Held { goal: *at.get(&*fact.object)?, holder, learns: fact.act.learns() })
            })
            .collect();
        let reached = (0..layer_goals.len())
            .map(|start| {
                let (moved, told) = ways.reached_from(start);
                let mut reached = vec![false; goals.len()];
                for (place, goal) in layer_goals.iter().enumerate() {
                    if let Some(goal) = goal.filter(|_| place != start) {
                        reached[goal] = moved[place];
                    }
                }
                for held in &held {
                    reached[held.goal] |= moved[held.holder] || told[held.holder] && held.learns;
                }
                reached
            })
            .collect();
        Self { ways, layer_goals, held, reached }
    }

    /// Whether a layer does something to a goal without others.
    pub(super) fn by_itself(&self, place: usize, goal: usize) -> bool {
        self.held.iter().any(|held| held.holder == place && held.goal == goal)
    }
}

/// What is reached in one plan only, and not by the layer itself, which its facts tell already.
/// Of a layer that the other plan has not, nothing: it would fill pages with what follows.
pub(super) fn difference(goals: &[String], new: &Reach<'_>, old: &Reach<'_>) -> Vec<Reached> {
    let (ways, others) = (new.ways, old.ways);
    let mut found = Vec::new();
    for (place, reached) in new.reached.iter().enumerate() {
        let layer = ways.flows.name(place);
        let Some(other) = others.flows.place(layer.as_str()) else { continue };
        for (at, object) in goals.iter().enumerate() {
            if !reached[at] || old.reached[other][at] {
                continue;
            }
            let way = ways.reach(layer.as_str(), object, &Act::ALL, &[]);
            let through = |way: &Vec<Step>| way.len() > 1 || object.starts_with("layer.");
            if let Some(way) = way.filter(through) {
                found.push(Reached { layer: layer.clone(), object: object.clone(), way });
            }
        }
    }
    found
}
