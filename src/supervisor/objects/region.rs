//! The memory of a region.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};

use crate::ident::Name;
use crate::policy::plan::{MapRight, RegionPlan};

/// A region, and who maps it how.
pub struct Region {
    writing: OwnedFd,
    reading: OwnedFd,
    grant: BTreeMap<Name, MapRight>,
}

impl Region {
    /// Makes the memory, of a size that nobody can change.
    pub fn make(plan: &RegionPlan) -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | MemfdFlags::NOEXEC_SEAL;
        let writing = rustix::fs::memfd_create(format!("cofferdam-{}", plan.name), flags)?;
        rustix::fs::ftruncate(&writing, plan.size)?;
        rustix::fs::fcntl_add_seals(&writing, SealFlags::SHRINK | SealFlags::GROW)?;
        let path = format!("/proc/self/fd/{}", writing.as_raw_fd());
        let reading = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        // So that nobody who holds the reading one opens it again for writing.
        rustix::fs::fchmod(&writing, Mode::empty())?;
        Ok(Self { writing, reading, grant: plan.grant.clone() })
    }

    /// The descriptor for `layer`, if it has a right.
    pub fn of(&self, layer: &Name) -> io::Result<Option<OwnedFd>> {
        let fd = match self.grant.get(layer) {
            None => return Ok(None),
            Some(MapRight::Read) => &self.reading,
            Some(MapRight::ReadWrite) => &self.writing,
        };
        fd.try_clone().map(Some)
    }
}
