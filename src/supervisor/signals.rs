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
    /// SIGHUP: read the policy anew.
    Reload,
    /// SIGUSR2: give way to the program that is at the daemon's path now.
    Upgrade,
}

/// SIGTERM, SIGINT, SIGHUP and SIGUSR2, blocked and read from a descriptor. All others stay blocked for good,
/// but those that tell of a fault of the supervisor's own and those by which a person at a terminal
/// quits or suspends it: a signal that it doesn't know must not end every layer. SIGPIPE is among
/// them, since a log reader that goes away is an error of a write, and so is SIGTTOU.
#[derive(Debug)]
pub struct Signals(SignalFd);

/// What keeps its ordinary effect.
const UNBLOCKED: [Signal; 9] = [
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGFPE,
    Signal::SIGILL,
    Signal::SIGSYS,
    Signal::SIGTRAP,
    Signal::SIGABRT,
    Signal::SIGQUIT,
    Signal::SIGTSTP,
];

impl Signals {
    /// Blocks the signals.
    pub fn new() -> io::Result<Self> {
        let obeyed = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR2];
        let obeyed = SigSet::from_iter(obeyed);
        let mut blocked = SigSet::all();
        for signal in UNBLOCKED {
            blocked.remove(signal);
        }
        blocked.thread_block()?;
        Ok(Self(SignalFd::with_flags(&obeyed, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?))
    }

    /// The next order, if there is one.
    pub fn next(&self) -> Option<Order> {
        let signal = self.0.read_signal().ok().flatten()?;
        match Signal::try_from(i32::try_from(signal.ssi_signo).ok()?).ok()? {
            Signal::SIGHUP => Some(Order::Reload),
            Signal::SIGUSR2 => Some(Order::Upgrade),
            _ => Some(Order::Stop),
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
