//! A layer's share of the facilities, as its slice of the plan lists it.

use serde::{Deserialize, Serialize};

use crate::ident::Name;
use crate::policy::plan::{
    ConnectPlan, Facilities, FifoPlan, FilePlan, ListenPlan, MappedFilePlan, PipePlan, Plan,
    QueuePlan, RegionPlan, SemaphorePlan, SignalPlan,
};

/// A part of the plan, with its number there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Numbered<T> {
    /// Its place in its list of the plan: what it is called in control messages.
    pub number: u16,
    /// What the policy says of it.
    pub plan: T,
}

/// The facilities in which a layer has a part.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Share {
    /// Files and directories that it holds rights on.
    pub files: Vec<Numbered<FilePlan>>,
    /// Its listening sockets.
    pub listen: Vec<ListenPlan>,
    /// Addresses that it is connected to; the number is the place among its own.
    pub connect: Vec<Numbered<ConnectPlan>>,
    /// Signals that it sends or receives.
    pub signals: Vec<Numbered<SignalPlan>>,
    /// Queues that it sends on or receives from.
    pub queues: Vec<Numbered<QueuePlan>>,
    /// Pipes that it writes or reads.
    pub pipes: Vec<Numbered<PipePlan>>,
    /// Named pipes that it reads.
    pub fifos: Vec<Numbered<FifoPlan>>,
    /// Semaphores that it may hold.
    pub semaphores: Vec<Numbered<SemaphorePlan>>,
    /// Regions that it maps.
    pub regions: Vec<Numbered<RegionPlan>>,
    /// Files that it maps.
    pub mapped_files: Vec<Numbered<MappedFilePlan>>,
}

impl Share {
    /// What of `plan` is `layer`'s.
    pub fn of(plan: &Plan, layer: &Name) -> Self {
        fn pick<T: Clone>(all: &[T], is_mine: impl Fn(&T) -> bool) -> Vec<Numbered<T>> {
            (0..)
                .zip(all)
                .filter(|(_, plan)| is_mine(plan))
                .map(|(number, plan)| Numbered { number, plan: plan.clone() })
                .collect()
        }
        // Taken apart, so that the compiler names this when there is one kind more.
        let Facilities { signals, queues, pipes, fifos, semaphores, regions, mapped_files } =
            &plan.facilities;
        let own = plan.layers.iter().find(|it| it.name == *layer);
        Self {
            listen: own.map(|it| it.listen.clone()).unwrap_or_default(),
            connect: own.map(|it| pick(&it.connect, |_| true)).unwrap_or_default(),
            files: pick(&plan.files, |it| it.grant.contains_key(layer)),
            signals: pick(signals, |it| it.from == *layer || it.to == *layer),
            queues: pick(queues, |it| it.send.contains(layer) || it.receive.contains(layer)),
            pipes: pick(pipes, |it| it.from == *layer || it.to == *layer),
            fifos: pick(fifos, |it| it.to == *layer),
            semaphores: pick(semaphores, |it| it.holders.contains(layer)),
            regions: pick(regions, |it| it.grant.contains_key(layer)),
            mapped_files: pick(mapped_files, |it| it.grant.contains_key(layer)),
        }
    }

    /// The signals that others may send to `layer`, by number, each once.
    pub fn signals_to(&self, layer: &Name) -> Vec<u8> {
        let to_me = self.signals.iter().filter(|signal| signal.plan.to == *layer);
        let mut numbers: Vec<u8> = to_me.flat_map(|signal| signal.plan.send.clone()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }
}
