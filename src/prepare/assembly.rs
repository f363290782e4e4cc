//! What a daemon's layers are started from, and what of it a reload changes: data, as a child answers
//! it.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::child;
use super::image::LayerImage;
use super::relations::Relations;
use crate::confine::filter::Filter;
use crate::ident::{Name, PolicyId};
use crate::layer::logger::orders::Marks;
use crate::layer::slice::ReportsSlice;
use crate::policy::plan::{LayerPlan, Plan};

/// All layers of a daemon, ready to be started.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Assembly {
    /// The plan as the policy states it.
    pub stated: Plan,
    /// The same in the order of its numbers, which is another one after a reload.
    pub plan: Plan,
    /// The plan's digest.
    pub policy: PolicyId,
    /// The plan's layers in its order, then those of the framework's own that it needs.
    pub images: Vec<LayerImage>,
    /// Who has to do with whom.
    pub relations: Relations,
    /// What the daemon's program wants every layer to know.
    pub settings: Vec<u8>,
    /// What stays the same as long as the daemon runs.
    pub lasting: Lasting,
    /// What is another than before; nothing at the start.
    pub change: Option<Change>,
    /// How layers report, if there is a log.
    pub reports: Option<ReportsSlice>,
    /// The supervisor's own filter, which allows what any layer is granted.
    pub filter: Filter,
    /// How many descriptors the supervisor may have to hold at a time.
    pub descriptors: u64,
}

/// What a daemon has from its start and no reload changes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Lasting {
    /// A number that this run of the daemon has and no other.
    pub run: u64,
    /// What the events of layers begin with.
    pub marks: Marks,
    /// The audit log's directory, its device and inode.
    pub log: Option<(PathBuf, (u64, u64))>,
    /// How many descriptors may wait with what an instance has still to be told.
    pub waiting: u64,
    /// The calls that the supervisor's filter has for layers.
    pub calls: BTreeSet<u32>,
    /// The capabilities that it has kept for layers.
    pub capabilities: BTreeSet<u8>,
}

impl Assembly {
    /// Reads one out of the memory in which it was given.
    pub(crate) fn read(memory: &OwnedFd) -> io::Result<Self> {
        child::read(memory)
    }

    /// The plan in the order of its numbers, with the framework's own layers.
    pub(crate) fn whole(&self) -> Plan {
        let layers = self.images.iter().map(|image| image.plan.clone()).collect();
        Plan { layers, ..self.plan.clone() }
    }

    /// Whether it is one of that plan: each of its layers in its order, behind them only the
    /// framework's own, and reports where there is a log.
    pub(super) fn is_of(&self, plan: &Plan, is_logged: bool) -> bool {
        let Some((stated, own)) = self.images.split_at_checked(plan.layers.len()) else {
            return false;
        };
        let reserved = |name: &Name| name.as_str().starts_with(LayerPlan::RESERVED);
        let is_own = |it: &LayerImage| it.own.is_some() && reserved(&it.plan.name);
        let is_it = |(image, layer): (&LayerImage, &LayerPlan)| {
            image.plan.name == layer.name
                // After a reload our own are among them.
                && (reserved(&layer.name) && image.own.is_some()
                    || image.plan.instances == layer.instances && image.own.is_none())
        };
        stated.iter().zip(&plan.layers).all(is_it)
            && own.iter().all(is_own)
            && self.reports.is_some() == is_logged
    }
}

/// What a reload changes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is something else about it")]
pub(crate) struct Change {
    /// The difference in authority, for people.
    pub lines: Vec<String>,
    /// Whether anything is gained.
    pub gains: bool,
    /// Whether the program is another: then no life of before stays.
    pub program: bool,
    /// Whether a life of the new program may be there beside one of the old.
    pub overlaps: bool,
    /// Whether the program, the policy and the settings are the same as before.
    pub is_none: bool,
    /// By layer: whether what a life of before holds is another now.
    pub touched: Vec<bool>,
    /// By layer: whether its lives go on, and are told of other settings.
    pub told: Vec<bool>,
    /// By queue, FIFO, region and mapped file: whether it is the one of before.
    pub kept: [Vec<bool>; 4],
    /// By layer, for each of its listening sockets: whose it was, and which of those.
    pub listen: Vec<Vec<Option<(usize, usize)>>>,
}
