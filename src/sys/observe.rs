//! A filter that leaves calls to whoever holds its listener, loaded into this process.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::spawn::FilterLine;

/// Loads a filter into this process, whose only thread this is, and gives the listener to which it
/// leaves calls. Sets `no_new_privs`, without which the kernel would refuse.
///
/// From now on every such call of this process waits for who listens, so the listener goes to another
/// one by calls that the filter allows.
pub fn load(filter: &[FilterLine]) -> io::Result<OwnedFd> {
    rustix::thread::set_no_new_privs(true)?;
    let too_long = |_| io::Error::from_raw_os_error(libc::EINVAL);
    let len = u16::try_from(filter.len()).map_err(too_long)?;
    let program = libc::sock_fprog { len, filter: filter.as_ptr().cast_mut() };
    // SAFETY: the kernel reads `len` instructions, which is what the slice has, and checks them.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const program,
        )
    };
    match RawFd::try_from(fd) {
        // SAFETY: the kernel has just made this descriptor, close-on-exec, for us alone.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Has who makes a call and who answers it take turns on one processor, Linux 6.6: neither works
/// while it waits for the other, and waking another processor takes longer. `false` where the kernel
/// doesn't know how.
pub fn take_turns(listener: impl AsFd) -> bool {
    /// linux/seccomp.h: `SECCOMP_IOW(4, __u64)`, and `SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP`.
    const SET_FLAGS: u64 = 0x4008_2104;
    const SYNC_WAKE_UP: u64 = 1;
    // SAFETY: takes a descriptor and two numbers.
    let set = unsafe {
        libc::syscall(libc::SYS_ioctl, listener.as_fd().as_raw_fd(), SET_FLAGS, SYNC_WAKE_UP)
    };
    set == 0
}
