//! The facilities, and for each what its parties do and what must hold after a kill.

mod exchange;
mod fifo;
mod file;
mod lives;
mod mapped_file;
mod message;
mod newest;
mod pipe;
mod queue;
mod region;
mod semaphore;
mod signal;
mod socket;
mod worker;

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};

use cofferdam::Layer;

use crate::case::Story;

/// What a layer comes to.
pub(crate) type Outcome = Result<(), String>;

/// A facility in the matrix.
#[derive(Debug)]
pub(crate) struct Facility {
    /// As the design calls it.
    pub name: &'static str,
    /// The policy, without its head, the gate and `restart`; `DIR` is the case's directory. A layer
    /// that it says nothing of has `@core` alone.
    pub policy: &'static str,
    /// The layers, which are killed in turn besides the supervisor.
    pub layers: &'static [(&'static str, Runs)],
    /// Where to stop: who comes there, the mark, and for the how-manieth time.
    pub marks: &'static [(&'static str, &'static str, u32)],
    /// What must hold when all is over.
    pub check: fn(&Story) -> Result<(), String>,
}

/// A layer's function.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Runs {
    Async(fn(Layer) -> Pin<Box<dyn Future<Output = Outcome>>>),
    #[allow(dead_code)]
    Blocking(fn(Layer) -> Outcome),
    /// Another program; it is in the policy as `exec`.
    #[allow(dead_code)]
    Exec,
}

/// A program outside of the daemon, while a case of its facility runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outside {
    /// Runs in a thread, in the case's directory, until the end comes.
    pub run: fn(&Path, &End) -> Outcome,
    /// What must hold in the directory when all is over.
    pub after: fn(&Path, &Story) -> Outcome,
}

/// Whether the daemon is about to end: then somebody outside may find nobody there.
#[derive(Debug, Default)]
pub(crate) struct End(AtomicBool);

impl End {
    pub(crate) fn comes(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    pub(crate) fn has_come(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

impl Facility {
    /// Who takes part in its cases from outside.
    pub(crate) fn outside(&self) -> Option<Outside> {
        match self.name {
            "fifo" => Some(fifo::OUTSIDE),
            "reload" => Some(exchange::RELOADS),
            "upgrade" => Some(exchange::UPGRADES),
            "worker" => Some(worker::OUTSIDE),
            _ => None,
        }
    }
}

/// More than a supervisor with three layers and their helpers ever holds, and less than if it lost
/// hold of one with every request: a case has hundreds of them.
const MOST_HELD: usize = 64;

/// That the supervisor hasn't kept what it gave away.
fn check_supervisor(story: &Story) -> Result<(), String> {
    if story.held <= MOST_HELD {
        return Ok(());
    }
    Err(format!("the supervisor holds {} descriptors", story.held))
}

/// In the order of the classic table.
pub(crate) const ALL: &[Facility] = &[
    file::FACILITY,
    signal::FACILITY,
    socket::FACILITY,
    queue::FACILITY,
    pipe::FACILITY,
    fifo::FACILITY,
    semaphore::FACILITY,
    region::FACILITY,
    message::FACILITY,
    mapped_file::FACILITY,
    exchange::RELOAD,
    exchange::UPGRADE,
    worker::FACILITY,
];
