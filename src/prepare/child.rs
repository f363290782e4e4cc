//! A child that works for the supervisor before the first layer starts: it hands descriptors over,
//! and ends.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use caps::Capability;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

use crate::confine::identity;
use crate::sys::fork::fork;
use crate::sys::pidfd::{self, Ended};

/// The longest text of a failure, in bytes; a longer one is cut.
const LONGEST: usize = 4096;

/// What the child says. Each is a datagram: this byte, then the text of a failure.
const MADE: u8 = 1;
const DONE: u8 = 2;
const FAILED: u8 = 3;

/// Why a child's work came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrepareError {
    /// It could not do its work, as it says itself.
    #[error("{0}")]
    Failed(String),
    /// There is no child.
    #[error("a process that prepares the daemon can't be started: {0}")]
    Fork(io::Error),
    /// It ended before its work was done.
    #[error("the process that {0} {1} before it was done")]
    Died(&'static str, Ended),
    /// It can't be listened to, or what it says makes no sense.
    #[error("the process that {0} can't be understood: {1}")]
    Garbled(&'static str, io::Error),
}

/// The child's way to hand something over.
pub(super) struct Handover(OwnedFd);

impl Handover {
    /// Hands a descriptor over.
    pub(super) fn give(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.send(&[MADE], Some(fd))
    }

    fn send(&self, message: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
        if !fds.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(&fds));
        }
        sendmsg(&self.0, &[IoSlice::new(message)], &mut ancillary, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    fn end(&self, result: Result<(), String>) -> io::Result<()> {
        match result {
            Ok(()) => self.send(&[DONE], None),
            Err(text) => {
                let mut message = vec![FAILED];
                message.extend_from_slice(text.as_bytes());
                message.truncate(LONGEST);
                self.send(&message, None)
            }
        }
    }
}

/// Runs `work` in a child and takes the `expected` descriptors that it hands over. `what` is what
/// it does, for messages: "makes the objects".
pub(super) fn run(
    what: &'static str,
    expected: usize,
    work: impl FnOnce(&Handover) -> Result<(), String>,
) -> Result<Vec<OwnedFd>, PrepareError> {
    let flags = SocketFlags::CLOEXEC;
    let (near, far) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .map_err(|errno| PrepareError::Fork(errno.into()))?;
    let handover = Handover(far);
    let child = fork(|| {
        let result = work(&handover);
        u8::from(handover.end(result).is_err())
    })
    .map_err(PrepareError::Fork)?;
    drop(handover);
    let taken = take(&near, expected).map_err(|error| PrepareError::Garbled(what, error));
    let ended = pidfd::wait(&child).map_err(|error| PrepareError::Garbled(what, error))?;
    match taken? {
        Taken::All(fds) => Ok(fds),
        Taken::Failed(why) => Err(PrepareError::Failed(why)),
        Taken::Died => Err(PrepareError::Died(what, ended)),
    }
}

/// What came of listening to a child.
enum Taken {
    All(Vec<OwnedFd>),
    Failed(String),
    Died,
}

fn take(socket: &OwnedFd, expected: usize) -> io::Result<Taken> {
    let mut made = Vec::new();
    let mut text = [0; LONGEST];
    loop {
        let (length, fd) = receive(socket, &mut text)?;
        match (&text[..length], fd) {
            ([MADE], Some(fd)) if made.len() < expected => made.push(fd),
            ([DONE], None) if made.len() == expected => return Ok(Taken::All(made)),
            ([FAILED, why @ ..], None) => {
                return Ok(Taken::Failed(String::from_utf8_lossy(why).into_owned()));
            }
            ([], None) => return Ok(Taken::Died),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

fn receive(socket: &OwnedFd, text: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    // Room for two: with room for one, alignment would let a second one in unseen.
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let length = loop {
        let into = &mut [IoSliceMut::new(text)];
        match recvmsg(socket, into, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            got => break got?.bytes,
        }
    };
    let mut fds = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    let fds: Vec<OwnedFd> = fds.by_ref().flatten().collect();
    let mut fds = fds.into_iter();
    let first = fds.next();
    match fds.next() {
        Some(_) => Err(io::ErrorKind::InvalidData.into()),
        None => Ok((length, first)),
    }
}

/// Takes from this process, if it is root's, every capability but `kept`; no program that it
/// executes gets one back.
pub(super) fn keep_capabilities(kept: &[Capability]) -> io::Result<()> {
    if rustix::process::geteuid().is_root() {
        identity::keep_at_most(&kept.iter().copied().collect())?;
    }
    rustix::thread::set_no_new_privs(true)?;
    Ok(())
}
