//! Watching: taking the program's calls until all of it has ended.

use std::io;
use std::os::fd::AsFd;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::launch::{End, Heard, Started};
use super::note::Notes;
use crate::confine::filter::{Action, Arch, FilterError, compile_with};
use crate::policy::plan::{CallRule, SyscallPlan};
use crate::policy::syscall::meaning::permits;
use crate::policy::syscall::{Implied, Item, assemble, by_name, errno, name_of, parse_item};
use crate::review::learn::ALWAYS;
use crate::sys::notify::{Notification, Reply};
use crate::sys::pidfd;
use crate::sys::spawn::FilterLine;

/// Calls that are looked at although every learned layer has them: they say which files are used,
/// when processes begin and end, and which limits are asked for.
const LOOKED_AT: [&str; 10] = [
    "clone",
    "creat",
    "execve",
    "execveat",
    "exit_group",
    "open",
    "openat",
    "openat2",
    "prlimit64",
    "setrlimit",
];

/// The arguments with which a loader maps code: `PROT_READ|PROT_EXEC` and `MAP_PRIVATE`.
const CODE: [u64; 6] = [0, 0, 5, 2, 3, 0];

/// How long to wait before the peaks are looked at again, in nanoseconds.
const PAUSE: i64 = 100_000_000;

/// What was learned, and how it ended.
pub(super) struct Outcome {
    /// How the program ended; `None`: it was ended here.
    pub end: Option<End>,
    /// Whether somebody ended it by a signal to this process.
    pub is_stopped: bool,
    /// Whether it was given what can be read only once.
    pub is_spent: bool,
}

/// The signals that end the watching. They are blocked from now on, so before any child is made.
pub(super) fn signals() -> io::Result<SignalFd> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGINT);
    set.add(Signal::SIGTERM);
    set.thread_block()?;
    Ok(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

/// The filter of a program that is watched: what every learned layer has passes, and is never seen;
/// everything else is.
pub(super) fn filter() -> Result<Vec<FilterLine>, FilterError> {
    /// An errno that no program sees: it stands for the question to the watcher.
    const ASK: u16 = 4095;
    let always: Vec<Item> = parse_item(ALWAYS).into_iter().collect();
    let mut plans = assemble(&always, &[], Implied::Exec);
    let looked_at: Vec<u32> = LOOKED_AT.iter().filter_map(|name| by_name(name)).collect();
    // Whose code is mapped says which libraries are used.
    let code = |rule: &CallRule| {
        let plan = SyscallPlan { number: 0, allow: vec![rule.clone()], otherwise: None };
        permits(&plan, &CODE)
    };
    let mmap = by_name("mmap");
    for plan in plans.iter_mut().filter(|plan| Some(plan.number) == mmap) {
        plan.allow.retain(|rule| !code(rule));
    }
    plans.retain(|plan| !looked_at.contains(&plan.number) && !plan.allow.is_empty());
    for plan in &mut plans {
        plan.otherwise = Some(ASK);
    }
    // `clone3` has its flags in memory: refused as in every layer, so that libraries use `clone`.
    let refused = |number| SyscallPlan { number, allow: Vec::new(), otherwise: errno("ENOSYS") };
    plans.extend(by_name("clone3").map(refused));
    let filter = compile_with(&plans, Arch::NATIVE, Action::Errno(ASK))?;
    Ok(filter.asking(ASK))
}

/// Takes calls, notes them and lets them pass, until nobody of the program is left.
pub(super) fn watch(
    started: &mut Started,
    signals: &SignalFd,
    notes: &mut Notes,
) -> Result<Outcome, String> {
    let outcome = follow(started, signals, notes);
    started.streams.finish();
    outcome
}

fn follow(started: &mut Started, signals: &SignalFd, notes: &mut Notes) -> Result<Outcome, String> {
    if let Some(listener) = &started.listener {
        listener.take_turns();
    }
    let is_spent = started.streams.are_spent();
    let mut outcome = Outcome { end: None, is_stopped: false, is_spent };
    let (mut listens, mut hears) = (started.listener.is_some(), true);
    loop {
        let nothing = PollFlags::empty();
        let wants = |wanted: bool| if wanted { PollFlags::IN } else { nothing };
        let calls = started.listener.as_ref().map_or(signals.as_fd(), AsFd::as_fd);
        let streams = started.streams.wants();
        let stream = |at: usize| {
            let (fd, wanted) = streams[at].unwrap_or((signals.as_fd(), nothing));
            PollFd::from_borrowed_fd(fd, wanted)
        };
        let mut polled = [
            PollFd::new(&started.warden, PollFlags::IN),
            PollFd::new(signals, PollFlags::IN),
            PollFd::new(&started.control, wants(hears)),
            PollFd::from_borrowed_fd(calls, wants(listens)),
            stream(0),
            stream(1),
            stream(2),
        ];
        let pause = Timespec { tv_sec: 0, tv_nsec: PAUSE };
        match poll(&mut polled, Some(&pause)) {
            Ok(0) => notes.look(),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.to_string()),
        }
        let [warden, signal, control, calls, streams @ ..] = polled.map(|one| one.revents());
        started.streams.carry(streams.map(|stream| !stream.is_empty()));
        if calls.contains(PollFlags::IN) {
            take(started, notes)?;
        } else if !calls.is_empty() {
            listens = false;
        }
        if signal.contains(PollFlags::IN) {
            stop(started, signals, &mut outcome);
        }
        if control.contains(PollFlags::IN) {
            match started.hear() {
                Ok(Heard::End(end)) => outcome.end = Some(end),
                Ok(Heard::Done) => {
                    notes.measure();
                    started.release().map_err(|error| error.to_string())?;
                }
                Ok(Heard::Error(words)) if outcome.end.is_none() && !outcome.is_stopped => {
                    return Err(words);
                }
                Ok(Heard::Nothing) => {}
                Ok(Heard::Error(_)) | Err(_) => hears = false,
            }
        } else if !control.is_empty() {
            hears = false;
        }
        if warden.contains(PollFlags::IN) && !control.contains(PollFlags::IN) {
            let _ = pidfd::try_wait(&started.warden);
            return Ok(outcome);
        }
    }
}

fn take(started: &Started, notes: &mut Notes) -> Result<(), String> {
    let words = |error: io::Error| format!("taking a call of the program failed: {error}");
    let Some(listener) = &started.listener else { return Ok(()) };
    let Some(call) = listener.receive().map_err(words)? else { return Ok(()) };
    notes.note(&call);
    listener.answer(&call, barred(&call).map_or(Reply::CarriedOut, Reply::Refused)).map_err(words)
}

/// What is refused although learning refuses nothing within the view, and how: what leads out of it,
/// or past this observer. Only numbers count, which can't change any more.
fn barred(call: &Notification) -> Option<i32> {
    let low = |place: usize| call.arguments[place] & u64::from(u32::MAX);
    match name_of(call.number)? {
        // The ring's operations pass no filter; keys are found by their number, whoever's they are.
        "io_uring_setup" | "io_uring_enter" | "io_uring_register" | "add_key" | "keyctl"
        | "request_key" => Some(libc::ENOSYS),
        // What a terminal reads next, which may be the caller's.
        "ioctl" if [TIOCSTI, TIOCLINUX].contains(&low(1)) => Some(libc::EPERM),
        // Machines and devices, which no namespace of networks parts.
        "socket" if !FAMILIES.contains(&low(0)) => Some(libc::EAFNOSUPPORT),
        _ => None,
    }
}

/// `ioctl_tty(2)`, `ioctl_console(2)`.
const TIOCSTI: u64 = 0x5412;
const TIOCLINUX: u64 = 0x541c;

/// Unix, IPv4, IPv6 and netlink, of the kernel's interface on every architecture.
const FAMILIES: [u64; 4] = [1, 2, 10, 16];

/// Passes a signal on, and ends everything at the second one.
fn stop(started: &Started, signals: &SignalFd, outcome: &mut Outcome) {
    while let Ok(Some(taken)) = signals.read_signal() {
        if outcome.is_stopped {
            let _ = pidfd::signal(&started.warden, rustix::process::Signal::KILL);
        }
        outcome.is_stopped = true;
        if let Ok(number) = u8::try_from(taken.ssi_signo) {
            let _ = started.signal(number);
        }
    }
}
