//! The memory of a region.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, SealFlags};

use crate::mark::reached;
use crate::policy::plan::RegionPlan;
use crate::sys::memory::create_sized;
use crate::sys::reopen::reopen;

/// Makes the memory, of a size that nobody can change: open for reading and writing, and for
/// reading alone.
///
/// All of it is taken from the machine now: a layer that touches a page first would pay for it out
/// of its own limit, and a machine that hasn't enough says so here and not later.
pub(super) fn make(plan: &RegionPlan) -> io::Result<[OwnedFd; 2]> {
    let writing = create_sized(plan.name.as_str(), plan.size)?;
    reached("region.make.sized");
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&writing, seals)?;
    reached("region.make.sealed");
    let reading = reopen(&writing, OFlags::RDONLY)?;
    // So that nobody who holds the reading one opens it again for writing.
    rustix::fs::fchmod(&writing, Mode::empty())?;
    reached("region.make.closed");
    Ok([writing, reading])
}
