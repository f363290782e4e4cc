//! A file that a layer has opened beneath a granted directory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use crate::ipc::broker::Broker;
use crate::mark;
use crate::wire::control::FromLayer;

/// An open file. It is a [`File`] in all that matters; dropping it gives its place among
/// `max-open` back.
#[derive(Debug)]
pub struct Opened {
    file: File,
    _place: Option<OpenSlot>,
}

/// A place among those that `max-open` allows.
///
/// The helper counts as well, for a layer that doesn't; but its next life knows nothing of what is
/// open from before, so this end keeps to the limit by itself.
#[derive(Debug)]
pub(super) struct OpenSlot {
    number: u16,
    broker: Arc<Broker>,
    /// Whether the helper counts it too.
    told: bool,
}

/// How many places of each file grant are taken in this process.
static TAKEN: Mutex<BTreeMap<u16, u32>> = Mutex::new(BTreeMap::new());

impl Opened {
    pub(super) fn new(file: File, place: Option<OpenSlot>) -> Self {
        Self { file, _place: place }
    }
}

impl OpenSlot {
    /// Takes one of `most`; `None`: all are taken.
    pub(super) fn reserve(number: u16, broker: Arc<Broker>, most: u32) -> Option<Self> {
        let mut all = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = all.entry(number).or_default();
        *taken = taken.checked_add(1).filter(|taken| *taken <= most)?;
        Some(Self { number, broker, told: false })
    }

    /// The helper has given a descriptor for it.
    pub(super) fn taken(self) -> Self {
        let mut place = self;
        place.told = true;
        place
    }
}

impl Drop for OpenSlot {
    fn drop(&mut self) {
        if let Some(taken) =
            TAKEN.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&self.number)
        {
            *taken = taken.saturating_sub(1);
        }
        if !self.told {
            return;
        }
        // While the helper is behind there is room soon; when it is gone nobody counts.
        while let Ok(false) = self.broker.post(&FromLayer::Closed { file: self.number }) {
            std::thread::yield_now();
        }
        mark::reached("file.close.said");
    }
}

impl Deref for Opened {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

impl Read for Opened {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.file.read(bytes)
    }
}

impl Write for Opened {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Opened {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

impl AsFd for Opened {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// To pass it to another layer: it no longer counts for this one.
impl From<Opened> for OwnedFd {
    fn from(opened: Opened) -> Self {
        opened.file.into()
    }
}
