//! The beginning of a log: the auditor's part of the plan.

use crate::ident::{Name, PolicyId};
use crate::layer::auditor::orders::Orders;
use crate::policy::plan::Plan;
use crate::prepare::LogDirectory;
use crate::seal::{Chance, OsChance, SealError};

/// Why the auditor can't be told what it must know.
#[derive(Debug, thiserror::Error)]
pub enum OrdersError {
    /// The system has no randomness.
    #[error(transparent)]
    Chance(#[from] SealError),
    /// The plan has no canonical form.
    #[error("the plan can't be encoded: {0}")]
    Encoding(#[from] postcard::Error),
}

/// What the auditor must know of a plan, to which layers of our `own` are added.
pub fn orders(
    directory: &LogDirectory,
    plan: &Plan,
    policy: PolicyId,
    own: &[Name],
) -> Result<Vec<u8>, OrdersError> {
    let mut run = [0; 8];
    OsChance.fill(&mut run)?;
    let orders = Orders {
        directory: directory.path().display().to_string(),
        identity: directory.identity(),
        run: u64::from_le_bytes(run),
        policy,
        plan: plan.clone(),
        own: own.to_vec(),
    };
    Ok(orders.encode()?)
}
