//! Descriptors that the process was started with.
//!
//! They are what has survived an exec, so their close-on-exec flag is off; whatever this process
//! has opened since has it on, as everything that Rust's library, `rustix` and this crate open.
//! So a descriptor that somebody in this process owns is told from one that nobody does, and
//! neither function here takes or closes it a second time.

use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::io::FdFlags;

/// Which of the first 64 numbers have been given out.
static TAKEN: AtomicU64 = AtomicU64::new(0);

/// Takes descriptor `number` (3 to 63), which whoever started this process left open for it, and
/// makes it close-on-exec.
///
/// An error if it isn't open, was taken before, or was opened by this process (`AlreadyExists`).
/// For the beginning of `main`, where there is one thread.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    let bit = match number {
        3..64 => 1 << number,
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    };
    if is_owned(number)? {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    // SAFETY: F_SETFD on a number touches no memory, and fails if the number isn't open.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    if TAKEN.fetch_or(bit, Ordering::Relaxed) & bit != 0 {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    // SAFETY: it is open, and nobody else owns it: this function gives each number out once, and
    // what this process opened itself would have been closed by an exec.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Has a descriptor outlive this process's next exec, or not.
pub fn outlive_exec(fd: impl AsFd, outlives: bool) -> io::Result<()> {
    let flags = if outlives { FdFlags::empty() } else { FdFlags::CLOEXEC };
    Ok(rustix::io::fcntl_setfd(fd, flags)?)
}

/// The same for descriptors by their numbers.
pub fn all_outlive_exec(numbers: &[RawFd], outlive: bool) -> io::Result<()> {
    let flags = if outlive { 0 } else { libc::FD_CLOEXEC };
    for &number in numbers {
        // SAFETY: F_SETFD on a number touches no memory, and fails if the number isn't open. What it
        // decides is only whether an exec closes the descriptor.
        if unsafe { libc::fcntl(number, libc::F_SETFD, flags) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Takes descriptor `number`, which this process had before its exec ([`outlive_exec`]), and makes it
/// close-on-exec again.
///
/// An error if it isn't open, or if something in this process owns it (`AlreadyExists`): so none is
/// taken twice. For the beginning of `main`, where there is one thread.
pub fn carried(number: RawFd) -> io::Result<OwnedFd> {
    static TAKING: Mutex<()> = Mutex::new(());
    let _taking = TAKING.lock().unwrap_or_else(PoisonError::into_inner);
    if number < 3 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    if is_owned(number)? {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    // SAFETY: F_SETFD on a number touches no memory, and fails if the number isn't open.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, and nobody else owns it: it came over an exec, which whatever this process
    // has opened since would not have, and from now on it looks like one of those.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Copies of those of this process's own standard streams that are asked for.
pub fn own_streams(asked: [bool; 3]) -> io::Result<[Option<OwnedFd>; 3]> {
    let copy = |asked: bool, stream: &dyn AsFd| {
        asked.then(|| stream.as_fd().try_clone_to_owned()).transpose()
    };
    let [input, output, error] = asked;
    Ok([copy(input, &io::stdin())?, copy(output, &io::stdout())?, copy(error, &io::stderr())?])
}

/// Closes every descriptor that isn't in `keep`, whoever left it open for this process.
///
/// An error (`EBUSY`), and nothing closed, if one of them belongs to something in this process:
/// who owns it would later close another one of its number. Of numbers above 1023, which are given
/// when all below are in use, nobody asks.
pub fn close_all_but(keep: &[RawFd]) -> io::Result<()> {
    const ASKED: RawFd = 1024;
    let mut open = (0..ASKED).step_by(AT_ONCE).flat_map(open_from);
    if open.any(|number| !keep.contains(&number) && is_owned(number).unwrap_or(false)) {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    let mut keep = keep.to_vec();
    keep.sort_unstable();
    let mut next = 0;
    for number in keep {
        if number > next {
            close_range(next, number - 1)?;
        }
        next = next.max(number.saturating_add(1));
    }
    close_range(next, RawFd::MAX)
}

/// Has every descriptor from `first` on closed by the next exec, whoever left it open for this process.
/// Linux 5.11.
pub fn close_on_exec(first: RawFd) -> io::Result<()> {
    let (first, last) = (first.cast_unsigned(), RawFd::MAX.cast_unsigned());
    // SAFETY: sets a flag of descriptors and touches no memory; none of them is closed now.
    let set =
        unsafe { libc::syscall(libc::SYS_close_range, first, last, libc::CLOSE_RANGE_CLOEXEC) };
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn close_range(first: RawFd, last: RawFd) -> io::Result<()> {
    // SAFETY: closing descriptors touches no memory, and by the caller's look none of them is
    // owned by a value that would close it again.
    let closed = unsafe {
        libc::syscall(libc::SYS_close_range, first.cast_unsigned(), last.cast_unsigned(), 0_u32)
    };
    if closed < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Numbers that are looked at by one call; a limit of descriptors below makes it fail (poll(2)).
const AT_ONCE: usize = 64;

/// Those of the [`AT_ONCE`] numbers from `first` on that are open, or might be.
fn open_from(first: RawFd) -> impl Iterator<Item = RawFd> {
    let mut asked = [libc::pollfd { fd: 0, events: 0, revents: 0 }; AT_ONCE];
    for (number, one) in (first..).zip(&mut asked) {
        one.fd = number;
    }
    // SAFETY: `asked` is AT_ONCE entries that outlive the call, which writes to nothing else; of a
    // number that isn't open it says so.
    let done = unsafe { libc::poll(asked.as_mut_ptr(), AT_ONCE as libc::nfds_t, 0) };
    let is_open = move |one: &libc::pollfd| done < 0 || one.revents & libc::POLLNVAL == 0;
    asked.into_iter().filter(is_open).map(|one| one.fd)
}

/// Whether something in this process owns the descriptor; an error if it isn't open.
fn is_owned(number: RawFd) -> io::Result<bool> {
    // SAFETY: F_GETFD on a number touches no memory, and fails if the number isn't open.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    if flags < 0 { Err(io::Error::last_os_error()) } else { Ok(flags & libc::FD_CLOEXEC != 0) }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn what_is_owned_is_not_taken_again() {
        let file = File::open("/dev/null").unwrap();
        let taken = inherited(file.as_raw_fd());
        assert_eq!(taken.unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        // It is still its owner's.
        file.metadata().unwrap();
        assert!(inherited(2).is_err());
    }

    #[test]
    fn what_came_over_an_exec_is_taken_once() {
        let file = File::open("/dev/null").unwrap();
        let number = file.as_raw_fd();
        assert_eq!(carried(number).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        outlive_exec(&file, true).unwrap();
        // As an exec leaves it: there, and nobody's.
        std::mem::forget(file);
        let taken = carried(number).unwrap();
        assert_eq!(carried(number).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        drop(taken);
        assert!(carried(number).is_err() && carried(2).is_err());
    }

    #[test]
    fn what_is_owned_is_not_closed() {
        let file = File::open("/dev/null").unwrap();
        let closed = close_all_but(&[0, 1, 2]);
        assert_eq!(closed.unwrap_err().raw_os_error(), Some(libc::EBUSY));
        file.metadata().unwrap();
    }
}
