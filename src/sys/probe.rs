//! Questions to the kernel that leave nothing behind.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// Whether memory can be had that the kernel itself doesn't map (`memfd_secret(2)`).
pub fn secret_memory() -> io::Result<()> {
    // SAFETY: takes flags.
    let fd = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel made it just now; nobody else owns it.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
    Ok(())
}

/// Whether a Unix socket can refuse descriptors (`SO_PASSRIGHTS`, Linux 6.16); `socket` does so
/// afterwards.
pub fn refuses_descriptors(socket: impl AsFd) -> io::Result<()> {
    /// From asm-generic/socket.h, the same on x86-64 and aarch64.
    const SO_PASSRIGHTS: libc::c_int = 83;
    let off: libc::c_int = 0;
    let length = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(4);
    // SAFETY: the kernel reads an int of the length that is passed.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PASSRIGHTS,
            (&raw const off).cast(),
            length,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
