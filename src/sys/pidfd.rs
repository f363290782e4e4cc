//! A child by its pidfd: never by a number that another process may have by then (threat B9).

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It exited with this code, 0 to 255.
    Exited(u8),
    /// This signal ended it; `SIGSYS` (31) is the system-call filter's verdict.
    Killed(u8),
}

impl Ended {
    /// Whether it exited with code 0.
    pub const fn success(self) -> bool {
        matches!(self, Self::Exited(0))
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exited with code {code}"),
            Self::Killed(signal) => match Signal::from_named_raw(i32::from(*signal)) {
                Some(known) => write!(f, "killed by {known:?}"),
                None => write!(f, "killed by signal {signal}"),
            },
        }
    }
}

/// Reaps the child if it has ended, and never waits; `None` while it lives.
///
/// A stopped child lives (threat B14). `ECHILD` says that it was reaped before.
pub fn try_wait(pidfd: impl AsFd) -> io::Result<Option<Ended>> {
    wait_with(pidfd, WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
}

/// Waits until the child ends, and reaps it. Only for tests, tools, and children that were killed.
pub fn wait(pidfd: impl AsFd) -> io::Result<Ended> {
    loop {
        match wait_with(&pidfd, WaitIdOptions::EXITED) {
            Ok(Some(ended)) => return Ok(ended),
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Sends `signal`; `ESRCH` once the process has ended, whoever has its number now.
pub fn signal(pidfd: impl AsFd, signal: Signal) -> io::Result<()> {
    Ok(rustix::process::pidfd_send_signal(pidfd, signal)?)
}

/// Kills the process of a thread, by a number that the caller knows to be that thread's.
pub fn kill_thread(thread: Pid) -> io::Result<()> {
    // SAFETY: takes numbers.
    let sent =
        unsafe { libc::syscall(libc::SYS_tkill, thread.as_raw_nonzero().get(), libc::SIGKILL) };
    if sent == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sends the signal of that number, real-time signals too; see [`signal`].
pub fn signal_number(pidfd: impl AsFd, number: i32) -> io::Result<()> {
    let pidfd = pidfd.as_fd().as_raw_fd();
    // SAFETY: takes a descriptor, which is open as long as `pidfd` is borrowed, a number that the
    // kernel checks, a null pointer for which it makes up the usual siginfo, and no flags.
    let sent = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd,
            number,
            std::ptr::null::<libc::siginfo_t>(),
            0_u32,
        )
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn wait_with(pidfd: impl AsFd, options: WaitIdOptions) -> io::Result<Option<Ended>> {
    let Some(status) = rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), options)? else {
        return Ok(None);
    };
    // WEXITED reports nothing but these two; the kernel's numbers fit a byte.
    let byte = |value: i32| u8::try_from(value & 0xff).unwrap_or(u8::MAX);
    Ok(Some(match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Ended::Exited(byte(code)),
        (None, Some(signal)) => Ended::Killed(byte(signal)),
        (None, None) => Ended::Exited(u8::MAX),
    }))
}
