//! What the supervisor's acts look like in the log.

use super::Audit;
use crate::audit::entry::{Entry, Facility, Kind, Verdict, Who};
use crate::confine::Receipt;
use crate::ident::{Instance, Name};
use crate::policy::plan::Plan;
use crate::supervisor::Supervisor;
use crate::supervisor::roster::Ending;
use crate::wire::broker::{Answer, Ask, Refusal};
use crate::wire::queue::{Header, Sender};

/// The acts on a semaphore, as the log numbers them.
pub mod semaphore {
    /// A permit was asked for.
    pub const ACQUIRE: u32 = 1;
    /// A lease was given back.
    pub const RELEASE: u32 = 2;
    /// A lease ran out.
    pub const EXPIRE: u32 = 3;
}

/// Requests of layers that are not answered yet are remembered for the log; at most so many.
const PENDING: usize = 4096;

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

    /// A layer asks for something. It is noted when it is answered.
    pub(in crate::supervisor) fn note_ask(&mut self, place: usize, request: u32, ask: &Ask) {
        let Some(audit) = &mut self.audit else { return };
        let seat = &self.places[place].seat;
        let mut entry = of_ask(ask, &self.plan, seat.layer, audit);
        entry.reporter = audit.who(&seat.instance);
        if audit.asks.len() < PENDING {
            audit.asks.insert((place, request), entry);
        }
    }

    /// A request is answered.
    pub(in crate::supervisor) fn note_answer(
        &mut self,
        place: usize,
        request: u32,
        answer: &Answer,
    ) {
        let Some(audit) = &mut self.audit else { return };
        let Some(mut entry) = audit.asks.remove(&(place, request)) else { return };
        match answer {
            Answer::Done | Answer::Dropped => entry.verdict = Verdict::Allowed,
            Answer::Leased { fence, abandoned, .. } => {
                entry.verdict = Verdict::Allowed;
                entry.sequence = *fence;
                entry.value = u32::from(*abandoned);
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

    /// A lease has ended.
    pub(in crate::supervisor) fn note_lease(
        &mut self,
        place: usize,
        semaphore: u16,
        fence: u64,
        act: u32,
    ) {
        let instance = self.places[place].seat.instance.clone();
        self.note(|audit| Entry {
            reporter: audit.who(&instance),
            facility: Facility::Semaphore,
            edge: semaphore,
            method: act,
            sequence: fence,
            verdict: if act == semaphore::EXPIRE { Verdict::Failed } else { Verdict::Allowed },
            ..Entry::new(Kind::Broker)
        });
    }
}

impl Audit {
    /// A queue of these senders gave a message up for the one who asks: whose it was, as its header
    /// says. Whether that is so, the sender's own report tells.
    pub fn note_given_up(&mut self, ask: (usize, u32), senders: &[Name], message: &[u8]) {
        let Some(entry) = self.asks.get_mut(&ask) else { return };
        entry.length = message.len() as u64;
        entry.hash = *blake3::hash(message).as_bytes();
        let Some(header) = message.first_chunk().and_then(Header::decode) else { return };
        let Sender { layer, index, generation } = header.sender;
        let Some(name) = senders.get(usize::from(layer)) else { return };
        let Some(layer) = self.layers.iter().position(|it| it == name) else { return };
        let layer = u16::try_from(layer).unwrap_or(u16::MAX);
        entry.peer = Who { layer, copy: index, generation };
        entry.sequence = header.number;
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

fn of_ask(ask: &Ask, plan: &Plan, layer: usize, audit: &Audit) -> Entry {
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
        Ask::Acquire { semaphore, .. } => Entry {
            facility: Facility::Semaphore,
            edge: *semaphore,
            method: semaphore::ACQUIRE,
            ..entry
        },
        Ask::Open { file, how, path } => Entry {
            facility: Facility::File,
            edge: *file,
            method: u32::from(*how),
            detail: path.clone(),
            ..entry
        },
        Ask::Connect { address } => {
            let targets = plan.layers.get(layer).map(|layer| &layer.connect);
            let target = targets.and_then(|all| all.get(usize::from(*address)));
            let detail = target.map_or_else(Vec::new, |it| it.address.to_string().into_bytes());
            Entry { facility: Facility::Connect, method: u32::from(*address), detail, ..entry }
        }
        Ask::MakeRoom { queue, .. } => {
            Entry { facility: Facility::Queue, edge: *queue, method: 1, ..entry }
        }
    }
}
