//! Why a process could not be confined.

use std::io;

use super::root::RootError;
use crate::policy::plan::Protection;
use crate::sys::spawn::SpawnError;

/// Why a process could not be confined. It must end: part of the recipe may have been done.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// The supervisor died before the parent-death signal was in place.
    #[error("the supervisor is gone")]
    Orphaned,
    /// A protection that the policy demands can't be had.
    #[error(
        "{name} can't be enforced: {step}: {source}; `cofferdam doctor` says more, and a policy \
         that can do without it lists \"{name}\" in `optional`",
        name = protection.name()
    )]
    Refused {
        /// What is missing.
        protection: Protection,
        /// The step that failed.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// A granted path can't be given.
    #[error("a granted path can't be given: {0}")]
    Path(#[source] RootError),
    /// A step that isn't a protection of its own failed.
    #[error("{step}: {source}")]
    Step {
        /// The step.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The filter could not be loaded.
    #[error("the system-call filter can't be loaded: {0}")]
    Filter(#[source] io::Error),
    /// A program of an `exec` layer could not be started.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// Every step went well, and yet these are missing.
    #[error("demanded and not enforced: {}", names(.0))]
    Missing(Vec<Protection>),
}

fn names(protections: &[Protection]) -> String {
    protections.iter().map(|protection| protection.name()).collect::<Vec<_>>().join(", ")
}
