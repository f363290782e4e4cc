//! The memory of a region.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, SealFlags};

use super::memory;
use crate::ident::Name;
use crate::mark::reached;
use crate::policy::plan::{MapRight, RegionPlan};
use crate::sys::memory::reopen;

/// A region, and who maps it how.
pub struct Region {
    writing: OwnedFd,
    reading: OwnedFd,
    grant: BTreeMap<Name, MapRight>,
}

impl Region {
    /// Makes the memory, of a size that nobody can change.
    ///
    /// All of it is taken from the machine now: a layer that touches a page first would pay for it
    /// out of its own limit, and a machine that hasn't enough says so here and not later.
    pub fn make(plan: &RegionPlan) -> io::Result<Self> {
        let writing = memory::make(plan.name.as_str(), plan.size)?;
        reached("region.make.sized");
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&writing, seals)?;
        reached("region.make.sealed");
        let reading = reopen(&writing, OFlags::RDONLY)?;
        // So that nobody who holds the reading one opens it again for writing.
        rustix::fs::fchmod(&writing, Mode::empty())?;
        reached("region.make.closed");
        Ok(Self { writing, reading, grant: plan.grant.clone() })
    }

    /// The descriptor for `layer`, if it has a right.
    ///
    /// Layers with the same right share one open file. Nothing in that is to anybody's harm: maps
    /// know neither its position nor its flags, and nobody locks it.
    pub fn of(&self, layer: &Name) -> io::Result<Option<OwnedFd>> {
        let fd = match self.grant.get(layer) {
            None => return Ok(None),
            Some(MapRight::Read) => &self.reading,
            Some(MapRight::ReadWrite) => &self.writing,
        };
        reached("region.grant.given");
        fd.try_clone().map(Some)
    }
}
