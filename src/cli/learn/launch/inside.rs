//! What happens within the namespaces of a program that is learned from.
//!
//! ```text
//! learner ── warden ── init ── program
//! ```
//!
//! The warden makes the namespaces, the init is the first process in them, makes the view and reaps.
//! Each dies with the one before it, and with the init all that the program has started.
//!
//! For the host's own files and devices, root of this user namespace is root. What bars the way is that
//! the view shows none of them writable, and that the program lacks the capabilities to change mounts
//! or to take the init over.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use caps::Capability;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::process::{
    DumpableBehavior, Pid, Resource, Rlimit, WaitOptions, WaitStatus, getrlimit, setrlimit,
};

use super::{DONE, EXITED, KILLED, LISTENER, LOOSE, MAP, Order, PROC, ROOT, SIGNAL, say, tell};
use crate::cli::learn::scratch::{self, View};
use crate::cli::learn::streams::Ends;
use crate::confine::domain::scope_abstract_sockets;
use crate::confine::identity::keep_at_most;
use crate::sys::fork::{fork, fork_init};
use crate::sys::inherit::close_on_exec;
use crate::sys::process::join_new_session_keyring;
use crate::sys::socket::raise_loopback;
use crate::sys::{observe, passing, pidfd};

/// What root of the program's user namespace may still do there: own files, be somebody else, and
/// nothing to mounts and processes.
const KEPT: [Capability; 10] = [
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_FOWNER,
    Capability::CAP_FSETID,
    Capability::CAP_KILL,
    Capability::CAP_SETGID,
    Capability::CAP_SETUID,
    Capability::CAP_SETPCAP,
    Capability::CAP_NET_BIND_SERVICE,
    Capability::CAP_SYS_CHROOT,
];

/// The soft limit of descriptors that programs are made for (`FD_SETSIZE` of select(2)), and that service
/// managers give.
const USUAL_FILES: u64 = 1024;

/// The warden: makes the namespaces and waits for the init.
pub(super) fn keep(order: &Order, ends: &Ends, far: &OwnedFd) -> Result<u8, String> {
    let mut namespaces = CloneFlags::CLONE_NEWUSER
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC;
    if order.offline {
        namespaces |= CloneFlags::CLONE_NEWNET;
    }
    unshare(namespaces).map_err(|errno| {
        format!("this user may not make namespaces ({errno}): see `cofferdam doctor`")
    })?;
    let pid = rustix::process::getpid().as_raw_nonzero().to_string();
    let message = [&[MAP], pid.as_bytes()].concat();
    say(far, &message, None).map_err(|error| error.to_string())?;
    let mut answer = [0];
    passing::receive(far, &mut answer, RecvFlags::empty()).map_err(|errno| errno.to_string())?;
    let init = fork_init(|| {
        let done = attend(order, ends, far);
        tell(far, done)
    })
    .map_err(|error| error.to_string())?;
    match pidfd::wait(&init).map_err(|error| error.to_string())? {
        pidfd::Ended::Exited(code) => Ok(code),
        pidfd::Ended::Killed(_) => Ok(1),
    }
}

/// The init: makes the view, starts the program, and reaps until nobody is left.
fn attend(order: &Order, ends: &Ends, far: &OwnedFd) -> Result<u8, String> {
    let words = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}");
    leave(order).map_err(words("leaving what the caller has"))?;
    scratch::enter(View { host: order.writes_through, settable: !order.is_watched() })
        .map_err(|error| error.to_string())?;
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
        let done = become_program(order, ends, far);
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

/// Leaves what is the caller's besides files: its terminal, its keys, its memory.
fn leave(order: &Order) -> std::io::Result<()> {
    let _ = rustix::process::setsid();
    match join_new_session_keyring() {
        // A kernel without keys.
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {}
        done => done?,
    }
    if order.offline {
        raise_loopback()?;
    }
    if order.is_watched() {
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    }
    Ok(())
}

/// Reaps whatever has ended, and tells of the program, which is number 2 of its namespace; `false`
/// once nobody is left.
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
fn become_program(order: &Order, ends: &Ends, far: &OwnedFd) -> Result<(), String> {
    let words = |what: &str, error: &dyn std::fmt::Display| format!("{what}: {error}");
    if order.is_watched() {
        guard(far).map_err(|error| words("guarding the host", &error))?;
    }
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
    let again = |fd: &OwnedFd| fd.try_clone().map_err(|error| words("its streams", &error));
    let input = ends.input.as_ref().map(again).transpose()?;
    command.stdin(input.map_or_else(Stdio::null, Stdio::from));
    command.stdout(again(&ends.output)?).stderr(again(&ends.error)?);
    if order.is_watched() {
        keep_usual_descriptors();
    }
    close_on_exec(3).map_err(|error| words("closing descriptors", &error))?;
    if let Some(filter) = &order.filter {
        let listener = observe::load(filter).map_err(|error| words("watching it", &error))?;
        let sent = say(far, &[LISTENER], Some(listener.as_fd()));
        sent.map_err(|error| words("watching it", &error))?;
    }
    let error = command.exec();
    Err(format!("`{}` can't be run: {error}", show(&order.program)))
}

/// Lowers the soft limit of descriptors to the usual one: who needs more has to say so then, and who
/// goes by what there is learns to do with it.
fn keep_usual_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let current = Some(limit.current.map_or(USUAL_FILES, |current| current.min(USUAL_FILES)));
    // What is lower than before is always allowed.
    let _ = setrlimit(Resource::Nofile, Rlimit { current, ..limit });
}

/// Takes from this process what would let a program reach past its view.
fn guard(far: &OwnedFd) -> std::io::Result<()> {
    if rustix::process::geteuid().is_root() {
        keep_at_most(&KEPT.into_iter().collect())?;
    }
    rustix::thread::set_no_new_privs(true)?;
    if !scope_abstract_sockets()? {
        say(far, &[LOOSE], None)?;
    }
    // So that an ordinary user's learner may read what calls point to.
    rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable).map_err(std::io::Error::from)
}

fn show(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    crate::text::neutralise(path.as_os_str().as_bytes())
}
