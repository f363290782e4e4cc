//! The beginning of a log: its directory, and the auditor's part of the plan.

use std::io;
use std::path::{Path, PathBuf};

use super::directory::Directory;
use super::relay;
use crate::ident::{Name, PolicyId};
use crate::layer::auditor::NAME;
use crate::layer::auditor::orders::Orders;
use crate::policy::plan::{Audit, Plan};
use crate::policy::{self, Inputs};
use crate::prepare::walk::{Defect, WalkError};
use crate::seal::{Chance, OsChance, SealError};

/// What the auditor may do, as a policy of its own.
const POLICY: &str = include_str!("auditor.toml");

/// The least bytes of a ring that payloads go through: a record of the largest size, sealed, and
/// what is said of it.
const LEAST_FOR_PAYLOADS: u32 = 256 << 10;

/// Why the log can't begin.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// The policy demands a log, and nobody says where.
    #[error(
        "the policy demands an audit log, and nobody says where: give `--audit DIR`, or \
         `directory` in [audit]"
    )]
    Nowhere,
    /// The directory can't be had.
    #[error("the audit log's directory {0}: {1}")]
    Directory(PathBuf, io::Error),
    /// Somebody else may write there.
    #[error(
        "the audit log's directory {0} is writable to others (mode {1:o}): `chmod go-w {0}`, or \
         give another one"
    )]
    Open(PathBuf, u32),
    /// Somebody else could put another directory in its place.
    #[error("the audit log's directory {0}: {1}")]
    Unsafe(PathBuf, Defect),
    /// It belongs to somebody else.
    #[error(
        "the audit log's directory {0} belongs to user {1}, who could alter it: if it is yours, \
         look at what is in it and `chown -R` it to the user who runs the daemon"
    )]
    Foreign(PathBuf, u32),
    /// Something in it may not be given to the auditor.
    #[error(
        "the audit log's directory {0} holds {1:?}, which {2}: no log has such a file; take it \
         away, or give another directory"
    )]
    Strange(PathBuf, String, String),
    /// It is used for something else.
    #[error(
        "the audit log's directory {0} holds {1:?}, which is no part of a log: give one that is \
         empty, isn't there yet, or holds a log"
    )]
    Used(PathBuf, String),
    /// A layer can reach it.
    #[error(
        "the audit log's directory {0} is within reach of [{1}]: give one that no layer is \
         granted anything in, at or around"
    )]
    Reached(PathBuf, String),
    /// A mistake of ours.
    #[error("the framework's own policy is wrong: {0}")]
    Own(String),
    /// The system has no randomness.
    #[error(transparent)]
    Chance(#[from] SealError),
    /// The plan has no canonical form.
    #[error("the plan can't be encoded: {0}")]
    Encoding(#[from] postcard::Error),
}

/// A plan with an auditor in it.
pub struct Begun {
    /// The auditor's settings.
    pub settings: Vec<u8>,
    /// The auditor's place among the layers. The witness's is behind it.
    pub layer: usize,
    /// How many layers of the framework's own there are, which come last.
    pub own: usize,
    /// Bytes of a layer's ring.
    pub ring: u32,
    /// The log's directory.
    pub directory: Directory,
}

impl From<WalkError> for BeginError {
    fn from(WalkError { path, source }: WalkError) -> Self {
        Self::Directory(path, source)
    }
}

impl Begun {
    /// Makes the directory, and adds the auditor to the plan. `None`: the daemon keeps no log.
    pub fn begin(
        plan: &mut Plan,
        policy: PolicyId,
        directory: Option<&Path>,
    ) -> Result<Option<Self>, BeginError> {
        let stated = plan.audit.directory.as_deref().map(Path::new);
        let Some(directory) = directory.or(stated) else {
            return if plan.audit.demanded { Err(BeginError::Nowhere) } else { Ok(None) };
        };
        let directory = Directory::open(directory)?;
        let path = directory.path().display().to_string();
        if let Some(rule) = plan.reaching(&path).into_iter().next() {
            return Err(BeginError::Reached(directory.path().to_owned(), rule));
        }
        let identity = directory.identity();
        let identity = identity.map_err(|e| BeginError::Directory(directory.path().into(), e))?;
        let own = auditor_plan(directory.path())?;
        let name = Name::new(NAME).map_err(|error| BeginError::Own(error.to_string()))?;
        let mut run = [0; 8];
        OsChance.fill(&mut run)?;
        let witness = relay::layer(plan)?;
        let names = [&name].into_iter().chain(witness.as_ref().map(|layer| &layer.name));
        let orders = Orders {
            directory: path,
            identity,
            run: u64::from_le_bytes(run),
            policy,
            plan: plan.clone(),
            own: names.cloned().collect(),
        };
        let own_layers = orders.own.len();
        let settings = orders.encode()?;
        let layer = plan.layers.len();
        for mut one in own.layers {
            one.name = name.clone();
            one.program = crate::policy::plan::Program::Run(name.clone());
            one.limits.file_size = plan.audit.segment_bytes.saturating_mul(4).max(1 << 30);
            plan.layers.push(one);
        }
        for mut file in own.files {
            file.name = name.clone();
            file.grant = file.grant.into_values().map(|rights| (name.clone(), rights)).collect();
            plan.files.push(file);
        }
        plan.layers.extend(witness);
        let captures = plan.channels.iter().any(|channel| channel.audit == Audit::Payload);
        let least = if captures { LEAST_FOR_PAYLOADS } else { 0 };
        let ring = plan.audit.ring_bytes.max(least);
        Ok(Some(Self { settings, layer, own: own_layers, ring, directory }))
    }
}

/// The auditor as a plan of its own, for this directory.
fn auditor_plan(directory: &Path) -> Result<Plan, BeginError> {
    let vars = [("directory".to_owned(), directory.display().to_string())];
    let inputs = Inputs { load: None, vars: &vars, ceiling: None };
    own_plan("auditor.toml", POLICY, &inputs)
}

/// A policy of the framework's own as a plan.
pub(super) fn own_plan(name: &str, text: &str, inputs: &Inputs<'_>) -> Result<Plan, BeginError> {
    let checked = policy::check_with(name, text.as_bytes(), inputs);
    let complaint = checked.render(false);
    checked.plan.ok_or(BeginError::Own(complaint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_auditors_own_policy_is_sound() {
        let plan = auditor_plan(Path::new("/var/log/x")).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(plan.files[0].path, "/var/log/x");
        assert_eq!(plan.layers.len(), 1);
    }
}
