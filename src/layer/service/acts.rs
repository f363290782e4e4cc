//! What a request looks like in the log.

use crate::policy::plan::Audit;
use crate::report::{Desk, Facility, Facts, Side, Who};
use crate::wire::broker::{Answer, Ask};
use crate::wire::report::{Verdict, acts};

/// What is known of an act before it is over.
#[derive(Debug)]
pub(crate) struct Act {
    /// What there is to say of it.
    pub facts: Facts,
    /// A path, or an address.
    pub detail: Vec<u8>,
}

impl Act {
    /// An act on a facility.
    pub(crate) fn new(facility: Facility, edge: u16, method: u32) -> Self {
        let facts = Facts { method, ..Facts::new(facility, edge, Side::Helper) };
        Self { facts, detail: Vec::new() }
    }

    /// A connection that was made for a layer, or wasn't; `address` is the number of the rule.
    pub(crate) fn connected(address: u32, detail: Vec<u8>, answer: &Answer) -> Self {
        let mut act = Self { detail, ..Self::new(Facility::Connect, 0, address) };
        act.answered(answer);
        act
    }

    /// What is asked for.
    pub(super) fn of(ask: &Ask) -> Self {
        match ask {
            Ask::Signal { grant, signal, .. } => {
                Self::new(Facility::Signal, *grant, u32::from(*signal))
            }
            Ask::Acquire { semaphore, .. } => {
                Self::new(Facility::Semaphore, *semaphore, acts::ACQUIRE)
            }
            Ask::Open { file, how, path } => {
                let act = Self::new(Facility::File, *file, u32::from(*how));
                Self { detail: path.clone(), ..act }
            }
            // No helper's.
            Ask::Serve { .. } => Self::new(Facility::Listen, 0, 0),
            Ask::Connect { address } => Self::new(Facility::Connect, 0, u32::from(*address)),
            Ask::MakeRoom { queue, .. } => Self::new(Facility::Queue, *queue, acts::MAKE_ROOM),
        }
    }

    /// The answer to it.
    pub(super) fn answered(&mut self, answer: &Answer) {
        let facts = &mut self.facts;
        match answer {
            Answer::Done | Answer::Dropped => facts.verdict = Verdict::Allowed,
            Answer::Leased { fence, abandoned, .. } => {
                facts.verdict = Verdict::Allowed;
                facts.sequence = *fence;
                facts.value = u32::from(*abandoned);
            }
            Answer::Refused(refusal) => {
                facts.verdict = refusal.verdict();
                facts.value = refusal.code();
            }
        }
    }

    /// Reports it as an act of `client`.
    pub(crate) fn report(&self, desk: &Desk, client: Who, message: &[u8]) {
        let Some(tap) = desk.tap(self.facts.facility, self.facts.edge, Audit::Digest) else {
            return;
        };
        let client = client.to_bytes();
        if self.detail.is_empty() {
            return tap.report(&self.facts, message, &client);
        }
        tap.report(&self.facts, message, &[&client[..], &self.detail].concat());
    }
}
