//! A child that works for the supervisor: it hands descriptors over, answers, and ends.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use caps::Capability;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, socketpair};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::confine::filter::{Action, Arch, compile_with};
use crate::confine::identity;
use crate::policy::syscall::{Implied, assemble, groups, parse_item};
use crate::sys::fork::fork;
use crate::sys::pidfd::{self, Ended};
use crate::sys::{memory, passing};

/// The longest text of a failure, in bytes; a longer one is cut.
const LONGEST: usize = 16 << 10;

/// The largest answer, in bytes: a plan of 1,024 layers with all their filters is some 40 MiB.
const MOST: u64 = 64 << 20;

/// What the child says. Each is a datagram: this byte, and a descriptor, the answer in sealed
/// memory, or the text of a failure.
const MADE: u8 = 1;
const DONE: u8 = 2;
const FAILED: u8 = 3;

/// errno(3).
const EPERM: u16 = 1;
const ENOSYS: u16 = 38;

/// What a child is for, and what it may still do once it is confined.
#[derive(Debug)]
pub struct Kind {
    /// What it does, for messages: "makes the daemon's objects".
    pub does: &'static str,
    /// What there isn't if it can't be confined: "objects can't be made".
    pub without: &'static str,
    /// What root's child keeps (capabilities(7)).
    pub capabilities: &'static [Capability],
    /// What it calls, as items of a policy's `syscalls`; all else answers `EPERM`.
    pub calls: &'static [&'static str],
}

/// Why a child's work came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
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
#[derive(Debug)]
pub struct Handover(OwnedFd);

impl Handover {
    /// One that leads to whoever holds the other end of a socket.
    pub(super) fn over(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// What it goes by.
    pub(super) fn socket(&self) -> &OwnedFd {
        &self.0
    }

    /// Hands a descriptor over.
    pub fn give(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.send(&[MADE], Some(fd))
    }

    fn send(&self, message: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        passing::send(&self.0, message, fd, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    pub(super) fn end<A: Serialize>(&self, result: Result<A, String>) -> io::Result<()> {
        let answer = result.and_then(|answer| {
            let bytes = postcard::to_stdvec(&answer).map_err(|error| error.to_string())?;
            memory::sealed("cofferdam-answer", &bytes).map_err(|error| error.to_string())
        });
        match answer {
            Ok(answer) => self.send(&[DONE], Some(answer.as_fd())),
            Err(text) => {
                let mut message = vec![FAILED];
                message.extend_from_slice(text.as_bytes());
                message.truncate(LONGEST);
                self.send(&message, None)
            }
        }
    }
}

/// Runs `work` in a child, which is confined before, and takes its answer and the descriptors that
/// it hands over, `most` at most.
///
/// # Errors
/// [`PrepareError::Garbled`] for more descriptors, and for an answer of more than 64 MiB or that
/// isn't one to the last byte.
pub fn run<A: Serialize + DeserializeOwned>(
    kind: &Kind,
    most: usize,
    work: impl FnOnce(&Handover) -> Result<A, String>,
) -> Result<(A, Vec<OwnedFd>), PrepareError> {
    let (answer, _, fds) = run_and_keep(kind, most, work)?;
    Ok((answer, fds))
}

/// The same, and the sealed memory in which it answered.
///
/// # Errors
/// As [`run`].
pub(super) fn run_and_keep<A: Serialize + DeserializeOwned>(
    kind: &Kind,
    most: usize,
    work: impl FnOnce(&Handover) -> Result<A, String>,
) -> Result<(A, OwnedFd, Vec<OwnedFd>), PrepareError> {
    let flags = SocketFlags::CLOEXEC;
    let (near, far) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .map_err(|errno| PrepareError::Fork(errno.into()))?;
    let handover = Handover(far);
    // Read here, so that not every child reads them anew.
    groups();
    let child = fork(|| {
        raise_descriptors();
        let confined = kind.confine();
        let confined = confined.map_err(|error| format!("{}: confining: {error}", kind.without));
        let ended = handover.end(confined.and_then(|()| work(&handover))).or_else(|error| {
            handover.end::<A>(Err(format!("{}: handing over: {error}", kind.without)))
        });
        u8::from(ended.is_err())
    })
    .map_err(PrepareError::Fork)?;
    drop(handover);
    let garbled = |error| PrepareError::Garbled(kind.does, error);
    let taken = take(&near, most).map_err(garbled);
    let ended = pidfd::wait(&child).map_err(garbled)?;
    match taken? {
        Taken::All(answer, fds) => Ok((read(&answer).map_err(garbled)?, answer, fds)),
        Taken::Failed(why) => Err(PrepareError::Failed(why)),
        Taken::Died => Err(PrepareError::Died(kind.does, ended)),
    }
}

/// Has this process send as long as it can: what all processes of a user have in flight is held
/// against the limit of who sends (unix(7), `ETOOMANYREFS`), and another daemon of that user may
/// hoard.
pub(super) fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    // Up to its hard limit a process may always.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

pub(super) fn read<A: DeserializeOwned>(answer: &OwnedFd) -> io::Result<A> {
    let bytes = memory::read_sealed(answer, MOST)?;
    match postcard::take_from_bytes(&bytes) {
        Ok((answer, [])) => Ok(answer),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// What came of listening to a child.
pub(super) enum Taken {
    /// The answer, and what was handed over before.
    All(OwnedFd, Vec<OwnedFd>),
    /// Why there is none.
    Failed(String),
    /// Nobody is there any more.
    Died,
}

/// Waits until there is something to read, or a process has ended; false: not in that time.
pub(super) fn wait_readable(fds: &[&OwnedFd], within: Duration) -> io::Result<bool> {
    let until = Instant::now() + within;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut fds: Vec<_> = fds.iter().map(|fd| PollFd::new(*fd, PollFlags::IN)).collect();
        match poll(&mut fds, Some(&left)) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn take(socket: &OwnedFd, most: usize) -> io::Result<Taken> {
    let mut made = Vec::new();
    loop {
        if let Some(taken) = take_next(socket, &mut made, most, RecvFlags::empty())? {
            return Ok(taken);
        }
    }
}

/// Takes one thing more; `None` as long as there is no end.
pub(super) fn take_next(
    socket: &OwnedFd,
    made: &mut Vec<OwnedFd>,
    most: usize,
    flags: RecvFlags,
) -> io::Result<Option<Taken>> {
    let mut text = [0; LONGEST];
    let (length, fd) = receive(socket, &mut text, flags)?;
    match (&text[..length], fd) {
        ([MADE], Some(fd)) if made.len() < most => made.push(fd),
        ([DONE], Some(answer)) => return Ok(Some(Taken::All(answer, std::mem::take(made)))),
        ([FAILED, why @ ..], None) => {
            return Ok(Some(Taken::Failed(String::from_utf8_lossy(why).into_owned())));
        }
        ([], None) => return Ok(Some(Taken::Died)),
        _ => return Err(io::ErrorKind::InvalidData.into()),
    }
    Ok(None)
}

fn receive(
    socket: &OwnedFd,
    text: &mut [u8],
    flags: RecvFlags,
) -> io::Result<(usize, Option<OwnedFd>)> {
    loop {
        match passing::receive(socket, text, flags) {
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
            Ok(got) if got.is_cut => return Err(io::ErrorKind::InvalidData.into()),
            Ok(got) => return Ok((got.length, got.fd)),
        }
    }
}

impl Kind {
    /// Takes from this process all that it may not do. No program that it executes gets a
    /// capability back.
    pub(super) fn confine(&self) -> io::Result<()> {
        if rustix::process::geteuid().is_root() {
            identity::keep_at_most(&self.capabilities.iter().copied().collect())?;
        }
        rustix::thread::set_no_new_privs(true)?;
        // What doesn't parse is a call that this architecture lacks.
        let items: Vec<_> = self.calls.iter().filter_map(|text| parse_item(text).ok()).collect();
        let mut plans = assemble(&items, &[], Implied::Run);
        // It has work to do, and no backtrace to print: what it isn't here for is an error, but for
        // what a C library is to fall back from.
        for plan in &mut plans {
            plan.otherwise = plan.otherwise.filter(|&errno| errno == ENOSYS).or(Some(EPERM));
        }
        let filter = compile_with(&plans, Arch::NATIVE, Action::Errno(EPERM));
        filter.map_err(io::Error::other)?.load().map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_none_is_refused() {
        let read = |bytes: &[u8]| {
            let memory = memory::sealed("test", bytes).unwrap();
            read::<(u32, String)>(&memory).map_err(|error| error.kind())
        };
        let good = postcard::to_stdvec(&(7_u32, "seven")).unwrap();
        assert_eq!(read(&good), Ok((7, "seven".to_owned())));
        for bytes in [&good[..3], &[&good[..], &[0]].concat(), &[0xff; 8], &[]] {
            assert_eq!(read(bytes), Err(io::ErrorKind::InvalidData), "{bytes:?}");
        }
        // Memory that its maker could still change.
        let open = memory::create("test").unwrap();
        rustix::io::write(&open, &good).unwrap();
        let read = super::read::<(u32, String)>(&open).map_err(|error| error.kind());
        assert_eq!(read, Err(io::ErrorKind::InvalidData));
    }
}
