//! The broker: what the supervisor does for layers that ask.
//!
//! Who asks is known by the control socket that the request came on, and whether it may is looked
//! up in the plan. Every request is answered at once, but for one that waits for a connection.

mod connect;
mod open;
mod queue;
pub(super) mod signal;

use std::os::fd::OwnedFd;

use super::Supervisor;
use super::child::Breach;
use crate::mark::reached;
use crate::wire::broker::{Answer, Ask};
use crate::wire::control::ToLayer;

pub use self::connect::Connector;
pub use self::open::Opened;

impl Supervisor<'_> {
    /// Does what the layer at `place` asks for, or refuses it.
    pub(super) fn asked(&mut self, place: usize, request: u64, ask: &Ask) {
        if !self.note_ask(place, request, ask) {
            return self.breach(place, Breach::Protocol);
        }
        match ask {
            Ask::Signal { grant, index, generation, signal } => {
                let answer = self.signal(place, *grant, (*index, *generation), *signal);
                self.answer(place, request, answer);
            }
            Ask::Open { file, how, path } => {
                let (answer, fd) = self.opened(place, *file, *how, path);
                self.answer_with(place, request, answer, fd.as_ref());
            }
            Ask::Connect { address } => self.connect(place, request, *address),
            // A helper is asked for these.
            Ask::Acquire { .. } | Ask::MakeRoom { .. } => self.breach(place, Breach::Protocol),
        }
    }

    /// The layer at `place` no longer waits for a connection.
    pub(super) fn withdrawn(&mut self, place: usize, request: u64) {
        self.withdraw_connection(place, request);
    }

    fn answer(&mut self, place: usize, request: u64, answer: Answer) {
        self.answer_with(place, request, answer, None);
    }

    fn answer_with(&mut self, place: usize, request: u64, answer: Answer, fd: Option<&OwnedFd>) {
        reached("supervisor.answer.before");
        self.note_answer(place, request, &answer);
        self.tell(place, &ToLayer::Answer { request, answer }, fd);
        reached("supervisor.answer.sent");
    }
}
