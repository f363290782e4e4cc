//! What the supervisor's acts look like in the log.

use crate::audit::entry::{Entry, Facility, Kind, Verdict, Who};
use crate::confine::Receipt;
use crate::ident::Instance;
use crate::supervisor::Supervisor;
use crate::wire::broker::Refusal;
use crate::wire::life::Ending;

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

    /// Somebody outside has asked for something: the daemon's stop, or that of who is at a place.
    pub(in crate::supervisor) fn note_command(
        &mut self,
        place: Option<usize>,
        what: &str,
        who: &str,
    ) {
        let instance = place.map(|place| self.places[place].seat.instance.clone());
        self.note(|audit| Entry {
            peer: instance.map_or(Who::NOBODY, |it| audit.who(&it)),
            verdict: Verdict::Allowed,
            detail: format!("{what}: {who}").into_bytes(),
            ..Entry::new(Kind::Command)
        });
    }

    /// The layer at `place` has asked for a signal to a copy and its generation.
    pub(in crate::supervisor) fn note_signal(
        &mut self,
        place: usize,
        grant: u16,
        (copy, generation): (u16, u64),
        signal: u8,
        result: Result<(), Refusal>,
    ) {
        let Some(audit) = &mut self.audit else { return };
        let to = self.plan.facilities.signals.get(usize::from(grant)).map(|plan| &plan.to);
        let layer = to.and_then(|to| audit.layers.iter().position(|it| it == to));
        let layer = layer.and_then(|layer| u16::try_from(layer).ok()).unwrap_or(u16::MAX);
        audit.note(&Entry {
            facility: Facility::Signal,
            edge: grant,
            method: u32::from(signal),
            reporter: audit.who(&self.places[place].seat.instance),
            peer: Who { layer, copy, generation },
            verdict: result.map_or_else(Refusal::verdict, |()| Verdict::Allowed),
            value: result.err().map_or(0, Refusal::code),
            ..Entry::new(Kind::Broker)
        });
    }
}
