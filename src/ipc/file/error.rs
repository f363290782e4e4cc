//! Why a file isn't opened, made, replaced, removed or listed.

use std::io;
use std::path::PathBuf;

use crate::ident::Name;
use crate::policy::plan::{FilePlan, FileRight};

/// Why not, by whose fault.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The policy doesn't grant the right.
    #[error("`[file.{file}] grant`: layer '{layer}' has no right to {right}: add `\"{right}\"`")]
    NotGranted {
        /// The grant's name.
        file: Name,
        /// Who asked.
        layer: Name,
        /// The right's name in the policy.
        right: &'static str,
    },
    /// The policy denies the name.
    #[error("`[file.{file}] deny = [\"{pattern}\"]`: {} is denied", .path.display())]
    Denied {
        /// The grant's name.
        file: Name,
        /// What was asked for.
        path: PathBuf,
        /// The pattern that denies it.
        pattern: String,
    },
    /// As many descriptors as the policy allows are open already.
    #[error("`[file.{file}] max-open = {most}`: this layer has as many open")]
    Limit {
        /// The grant's name.
        file: Name,
        /// The limit.
        most: u32,
    },
    /// Our caller's mistake: a path that isn't names joined by single slashes, or acts that make
    /// no sense together.
    #[error("[file.{file}] {}: {why}", .path.display())]
    Malformed {
        /// The grant's name.
        file: Name,
        /// What was asked for.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A device, a FIFO, a socket or a symbolic link.
    #[error("[file.{file}] {}: it is no regular file", .path.display())]
    NotRegular {
        /// The grant's name.
        file: Name,
        /// What was asked for.
        path: PathBuf,
    },
    /// The helper that opens files ended meanwhile. It may have been done or not.
    #[error("[file.{file}] {}: the helper for files ended before it answered: look whether it was done", .path.display())]
    Interrupted {
        /// The grant's name.
        file: Name,
        /// What was asked for.
        path: PathBuf,
    },
    /// The system refused. A symbolic link on the way is `ELOOP`, a way out of the directory or
    /// into another file system `EXDEV`.
    #[error("[file.{file}] {}: {error}", .path.display())]
    System {
        /// The grant's name.
        file: Name,
        /// What was asked for.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
}

impl FileError {
    /// The nearest kind of [`io::Error`].
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::NotGranted { .. } | Self::Denied { .. } => io::ErrorKind::PermissionDenied,
            Self::Limit { .. } => io::ErrorKind::QuotaExceeded,
            Self::Malformed { .. } | Self::NotRegular { .. } => io::ErrorKind::InvalidInput,
            Self::Interrupted { .. } => io::ErrorKind::Interrupted,
            Self::System { error, .. } => error.kind(),
        }
    }

    /// Which of the rights that an act takes is missing.
    pub(super) fn missing(plan: &FilePlan, layer: &Name, needed: &[FileRight]) -> Option<Self> {
        let held = plan.grant.get(layer).map_or(&[][..], Vec::as_slice);
        let right = needed.iter().find(|right| !held.contains(right))?;
        Some(Self::not_granted(plan, layer, *right))
    }

    pub(super) fn not_granted(plan: &FilePlan, layer: &Name, right: FileRight) -> Self {
        Self::NotGranted { file: plan.name.clone(), layer: layer.clone(), right: right.name() }
    }
}

impl From<FileError> for io::Error {
    fn from(error: FileError) -> Self {
        match error {
            FileError::System { error, .. } => error,
            other => Self::new(other.kind(), other),
        }
    }
}
