//! Descriptors that the process was started with.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};

/// Which of the first 64 numbers have been given out.
static TAKEN: AtomicU64 = AtomicU64::new(0);

/// Takes descriptor `number` (3 to 63), which whoever started this process left open for it, and
/// makes it close-on-exec.
///
/// An error if it isn't open, or was taken before. Only for the beginning of `main`, before
/// anything else has opened a descriptor that could have got this number.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    let bit = match number {
        3..64 => 1 << number,
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    };
    // SAFETY: F_SETFD on a number touches no memory, and fails if the number isn't open.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    if TAKEN.fetch_or(bit, Ordering::Relaxed) & bit != 0 {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    // SAFETY: it is open, and nobody else owns it: this function gives each number out once, and
    // by its contract nothing in this process has opened it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
