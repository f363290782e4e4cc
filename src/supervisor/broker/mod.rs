//! The broker: what the supervisor does for layers that ask.
//!
//! Who asks is known by the control socket that the request came on, and whether it may is looked
//! up in the plan. Every request is answered at once, but for one that waits for a permit or
//! for a connection.

mod connect;
mod open;

mod queue;

use super::Supervisor;
use crate::wire::broker::{Answer, Ask, Refusal};
use crate::wire::control::ToLayer;

pub use self::connect::Connector;
pub use self::open::Opened;

impl Supervisor<'_> {
    /// Does what the layer at `place` asks for, or refuses it.
    pub(super) fn asked(&mut self, place: usize, request: u32, ask: &Ask) {
        let (answer, fd) = match ask {
            Ask::MakeRoom { queue, priority } => (self.make_room(place, *queue, *priority), None),
            Ask::Open { file, how, path } => self.opened(place, *file, *how, path),
            // The answer comes when there is one.
            Ask::Connect { address } => return self.connect(place, request, *address),
            Ask::Signal { .. } | Ask::Acquire { .. } => {
                (Answer::Refused(Refusal::NotGranted), None)
            }
        };
        self.tell(place, &ToLayer::Answer { request, answer }, fd.as_ref());
    }

    /// Takes a lease back that the layer at `place` no longer needs.
    pub(super) fn released(&mut self, _place: usize, _semaphore: u16, _fence: u64) {}

    /// The layer at `place` no longer waits.
    pub(super) fn withdrawn(&mut self, place: usize, request: u32) {
        self.withdraw_connection(place, request);
    }
}
