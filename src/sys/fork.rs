//! A child that is a copy of this process and ends when its work is done.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};

/// The exit code of a child whose work panicked.
pub const PANICKED: u8 = 101;

/// Runs `work` in a copy of this process (`fork(2)`) and gives its pidfd. The child exits with the
/// code that `work` returns, without running exit handlers or destructors of what it has copied,
/// and dies with its parent.
///
/// # Errors
/// [`io::ErrorKind::Unsupported`] if this process has more than one thread: the child has only the
/// calling one, and a lock that another thread held would stay taken for ever (`pthread_atfork(3)`).
/// Otherwise what `fork(2)` or `pidfd_open(2)` says.
pub fn fork(work: impl FnOnce() -> u8) -> io::Result<OwnedFd> {
    let parent = getpid();
    start(move || getppid() == Some(parent), work)
}

/// The same for the first process of a pid namespace that this process has made by `unshare(2)`.
///
/// It sees no parent there, so it can't tell whether that has ended before it asked to die with it:
/// whoever needs to know holds the other end of a socket of the parent's.
///
/// # Errors
/// As [`fork`].
pub fn fork_init(work: impl FnOnce() -> u8) -> io::Result<OwnedFd> {
    start(|| getpid().is_init(), work)
}

fn start(is_ours: impl FnOnce() -> bool, work: impl FnOnce() -> u8) -> io::Result<OwnedFd> {
    if threads()? > 1 {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "this process has several threads, and only one of them could be carried over",
        ));
    }
    // SAFETY: the process has one thread, which is this one: no lock is held by a thread that the
    // child lacks, so the child may do whatever its parent could.
    match unsafe { libc::fork() } {
        0 => {
            let lives = set_parent_process_death_signal(Some(Signal::KILL)).is_ok() && is_ours();
            let code = if lives {
                catch_unwind(AssertUnwindSafe(work)).unwrap_or(PANICKED)
            } else {
                PANICKED
            };
            // SAFETY: ends the process at once; nothing is left to be used afterwards.
            unsafe { libc::_exit(i32::from(code)) }
        }
        pid if pid > 0 => open(pid),
        _ => Err(io::Error::last_os_error()),
    }
}

/// How many threads this process has: each is a directory in `/proc/self/task`.
fn threads() -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    Ok(std::fs::metadata("/proc/self/task")?.nlink().saturating_sub(2))
}

/// The pidfd of a child that has not been reaped, so that its number is still its own.
fn open(pid: libc::pid_t) -> io::Result<OwnedFd> {
    // SAFETY: takes two numbers and touches no memory.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0_u32) };
    match RawFd::try_from(fd) {
        // SAFETY: the kernel has just made this descriptor, close-on-exec, for us alone.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}
