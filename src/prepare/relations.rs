//! Who has to do with whom, by the numbers of layers: what follows from the plan, so that the supervisor
//! needn't look for it whenever somebody begins or ends.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::image::LayerImage;
use super::own::Role;
use crate::ident::Name;
use crate::policy::plan::{LayerPlan, Plan};

/// The relations of a plan's layers. Each list is by layer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Relations {
    /// Those that must have been ready before it begins.
    pub firsts: Vec<Vec<usize>>,
    /// Those that are asked to finish before it: who starts after it, who calls it, and who writes a pipe
    /// that it reads.
    pub users: Vec<Vec<usize>>,
    /// The channels that it is an end of, in the plan's order.
    pub links: Vec<Vec<Link>>,
    /// The framework's own layers, by what they do.
    pub helpers: Vec<(Role, usize)>,
}

/// A channel, as one of its ends sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Link {
    /// Its number.
    pub channel: u16,
    /// The layer at the other end.
    pub peer: usize,
    /// Whether this end calls the other.
    pub calls: bool,
}

impl Relations {
    /// Those of a plan whose layers are these.
    pub(crate) fn of(plan: &Plan, images: &[LayerImage]) -> Self {
        let numbers: BTreeMap<&Name, usize> = (0..).zip(&plan.layers).map(numbered).collect();
        let number = |name: &Name| numbers.get(name).copied();
        let none = vec![Vec::new(); plan.layers.len()];
        let role = |(layer, image): (usize, &LayerImage)| Some((image.own.as_ref()?.role, layer));
        let helpers = images.iter().enumerate().filter_map(role).collect();
        let links = vec![Vec::new(); plan.layers.len()];
        let mut all = Self { firsts: none.clone(), users: none, links, helpers };
        for (layer, it) in plan.layers.iter().enumerate() {
            all.firsts[layer] = it.after.iter().filter_map(number).collect();
            for &first in &all.firsts[layer] {
                all.users[first].push(layer);
            }
        }
        for (channel, plan) in (0..).zip(&plan.channels) {
            let (Some(from), Some(to)) = (number(&plan.from), number(&plan.to)) else { continue };
            all.links[from].push(Link { channel, peer: to, calls: true });
            if from != to {
                all.links[to].push(Link { channel, peer: from, calls: false });
                all.users[to].push(from);
            }
        }
        for pipe in &plan.facilities.pipes {
            if let (Some(from), Some(to)) = (number(&pipe.from), number(&pipe.to)) {
                all.users[to].push(from);
            }
        }
        for users in &mut all.users {
            users.sort_unstable();
            users.dedup();
        }
        all
    }

    /// The channels that a layer is an end of.
    pub(crate) fn links(&self, layer: usize) -> &[Link] {
        self.links.get(layer).map_or(&[], Vec::as_slice)
    }

    /// Whom a layer comes after.
    pub(crate) fn firsts(&self, layer: usize) -> &[usize] {
        self.firsts.get(layer).map_or(&[], Vec::as_slice)
    }

    /// Whether one of those that end before a layer is among some.
    pub(crate) fn is_used(&self, layer: usize, among: impl Fn(usize) -> bool) -> bool {
        self.users.get(layer).is_some_and(|users| users.iter().any(|&user| among(user)))
    }
}

fn numbered((number, layer): (usize, &LayerPlan)) -> (&Name, usize) {
    (&layer.name, number)
}
