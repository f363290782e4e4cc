//! Process 1 of an `exec` layer whose program is started anew for each connection.
//!
//! It stays able to start processes, which the init of a single program gives up: so its own filter
//! allows what the program's does, and what starting takes. Each program gets the program's filter
//! on top of that, between clone and exec.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::signalfd::SignalFd;
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::{Pid, WaitOptions};

use super::error::ConfineError;
use super::init::{Launch, Ready, SIGNALS_IN_A_TURN, ended, passed_on, stop_number};
use super::receipt::Asked;
use crate::policy::plan::{Protection, StopSignal};
use crate::policy::syscall::EXEC_FD;
use crate::sys::pidfd::{self, Ended};
use crate::sys::spawn::{Child, SpawnError};

/// An init with any number of programs.
#[derive(Debug)]
pub struct Spawner {
    signals: SignalFd,
    granted: Vec<u8>,
    stop: StopSignal,
    programs: HashMap<Pid, Child>,
}

/// What happened since it was asked last.
#[derive(Debug, Default)]
pub struct Happened {
    /// Programs that have ended.
    pub ended: Vec<(Pid, Ended)>,
    /// The layer is to finish.
    pub stops: bool,
}

impl Ready {
    /// Loads init's own filter (`load`); from then on programs can be started. `signals` are those
    /// by number that the policy lets other layers send, `stop` is what a program gets in place of
    /// SIGTERM.
    pub fn into_spawner<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
        self,
        signals: &[u8],
        stop: StopSignal,
        load: impl FnOnce() -> Result<(), E>,
    ) -> Result<Spawner, ConfineError> {
        let loaded = load().map_err(|error| io::Error::other(error.into()));
        if let Err(error) = loaded
            && self.receipt().asked(Protection::Seccomp) == Asked::Demanded
        {
            return Err(ConfineError::Filter(error));
        }
        let (signals, granted) = (self.into_signals(), signals.to_vec());
        Ok(Spawner { signals, granted, stop, programs: HashMap::new() })
    }
}

impl Spawner {
    /// Starts one more program, and says where the calls come that its filter leaves to init, if it
    /// does. All that stays open of it lies above [`EXEC_FD`].
    pub fn spawn(&mut self, launch: &Launch<'_>) -> Result<(Pid, Option<OwnedFd>), SpawnError> {
        let mut child = launch.start()?;
        let above = |fd: OwnedFd| fcntl_dupfd_cloexec(&fd, EXEC_FD + 1);
        let (pid, pidfd, listener) = (child.pid, child.pidfd, child.listener.take());
        let moved = listener.map(above).transpose();
        match (fcntl_dupfd_cloexec(&pidfd, EXEC_FD + 1), moved) {
            (Ok(pidfd), Ok(listener)) => {
                self.programs.insert(pid, Child { pidfd, pid, listener: None });
                Ok((pid, listener))
            }
            (Err(errno), _) | (_, Err(errno)) => {
                // Nobody would know of it; it is reaped with what programs left behind.
                let _ = pidfd::signal_number(&pidfd, libc::SIGKILL);
                Err(SpawnError::Clone(errno.into()))
            }
        }
    }

    /// How many programs run.
    pub fn running(&self) -> usize {
        self.programs.len()
    }

    /// Reaps what has ended and passes on the signals that have come, without waiting.
    pub fn attend(&mut self) -> io::Result<Happened> {
        let mut happened = Happened::default();
        for _ in 0..SIGNALS_IN_A_TURN {
            let Ok(Some(taken)) = self.signals.read_signal() else { break };
            let Some(number) = passed_on(taken.ssi_signo, &self.granted) else { continue };
            happened.stops |= number == libc::SIGTERM || number == libc::SIGINT;
            let number = if number == libc::SIGTERM { stop_number(self.stop) } else { number };
            for program in self.programs.values() {
                // It may have ended a moment ago: then it is reaped next.
                let _ = pidfd::signal_number(&program.pidfd, number);
            }
        }
        loop {
            let (pid, status) = match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some(reaped)) => reaped,
                Ok(None) | Err(Errno::CHILD) => return Ok(happened),
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            // What a program left behind comes to init as well.
            if let Some(how) = ended(status).filter(|_| self.programs.remove(&pid).is_some()) {
                happened.ended.push((pid, how));
            }
        }
    }
}

/// Readable when there is something to [`attend`](Spawner::attend) to.
impl AsFd for Spawner {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.signals.as_fd()
    }
}
