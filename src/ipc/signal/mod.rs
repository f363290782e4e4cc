//! Signals: real ones of the kernel, sent by the supervisor to exactly the process that is meant.
//!
//! A layer sends none itself. It asks the supervisor, which knows every instance by its pidfd, so
//! a signal never reaches a wrong process. The receiver takes them in order, from a descriptor,
//! and learns who sent them and how often: the kernel merges signals that wait, the supervisor's
//! count tells how many there were.

mod receive;
mod send;

use crate::ident::Name;
use crate::policy::plan::SignalPlan;

pub(crate) use receive::Inflow;
pub use receive::{RecvError, Signal, Signals};
pub use send::{BlockingSender, SendError, Sender};

/// The counters that the supervisor keeps for an instance of `layer`, in their order in its memory:
/// one for each grant and signal, by the grant's number and the signal's.
pub(crate) fn slots<'a>(
    signals: impl Iterator<Item = (u16, &'a SignalPlan)>,
    layer: &Name,
) -> impl Iterator<Item = (u16, u8)> {
    let to_me = signals.filter(move |(_, plan)| plan.to == *layer);
    to_me.flat_map(|(grant, plan)| plan.send.iter().map(move |&signal| (grant, signal)))
}
