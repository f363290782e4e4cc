//! The broker: what the supervisor does for layers that ask.
//!
//! Who asks is known by the control socket that the request came on, and whether it may is looked
//! up in the plan. Every request is answered at once.

mod queue;
pub(super) mod signal;

use super::Supervisor;
use super::child::Breach;
use crate::mark::reached;
use crate::wire::broker::{Answer, Ask};
use crate::wire::control::ToLayer;

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
            // Helpers are asked for these.
            Ask::Acquire { .. } | Ask::MakeRoom { .. } | Ask::Open { .. } | Ask::Connect { .. } => {
                self.breach(place, Breach::Protocol);
            }
        }
    }

    fn answer(&mut self, place: usize, request: u64, answer: Answer) {
        reached("supervisor.answer.before");
        self.note_answer(place, request, &answer);
        self.tell(place, &ToLayer::Answer { request, answer }, None);
        reached("supervisor.answer.sent");
    }
}
