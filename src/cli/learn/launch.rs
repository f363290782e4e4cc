//! Starting a program that is learned from: with namespaces of its own, and a filter that leaves its
//! calls to this process.
//!
//! ```text
//! learner ── warden ── init ── program
//! ```
//!
//! The warden makes the namespaces, the init is the first process in them, makes the view and reaps.
//! Each dies with the one before it, and with the init all that the program has started.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, WaitOptions, WaitStatus};

use super::scratch;
use crate::sys::fork::{fork, fork_init};
use crate::sys::notify::Listener;
use crate::sys::spawn::FilterLine;
use crate::sys::{observe, passing, pidfd};

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
    /// Whether what it prints goes to standard error, for its output is not what is asked for.
    pub prints_apart: bool,
    /// Its filter, if it is watched.
    pub filter: Option<Vec<FilterLine>>,
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

/// The longest message: an error in words.
const LONGEST: usize = 512;

/// Starts it. The calling process has one thread.
pub(super) fn start(order: &Order) -> Result<Started, LaunchError> {
    let failed = |what| move |error: io::Error| LaunchError::System(what, error);
    let (control, far) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(|errno| failed("making a socket")(errno.into()))?;
    let warden = fork(|| {
        let done = keep(order, &far);
        tell(&far, done)
    })
    .map_err(failed("starting a process"))?;
    drop(far);
    let (mut listener, mut root, mut proc) = (None, None, None);
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
            (ERROR, _) => {
                return Err(LaunchError::Inside(crate::text::neutralise(text)));
            }
            _ => {}
        }
        if let (Some(root), Some(proc), true) =
            (&root, &proc, listener.is_some() || order.filter.is_none())
        {
            let again = |fd: &OwnedFd| fd.try_clone().map_err(failed("starting the program"));
            let (root, proc) = (again(root)?, again(proc)?);
            let listener = listener.take().map(Listener::new);
            return Ok(Started { warden, control, listener, root, proc });
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

/// The warden: makes the namespaces and waits for the init.
fn keep(order: &Order, far: &OwnedFd) -> Result<u8, String> {
    let namespaces = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID;
    unshare(namespaces).map_err(|errno| {
        format!("this user may not make namespaces ({errno}): see `cofferdam doctor`")
    })?;
    let pid = rustix::process::getpid().as_raw_nonzero().to_string();
    let message = [&[MAP], pid.as_bytes()].concat();
    say(far, &message, None).map_err(|error| error.to_string())?;
    let mut answer = [0];
    passing::receive(far, &mut answer, RecvFlags::empty()).map_err(|errno| errno.to_string())?;
    let init = fork_init(|| {
        let done = attend(order, far);
        tell(far, done)
    })
    .map_err(|error| error.to_string())?;
    match pidfd::wait(&init).map_err(|error| error.to_string())? {
        pidfd::Ended::Exited(code) => Ok(code),
        pidfd::Ended::Killed(_) => Ok(1),
    }
}

/// The init: makes the view, starts the program, and reaps until nobody is left.
fn attend(order: &Order, far: &OwnedFd) -> Result<u8, String> {
    let made = if order.writes_through { scratch::enter_host() } else { scratch::enter() };
    made.map_err(|error| error.to_string())?;
    for (kind, path) in [(ROOT, "/"), (PROC, "/proc")] {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|errno| format!("{path}: {errno}"))?;
        say(far, &[kind], Some(fd.as_fd())).map_err(|error| error.to_string())?;
    }
    let mut set = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGINT, Signal::SIGTERM] {
        set.add(signal);
    }
    let signals = set
        .thread_block()
        .and_then(|()| SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK))
        .map_err(|errno| errno.to_string())?;
    let program = fork(|| {
        let done = become_program(order, far);
        tell(far, done.map(|()| 0))
    })
    .map_err(|error| error.to_string())?;
    loop {
        let mut polled = [PollFd::new(&signals, PollFlags::IN), PollFd::new(far, PollFlags::IN)];
        match poll(&mut polled, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.to_string()),
        }
        let spoken = !polled[1].revents().is_empty();
        while let Ok(Some(_)) = signals.read_signal() {}
        if spoken {
            let mut bytes = [0; 2];
            match passing::receive(far, &mut bytes, RecvFlags::DONTWAIT) {
                Ok(message) if message.length == 2 && bytes[0] == SIGNAL => {
                    let _ = pidfd::signal_number(&program, i32::from(bytes[1]));
                }
                Ok(message) if message.length == 0 => return Ok(1),
                _ => {}
            }
        }
        if !reap(far)? {
            let told = say(far, &[DONE], None);
            let mut answer = [0];
            let _ = told.map(|()| passing::receive(far, &mut answer, RecvFlags::empty()));
            return Ok(0);
        }
    }
}

/// Reaps whatever has ended, and tells of the program, which is number 2 of its namespace; `false` once nobody is left.
fn reap(far: &OwnedFd) -> Result<bool, String> {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if Pid::from_raw(2) == Some(pid) => {
                say(far, &ending(status), None).map_err(|error| error.to_string())?;
            }
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => return Ok(true),
            Err(Errno::CHILD) => return Ok(false),
            Err(errno) => return Err(errno.to_string()),
        }
    }
}

fn ending(status: WaitStatus) -> [u8; 2] {
    let byte = |number: i32| u8::try_from(number).unwrap_or(u8::MAX);
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => [EXITED, byte(code)],
        (None, signal) => [KILLED, byte(signal.unwrap_or_default())],
    }
}

/// The program, up to its exec: comes back only if that failed.
fn become_program(order: &Order, far: &OwnedFd) -> Result<(), String> {
    let words = |what: &str, error: &dyn std::fmt::Display| format!("{what}: {error}");
    SigSet::empty().thread_set_mask().map_err(|errno| words("resetting signals", &errno))?;
    if let Some((uid, gid)) = order.user {
        let group = rustix::process::Gid::from_raw(gid);
        let user = rustix::process::Uid::from_raw(uid);
        rustix::thread::set_thread_groups(&[])
            .and_then(|()| rustix::thread::set_thread_res_gid(group, group, group))
            .and_then(|()| rustix::thread::set_thread_res_uid(user, user, user))
            .map_err(|errno| words("becoming the user", &errno))?;
    }
    if rustix::process::chdir(&order.cwd).is_err() {
        rustix::process::chdir("/").map_err(|errno| words("entering /", &errno))?;
    }
    let mut command = Command::new(&order.program);
    let name = order.argv.first().map_or(order.program.as_os_str(), OsString::as_os_str);
    command.arg0(name).args(order.argv.get(1..).unwrap_or_default());
    command.env_clear().envs(order.env.iter().map(|(name, value)| (name, value)));
    if order.prints_apart {
        command.stdout(io::stderr());
    }
    if let Some(filter) = &order.filter {
        let listener = observe::load(filter).map_err(|error| words("watching it", &error))?;
        let sent = say(far, &[LISTENER], Some(listener.as_fd()));
        sent.map_err(|error| words("watching it", &error))?;
    }
    let error = command.exec();
    Err(format!("`{}` can't be run: {error}", show(&order.program)))
}

fn show(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    crate::text::neutralise(path.as_os_str().as_bytes())
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

fn say(socket: &OwnedFd, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    passing::send(socket, bytes, fd, SendFlags::NOSIGNAL)?;
    Ok(())
}
