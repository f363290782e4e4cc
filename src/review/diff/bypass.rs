//! Gatekeepers that a layer needs in one of two plans only.
//!
//! A layer that every way to an object passes stands guard over it. Where one plan has a way past
//! it, authority differs though the same is reached: what the guard refuses is refused no more.
//!
//! For each layer, what stands on every way to every other one is found by the equations of
//! dominators (Cooper, Harvey, Kennedy: "A Simple, Fast Dominance Algorithm", 2001), on sets of
//! bits: a layer is passed by itself, and by what all before it are passed by.

use std::collections::{HashMap, VecDeque};

use super::through::{Held, Reach};
use super::{Bypass, Step};
use crate::ident::Name;
use crate::policy::ways::act::Act;
use crate::policy::ways::reach::Ways;

/// What may be reached in `ways` past a layer that all ways pass in `others`. What a layer does by
/// itself is told by its facts, and of a layer that only one plan has there is nothing to compare.
pub(super) fn bypasses(goals: &[String], new: &Reach<'_>, old: &Reach<'_>) -> Vec<Bypass> {
    let (ways, others) = (new.ways, old.ways);
    let (now, before) = (Guards::of(new), Guards::of(old));
    let mut found = Vec::new();
    for (place, layer) in ways.flows.names().iter().enumerate() {
        let Some(other) = others.flows.place(layer.as_str()) else { continue };
        let (now, before) = (now.from(place), before.from(other));
        for (at, object) in goals.iter().enumerate() {
            if !new.reached[place][at] || !old.reached[other][at] || new.by_itself(place, at) {
                continue;
            }
            let guarded = before.guards(at);
            if guarded.is_empty() {
                continue;
            }
            let still = now.guards(at);
            let gone = |name: &&Name| {
                ways.flows.place(name.as_str()).is_none_or(|place| !still.contains(&place))
            };
            let names = guarded.iter().map(|&place| others.flows.name(place));
            let without: Vec<Name> = names.filter(gone).cloned().collect();
            told(ways, layer, object, without, &mut found);
        }
    }
    found
}

/// One way past all of them, or one past each.
fn told(ways: &Ways, layer: &Name, object: &str, without: Vec<Name>, out: &mut Vec<Bypass>) {
    if without.is_empty() {
        return;
    }
    let past = |names: &[Name]| ways.reach(layer.as_str(), object, &Act::ALL, names);
    let bypass = |without, way: Vec<Step>| Bypass {
        layer: layer.clone(),
        object: object.to_owned(),
        without,
        way,
    };
    if let Some(way) = past(&without) {
        out.push(bypass(without, way));
        return;
    }
    for name in without {
        let one = vec![name];
        if let Some(way) = past(&one) {
            out.push(bypass(one, way));
        }
    }
}

/// Who leads to whom in a plan, by place.
struct Guards<'r> {
    layers: usize,
    /// Whom each may move, and who may move each.
    forth: [Vec<Vec<usize>>; 2],
    /// Who tells each, and whom each tells.
    back: [Vec<Vec<usize>>; 2],
    held: HashMap<usize, Vec<&'r Held>>,
    layer_goals: &'r [Option<usize>],
}

impl<'r> Guards<'r> {
    fn of(reach: &'r Reach<'_>) -> Self {
        let flows = &reach.ways.flows;
        let layers = flows.names().len();
        let empty = || [vec![Vec::new(); layers], vec![Vec::new(); layers]];
        let (mut forth, mut back) = (empty(), empty());
        for flow in (0..layers).flat_map(|place| flows.from(place)) {
            forth[0][flow.from].push(flow.to);
            forth[1][flow.to].push(flow.from);
            if flow.data {
                back[0][flow.to].push(flow.from);
                back[1][flow.from].push(flow.to);
            }
        }
        let mut held: HashMap<usize, Vec<&Held>> = HashMap::new();
        for one in &reach.held {
            held.entry(one.goal).or_default().push(one);
        }
        Self { layers, forth, back, held, layer_goals: &reach.layer_goals }
    }

    /// The guards of everything, for one who asks.
    fn from(&'r self, start: usize) -> From<'r> {
        let passed = |[next, before]: &[Vec<Vec<usize>>; 2]| passed(start, next, before);
        let at = |(place, goal): (usize, &Option<usize>)| goal.map(|goal| (goal, place));
        From {
            start,
            all: self,
            forth: passed(&self.forth),
            back: passed(&self.back),
            places: self.layer_goals.iter().enumerate().filter_map(at).collect(),
        }
    }
}

/// What stands on the ways from one layer.
struct From<'r> {
    start: usize,
    all: &'r Guards<'r>,
    forth: Vec<Option<Bits>>,
    back: Vec<Option<Bits>>,
    /// The goals that are layers.
    places: HashMap<usize, usize>,
}

impl From<'_> {
    /// The places of those that every way to a goal passes: neither where it begins nor, where the
    /// goal is a layer, that one.
    fn guards(&self, goal: usize) -> Vec<usize> {
        let mut all = Bits::full(self.all.layers);
        all.remove(self.start);
        if let Some(&place) = self.places.get(&goal) {
            all.remove(place);
            self.forth[place].iter().for_each(|passed| all.keep(passed));
        }
        for held in self.all.held.get(&goal).into_iter().flatten() {
            self.forth[held.holder].iter().for_each(|passed| all.keep(passed));
            if held.learns {
                self.back[held.holder].iter().for_each(|passed| all.keep(passed));
            }
        }
        all.places().collect()
    }
}

/// For each layer: those that every way from `start` to it passes, with both ends. `None` where
/// there is no way.
fn passed(start: usize, next: &[Vec<usize>], before: &[Vec<usize>]) -> Vec<Option<Bits>> {
    let mut order = Vec::new();
    let mut found: Vec<Option<Bits>> = vec![None; next.len()];
    found[start] = Some(Bits::one(next.len(), start));
    let mut waiting = VecDeque::from([start]);
    while let Some(at) = waiting.pop_front() {
        for &to in &next[at] {
            if found[to].is_none() {
                found[to] = Some(Bits::full(next.len()));
                order.push(to);
                waiting.push_back(to);
            }
        }
    }
    let mut changed = true;
    while changed {
        changed = false;
        for &at in &order {
            let mut passed = Bits::full(next.len());
            for from in &before[at] {
                found[*from].iter().for_each(|earlier| passed.keep(earlier));
            }
            passed.insert(at);
            if found[at].as_ref() != Some(&passed) {
                found[at] = Some(passed);
                changed = true;
            }
        }
    }
    found
}

/// A set of places.
#[derive(Clone, PartialEq, Eq)]
struct Bits(Vec<u64>);

impl Bits {
    fn full(size: usize) -> Self {
        let mut words = vec![u64::MAX; size.div_ceil(64)];
        if let Some(last) = words.last_mut().filter(|_| !size.is_multiple_of(64)) {
            *last = (1 << (size % 64)) - 1;
        }
        Self(words)
    }

    fn one(size: usize, place: usize) -> Self {
        let mut bits = Self(vec![0; size.div_ceil(64)]);
        bits.insert(place);
        bits
    }

    fn insert(&mut self, place: usize) {
        self.0[place / 64] |= 1 << (place % 64);
    }

    fn remove(&mut self, place: usize) {
        self.0[place / 64] &= !(1 << (place % 64));
    }

    fn keep(&mut self, others: &Self) {
        self.0.iter_mut().zip(&others.0).for_each(|(word, other)| *word &= other);
    }

    fn places(&self) -> impl Iterator<Item = usize> {
        let bits = |word: u64| (0..64).filter(move |bit| word >> bit & 1 == 1);
        self.0
            .iter()
            .enumerate()
            .flat_map(move |(at, word)| bits(*word).map(move |it| at * 64 + it))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_those_put_in() {
        for size in [1, 50, 64, 65, 130] {
            assert_eq!(Bits::full(size).places().count(), size);
            assert_eq!(Bits::one(size, size - 1).places().collect::<Vec<_>>(), [size - 1]);
        }
    }

    #[test]
    fn what_stands_on_every_way_is_passed() {
        // 0 to 1 or 2, both to 3, from there to 4 and back to 1; 5 leads in, and nobody there.
        let next = [vec![1, 2], vec![3], vec![3], vec![4], vec![1], vec![0]].to_vec();
        let mut before = vec![Vec::new(); 6];
        for (from, list) in next.iter().enumerate() {
            for to in list {
                before[*to].push(from);
            }
        }
        let found = passed(0, &next, &before);
        let places = |at: usize| found[at].as_ref().map(|it| it.places().collect::<Vec<_>>());
        assert_eq!(places(1), Some(vec![0, 1]));
        assert_eq!(places(3), Some(vec![0, 3]));
        assert_eq!(places(4), Some(vec![0, 3, 4]));
        assert_eq!(places(5), None);
    }
}
