//! What the writer of the log learns of the plan: which system calls each layer has, so that it can
//! say what a denial would take to be none.

use std::collections::BTreeMap;
use std::io;

use serde::{Deserialize, Serialize};

use crate::ident::Name;
use crate::policy::plan::{FileRight, LayerPlan, Plan, Program, SyscallPlan};
use crate::policy::syscall::Implied;
use crate::policy::syscall::refused::Grant;

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
        for layer in &plan.layers {
            let calls = Calls::of(plan, layer);
            let known = orders.kinds.iter().position(|known| *known == calls);
            let place = known.unwrap_or_else(|| {
                orders.kinds.push(calls);
                orders.kinds.len() - 1
            });
            orders.layers.insert(layer.name.clone(), place);
        }
        orders
    }

    /// As they are handed over.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, postcard::Error> {
        let bytes = postcard::to_stdvec(self)?;
        if bytes.len() > MOST { postcard::to_stdvec(&Self::default()) } else { Ok(bytes) }
    }

    pub(super) fn decode(bytes: &[u8]) -> io::Result<Self> {
        postcard::from_bytes(bytes).map_err(io::Error::other)
    }

    /// What a layer has, if that is known here.
    pub(super) fn grant(&self, layer: &Name) -> Option<Grant<'_>> {
        let Calls { granted, exec, appends } = self.kinds.get(*self.layers.get(layer)?)?;
        let implied = if *exec { Implied::Exec } else { Implied::Run };
        Some(Grant { calls: granted, implied, appends: *appends })
    }
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
