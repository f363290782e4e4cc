//! Questions to the kernel that leave nothing behind.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// Whether memory can be had that the kernel itself doesn't map (`memfd_secret(2)`).
pub fn secret_memory() -> io::Result<()> {
    // SAFETY: takes flags.
    let fd = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel made it just now; nobody else owns it.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
    Ok(())
}
