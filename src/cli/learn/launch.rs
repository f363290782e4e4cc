//! Starting a program that is learned from, and hearing of it.

mod inside;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, socketpair};

use super::streams::{Prints, Streams};
use crate::sys::fork::fork;
use crate::sys::notify::Listener;
use crate::sys::passing;
use crate::sys::spawn::FilterLine;

/// How long it is tried to hand a descriptor over, and how often.
const CROWDED: Duration = Duration::from_secs(20);
const AGAIN: Duration = Duration::from_millis(20);

/// What is started.
pub(super) struct Order {
    /// The program, by its path.
    pub program: PathBuf,
    /// Its arguments, the first its name.
    pub argv: Vec<OsString>,
    /// Its environment.
    pub env: Vec<(String, String)>,
    /// Who it is, if not who learns.
    pub user: Option<(u32, u32)>,
    /// Where it starts.
    pub cwd: PathBuf,
    /// Whether it may change the host's files.
    pub writes_through: bool,
    /// Whether it has a network of its own, with nobody else on it.
    pub offline: bool,
    /// Where what it prints goes.
    pub prints: Prints,
    /// Its filter, if it is watched.
    pub filter: Option<Vec<FilterLine>>,
}

impl Order {
    /// Whether it is a program to learn from; otherwise one of ours, which confines what it starts.
    fn is_watched(&self) -> bool {
        self.filter.is_some()
    }
}

/// A program that is about to run, and waits for an answer to its first call.
pub(super) struct Started {
    /// Ends when all has ended.
    pub warden: OwnedFd,
    /// Says how the program ended, and is told of signals.
    pub control: OwnedFd,
    /// Where its calls come, if it is watched.
    pub listener: Option<Listener>,
    /// The root of what it sees.
    pub root: OwnedFd,
    /// The `/proc` of its pid namespace.
    pub proc: OwnedFd,
    /// What it reads and prints.
    pub streams: Streams,
    /// Whether the kernel can't keep it from abstract Unix sockets of the host.
    pub is_loose: bool,
}

/// Why nothing was started.
#[derive(Debug, thiserror::Error)]
pub(super) enum LaunchError {
    #[error("{0}: {1}")]
    System(&'static str, #[source] io::Error),
    /// In the words of who failed.
    #[error("{0}")]
    Inside(String),
}

/// What is heard of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// It has ended.
    End(End),
    /// Nobody is left of it; what it saw is there until [`Started::release`].
    Done,
    /// Something went wrong.
    Error(String),
    /// Nothing.
    Nothing,
}

/// How the program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Exited(u8),
    Killed(u8),
}

/// What is said over the control socket, by its first byte.
const MAP: u8 = b'm';
const ROOT: u8 = b'r';
const PROC: u8 = b'p';
const LISTENER: u8 = b'l';
const ERROR: u8 = b'e';
const EXITED: u8 = b'x';
const KILLED: u8 = b'k';
const DONE: u8 = b'd';
const GO: u8 = b'g';
const SIGNAL: u8 = b's';
const LOOSE: u8 = b'a';

/// The longest message: an error in words.
const LONGEST: usize = 512;

/// Starts it. The calling process has one thread.
pub(super) fn start(order: &Order) -> Result<Started, LaunchError> {
    let failed = |what| move |error: io::Error| LaunchError::System(what, error);
    let (control, far) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(|errno| failed("making a socket")(errno.into()))?;
    let (streams, ends) = Streams::new(order.prints).map_err(failed("making pipes"))?;
    let mut streams = Some(streams);
    let warden = fork(|| {
        // Whoever holds a pipe's end keeps the other one from noticing that it was closed.
        streams = None;
        let done = inside::keep(order, &ends, &far);
        tell(&far, done)
    })
    .map_err(failed("starting a process"))?;
    drop((far, ends));
    let (mut listener, mut root, mut proc, mut is_loose) = (None, None, None, false);
    loop {
        let mut bytes = [0; LONGEST];
        let message = passing::receive(&control, &mut bytes, RecvFlags::empty())
            .map_err(|errno| failed("hearing of the program")(errno.into()))?;
        let text = bytes.get(1..message.length).unwrap_or_default();
        match (bytes[0], message.fd) {
            _ if message.length == 0 => {
                let gone = io::Error::from(io::ErrorKind::UnexpectedEof);
                return Err(LaunchError::System("starting the program", gone));
            }
            (MAP, _) => {
                map(&String::from_utf8_lossy(text)).map_err(failed("writing a user map"))?;
                say(&control, &[GO], None).map_err(failed("starting the program"))?;
            }
            (ROOT, fd) => root = fd,
            (PROC, fd) => proc = fd,
            (LISTENER, fd) => listener = fd,
            (LOOSE, _) => is_loose = true,
            (ERROR, _) => {
                return Err(LaunchError::Inside(crate::text::neutralise(text)));
            }
            _ => {}
        }
        if let (Some(root), Some(proc), true) =
            (&root, &proc, listener.is_some() || !order.is_watched())
            && let Some(streams) = streams.take()
        {
            let again = |fd: &OwnedFd| fd.try_clone().map_err(failed("starting the program"));
            let (root, proc) = (again(root)?, again(proc)?);
            let listener = listener.take().map(Listener::new);
            return Ok(Started { warden, control, listener, root, proc, streams, is_loose });
        }
    }
}

impl Started {
    /// Has a signal passed on to the program.
    pub(super) fn signal(&self, number: u8) -> io::Result<()> {
        say(&self.control, &[SIGNAL, number], None)
    }

    /// Lets go of what the program saw.
    pub(super) fn release(&self) -> io::Result<()> {
        say(&self.control, &[GO], None)
    }

    /// What was said of the program, without waiting.
    pub(super) fn hear(&self) -> io::Result<Heard> {
        let mut bytes = [0; LONGEST];
        let message = passing::receive(&self.control, &mut bytes, RecvFlags::DONTWAIT)?;
        let text = bytes.get(1..message.length).unwrap_or_default();
        let number = text.first().copied().unwrap_or_default();
        Ok(match bytes[0] {
            _ if message.length == 0 => Heard::Error("it was lost".to_owned()),
            EXITED => Heard::End(End::Exited(number)),
            KILLED => Heard::End(End::Killed(number)),
            ERROR => Heard::Error(crate::text::neutralise(text)),
            DONE => Heard::Done,
            _ => Heard::Nothing,
        })
    }
}

/// Writes who is who in the warden's user namespace: for root everybody as outside, for others they
/// themselves and nobody else.
fn map(pid: &str) -> io::Result<()> {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    let all = format!("0 0 {}\n", u32::MAX);
    let (users, groups) = if uid.is_root() {
        (all.clone(), all)
    } else {
        fs::write(format!("/proc/{pid}/setgroups"), "deny")?;
        (format!("{0} {0} 1\n", uid.as_raw()), format!("{0} {0} 1\n", gid.as_raw()))
    };
    fs::write(format!("/proc/{pid}/gid_map"), groups)?;
    fs::write(format!("/proc/{pid}/uid_map"), users)
}

/// Tells what went wrong, and gives the exit code.
fn tell(far: &OwnedFd, done: Result<u8, String>) -> u8 {
    match done {
        Ok(code) => code,
        Err(words) => {
            let words = words.as_bytes();
            let message = [&[ERROR], &words[..words.len().min(LONGEST - 1)]].concat();
            let _ = say(far, &message, None);
            1
        }
    }
}

/// Waits a while where this user has too many descriptors in flight (`ETOOMANYREFS`, unix(7)), of
/// which others of its programs may have theirs: nothing tells when it has fewer.
fn say(socket: &OwnedFd, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let until = Instant::now() + CROWDED;
    loop {
        match passing::send(socket, bytes, fd, SendFlags::NOSIGNAL) {
            Err(Errno::TOOMANYREFS) if Instant::now() < until => thread::sleep(AGAIN),
            sent => return sent.map(|_| ()).map_err(Into::into),
        }
    }
}
