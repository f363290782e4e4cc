//! The order of a plan that takes the place of another one while the daemon runs.
//!
//! Running layers, helpers and the audit log know layers and facilities by their numbers. So what
//! keeps its name keeps its number, what is new comes behind, and what is dropped leaves its number
//! empty: nobody takes part in it any more, and nothing else ever gets it.

use std::collections::BTreeMap;

use crate::ident::Name;
use crate::policy::plan::{
    ChannelPlan, Facilities, FifoPlan, FilePlan, LayerPlan, MappedFilePlan, PipePlan, Plan,
    QueuePlan, RegionPlan, SemaphorePlan, SignalPlan,
};

/// The most of one kind that may have come and gone. Numbers are never used again.
const MOST: usize = 16 << 10;

/// Who takes part in what nobody takes part in.
const NOBODY: &str = "cofferdam-nobody";

/// Something that a plan numbers.
pub(super) trait Slot: Clone {
    /// Its name.
    fn name(&self) -> &Name;

    /// What is left of it once it is dropped: its number and its name.
    fn vacant(&self) -> Self;
}

macro_rules! slots {
    ($($kind:ty: $old:ident => $vacant:expr;)*) => {$(
        impl Slot for $kind {
            fn name(&self) -> &Name {
                &self.name
            }

            fn vacant(&self) -> Self {
                let $old = self.clone();
                $vacant
            }
        }
    )*};
}

slots! {
    // What ends a life that is still there stays.
    LayerPlan: old => Self {
        instances: 0,
        syscalls: Vec::new(),
        listen: Vec::new(),
        connect: Vec::new(),
        after: Vec::new(),
        ..old
    };
    ChannelPlan: old => Self { from: nobody(), to: nobody(), witness: false, ..old };
    FilePlan: old => Self { grant: BTreeMap::new(), ..old };
    SignalPlan: old => Self { from: nobody(), to: nobody(), ..old };
    QueuePlan: old => Self { send: Vec::new(), receive: Vec::new(), ..old };
    PipePlan: old => Self { from: nobody(), to: nobody(), ..old };
    FifoPlan: old => Self { to: nobody(), ..old };
    SemaphorePlan: old => Self { holders: Vec::new(), ..old };
    RegionPlan: old => Self { grant: BTreeMap::new(), ..old };
    MappedFilePlan: old => Self { grant: BTreeMap::new(), ..old };
}

fn nobody() -> Name {
    Name::new(NOBODY).unwrap_or_else(|_| unreachable!("it is a name"))
}

/// Whether a slot is empty. There is nothing behind it to be made.
pub(super) fn is_vacant(layer: &Name) -> bool {
    *layer == *NOBODY
}

/// The new plan in the old one's order. `layers` are all of the old one's, the framework's own
/// among them: their numbers stay theirs, as empty slots.
pub(super) fn arrange(old: &Plan, layers: &[LayerPlan], new: &Plan) -> Result<Plan, String> {
    let (was, is) = (&old.facilities, &new.facilities);
    let mut plan = new.clone();
    plan.layers = behind(layers, &new.layers);
    plan.channels = behind(&old.channels, &new.channels);
    plan.files = behind(&old.files, &new.files);
    plan.facilities = Facilities {
        signals: behind(&was.signals, &is.signals),
        queues: behind(&was.queues, &is.queues),
        pipes: behind(&was.pipes, &is.pipes),
        fifos: behind(&was.fifos, &is.fifos),
        semaphores: behind(&was.semaphores, &is.semaphores),
        regions: behind(&was.regions, &is.regions),
        mapped_files: behind(&was.mapped_files, &is.mapped_files),
    };
    let Facilities { signals, queues, pipes, fifos, semaphores, regions, mapped_files } =
        &plan.facilities;
    let counts = [
        plan.layers.len(),
        plan.channels.len(),
        plan.files.len(),
        signals.len(),
        queues.len(),
        pipes.len(),
        fifos.len(),
        semaphores.len(),
        regions.len(),
        mapped_files.len(),
    ];
    if counts.into_iter().any(|count| count > MOST) {
        return Err("so much has come and gone since the daemon's start that a restart is needed"
            .to_owned());
    }
    Ok(plan)
}

fn behind<T: Slot>(old: &[T], new: &[T]) -> Vec<T> {
    let find = |all: &[T], name: &Name| all.iter().position(|it| it.name() == name);
    let kept = old.iter().map(|it| match find(new, it.name()) {
        Some(place) => new[place].clone(),
        None => it.vacant(),
    });
    let come = new.iter().filter(|it| find(old, it.name()).is_none()).cloned();
    kept.chain(come).collect()
}

/// What of a plan has still to be made, in a plan of the same numbers: what is the same as before
/// is left out, and the listening sockets that `listens` says are there.
pub(super) fn unmade(old: &Plan, new: &Plan, is_there: impl Fn(usize, usize) -> bool) -> Plan {
    let mut plan = new.clone();
    let (was, is) = (&old.facilities, &mut plan.facilities);
    is.queues = others(&was.queues, &is.queues);
    is.regions = others(&was.regions, &is.regions);
    is.mapped_files = others(&was.mapped_files, &is.mapped_files);
    is.fifos = others(&was.fifos, &is.fifos);
    for (number, layer) in plan.layers.iter_mut().enumerate() {
        let mut place = 0..;
        layer.listen.retain(|_| place.next().is_some_and(|listen| !is_there(number, listen)));
        if let Some(old) = old.layers.get(number) {
            layer.directories.retain(|it| !old.directories.contains(it));
        }
    }
    plan
}

fn others<T: Slot + PartialEq>(old: &[T], new: &[T]) -> Vec<T> {
    let same = |number: usize, it: &T| old.get(number) == Some(it);
    let other = |(number, it): (usize, &T)| if same(number, it) { it.vacant() } else { it.clone() };
    new.iter().enumerate().map(other).collect()
}
