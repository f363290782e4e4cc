//! Process 1 of an `exec` layer: it confines itself as any layer, starts the program as process 2,
//! and stays to reap, to pass signals on, and to tell how the program ended.
//!
//! The program gets everything that was confined, by inheritance, and its own filter between clone
//! and exec; it never runs an instruction without. What an exec undoes is `not-dumpable`: the
//! receipt calls it a fallback, see the recipe.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, WaitStatus};

use super::error::ConfineError;
use super::receipt::{Asked, Got, Receipt};
use super::recipe::Bare;
use crate::mark::reached;
use crate::policy::plan::{Protection, StopSignal};
use crate::policy::syscall::EXEC_FD;
use crate::sys::pidfd::{self, Ended};
use crate::sys::spawn::{self, Child, FilterLine, Spawn, SpawnError, Step};

/// The signals that are always passed on to the program; all others are init's own, but for those
/// that the policy grants.
const FORWARDED: [i32; 7] = [
    libc::SIGTERM,
    libc::SIGINT,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGWINCH,
];

/// Stands for SIGSTOP, which would stop init instead of the program. A real-time signal that
/// nothing else uses; a program that may send it to its init can stop itself anyway.
pub const STOP_PROGRAM: i32 = 64;

/// As many as one that sends them without end gets looked at before anything else is.
pub(super) const SIGNALS_IN_A_TURN: usize = 64;

/// The program of an `exec` layer.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// The program, pinned. Not a script: its interpreter would have to open it again by a
    /// descriptor that the exec has closed, and says "no such file".
    pub program: BorrowedFd<'a>,
    /// Its arguments, the first its path.
    pub argv: &'a [CString],
    /// Its whole environment, `NAME=value`.
    pub envp: &'a [CString],
    /// Its descriptors 0, 1, 2, ...; fewer than [`EXEC_FD`].
    pub fds: &'a [BorrowedFd<'a>],
    /// Its other descriptors, by number; each below [`EXEC_FD`].
    pub others: &'a [(RawFd, BorrowedFd<'a>)],
    /// Its filter. It must allow `execveat(EXEC_FD, _, _, _, AT_EMPTY_PATH)`.
    pub filter: &'a [FilterLine],
    /// Whether the filter leaves calls to init; see [`Spawn::is_observed`].
    pub is_observed: bool,
    /// A filter that leaves nothing to anybody, for where the kernel lets nobody observe the program:
    /// one of its ancestors is observed, as in some containers.
    pub unobserved: Option<&'a [FilterLine]>,
    /// Signals by number that the policy lets other layers send to it.
    pub signals: &'a [u8],
    /// What it gets in place of SIGTERM.
    pub stop: StopSignal,
}

impl Launch<'_> {
    /// Starts the program.
    pub(super) fn start(&self) -> Result<Child, SpawnError> {
        let start = |filter, is_observed| {
            spawn::spawn(&Spawn {
                envp: self.envp,
                fds: self.fds,
                others: self.others,
                program_at: Some(EXEC_FD),
                filter: Some(filter),
                is_observed,
                ..Spawn::new(self.program, self.argv)
            })
        };
        match (start(self.filter, self.is_observed), self.unobserved) {
            (Err(SpawnError::Child(Step::Filter, error)), Some(filter))
                if error.raw_os_error() == Some(libc::EBUSY) =>
            {
                start(filter, false)
            }
            (started, _) => started,
        }
    }
}

/// An init whose program is still to be started. Signals wait for it.
#[derive(Debug)]
#[must_use = "no program runs yet"]
pub struct Ready {
    receipt: Receipt,
    signals: SignalFd,
}

/// An init whose program runs.
#[derive(Debug)]
#[must_use = "without its init the program has nobody to reap and report"]
pub struct Init {
    program: Child,
    signals: SignalFd,
    granted: Vec<u8>,
    stop: StopSignal,
}

impl Bare {
    /// Becomes the init of a program. The receipt is compared with the plan before there is one.
    pub fn into_init(mut self) -> Result<Ready, ConfineError> {
        // A filter that can't be loaded is a spawn that fails: so if there is a program at all,
        // this is true.
        self.receipt.set(Protection::Seccomp, Got::Enforced);
        self.complete()?;

        // Before there is anybody who could send one: a blocked signal waits for us even as
        // process 1, which would lose it otherwise.
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let taken =
            SigSet::all().thread_block().and_then(|()| SignalFd::with_flags(&SigSet::all(), flags));
        let signals = taken.map_err(|errno| ConfineError::Step {
            step: "blocking init's signals",
            source: errno.into(),
        })?;
        Ok(Ready { receipt: self.receipt, signals })
    }
}

impl Ready {
    /// Where the signals come.
    pub(super) fn into_signals(self) -> SignalFd {
        self.signals
    }

    /// What is in force for this process, and will be for the program, its filter included.
    pub const fn receipt(&self) -> &Receipt {
        &self.receipt
    }

    /// Starts the program and then loads init's own filter (`load`): what makes processes is needed
    /// no more.
    pub fn launch<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
        self,
        launch: &Launch<'_>,
        load: impl FnOnce() -> Result<(), E>,
    ) -> Result<Init, ConfineError> {
        let program = launch.start()?;
        let loaded = load().map_err(|error| io::Error::other(error.into()));
        if let Err(error) = loaded
            && self.receipt.asked(Protection::Seccomp) == Asked::Demanded
        {
            return Err(ConfineError::Filter(error));
        }
        let granted = launch.signals.to_vec();
        Ok(Init { program, signals: self.signals, granted, stop: launch.stop })
    }
}

impl Init {
    /// The program's number.
    pub const fn program(&self) -> Pid {
        self.program.pid
    }

    /// Where the calls come that the program's filter leaves to init, once.
    pub fn take_listener(&mut self) -> Option<OwnedFd> {
        self.program.listener.take()
    }

    /// Reaps whatever ends and passes signals on, until the program itself has ended.
    ///
    /// Its children may still run: they end with this process, as all of a pid namespace do with
    /// process 1.
    pub fn run(&self) -> io::Result<Ended> {
        loop {
            if let Some(ended) = self.attend()? {
                return Ok(ended);
            }
            match poll(&mut [PollFd::new(self, PollFlags::IN)], None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Reaps what has ended and passes on the signals that have come, without waiting; how the
    /// program ended, if it has.
    pub fn attend(&self) -> io::Result<Option<Ended>> {
        for _ in 0..SIGNALS_IN_A_TURN {
            // SIGCHLD is not for the program, and so are most others.
            let Ok(Some(taken)) = self.signals.read_signal() else { break };
            self.forward(taken.ssi_signo);
        }
        self.reap()
    }

    /// Reaps everything that has ended; how the program did, if it is among it.
    fn reap(&self) -> io::Result<Option<Ended>> {
        loop {
            let (pid, status) = match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some(reaped)) => reaped,
                Ok(None) => return Ok(None),
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            if pid != self.program.pid {
                continue;
            }
            if let Some(how) = ended(status) {
                return Ok(Some(how));
            }
        }
    }

    /// Whoever sent it: from inside, only who may signal the program itself reaches its init.
    fn forward(&self, number: u32) {
        let passed_on = match i32::try_from(number) {
            Ok(libc::SIGTERM) => stop_number(self.stop),
            _ => match passed_on(number, &self.granted) {
                Some(number) => number,
                None => return,
            },
        };
        reached("signal.init.forward");
        // It may have ended a moment ago: then it is reaped next.
        let _ = pidfd::signal_number(&self.program.pidfd, passed_on);
    }
}

/// What a program gets in place of SIGTERM.
pub(super) const fn stop_number(stop: StopSignal) -> i32 {
    match stop {
        StopSignal::Term => libc::SIGTERM,
        StopSignal::Int => libc::SIGINT,
        StopSignal::Quit => libc::SIGQUIT,
        StopSignal::Hup => libc::SIGHUP,
        StopSignal::Usr1 => libc::SIGUSR1,
        StopSignal::Usr2 => libc::SIGUSR2,
    }
}

/// The signal that a program gets for one that has come to its init, if it gets one.
pub(super) fn passed_on(number: u32, granted: &[u8]) -> Option<i32> {
    let number = i32::try_from(number).ok()?;
    let granted = |number: i32| granted.iter().any(|&one| i32::from(one) == number);
    match number {
        STOP_PROGRAM if granted(libc::SIGSTOP) => Some(libc::SIGSTOP),
        libc::SIGCHLD => None,
        _ => (FORWARDED.contains(&number) || granted(number)).then_some(number),
    }
}

/// How a process that was reaped has ended, if it has.
pub(super) fn ended(status: WaitStatus) -> Option<Ended> {
    let byte = |number: i32| u8::try_from(number).unwrap_or(u8::MAX);
    let code = status.exit_status().map(|code| Ended::Exited(byte(code)));
    code.or_else(|| status.terminating_signal().map(|signal| Ended::Killed(byte(signal))))
}

/// Readable when there is something to [`attend`](Init::attend) to.
impl AsFd for Init {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.signals.as_fd()
    }
}
