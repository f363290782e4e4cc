//! Processes that end for a call, as they would by the kernel's own answer to it.
//!
//! The filter leaves the call to init, so it is init that ends its process: by SIGSYS, which the
//! thread finds before it goes on. A program that blocks, ignores or handles that signal is stopped by
//! a second one before its next instruction, and killed. The call itself is never carried out.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::Pid;

use crate::sys::notify::{Listener, Notification, Reply};
use crate::sys::pidfd::{self, Ended};

/// How long a process may take to end of SIGSYS, its core dump included, before it is killed. One that
/// doesn't end of it stands still meanwhile.
const ENDS_WITHIN: Duration = Duration::from_secs(2);

/// Processes that are about to end.
#[derive(Debug, Default)]
pub(super) struct Condemned {
    waiting: Vec<(OwnedFd, Instant)>,
    /// The program itself was ended for a call.
    program: bool,
}

impl Condemned {
    /// Ends the process that makes a call. `program` is the layer's own.
    ///
    /// # Errors
    /// It can't be ended: its user is another one by now. Then the layer must be.
    pub fn end(
        &mut self,
        listener: &Listener,
        call: &Notification,
        program: Pid,
    ) -> io::Result<()> {
        self.program |= call.thread == program;
        let thread = match call.hold() {
            Ok(thread) => Some(thread),
            Err(Errno::SRCH) => return Ok(()),
            Err(Errno::INVAL) => None,
            Err(errno) => return Err(errno.into()),
        };
        if !listener.is_waiting(call) {
            return Ok(());
        }
        let Some(thread) = thread else {
            // Before Linux 6.9 a thread can't be held on to. It waits, so its number is its own.
            return gone_is_fine(pidfd::kill_thread(call.thread));
        };
        for signal in [libc::SIGSYS, libc::SIGSTOP] {
            gone_is_fine(pidfd::signal_number(&thread, signal))?;
        }
        self.waiting.push((thread, Instant::now() + ENDS_WITHIN));
        // Not carried out, whatever becomes of the thread.
        listener.answer(call, Reply::Refused(libc::EPERM))
    }

    /// When somebody is to be looked after, if anybody.
    pub fn deadline(&self) -> Option<Instant> {
        self.waiting.iter().map(|(_, until)| *until).min()
    }

    /// Kills who should have ended by now.
    pub fn look_after(&mut self) -> io::Result<()> {
        let now = Instant::now();
        for (thread, _) in self.waiting.extract_if(.., |(_, until)| *until <= now) {
            if !has_ended(&thread) {
                gone_is_fine(pidfd::signal_number(&thread, libc::SIGKILL))?;
            }
        }
        Ok(())
    }

    /// How the program ended: where it had to be killed, as it would have by its filter.
    pub fn ending(&self, ended: Ended) -> Ended {
        match ended {
            Ended::Killed(9) if self.program => Ended::Killed(31),
            ended => ended,
        }
    }
}

fn has_ended(thread: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(thread, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|count| count > 0)
}

fn gone_is_fine(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        done => done,
    }
}
