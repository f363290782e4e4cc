//! What a supervisor is, written down for the program that takes its place: data, and the numbers of
//! descriptors that outlive the exec.
//!
//! It is written when nothing is half done: nobody has still to be told something, and nothing waits to be
//! noted. What is here follows neither from the policy nor from what the new program prepares.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::time::Duration;

use blake2::{Blake2s256, Digest};
use serde::{Deserialize, Serialize};

use super::facts::{Asker, Facts, Seat};
use super::moment::Moment;
use crate::confine::cgroup::{CarriedGroup, CarriedHierarchies};
use crate::ident::{Instance, Name};
use crate::prepare::Use;
use crate::prepare::assembly::Assembly;
use crate::sys::{inherit, memory};
use crate::wire::control::LogFormat;
use crate::wire::life::{Culprit, End};

/// The form of a state, and of all that two programs say to each other over an upgrade: of an
/// [`Assembly`], of what is handed over for it, and of what helpers and layers say. It rises with every
/// change of one of them: a program of another form doesn't take over.
pub(crate) const FORM: u32 = 6;

/// What a state begins with; its form and the digest of the rest follow.
const MAGIC: &[u8; 16] = b"cofferdam state\n";

/// Where the rest begins.
const HEAD: usize = MAGIC.len() + size_of::<u32>() + 32;

/// The most bytes of one: some thousand instances with their receipts.
const MOST: u64 = 64 << 20;

/// A descriptor, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fd(RawFd);

impl Fd {
    /// Takes it, in the program that has come.
    pub(crate) fn take(self) -> io::Result<OwnedFd> {
        inherit::carried(self.0)
    }
}

/// Notes which descriptors there are.
#[derive(Debug, Default)]
pub(crate) struct Luggage(Vec<RawFd>);

impl Luggage {
    /// Notes one.
    pub(crate) fn add(&mut self, fd: impl AsFd) -> Fd {
        let number = fd.as_fd().as_raw_fd();
        self.0.push(number);
        Fd(number)
    }

    /// Notes several.
    pub(crate) fn all(&mut self, fds: impl IntoIterator<Item = impl AsFd>) -> Vec<Fd> {
        fds.into_iter().map(|fd| self.add(fd)).collect()
    }

    /// All of them.
    pub(crate) fn numbers(self) -> Vec<RawFd> {
        self.0
    }
}

/// A whole supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct State {
    /// Every descriptor that is named below.
    pub descriptors: Vec<RawFd>,
    /// What holds so far: an [`Assembly`].
    pub before: Fd,
    /// What was prepared: what is said of it, and what was handed over. Nothing in a rehearsal.
    pub prepared: Option<(Fd, Vec<Fd>)>,
    /// Whose users the layers are.
    pub key: Option<String>,
    /// Who asked for the upgrade, and who waits for another or for a reload.
    pub askers: Vec<Asker>,
    /// What the process is called.
    pub comm: Vec<u8>,
    /// The capabilities that it has, as bits.
    pub capabilities: u64,
    pub layers: Vec<Layer>,
    pub groups: (CarriedHierarchies, Vec<Fd>),
    pub queues: Vec<Queue>,
    pub table: Vec<(Use, Fd)>,
    /// The plan's FIFOs: each with the pipe and its directory, unless nobody reads it.
    pub fifos: Vec<(Name, Option<[Fd; 2]>)>,
    pub places: Vec<Place>,
    /// Ends of pipes that wait for the other side: of which pipe, for whom, whose.
    pub ends: Vec<(u16, u64, Instance, Fd)>,
    /// Connections that wait for a process, by layer, and since when.
    pub held: Vec<(u64, Fd, Moment)>,
    /// Places of programs that have finished.
    pub finished: Vec<u64>,
    /// What layers were sent as signals, by place: the memory in which it is counted, and the counts.
    pub counts: Vec<(u64, Fd, Vec<u64>)>,
    pub audit: Option<Audit>,
    pub door: Option<Door>,
    /// The file by which the daemon is found, and its lock.
    pub registered: Option<(PathBuf, Fd)>,
    pub manager: Option<Manager>,
    /// The steward's socket and its process.
    pub steward: Option<(Fd, Fd)>,
    pub log: Log,
    pub receipts: bool,
}

/// What is held for a layer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Layer {
    pub state: Option<Fd>,
    pub kernel_log: Option<Fd>,
    pub listeners: Vec<Fd>,
    pub users: Vec<u32>,
}

/// The keys of a queue.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Queue {
    pub epoch: u32,
    pub count: u64,
    pub all: Fd,
    pub newest: Fd,
}

/// A place and who is there.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Place {
    pub seat: Seat,
    pub since: u64,
    pub last: Option<Box<End>>,
    pub retired: bool,
    pub fresh: bool,
    pub former: bool,
    pub life: Life,
}

/// Whether a place is taken.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Life {
    Down,
    Spare,
    Waiting(Moment),
    Running(Box<Child>),
}

/// A running instance.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Child {
    pub process: Fd,
    pub pid: i32,
    pub control: Fd,
    pub culprit: Culprit,
    pub output: Vec<Fd>,
    pub group: Option<CarriedGroup>,
    pub facts: Facts,
}

/// The supervisor's side of the audit log.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Audit {
    pub bytes: u32,
    pub open: bool,
    /// The rings, each with whose it is and its size; the first is the supervisor's own.
    pub rings: Vec<(u32, Option<Instance>, u32, Fd)>,
    pub next_ring: u32,
    /// The number of the next act, and how many were lost.
    pub acts: (u64, u64),
}

/// Where people come in, and who is there: number, user and process.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Door {
    pub socket: Fd,
    pub callers: Vec<(u32, u32, i32)>,
    pub next: u32,
}

/// What a service manager was told, and how often it must hear of the daemon.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Manager {
    pub socket: Fd,
    pub every: Option<Duration>,
    pub knows: bool,
}

/// How the log is written.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Log {
    pub format: LogFormat,
    pub quiet: bool,
}

impl State {
    /// Writes it into sealed memory.
    pub(crate) fn write(&self) -> io::Result<OwnedFd> {
        let body = postcard::to_stdvec(self).map_err(io::Error::other)?;
        memory::sealed("cofferdam-state", &framed(FORM, &body))
    }

    /// Reads it whole. An error is for a person.
    pub(crate) fn read(memory: &OwnedFd) -> Result<Self, String> {
        let bytes = memory::read_sealed(memory, MOST).map_err(|error| error.to_string())?;
        let body = unframed(&bytes)?;
        match postcard::take_from_bytes(body) {
            Ok((state, [])) => Ok(state),
            _ => Err("the running daemon's state can't be read".to_owned()),
        }
    }

    /// Whether it is one of a supervisor that runs this.
    pub(crate) fn is_of(&self, before: &Assembly) -> bool {
        let plan = before.whole();
        let listens = |(layer, image): (&Layer, &crate::prepare::image::LayerImage)| {
            layer.listeners.len() == image.plan.listen.len()
        };
        self.layers.len() == before.images.len()
            && self.layers.iter().zip(&before.images).all(listens)
            && self.queues.len() == plan.facilities.queues.len()
            && self.fifos.len() == plan.facilities.fifos.len()
            && self.audit.is_some() == before.reports.is_some()
            && self.places.iter().all(|Place { seat, .. }| {
                plan.layers.get(seat.layer).is_some_and(|it| it.name == seat.instance.layer)
            })
    }
}

/// A body behind its head.
fn framed(form: u32, body: &[u8]) -> Vec<u8> {
    let digest = Blake2s256::digest(body);
    [&MAGIC[..], &form.to_le_bytes(), &digest, body].concat()
}

/// The body of this program's form.
fn unframed(bytes: &[u8]) -> Result<&[u8], String> {
    let garbled = || "what the running daemon hands over is no state of a daemon".to_owned();
    let (head, body) = bytes.split_at_checked(HEAD).ok_or_else(garbled)?;
    let (magic, rest) = head.split_at(MAGIC.len());
    let (form, digest) = rest.split_first_chunk().ok_or_else(garbled)?;
    if magic != MAGIC {
        return Err(garbled());
    }
    let form = u32::from_le_bytes(*form);
    if form != FORM {
        return Err(format!(
            "the running daemon writes its state in form {form}, and the new program reads form {FORM}: \
             that takes a restart of the daemon"
        ));
    }
    if Blake2s256::digest(body).as_slice() != digest {
        return Err(garbled());
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_state_of_this_form_is_refused() {
        let good = framed(FORM, b"body");
        assert_eq!(unframed(&good).unwrap(), b"body");
        let other = unframed(&framed(FORM + 1, b"body")).unwrap_err();
        assert!(other.contains("takes a restart"), "{other}");
        for cut in 0..good.len() {
            unframed(&good[..cut]).unwrap_err();
        }
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            unframed(&bad).unwrap_err();
        }
    }
}
