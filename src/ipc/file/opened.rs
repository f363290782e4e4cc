//! A file that a layer has opened beneath a granted directory.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use crate::ipc::broker::Broker;
use crate::mark;
use crate::wire::control::FromLayer;

/// An open file. It is a [`File`] in all that matters; dropping it gives its place among
/// `max-open` back.
#[derive(Debug)]
pub struct Opened {
    file: File,
    _place: Option<Place>,
}

/// A place among those that `max-open` allows.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) number: u16,
    pub(super) broker: Arc<Broker>,
}

impl Opened {
    pub(super) fn new(file: File, place: Option<Place>) -> Self {
        Self { file, _place: place }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // While the supervisor is behind there is room soon; when it is gone nobody counts.
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
