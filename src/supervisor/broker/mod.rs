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
        if let Ask::Serve { source } = *ask {
            return self.serves(place, request, source);
        }
        // Helpers are asked for everything else.
        let Ask::Signal { grant, index, generation, signal } = *ask else {
            return self.breach(place, Breach::Protocol);
        };
        let result = self.signal(place, grant, (index, generation), signal);
        reached("supervisor.answer.before");
        self.note_signal(place, grant, (index, generation), signal, result);
        let answer = result.map_or_else(Answer::Refused, |()| Answer::Done);
        self.tell(place, &ToLayer::Answer { request, answer }, None);
        reached("supervisor.answer.sent");
    }
}
