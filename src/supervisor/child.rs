//! One running instance, as the supervisor holds it: its process, its end of the control socket
//! and where it prints.

use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::process::{Pid, Signal};

use super::objects::Handed;
use super::outbox::{OVERDUE, Outbox};
use crate::confine::cgroup::Group;
use crate::ident::Instance;
use crate::prepare::upgrade::facts::{Facts, Stage};
use crate::sys::pidfd::{self, Ended};
use crate::sys::poller::Interest;
use crate::wire::control::{FromLayer, MAX_CONTROL, ToLayer};
use crate::wire::life::{Culprit, Ending};

/// A running instance.
#[derive(Debug)]
pub struct Child {
    /// Who it is.
    pub instance: Instance,
    /// Its process.
    pub process: OwnedFd,
    /// Its number, for people to read. Nothing is done by it.
    pub pid: Pid,
    /// The supervisor's end of the control socket.
    pub control: OwnedFd,
    /// What its control socket had no room for.
    pub outbox: Outbox,
    /// Where it prints.
    pub printing: Rc<Printing>,
    /// Its cgroup.
    pub cgroup: Option<Group>,
    /// What has happened to it.
    pub facts: Facts,
}

impl Deref for Child {
    type Target = Facts;

    fn deref(&self) -> &Facts {
        &self.facts
    }
}

impl DerefMut for Child {
    fn deref_mut(&mut self) -> &mut Facts {
        &mut self.facts
    }
}

/// Where an instance prints.
#[derive(Debug)]
pub struct Printing {
    /// Who it is.
    pub instance: Instance,
    /// How the kernel's log names it.
    pub culprit: Culprit,
    /// The reading ends of its pipes: standard output and error, and where refusals are told.
    pub output: Vec<OwnedFd>,
}

impl Printing {
    /// What the writer gets; `over`: it has ended, which is told by this.
    pub fn handed(&self, seat: u32, over: bool) -> io::Result<Vec<Handed>> {
        let Self { instance, culprit, output } = self;
        let handed = (0..).zip(output).map(|(part, fd)| {
            let (instance, culprit) = (instance.clone(), *culprit);
            let over = over && usize::from(part) + 1 == output.len();
            Ok((ToLayer::Output { seat, instance, culprit, part, over }, fd.try_clone()?))
        });
        handed.collect()
    }
}

/// Why an instance is ended by the supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Breach {
    /// It said something that it may not say, or not now.
    #[error("it broke the control protocol")]
    Protocol,
    /// It broke the rules of the socket on which it asks a helper.
    #[error("it broke the protocol of a helper")]
    Service,
    /// It doesn't read what the supervisor tells it.
    #[error(
        "it does not read its control socket: it took nothing for {} seconds, or too much waits",
        OVERDUE.as_secs()
    )]
    Deaf,
}

impl Child {
    /// Whether it is confined and runs.
    pub fn is_serving(&self) -> bool {
        matches!(self.stage, Stage::Serving(_))
    }

    /// When it is to be ended, if nothing happens before.
    pub fn ends_at(&self) -> Option<Instant> {
        self.deadline.or_else(|| self.serves.as_ref()?.until)
    }

    /// Reads the next message, if there is one. Descriptors that come with it are refused by the
    /// kernel, or closed by it.
    pub fn receive(&mut self) -> Result<Option<FromLayer>, Breach> {
        let mut bytes = [0; MAX_CONTROL];
        let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
        let mut received = rustix::net::recv(&self.control, &mut bytes, flags);
        // It has ended without having read all that it was told, which is said once, before what it
        // had said itself: an init's last words among it.
        if received == Err(Errno::CONNRESET) {
            received = rustix::net::recv(&self.control, &mut bytes, flags);
        }
        match received {
            Ok((_, length)) => match bytes.get(..length) {
                // What follows comes by the pidfd. Polled on, the socket would never rest.
                Some([]) => {
                    self.mute = true;
                    Ok(None)
                }
                Some(message) => FromLayer::decode(message).map(Some).ok_or(Breach::Protocol),
                None => Err(Breach::Protocol),
            },
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(_) => {
                self.mute = true;
                Ok(None)
            }
        }
    }

    /// When it has to be looked at, if nothing happens before.
    pub fn next_deadline(&self) -> Option<Instant> {
        let all = [self.ends_at(), self.outbox.deadline(), self.health.deadline(), self.owes];
        all.into_iter().flatten().min()
    }

    /// What to look for on its control socket.
    pub fn interest(&self) -> Interest {
        let mut interest = Interest::empty();
        if !(self.mute || self.breached || self.outbox.is_behind()) {
            interest |= Interest::IN;
        }
        if !self.breached && self.outbox.wants_room() {
            interest |= Interest::OUT;
        }
        interest
    }

    /// Tells it what its control socket takes of what waits.
    pub fn flush(&mut self, now: Instant) {
        self.outbox.flush(self.control.as_fd(), now);
    }

    /// Kills it, and with it everything in its pid namespace.
    pub fn kill(&self) {
        let _ = pidfd::signal(&self.process, Signal::KILL);
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        let _ = pidfd::signal(&self.process, Signal::TERM);
    }

    /// Reaps it, if it has ended.
    pub fn ending(&self) -> Option<Ending> {
        match pidfd::try_wait(&self.process).ok().flatten()? {
            Ended::Exited(code) => Some(Ending::Exited(code.into())),
            Ended::Killed(signal) => Some(Ending::Killed(signal.into())),
        }
    }

    /// How the program ended that this instance is for: where the process is the init of another
    /// one and ended in order, as that says. A signal that the kernel saw is never talked away.
    pub fn program_ending(&self, ending: Ending) -> Ending {
        match (&self.last_words, ending) {
            (Some(FromLayer::Exited { code }), Ending::Exited(0)) => Ending::Exited((*code).into()),
            (Some(FromLayer::Killed { signal }), Ending::Exited(0)) => {
                Ending::Killed((*signal).into())
            }
            _ => ending,
        }
    }
}
