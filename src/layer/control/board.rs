//! How each instance is, as the supervisor told it last.

use std::collections::BTreeMap;

use rustix::time::ClockId;

use crate::confine::Receipt;
use crate::handle::{InstanceStatus, State, Status};
use crate::ident::{Name, PolicyId};
use crate::layer::logger::sentence;
use crate::policy::plan::LayerPlan;
use crate::sys::clock::nanoseconds;
use crate::wire::life::{End, Stage, Standing};

/// All instances, by their places: the policy's layers first.
#[derive(Debug, Default)]
pub(super) struct Board(BTreeMap<u32, Standing>);

impl Board {
    pub(super) fn put(&mut self, standing: Standing) {
        match standing.stage {
            Stage::Gone => drop(self.0.remove(&standing.seat)),
            _ => drop(self.0.insert(standing.seat, standing)),
        }
    }

    pub(super) fn get(&self, seat: u32) -> Option<&Standing> {
        self.0.get(&seat)
    }

    /// The copies of a layer; without a name, of every layer of the policy.
    pub(super) fn seats(&self, layer: Option<&str>) -> Vec<u32> {
        // Somebody else is what it was, while it finishes.
        let is_former = |it: &Standing| {
            let mut others = self.0.values().map(|other| &other.instance);
            it.stage == Stage::Finishing
                && others.any(|other| {
                    (&other.layer, other.index) == (&it.instance.layer, it.instance.index)
                        && other.generation > it.instance.generation
                })
        };
        let wanted = |it: &&Standing| match layer {
            _ if it.stage == Stage::Spare || is_former(it) => false,
            Some(layer) => it.instance.layer == *layer,
            None => !is_own(&it.instance.layer),
        };
        self.0.values().filter(wanted).map(|it| it.seat).collect()
    }

    /// The names of all layers.
    pub(super) fn layers(&self) -> String {
        let mut names: Vec<_> = self.0.values().map(|it| it.instance.layer.as_str()).collect();
        names.dedup();
        names.join(", ")
    }

    pub(super) fn status(&self, policy: PolicyId, stopping: bool) -> Status {
        let now = nanoseconds(ClockId::Monotonic);
        let there = self.0.values().filter(|it| it.stage != Stage::Spare);
        Status {
            name: String::new(),
            pid: 0,
            file: std::path::PathBuf::new(),
            audit: None,
            policy: policy.to_string(),
            uptime: 0,
            stopping,
            instances: there.map(|it| instance(it, now)).collect(),
        }
    }
}

fn is_own(layer: &Name) -> bool {
    layer.as_str().starts_with(LayerPlan::RESERVED)
}

/// Whether an instance is down, and nothing is wrong with that.
pub(super) fn has_finished(standing: &Standing) -> bool {
    let failed = |end: &End| end.instance == standing.instance && end.ending.is_failure();
    standing.stage == Stage::Down && !standing.last.as_ref().is_some_and(failed)
}

fn instance(standing: &Standing, now: u64) -> InstanceStatus {
    let Standing { instance, stage, since, pid, receipt, load, last, .. } = standing;
    let receipt = receipt.as_slice().try_into().ok();
    let receipt = receipt.and_then(|bytes| Receipt::from_bytes(&bytes));
    InstanceStatus {
        layer: instance.layer.to_string(),
        copy: instance.index,
        generation: instance.generation,
        own: is_own(&instance.layer),
        state: match stage {
            Stage::Waiting => State::Waiting,
            Stage::Confining => State::Starting,
            Stage::Running => State::Running,
            Stage::Finishing => State::Stopping,
            Stage::Down | Stage::Spare | Stage::Gone => State::Down,
        },
        finished: has_finished(standing),
        since: now.saturating_sub(*since) / 1_000_000,
        pid: (*pid > 0).then_some(*pid),
        load: *load,
        restarts: instance.generation.saturating_sub(1),
        last: last.as_ref().map(|end| sentence(end, "")),
        receipt: receipt.map(|receipt| receipt.summary()),
        usage: None,
    }
}
