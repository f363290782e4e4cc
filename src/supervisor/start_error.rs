//! Why a life of a layer can't begin.

use std::io;

use rustix::io::Errno;

use crate::ident::Name;
use crate::sys::spawn::SpawnError;

/// Why an instance can't be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A file that the policy grants can't be opened.
    #[error("[file.{name}] {path}: {error}")]
    File {
        /// The grant's name.
        name: Name,
        /// Its path.
        path: String,
        /// What the system said.
        error: io::Error,
    },
    /// A protection that the policy demands can't be had.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// Something else.
    #[error("{0}")]
    System(#[from] io::Error),
}

impl StartError {
    /// Whether another attempt will fail like this one, as far as the error tells: not where the
    /// system lacked room, which it may have again.
    pub fn lasts(&self) -> bool {
        let error = match self {
            Self::Spawn(SpawnError::Clone(error) | SpawnError::Child(_, error)) => error,
            // What is granted was there, and pipes and groups could be made, when the plan was
            // compiled or the policy was checked.
            Self::File { .. } | Self::System(_) => return false,
        };
        let passing = [Errno::MFILE, Errno::NFILE, Errno::AGAIN, Errno::NOMEM, Errno::NOSPC];
        !passing.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
    }
}
