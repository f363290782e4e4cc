//! Filters of system calls, loaded into this process.

use std::ffi::{c_long, c_ulong};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// One instruction of classic BPF, as the kernel's `struct sock_filter` has it.
pub type FilterLine = libc::sock_filter;

/// Loads a filter that leaves calls to whoever holds its listener into this process, whose only
/// thread this is, and gives the listener. Sets `no_new_privs`, without which the kernel would
/// refuse.
///
/// From now on every such call of this process waits for who listens, so the listener goes to another
/// one by calls that the filter allows.
pub fn load(filter: &[FilterLine]) -> io::Result<OwnedFd> {
    rustix::thread::set_no_new_privs(true)?;
    let fd = set(filter, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER);
    match RawFd::try_from(fd) {
        // SAFETY: the kernel has just made this descriptor, close-on-exec, for us alone.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Loads a filter into this thread. The call's answer: a descriptor, if the flags ask for a listener,
/// or 0; below 0 it failed, and errno says why.
///
/// Nothing here allocates, takes a lock or panics, so that the child of a clone may call it.
pub(super) fn set(filter: &[FilterLine], flags: c_ulong) -> c_long {
    // Longer than any program that the kernel takes: it says so.
    let len = u16::try_from(filter.len()).unwrap_or(u16::MAX);
    let program = libc::sock_fprog { len, filter: filter.as_ptr().cast_mut() };
    // SAFETY: the kernel reads `len` instructions, which the slice has at least, and checks them.
    unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
    }
}
