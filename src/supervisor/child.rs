//! One running instance, as the supervisor holds it: its process, its end of the control socket
//! and what it prints.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use rustix::process::{Pid, Signal};

use super::broker::Opened;
use super::denials::Culprit;
use super::log::{Log, Pipe, PipeState};
use super::roster::Ending;
use crate::confine::cgroup::Group;
use crate::ident::Instance;
use crate::sys::pidfd::{self, Ended};
use crate::wire::control::{FromLayer, MAX_CONTROL, ToLayer};

/// A running instance.
#[derive(Debug)]
pub struct Child {
    /// Who it is.
    pub instance: Instance,
    /// Its process.
    pub process: OwnedFd,
    /// Its number, for people to read. Nothing is done by it.
    pub pid: Pid,
    /// How the kernel's log names it.
    pub culprit: Culprit,
    /// The supervisor's end of the control socket.
    pub control: OwnedFd,
    /// Standard output and error.
    pub output: Vec<Pipe>,
    /// Its cgroup.
    pub cgroup: Option<Group>,
    /// How far it has come.
    pub stage: Stage,
    /// When it is killed unless it has ended.
    pub deadline: Option<Instant>,
    /// What it said last of its own end.
    pub last_words: Option<FromLayer>,
    /// What the broker has opened for it.
    pub opened: Opened,
    /// It has closed its end of the control socket, or sent a message of no bytes, which looks the
    /// same: nothing is heard from it any more.
    pub mute: bool,
    /// The other side of a pipe at its standard input or output has ended.
    pub cut: bool,
    /// It broke the rules and is killed: what it has said since counts for nothing.
    pub breached: bool,
}

/// How far an instance has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It confines itself.
    Confining,
    /// It is confined and runs; this is its public key.
    Serving([u8; 32]),
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
    #[error("it does not read its control socket")]
    Deaf,
}

impl Child {
    /// Whether it is confined and runs.
    pub fn is_serving(&self) -> bool {
        matches!(self.stage, Stage::Serving(_))
    }

    /// Reads the next message, if there is one. Descriptors that come with it are refused by the
    /// kernel, or closed by it.
    pub fn hear(&mut self) -> Result<Option<FromLayer>, Breach> {
        let mut bytes = [0; MAX_CONTROL];
        match rustix::net::recv(&self.control, &mut bytes, RecvFlags::DONTWAIT | RecvFlags::TRUNC) {
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

    /// Tells it something, with a descriptor, and never waits.
    pub fn tell(&self, message: &ToLayer, fd: Option<BorrowedFd<'_>>) -> Result<(), Breach> {
        let Ok(bytes) = postcard::to_stdvec(message) else { return Err(Breach::Deaf) };
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
        if !fds.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(&fds));
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match rustix::net::sendmsg(&self.control, &[IoSlice::new(&bytes)], &mut ancillary, flags) {
            Err(Errno::AGAIN | Errno::TOOMANYREFS) => Err(Breach::Deaf),
            // Success, or it is gone: then its pidfd tells.
            _ => Ok(()),
        }
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

    /// Reads a turn's worth of what it prints.
    pub fn read_output(&mut self, which: usize, log: &mut Log) {
        if let Some(pipe) = self.output.get_mut(which)
            && pipe.read(log) == PipeState::Ended
        {
            self.output.remove(which);
        }
    }
}
