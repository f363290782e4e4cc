//! What a daemon starts from: its policy, and what its layers shall know.

use std::error::Error;
use std::path::Path;

use super::flags::Flags;
use crate::prepare::policy_file::{self, PolicyFileError};

/// A policy that the program makes, embeds or has read, and what its layers shall know.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Setup {
    /// What the policy is called in messages.
    pub name: String,
    /// The policy.
    pub text: String,
    /// See [`Daemon::settings`](crate::Daemon::settings).
    pub settings: Vec<u8>,
    /// See [`Daemon::flags`](crate::Daemon::flags).
    pub flags: Flags,
    /// Whether there is a file, beside which lies what it includes.
    pub(super) in_a_file: bool,
}

/// Why a setup came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The policy's file.
    #[error(transparent)]
    Policy(#[from] PolicyFileError),
    /// Whatever else the program's own function met.
    #[error("{0}")]
    Other(Box<dyn Error>),
}

impl Setup {
    /// A policy that is part of the program, or that it has made. It includes nothing.
    pub fn from_text(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into(), ..Self::default() }
    }

    /// The policy in a file, of at most [`MAX_SIZE`](crate::policy::MAX_SIZE) bytes. Refused if
    /// anybody but root and this user could have written it: the file, or the directories and
    /// links that lead there.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, PolicyFileError> {
        let path = path.as_ref();
        let bytes = policy_file::read(path)?;
        // What isn't UTF-8 is refused by the checker, which says where.
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok(Self { in_a_file: true, ..Self::from_text(path.display().to_string(), text) })
    }

    /// Bytes that every layer reads; see [`Daemon::settings`](crate::Daemon::settings).
    #[must_use]
    pub fn settings(mut self, settings: impl Into<Vec<u8>>) -> Self {
        self.settings = settings.into();
        self
    }

    /// What a person asked for; see [`Daemon::flags`](crate::Daemon::flags).
    #[must_use]
    pub fn flags(mut self, flags: Flags) -> Self {
        self.flags.add(flags);
        self
    }
}

impl Flags {
    /// What `--policy` names, read and checked for who else could have written it; without the
    /// flag the program's own text. For a setup that looks at its policy before the daemon does.
    pub fn setup(mut self, name: &str, text: &str) -> Result<Setup, PolicyFileError> {
        let setup = match self.policy.take() {
            Some(path) => Setup::from_file(path)?,
            None => Setup::from_text(name, text),
        };
        Ok(setup.flags(self))
    }
}

impl SetupError {
    /// What a program's function has returned. A policy's file that was refused is known again.
    pub(super) fn of(error: Box<dyn Error>) -> Self {
        let error = match error.downcast::<PolicyFileError>() {
            Ok(error) => return Self::Policy(*error),
            Err(error) => error,
        };
        match error.downcast::<Self>() {
            Ok(error) => *error,
            Err(error) => Self::Other(error),
        }
    }

    /// Whether the policy is at fault (exit code 1) and not the system (exit code 3).
    pub fn is_finding(&self) -> bool {
        matches!(self, Self::Policy(error) if error.is_finding())
    }
}
