//! The facilities, and for each what its parties do and what must hold after a kill.

mod file;
mod lives;
mod message;
mod socket;

use std::future::Future;
use std::pin::Pin;

use cofferdam::Layer;

use crate::case::Story;

/// What a layer comes to.
pub(crate) type Outcome = Result<(), String>;

/// A facility in the matrix.
#[derive(Debug)]
pub(crate) struct Facility {
    /// As the design calls it.
    pub name: &'static str,
    /// The policy, without its head, the gate and `restart`; `DIR` is the case's directory. Its
    /// layers are killed by name; the supervisor is one party more.
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

pub(crate) const ALL: &[Facility] = &[message::FACILITY, file::FACILITY, socket::FACILITY];

/// More than a supervisor with three layers ever holds, and less than if it lost hold of one with
/// every request: a case has hundreds of them.
const MOST_HELD: usize = 48;

/// That the supervisor hasn't kept what it gave away.
fn check_supervisor(story: &Story) -> Result<(), String> {
    if story.held <= MOST_HELD {
        return Ok(());
    }
    Err(format!("the supervisor holds {} descriptors", story.held))
}
