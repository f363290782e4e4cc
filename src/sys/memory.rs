//! Files that are nothing but memory, and opening once more what a descriptor holds.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{FallocateFlags, MemfdFlags, Mode, OFlags};

/// An empty file in memory that can be sealed and never executed (`memfd_create(2)`).
pub fn create(name: &str) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // MFD_NOEXEC_SEAL is Linux 6.3's; before that there is nothing to switch off.
    rustix::fs::memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL)
        .or_else(|_| rustix::fs::memfd_create(name, flags))
        .map_err(Into::into)
}

/// A file in memory of `size` bytes, all zeros, all of them taken from the machine at once
/// (`fallocate(2)`), so that nobody else pays for them later.
pub fn create_sized(name: &str, size: u64) -> io::Result<OwnedFd> {
    let fd = create(&format!("cofferdam-{name}"))?;
    rustix::fs::ftruncate(&fd, size)?;
    if size > 0 {
        rustix::fs::fallocate(&fd, FallocateFlags::empty(), 0, size)?;
    }
    Ok(fd)
}

/// Opens what `fd` is once more: the same file, with its own flags and rights. Needs `/proc`.
pub fn reopen(fd: &OwnedFd, flags: OFlags) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    Ok(rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())?)
}
