//! The broker: what the supervisor does for layers that ask.
//!
//! Who asks is known by the control socket that the request came on, and whether it may is looked
//! up in the plan. Every request is answered at once, but for one that waits for a permit.

pub(super) mod semaphore;
pub(super) mod signal;

use super::Supervisor;
use crate::mark::reached;
use crate::wire::broker::{Answer, Ask, Refusal};
use crate::wire::control::ToLayer;

impl Supervisor<'_> {
    /// Does what the layer at `place` asks for, or refuses it.
    pub(super) fn asked(&mut self, place: usize, request: u32, ask: &Ask) {
        let answer = match *ask {
            Ask::Signal { grant, index, generation, signal } => {
                self.signal(place, grant, (index, generation), signal)
            }
            Ask::Acquire { semaphore, wait } => {
                return self.acquire(place, request, semaphore, wait);
            }
            Ask::Open { .. } | Ask::Connect { .. } => Answer::Refused(Refusal::NotGranted),
        };
        self.answer(place, request, answer);
    }

    fn answer(&mut self, place: usize, request: u32, answer: Answer) {
        reached("supervisor.answer.before");
        self.tell(place, &ToLayer::Answer { request, answer }, None);
        reached("supervisor.answer.sent");
    }
}
