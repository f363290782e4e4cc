//! The memory of objects that have a size.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::FallocateFlags;

use crate::sys::memory;

/// Memory of `size` bytes, all zeros, all there.
pub fn make(name: &str, size: u64) -> io::Result<OwnedFd> {
    let fd = memory::create(&format!("cofferdam-{name}"))?;
    rustix::fs::ftruncate(&fd, size)?;
    if size > 0 {
        rustix::fs::fallocate(&fd, FallocateFlags::empty(), 0, size)?;
    }
    Ok(fd)
}
