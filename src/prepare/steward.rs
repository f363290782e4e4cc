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

/// The supervisor's way to the steward.
#[derive(Debug)]
pub(crate) struct Steward {
    /// Whatever is handed over comes here.
    pub socket: OwnedFd,
    process: OwnedFd,
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

/// What the process that prepares says of what it hands over.
#[derive(Serialize, Deserialize)]
struct Told {
    notes: String,
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
    /// Starts it.
    pub(crate) fn begin(find: Find<'_>) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let (near, far) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        let near = Cell::new(Some(near));
        let process = fork(|| {
            // The supervisor's end is its alone.
            drop(near.take());
            serve(&far, find)
        })?;
        let socket = near.take().ok_or(io::ErrorKind::NotFound)?;
        Ok(Self { socket, process, made: Vec::new() })
    }

    /// Has what comes after `before` prepared. `key` is whose users the layers are.
    pub(crate) fn ask(&self, before: &OwnedFd, key: Option<&str>) -> io::Result<()> {
        let key = key.unwrap_or_default();
        let word = [b"+", key.as_bytes()].concat();
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        passing::send(&self.socket, &word, Some(before.as_fd()), flags)?;
        Ok(())
    }

    /// What came of it, once it is all there.
    pub(crate) fn answer(&mut self) -> Option<Result<Prepared, Failure>> {
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
                Ok(Some(Taken::All(told, fds))) => sort(&told, fds).map_err(garbled),
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

fn sort(told: &OwnedFd, fds: Vec<OwnedFd>) -> io::Result<Prepared> {
    let Told { notes, made } = child::read(told)?;
    let mut fds = fds.into_iter();
    let memory = fds.next().ok_or(io::ErrorKind::InvalidData)?;
    let assembly: Assembly = child::read(&memory)?;
    let made = made.map(|(plan, answer)| maker::sort(&plan, answer, fds.collect())).transpose()?;
    Ok(Prepared { assembly, memory, made, notes })
}

/// The steward's life.
fn serve(socket: &OwnedFd, find: Find<'_>) -> u8 {
    // What it forks are copies of it: people see by the name which of them waits.
    let _ = rustix::thread::set_name(c"steward");
    // A terminal's Ctrl-C is the supervisor's to obey.
    if SigSet::all().thread_block().is_err()
        || rustix::thread::set_no_new_privs(true).is_err()
        || rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).is_err()
    {
        return 1;
    }
    loop {
        let mut word = [0; 256];
        let got = match passing::receive(socket, &mut word, RecvFlags::empty()) {
            Err(Errno::INTR) => continue,
            Ok(got) if got.length > 0 => got,
            _ => return 0,
        };
        let Ok(handover) = socket.try_clone().map(Handover::over) else { return 1 };
        let (Some(before), Ok(key)) = (got.fd, std::str::from_utf8(&word[1..got.length])) else {
            return 1;
        };
        let child = fork(|| {
            let told = prepare(&before, key, find, &handover);
            u8::from(handover.end(told).is_err())
        });
        let why = match child.and_then(pidfd::wait) {
            Ok(Ended::Exited(0)) => continue,
            Ok(ended) => format!("the process that prepares a reload {ended} before it was done"),
            Err(error) => format!("a process that prepares a reload can't be started: {error}"),
        };
        if handover.end::<Told>(Err(why)).is_err() {
            return 1;
        }
    }
}

/// Goes the way of the start once more.
fn prepare(before: &OwnedFd, key: &str, find: Find<'_>, to: &Handover) -> Result<Told, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    child::raise_descriptors();
    let before: Assembly = child::read(before).map_err(|error| text(&error))?;
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
        before: Some(&before),
    })
    .map_err(|error| text(&error))?;
    let most = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    if assembly.descriptors > most {
        return Err(format!(
            "the supervisor may need {} descriptors, and its limit is {most}: that takes a restart \
             of the daemon",
            assembly.descriptors
        ));
    }
    to.give(memory.as_fd()).map_err(|error| text(&error))?;
    let Some(change) = assembly.change.as_ref().filter(|change| !change.is_none) else {
        return Ok(Told { notes, made: None });
    };
    let is_there = |layer: usize, place: usize| change.listen[layer][place].is_some();
    let plan = arrange::unmade(&before.whole(), &assembly.whole(), is_there);
    let users = key.parse::<Key>().ok();
    let (users, log, passed) = (users.as_ref(), None, Vec::new());
    let wanted = Wanted { plan: &plan, policy: &name, users, runs: true, log, passed };
    let (answer, fds) = maker::have_made(wanted).map_err(|error| text(&error))?;
    fds.iter().try_for_each(|fd| to.give(fd.as_fd())).map_err(|error| text(&error))?;
    Ok(Told { notes, made: Some((plan, answer)) })
}
