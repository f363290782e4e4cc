//! The signals that the supervisor obeys, as a descriptor.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// What the supervisor is told from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// SIGTERM or SIGINT: stop.
    Stop,
    /// SIGHUP: nothing is reloaded so far, and the daemon doesn't die of it.
    Reload,
}

/// SIGTERM, SIGINT and SIGHUP, blocked and read from a descriptor. SIGPIPE is blocked for good: a
/// layer or a log reader that goes away is an error of a write, not the end of the supervisor.
#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    /// Blocks the signals.
    pub fn new() -> io::Result<Self> {
        let obeyed = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]);
        let mut blocked = obeyed;
        blocked.add(Signal::SIGPIPE);
        blocked.thread_block()?;
        Ok(Self(SignalFd::with_flags(&obeyed, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?))
    }

    /// The next order, if there is one.
    pub fn next(&self) -> Option<Order> {
        let signal = self.0.read_signal().ok().flatten()?;
        match Signal::try_from(i32::try_from(signal.ssi_signo).ok()?).ok()? {
            Signal::SIGHUP => Some(Order::Reload),
            _ => Some(Order::Stop),
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
