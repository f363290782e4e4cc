//! What the supervisor's acts look like in the log.

use super::Audit;
use crate::audit::entry::{Entry, Facility, Kind, Verdict, Who};
use crate::confine::Receipt;
use crate::ident::Instance;
use crate::policy::plan::Plan;
use crate::supervisor::Supervisor;
use crate::supervisor::roster::Ending;
use crate::wire::broker::{Answer, Ask, Refusal};

impl Supervisor<'_> {
    /// An instance was started.
    pub(in crate::supervisor) fn note_spawn(&mut self, instance: &Instance) {
        self.note(|audit| Entry { peer: audit.who(instance), ..Entry::new(Kind::Spawn) });
    }

    /// An instance is confined, and this is what the kernel enforces on it.
    pub(in crate::supervisor) fn note_receipt(&mut self, instance: &Instance, receipt: &Receipt) {
        self.note(|audit| Entry {
            peer: audit.who(instance),
            detail: receipt.to_string().into_bytes(),
            ..Entry::new(Kind::Receipt)
        });
    }

    /// An instance has ended; the value is its wait status (`wait(2)`), the text the key of the limit
    /// that it met, if that is why.
    pub(in crate::supervisor) fn note_exit(
        &mut self,
        instance: &Instance,
        ending: Ending,
        limit: &str,
    ) {
        let status = match ending {
            Ending::Exited(code) => (code & 0xff) << 8,
            Ending::Killed(signal) => signal & 0x7f,
        };
        self.note(|audit| Entry {
            peer: audit.who(instance),
            value: status.unsigned_abs(),
            verdict: if ending.is_failure() { Verdict::Failed } else { Verdict::None },
            detail: limit.as_bytes().to_vec(),
            ..Entry::new(Kind::Exit)
        });
    }

    /// An instance is killed because it broke the rules.
    pub(in crate::supervisor) fn note_breach(&mut self, instance: &Instance, what: &str) {
        self.note(|audit| Entry {
            peer: audit.who(instance),
            verdict: Verdict::Killed,
            detail: what.as_bytes().to_vec(),
            ..Entry::new(Kind::Alarm)
        });
    }

    /// The kernel ended an instance for a system call.
    pub(in crate::supervisor) fn note_denial(
        &mut self,
        instance: &Instance,
        call: u32,
        what: &str,
    ) {
        self.note(|audit| Entry {
            peer: audit.who(instance),
            facility: Facility::Syscall,
            method: call,
            verdict: Verdict::Killed,
            detail: what.as_bytes().to_vec(),
            ..Entry::new(Kind::Denial)
        });
    }

    /// Landlock refused an instance something.
    pub(in crate::supervisor) fn note_landlock(&mut self, instance: &Instance, what: &str) {
        self.note(|audit| Entry {
            peer: audit.who(instance),
            facility: Facility::Landlock,
            verdict: Verdict::Refused,
            detail: what.as_bytes().to_vec(),
            ..Entry::new(Kind::Denial)
        });
    }

    /// A layer asks for something. It is noted when it is answered. False: it has the number of
    /// another request that waits.
    pub(in crate::supervisor) fn note_ask(
        &mut self,
        place: usize,
        request: u64,
        ask: &Ask,
    ) -> bool {
        let Some(audit) = &mut self.audit else { return true };
        let seat = &self.places[place].seat;
        let mut entry = of_ask(ask, &self.plan, audit);
        entry.reporter = audit.who(&seat.instance);
        // What waits is bounded for each layer: connections under way.
        audit.asks.insert((place, request), entry).is_none()
    }

    /// A request is answered.
    pub(in crate::supervisor) fn note_answer(
        &mut self,
        place: usize,
        request: u64,
        answer: &Answer,
    ) {
        let Some(audit) = &mut self.audit else { return };
        let Some(mut entry) = audit.asks.remove(&(place, request)) else { return };
        match answer {
            Answer::Done | Answer::Dropped | Answer::Leased { .. } => {
                entry.verdict = Verdict::Allowed;
            }
            Answer::Refused(refusal) => {
                (entry.verdict, entry.value) = of_refusal(*refusal);
            }
        }
        audit.note(&entry);
    }

    /// An instance has ended, and hears no answer any more.
    pub(in crate::supervisor) fn forget_asks(&mut self, place: usize) {
        if let Some(audit) = &mut self.audit {
            audit.asks.retain(|(asker, _), _| *asker != place);
        }
    }
}

/// A refusal by the policy, or a failure: what it is in the log, and its number there, from 1.
fn of_refusal(refusal: Refusal) -> (Verdict, u32) {
    let failed = matches!(
        refusal,
        Refusal::PeerDead | Refusal::Timeout | Refusal::NotResolved | Refusal::System(_)
    );
    (if failed { Verdict::Failed } else { Verdict::Refused }, refusal.code())
}

fn of_ask(ask: &Ask, plan: &Plan, audit: &Audit) -> Entry {
    let entry = Entry::new(Kind::Broker);
    match ask {
        Ask::Signal { grant, index, generation, signal } => {
            let to = plan.facilities.signals.get(usize::from(*grant)).map(|plan| &plan.to);
            let layer = to.and_then(|to| audit.layers.iter().position(|it| it == to));
            let layer = layer.and_then(|layer| u16::try_from(layer).ok()).unwrap_or(u16::MAX);
            Entry {
                facility: Facility::Signal,
                edge: *grant,
                method: u32::from(*signal),
                peer: Who { layer, copy: *index, generation: *generation },
                ..entry
            }
        }
        // Helpers are asked for these, and tell of them.
        Ask::Acquire { .. } | Ask::MakeRoom { .. } | Ask::Open { .. } | Ask::Connect { .. } => {
            entry
        }
    }
}
