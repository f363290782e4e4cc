//! Who has prepared anew what a daemon runs on, while it runs.
//!
//! The supervisor locks itself up before the first layer starts, so it can neither read a policy nor
//! bind a socket later. The steward can: it is forked before, keeps what the start was made with,
//! and does nothing but wait for one word of the supervisor's, on a socket that nobody else holds.
//! Then it forks a process that goes the way of the start once more, with the same confined children,
//! and hands over what came of it. It hears nothing of layers, and ends with the supervisor.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::SigSet;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, socketpair};
use rustix::process::{DumpableBehavior, Resource, Signal, getrlimit};
use serde::{Deserialize, Serialize};

use super::arrange;
use super::assembler;
use super::assembly::Assembly;
use super::child::{self, Handover, Taken};
use super::maker::{self, Answer, Made, Wanted};
use super::planner::Planned;
use super::upgrade::{Brief, program};
use crate::layer::enter::REHEARSES;
use crate::policy::plan::Plan;
use crate::sys::fork::fork;
use crate::sys::passing;
use crate::sys::pidfd::{self, Ended};
use crate::users::Key;

/// The most descriptors that are handed over for a reload.
const MOST: usize = 16 << 10;

/// What a daemon starts from, found anew.
pub(crate) struct Found {
    /// The plan.
    pub planned: Planned,
    /// Warnings, for a person.
    pub notes: String,
    /// Bytes that every layer reads.
    pub settings: Vec<u8>,
    /// Whether paths that aren't granted are told of.
    pub tells_paths: bool,
}

/// Finds it, as at the start; an error is for a person.
pub(crate) type Find<'a> = &'a mut dyn FnMut() -> Result<Found, String>;

/// What the supervisor asks for.
const RELOAD: u8 = b'+';
const UPGRADE: u8 = b'^';
/// That the steward is the program from now on that was rehearsed last.
const BECOME: u8 = b'>';

/// How long a new program may take until it says that it has begun: its `main`, up to
/// [`Daemon::main`](crate::Daemon::main).
const BEGINNING: Duration = Duration::from_secs(15);

/// How long it may take until it has taken over, from its beginning on.
const REHEARSING: Duration = Duration::from_secs(100);

/// The supervisor's way to the steward.
#[derive(Debug)]
pub(crate) struct Steward {
    /// Whatever is handed over comes here.
    pub socket: OwnedFd,
    /// Its process.
    pub process: OwnedFd,
    made: Vec<OwnedFd>,
}

/// What was prepared.
pub(crate) struct Prepared {
    /// How every layer is started.
    pub assembly: Assembly,
    /// The same, in the memory that the next reload begins from.
    pub memory: OwnedFd,
    /// What was made anew; nothing where nothing changes.
    pub made: Option<Made>,
    /// Warnings, for a person.
    pub notes: String,
}

/// What was prepared by a new program, for itself.
pub(crate) struct Successor {
    /// The program.
    pub program: OwnedFd,
    /// As long as this is open the program's file stays what it was.
    _stay: OwnedFd,
    /// What it says of what it has made, and all of that.
    pub told: OwnedFd,
    pub fds: Vec<OwnedFd>,
    /// Warnings, for a person.
    pub notes: String,
    /// The difference in authority, for people, and whether anything is gained.
    pub lines: Vec<String>,
    pub gains: bool,
}

/// What came of a question: what is said of it, and what was handed over.
pub(crate) struct Handed {
    told: OwnedFd,
    fds: Vec<OwnedFd>,
}

/// What the process that prepares says of what it hands over.
#[derive(Serialize, Deserialize)]
pub(super) struct Told {
    notes: String,
    /// The difference in authority, and whether anything is gained.
    lines: Vec<String>,
    gains: bool,
    /// What was made, and of which plan.
    made: Option<(Plan, Answer)>,
}

/// Why nothing was prepared, and nothing has changed.
pub(crate) enum Failure {
    /// For a person; another time it may be otherwise.
    Refused(String),
    /// Nobody is there who could.
    Gone(String),
}

impl Steward {
    /// Starts it. `let_go` has it let go of what is the supervisor's alone.
    pub(crate) fn begin(find: Find<'_>, let_go: impl FnOnce()) -> io::Result<Self> {
        let path = program::own_path()?;
        let flags = SocketFlags::CLOEXEC;
        let (near, far) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        let near = Cell::new(Some(near));
        let process = fork(|| {
            // The supervisor's end is its alone.
            drop(near.take());
            let_go();
            serve(&far, &path, find)
        })?;
        let socket = near.take().ok_or(io::ErrorKind::NotFound)?;
        Ok(Self::of(socket, process))
    }

    /// The one of this process, which the supervisor holds the other end of.
    pub(crate) fn of(socket: OwnedFd, process: OwnedFd) -> Self {
        Self { socket, process, made: Vec::new() }
    }

    /// Has what comes after `before` prepared. `key` is whose users the layers are.
    pub(crate) fn ask(&self, before: &OwnedFd, key: Option<&str>) -> io::Result<()> {
        let word = [&[RELOAD], key.unwrap_or_default().as_bytes()].concat();
        self.send(&word, Some(before))
    }

    /// The same by the program that is at its path now, and whether that reads this supervisor's `state`.
    pub(crate) fn rehearse(
        &self,
        before: &OwnedFd,
        state: &OwnedFd,
        key: Option<&str>,
    ) -> io::Result<()> {
        let word = [&[UPGRADE], key.unwrap_or_default().as_bytes()].concat();
        self.send(&word, Some(before))?;
        self.send(&[UPGRADE], Some(state))
    }

    /// Has it be the program from now on that was rehearsed last.
    pub(crate) fn renew(&self) -> io::Result<()> {
        self.send(&[BECOME], None)
    }

    fn send(&self, word: &[u8], fd: Option<&OwnedFd>) -> io::Result<()> {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        passing::send(&self.socket, word, fd.map(AsFd::as_fd), flags)?;
        Ok(())
    }

    /// What came of it, once it is all there.
    pub(crate) fn answer(&mut self) -> Option<Result<Handed, Failure>> {
        loop {
            let next = child::take_next(&self.socket, &mut self.made, MOST, RecvFlags::DONTWAIT);
            let garbled = |error: io::Error| Failure::Gone(error.to_string());
            return Some(match next {
                Ok(None) => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(error) => Err(garbled(error)),
                Ok(Some(Taken::Died)) => Err(Failure::Gone("it has ended".to_owned())),
                Ok(Some(Taken::Failed(why))) => {
                    self.made.clear();
                    Err(Failure::Refused(why))
                }
                Ok(Some(Taken::All(told, fds))) => Ok(Handed { told, fds }),
            });
        }
    }

    /// Ends it.
    pub(crate) fn end(&self) {
        let _ = pidfd::signal(&self.process, Signal::KILL);
        let _ = pidfd::wait(&self.process);
    }
}

impl Drop for Steward {
    fn drop(&mut self) {
        self.end();
    }
}

impl Handed {
    /// What the program before had handed over to it.
    pub(crate) fn of(told: OwnedFd, fds: Vec<OwnedFd>) -> Self {
        Self { told, fds }
    }

    /// What a reload is made of.
    pub(crate) fn prepared(self) -> io::Result<Prepared> {
        let Told { notes, made, .. } = child::read(&self.told)?;
        let mut fds = self.fds.into_iter();
        let memory = fds.next().ok_or(io::ErrorKind::InvalidData)?;
        let assembly: Assembly = child::read(&memory)?;
        let made =
            made.map(|(plan, answer)| maker::sort(&plan, answer, fds.collect())).transpose()?;
        Ok(Prepared { assembly, memory, made, notes })
    }

    /// What an upgrade is made of.
    pub(crate) fn successor(self) -> io::Result<Successor> {
        let Told { notes, lines, gains, .. } = child::read(&self.told)?;
        let mut fds = self.fds.into_iter();
        let mut next = || fds.next().ok_or(io::ErrorKind::InvalidData);
        let (program, stay) = (next()?, next()?);
        let (told, fds) = (self.told, fds.collect());
        Ok(Successor { program, _stay: stay, told, fds, notes, lines, gains })
    }
}

/// The steward's life: of one that is forked, or that has become another program. `path` is where its
/// program is.
pub(crate) fn serve(socket: &OwnedFd, path: &Path, find: Find<'_>) -> u8 {
    // What it forks are copies of it: people see by the name which of them waits.
    let _ = rustix::thread::set_name(c"steward");
    // A terminal's Ctrl-C is the supervisor's to obey.
    if SigSet::all().thread_block().is_err()
        || rustix::thread::set_no_new_privs(true).is_err()
        || rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).is_err()
    {
        return 1;
    }
    let mut rehearsed = None;
    loop {
        let mut word = [0; 256];
        let Some((length, fd)) = heard(socket, &mut word) else { return 0 };
        let Ok(handover) = socket.try_clone().map(Handover::over) else { return 1 };
        let Ok(key) = std::str::from_utf8(&word[1..length]) else { return 1 };
        let done = match (word[0], fd, &rehearsed) {
            (RELOAD, Some(before), _) => reload(&before, key, find, &handover),
            (UPGRADE, Some(before), _) => {
                let Some((_, Some(state))) = heard(socket, &mut [0; 1]) else { return 1 };
                rehearse(path, [&before, &state], key, &handover)
                    .map(|program| rehearsed = Some(program))
            }
            (BECOME, None, Some(program)) => {
                let brief = Brief::Steward(socket, path.as_os_str());
                program::execute(program, None, &brief);
                return 1;
            }
            _ => return 1,
        };
        if let Err(why) = done
            && handover.end::<Told>(Err(why)).is_err()
        {
            return 1;
        }
    }
}

/// The supervisor's next word; `None` once it is gone.
fn heard(socket: &OwnedFd, word: &mut [u8]) -> Option<(usize, Option<OwnedFd>)> {
    loop {
        return match passing::receive(socket, word, RecvFlags::empty()) {
            Err(Errno::INTR) => continue,
            Ok(got) if got.length > 0 => Some((got.length, got.fd)),
            _ => None,
        };
    }
}

/// Has a process of its own prepare a reload, and waits for it. An error: it has said nothing.
fn reload(before: &OwnedFd, key: &str, find: Find<'_>, to: &Handover) -> Result<(), String> {
    let child = fork(|| {
        let prepared = child::read(before).map_err(|error: io::Error| error.to_string());
        let told = prepared.and_then(|before| prepare(&before, key, find, false, to));
        u8::from(to.end(told).is_err())
    });
    match child.and_then(pidfd::wait) {
        Ok(Ended::Exited(0)) => Ok(()),
        Ok(ended) => Err(format!("the process that prepares a reload {ended} before it was done")),
        Err(error) => Err(format!("a process that prepares a reload can't be started: {error}")),
    }
}

/// Has the program that is at the path now prepare an upgrade, and waits until that is over. An error:
/// it has said nothing.
fn rehearse(
    path: &Path,
    [before, state]: [&OwnedFd; 2],
    key: &str,
    to: &Handover,
) -> Result<OwnedFd, String> {
    let program = program::open(path)?;
    let text = |error: io::Error| format!("a process that rehearses can't be started: {error}");
    let flags = SocketFlags::CLOEXEC;
    let pair = || socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
    let (stays, stay) = pair().map_err(|errno| text(errno.into()))?;
    let (begins, begun) = pair().map_err(|errno| text(errno.into()))?;
    to.give(program.as_fd()).and_then(|()| to.give(stays.as_fd())).map_err(text)?;
    drop(stays);
    let fds = [&begun, to.socket(), before, state, &program, &stay];
    let child = fork(|| {
        let error = program::execute(&program, Some(REHEARSES), &Brief::Prepare(fds, key));
        let why = format!("the program {}: executing it: {error}", path.display());
        // Nobody has to guess what became of it.
        let said = passing::send(&begun, b"+", None, SendFlags::NOSIGNAL);
        u8::from(said.is_err() || to.end::<Told>(Err(why)).is_err())
    });
    let child = child.map_err(text)?;
    drop((stay, begun));
    let name = path.display();
    // Whoever executes something else than a daemon closes this without a word.
    let has_begun = child::wait_readable(&[&begins], BEGINNING).map_err(text)?
        && heard(&begins, &mut [0; 1]).is_some();
    let over = has_begun && child::wait_readable(&[&child], REHEARSING).map_err(text)?;
    if !over {
        // It may be about to end by itself, and say how.
        let ended = child::wait_readable(&[&child], Duration::from_millis(100)).map_err(text)?;
        if !ended {
            let _ = pidfd::signal(&child, Signal::KILL);
        }
        return match pidfd::wait(&child).map_err(text)? {
            Ended::Exited(0) if has_begun => Ok(program),
            _ if !ended && !has_begun => Err(format!(
                "the program {name} didn't come to `Daemon::main` in {} s, and is killed",
                BEGINNING.as_secs()
            )),
            _ if !ended => Err(format!(
                "the program {name} didn't take over in {} s, and is killed",
                REHEARSING.as_secs()
            )),
            how => Err(format!(
                "the program {name} {how} and took nothing over: is it this daemon's, and of a \
                 version that knows how?"
            )),
        };
    }
    match pidfd::wait(&child).map_err(text)? {
        Ended::Exited(0) => Ok(program),
        how => Err(format!("the program {name} {how} before it had taken over")),
    }
}

/// Goes the way of the start once more. `program`: for a new program, whatever the policy says.
pub(super) fn prepare(
    before: &Assembly,
    key: &str,
    find: Find<'_>,
    program: bool,
    to: &Handover,
) -> Result<Told, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    child::raise_descriptors();
    let Found { planned, notes, settings, tells_paths } = find()?;
    let Planned { name, plan, id } = planned;
    let log = before.lasting.log.as_ref().map(|(path, identity)| (path.as_path(), *identity));
    let (assembly, memory) = assembler::assemble(&assembler::Request {
        plan: &plan,
        policy: id,
        log,
        waiting: before.lasting.waiting,
        tells_paths,
        settings: &settings,
        before: Some(before),
        program,
    })
    .map_err(|error| text(&error))?;
    // The supervisor's was raised after this process was forked, to what it needed then.
    let most = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX).max(before.descriptors);
    if assembly.descriptors > most {
        return Err(format!(
            "the supervisor may need {} descriptors, and its limit is {most}: that takes a restart \
             of the daemon",
            assembly.descriptors
        ));
    }
    to.give(memory.as_fd()).map_err(|error| text(&error))?;
    let Some(change) = &assembly.change else {
        return Err("it isn't said what changes".to_owned());
    };
    let (lines, gains) = (change.lines.clone(), change.gains);
    if change.is_none {
        return Ok(Told { notes, lines, gains, made: None });
    }
    let is_there = |layer: usize, place: usize| change.listen[layer][place].is_some();
    let plan = arrange::unmade(&before.whole(), &assembly.whole(), is_there);
    let users = key.parse::<Key>().ok();
    let (users, log, passed) = (users.as_ref(), None, Vec::new());
    let wanted = Wanted { plan: &plan, policy: &name, users, runs: true, log, passed };
    let (answer, fds) = maker::have_made(wanted).map_err(|error| text(&error))?;
    fds.iter().try_for_each(|fd| to.give(fd.as_fd())).map_err(|error| text(&error))?;
    Ok(Told { notes, lines, gains, made: Some((plan, answer)) })
}
