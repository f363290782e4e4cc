//! The descriptors of facilities that the supervisor has handed over.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use crate::wire::control::Object;

/// What has been handed over so far, by kind, number and part.
#[derive(Debug, Default)]
pub(crate) struct Objects(Mutex<BTreeMap<(Object, u16, u32), Arc<OwnedFd>>>);

impl Objects {
    /// Keeps a descriptor; one that was there before is let go of.
    pub(crate) fn keep(&self, kind: Object, number: u16, part: u32, fd: OwnedFd) {
        self.table().insert((kind, number, part), Arc::new(fd));
    }

    /// The descriptor of one part, if it has come.
    pub(crate) fn get(&self, kind: Object, number: u16, part: u32) -> Option<Arc<OwnedFd>> {
        self.table().get(&(kind, number, part)).cloned()
    }

    fn table(&self) -> std::sync::MutexGuard<'_, BTreeMap<(Object, u16, u32), Arc<OwnedFd>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
