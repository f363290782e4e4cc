//! Files that are nothing but memory.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{FallocateFlags, MemfdFlags, Mode, OFlags};

/// Memory of `size` bytes, all zeros, all there.
pub(super) fn make(name: &str, size: u64) -> io::Result<OwnedFd> {
    let name = format!("cofferdam-{name}");
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // MFD_NOEXEC_SEAL is Linux 6.3's; before that there is nothing to switch off.
    let fd = rustix::fs::memfd_create(&name, flags | MemfdFlags::NOEXEC_SEAL)
        .or_else(|_| rustix::fs::memfd_create(&name, flags))?;
    rustix::fs::ftruncate(&fd, size)?;
    if size > 0 {
        rustix::fs::fallocate(&fd, FallocateFlags::empty(), 0, size)?;
    }
    Ok(fd)
}

/// Opens what `fd` is once more: the same file, with its own flags and rights.
pub(super) fn reopen(fd: &OwnedFd, flags: OFlags) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    Ok(rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())?)
}
