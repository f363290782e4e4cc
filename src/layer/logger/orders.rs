//! What the writer of the log learns of the plan: which system calls each layer has, so that it can
//! say what a denial would take to be none.

use std::collections::BTreeMap;
use std::io;

use blake2::{Blake2s256, Digest};
use serde::{Deserialize, Serialize};

use crate::ident::Name;
use crate::policy::plan::{FileRight, LayerPlan, LogPlan, Plan, Program, SyscallPlan};
use crate::policy::syscall::Implied;
use crate::policy::syscall::refused::Grant;
use crate::seal::{Chance, SealError};
use crate::wire::event::Mark;

/// The most that this may take of what the writer is told, in bytes. Of a plan with more the writer
/// knows nothing, and says less.
const MOST: usize = 512 << 10;

/// What each layer has.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Orders {
    /// What one or more layers have: many have the same.
    kinds: Vec<Calls>,
    /// The place in `kinds`, by layer.
    layers: BTreeMap<Name, usize>,
    /// Files of layers in which other programs run.
    files: BTreeMap<Name, Vec<Granted>>,
}

/// A file or directory that a layer is granted.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Granted {
    /// The grant's name.
    pub name: Name,
    /// Where the layer sees it.
    pub path: String,
    /// What it may do there.
    pub rights: Vec<FileRight>,
}

/// What the writer must know of a plan.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// The daemon's name.
    pub daemon: Name,
    /// What of each layer's lines is shown, and what its events begin with.
    pub layers: BTreeMap<Name, (LogPlan, Mark)>,
    /// What each layer has.
    pub orders: Orders,
}

impl Settings {
    /// Those of the plan.
    pub(crate) fn of(plan: &Plan, marks: &Marks) -> Self {
        let layer = |it: &LayerPlan| (it.name.clone(), (it.log.clone(), marks.of(&it.name)));
        let layers = stated(plan).map(layer).collect();
        Self { daemon: plan.name.clone(), layers, orders: Orders::of(plan) }
    }

    /// As they are handed over.
    pub(crate) fn encode(mut self) -> Result<Vec<u8>, postcard::Error> {
        if postcard::to_stdvec(&self.orders)?.len() > MOST {
            self.orders = Orders::default();
        }
        postcard::to_stdvec(&self)
    }

    pub(super) fn decode(bytes: &[u8]) -> io::Result<Self> {
        postcard::from_bytes(bytes).map_err(io::Error::other)
    }
}

/// What the events of layers begin with: a secret of each layer's that follows from one of the
/// daemon's.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Marks([u8; 32]);

impl Marks {
    /// Fresh ones.
    pub(crate) fn new(chance: &mut impl Chance) -> Result<Self, SealError> {
        let mut secret = [0; 32];
        chance.fill(&mut secret)?;
        Ok(Self(secret))
    }

    /// That of a layer.
    pub(crate) fn of(&self, layer: &Name) -> Mark {
        let mut hash = Blake2s256::new();
        hash.update(b"cofferdam events\0");
        hash.update(self.0);
        hash.update(layer.as_str());
        let mut mark = [0; Mark::LENGTH];
        mark.copy_from_slice(&hash.finalize()[..Mark::LENGTH]);
        Mark(mark)
    }
}

/// What a layer may call.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Calls {
    granted: Vec<SyscallPlan>,
    /// Whether another program runs in it.
    exec: bool,
    /// Whether it may append to some file that it may not write otherwise.
    appends: bool,
}

impl Orders {
    /// Those of the plan.
    pub(crate) fn of(plan: &Plan) -> Self {
        let mut orders = Self::default();
        for layer in stated(plan) {
            let calls = Calls::of(plan, layer);
            let known = orders.kinds.iter().position(|known| *known == calls);
            let place = known.unwrap_or_else(|| {
                orders.kinds.push(calls);
                orders.kinds.len() - 1
            });
            orders.layers.insert(layer.name.clone(), place);
            if matches!(layer.program, Program::Exec(_)) {
                let granted = plan.files_of(&layer.name).map(|(file, rights)| Granted {
                    name: file.name.clone(),
                    path: file.seen_at().to_owned(),
                    rights: rights.to_vec(),
                });
                orders.files.insert(layer.name.clone(), granted.collect());
            }
        }
        orders
    }

    /// The files that a layer is granted, if those are known here.
    pub(super) fn files(&self, layer: &Name) -> &[Granted] {
        self.files.get(layer).map_or(&[], Vec::as_slice)
    }

    /// What a layer has, if that is known here.
    pub(super) fn grant(&self, layer: &Name) -> Option<Grant<'_>> {
        let Calls { granted, exec, appends } = self.kinds.get(*self.layers.get(layer)?)?;
        let implied = if *exec { Implied::Exec } else { Implied::Run };
        Some(Grant { calls: granted, implied, appends: *appends })
    }
}

/// The policy's layers: a plan that was there before has places for the framework's own too.
fn stated(plan: &Plan) -> impl Iterator<Item = &LayerPlan> {
    plan.layers.iter().filter(|it| !it.name.as_str().starts_with(LayerPlan::RESERVED))
}

impl Calls {
    fn of(plan: &Plan, layer: &LayerPlan) -> Self {
        let appends = plan.files_of(&layer.name).any(|(_, rights)| {
            rights.contains(&FileRight::Append) && !rights.contains(&FileRight::Write)
        });
        let exec = matches!(layer.program, Program::Exec(_));
        Self { granted: layer.syscalls.clone(), exec, appends }
    }
}
