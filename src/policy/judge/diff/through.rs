//! What layers reach through others in one of two plans only.

use std::collections::{BTreeSet, HashMap};

use super::Reached;
use crate::ident::Name;
use crate::policy::judge::act::Act;
use crate::policy::judge::explain::is_goal;
use crate::policy::judge::reach::{Step, Ways};

/// What is gained from the old plan to the new one, and what is lost.
pub(super) fn differences(old: &Ways, new: &Ways) -> (Vec<Reached>, Vec<Reached>) {
    let goals = goals(old, new);
    let (was, is) = (reached(old, &goals), reached(new, &goals));
    (difference(&goals, (new, &is), (old, &was)), difference(&goals, (old, &was), (new, &is)))
}

/// What is worth reaching in either plan: layers, then what is outside of the daemon or kept.
fn goals(old: &Ways, new: &Ways) -> Vec<String> {
    let layers: BTreeSet<&Name> = old.flows.names().iter().chain(new.flows.names()).collect();
    let facts = old.facts.all().chain(new.facts.all()).map(|fact| &*fact.object);
    let objects: BTreeSet<&str> = facts.filter(|object| is_goal(object)).collect();
    let layers = layers.iter().map(|layer| format!("layer.{layer}"));
    layers.chain(objects.into_iter().map(str::to_owned)).collect()
}

/// Of each layer by its place: which of the goals it reaches, in some number of steps.
fn reached(ways: &Ways, goals: &[String]) -> Vec<Vec<bool>> {
    let at: HashMap<&str, usize> =
        goals.iter().enumerate().map(|(at, goal)| (goal.as_str(), at)).collect();
    let layers = ways.flows.names().iter();
    let layers: Vec<_> = layers.map(|name| at.get(format!("layer.{name}").as_str())).collect();
    let held: Vec<(usize, usize, bool)> = ways
        .facts
        .all()
        .filter_map(|fact| {
            let goal = *at.get(&*fact.object)?;
            Some((goal, ways.flows.place(fact.layer.as_str())?, fact.act.learns()))
        })
        .collect();
    (0..layers.len())
        .map(|start| {
            let (moved, told) = ways.reached_from(start);
            let mut reached = vec![false; goals.len()];
            for (place, goal) in layers.iter().enumerate() {
                if let Some(goal) = goal.filter(|_| place != start) {
                    reached[*goal] = moved[place];
                }
            }
            for &(goal, holder, learns) in &held {
                reached[goal] |= moved[holder] || told[holder] && learns;
            }
            reached
        })
        .collect()
}

/// What is reached in one plan only, and not by the layer itself, which its facts tell already.
/// Of a layer that the other plan has not, nothing: it would fill pages with what follows.
fn difference(
    goals: &[String],
    (ways, reached): (&Ways, &[Vec<bool>]),
    (others, known): (&Ways, &[Vec<bool>]),
) -> Vec<Reached> {
    let mut found = Vec::new();
    for (place, reached) in reached.iter().enumerate() {
        let layer = ways.flows.name(place);
        let Some(other) = others.flows.place(layer.as_str()) else { continue };
        for (at, object) in goals.iter().enumerate() {
            if !reached[at] || known[other][at] {
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
