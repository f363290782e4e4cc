//! The beginning of a log: its directory, and the auditor's part of the plan.

use std::path::Path;

use super::directory::Directory;
use super::error::BeginError;
use crate::ident::{Name, PolicyId};
use crate::layer::auditor::orders::Orders;
use crate::policy::plan::Plan;
use crate::seal::{Chance, OsChance, SealError};

/// A log that can begin.
pub struct Begun {
    /// The log's directory.
    pub directory: Directory,
}

impl Begun {
    /// Makes the directory. `None`: the daemon keeps no log.
    pub fn begin(plan: &Plan, directory: Option<&Path>) -> Result<Option<Self>, BeginError> {
        let stated = plan.audit.directory.as_deref().map(Path::new);
        let Some(directory) = directory.or(stated) else {
            return if plan.audit.demanded { Err(BeginError::Nowhere) } else { Ok(None) };
        };
        let directory = Directory::open(directory)?;
        let path = directory.path().display().to_string();
        if let Some(rule) = plan.reaching(&path).into_iter().next() {
            return Err(BeginError::Reached(directory.path().to_owned(), rule));
        }
        Ok(Some(Self { directory }))
    }

    /// What the auditor must know of a plan, to which layers of our `own` are added.
    pub fn orders(
        &self,
        plan: &Plan,
        policy: PolicyId,
        own: &[Name],
    ) -> Result<Vec<u8>, BeginError> {
        let path = self.directory.path();
        let identity = self.directory.identity();
        let identity = identity.map_err(|error| BeginError::Directory(path.into(), error))?;
        let mut run = [0; 8];
        OsChance.fill(&mut run)?;
        let orders = Orders {
            directory: path.display().to_string(),
            identity,
            run: u64::from_le_bytes(run),
            policy,
            plan: plan.clone(),
            own: own.to_vec(),
        };
        Ok(orders.encode()?)
    }
}
