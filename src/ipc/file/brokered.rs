//! A directory that this layer sees nothing of: a helper opens what lies beneath.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use crate::ipc::broker::Broker;
use crate::mark;
use crate::wire::broker::{Answer, Ask, Refusal};

/// The longest list that is read, in bytes: longer than what the helper makes.
const MAX_LIST: u64 = 2 << 20;

/// Asks the helper for acts on one file grant.
#[derive(Clone, Debug)]
pub(super) struct Brokered {
    pub(super) number: u16,
    pub(super) broker: Arc<Broker>,
}

/// Why it didn't do it.
#[derive(Debug)]
pub(super) enum BrokeredError {
    Refused(Refusal),
    System(io::Error),
}

impl Brokered {
    /// Has it done, without a descriptor.
    pub(super) fn act(&self, how: u16, path: &Path) -> Result<(), BrokeredError> {
        self.ask(how, path).map(drop)
    }

    /// Has it done, for the descriptor that comes of it.
    pub(super) fn open(&self, how: u16, path: &Path) -> Result<OwnedFd, BrokeredError> {
        let missing = || BrokeredError::System(io::Error::other("no descriptor came"));
        self.ask(how, path)?.ok_or_else(missing)
    }

    /// The names in a directory.
    pub(super) fn list(&self, how: u16, path: &Path) -> Result<Vec<OsString>, BrokeredError> {
        let system = BrokeredError::System;
        let memory = File::from(self.open(how, path)?);
        let size = memory.metadata().map_err(system)?.len().min(MAX_LIST);
        let mut names = vec![0; usize::try_from(size).unwrap_or(0)];
        memory.read_exact_at(&mut names, 0).map_err(BrokeredError::System)?;
        mark::reached("file.list.received");
        let names = names.split(|byte| *byte == 0).filter(|name| !name.is_empty());
        Ok(names.map(|name| OsString::from_vec(name.to_vec())).collect())
    }

    fn ask(&self, how: u16, path: &Path) -> Result<Option<OwnedFd>, BrokeredError> {
        let path = path.as_os_str().as_bytes().to_vec();
        let ask = Ask::Open { file: self.number, how, path };
        let (answer, fd) = self.broker.ask_blocking(ask).map_err(BrokeredError::System)?;
        mark::reached("file.open.answered");
        match answer {
            Answer::Done => Ok(fd),
            Answer::Refused(refusal) => Err(BrokeredError::Refused(refusal)),
            Answer::Leased { .. } | Answer::Dropped => {
                Err(BrokeredError::System(io::Error::other("an answer to another question")))
            }
        }
    }
}
