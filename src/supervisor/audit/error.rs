//! Why a log can't begin.

use std::io;
use std::path::PathBuf;

use crate::prepare::walk::{Defect, WalkError};
use crate::seal::SealError;

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

impl From<WalkError> for BeginError {
    fn from(WalkError { path, source }: WalkError) -> Self {
        Self::Directory(path, source)
    }
}
