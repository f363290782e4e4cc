//! The beginning of a log: its directory, and the auditor's part of the plan.

use std::io;
use std::path::{Path, PathBuf};

use super::directory::Directory;
use crate::ident::{Name, PolicyId};
use crate::layer::auditor::orders::Orders;
use crate::policy::plan::Plan;
use crate::prepare::walk::{Defect, WalkError};
use crate::seal::{Chance, OsChance, SealError};

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
    /// The system has no randomness.
    #[error(transparent)]
    Chance(#[from] SealError),
    /// The plan has no canonical form.
    #[error("the plan can't be encoded: {0}")]
    Encoding(#[from] postcard::Error),
}

/// A log that can begin.
pub struct Begun {
    /// The log's directory.
    pub directory: Directory,
}

impl From<WalkError> for BeginError {
    fn from(WalkError { path, source }: WalkError) -> Self {
        Self::Directory(path, source)
    }
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
