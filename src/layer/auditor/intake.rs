//! Taking reports in: from a ring into the log.

use super::resume::{life, progress};
use super::ring::Ring;
use super::{Auditor, now};
use crate::audit::LogError;
use crate::audit::entry::{self, Entry, Kind, Moment, Record, Side, Verdict, Who};
use crate::audit::reconcile::gave_up;
use crate::policy::plan::LogFull;
use crate::wire::report::{Facility, Facts, Form, Report, What, link_of};

/// Reports that are taken from one ring in one turn, so that no reporter holds up the others.
const TURN: usize = 1024;

impl Auditor<'_> {
    /// Takes a turn's worth of reports from every ring. False: there were none.
    pub(super) fn take_reports(&mut self) -> bool {
        let mut moved = false;
        for place in 0..self.rings.len() {
            moved |= self.take_from(place, TURN) > 0;
        }
        moved
    }

    /// Takes at most so many reports from a ring.
    fn take_from(&mut self, place: usize, most: usize) -> usize {
        let mut bytes = std::mem::take(&mut self.bytes);
        let at = now();
        let mut taken = 0;
        // While the log can't be written the rings fill up, and what then happens is the policy's
        // choice and the reporter's work.
        while taken < most && self.trouble.is_none() {
            match self.rings[place].take(&mut bytes) {
                Ok(false) => break,
                Ok(true) => {
                    taken += 1;
                    self.take(place, &bytes, at);
                }
                Err(fault) => {
                    self.silence(place, fault);
                    break;
                }
            }
        }
        self.bytes = bytes;
        taken
    }

    fn take(&mut self, place: usize, bytes: &[u8], at: Moment) {
        if self.rings[place].who == Who::SUPERVISOR {
            return self.take_act(place, bytes, at);
        }
        let Some(report) = Report::decode(bytes) else {
            return self.silence(place, "a report of it has no sense");
        };
        let entry = match report.head.what {
            What::Loss => Entry::new(Kind::Loss),
            _ if !self.is_of_its_side(place, &report) => {
                return self.silence(place, "it reports from a side that isn't its own");
            }
            _ => {
                let who = self.rings[place].who;
                entry_of(who, &report, Some(who.layer) == self.orders.logger())
            }
        };
        let ring = &self.rings[place];
        let (who, due, number) = (ring.who, ring.next, report.head.number);
        if number < due {
            // A life before this one has logged it; an honest reporter repeats none.
            if self.logged.next(who) <= number {
                self.silence(place, "it repeats a report");
            }
            return;
        }
        if number > due {
            self.lose(place, number - due, at);
            self.alarm(who, &format!("{} of its reports are missing", number - due));
        }
        let gave_up = entry.kind == Kind::Broker && gave_up(&entry);
        if report.head.what == What::Loss {
            return self.lose(place, report.head.facts.length, at);
        }
        self.rings[place].next = number.saturating_add(1);
        self.record(place, entry, report.payload, at);
        if gave_up {
            // Its record names somebody else as the peer, so this says whose report it was.
            self.note(&progress(who, number.saturating_add(1)));
        }
    }

    /// Whether a report is one that its reporter can make: the witness reports as witness, of
    /// channels that go through it and in its own life, a helper reports what others asked it for, who
    /// reads the kernel's log reports what that denied anybody, and nobody else does.
    fn is_of_its_side(&self, place: usize, report: &Report<'_>) -> bool {
        let who = self.rings[place].who;
        let facts = &report.head.facts;
        if self.orders.is_helper(who.layer) || facts.side == Side::Helper {
            let client = report.detail.first_chunk().and_then(Who::from_bytes);
            if Some(who.layer) == self.orders.logger() {
                return facts.side == Side::Helper
                    && is_denial(facts)
                    && client.is_some_and(|it| self.orders.is_layer(it.layer));
            }
            return facts.side == Side::Helper
                && self.orders.is_helper(who.layer)
                && !matches!(facts.facility, Facility::Syscall | Facility::Landlock)
                && client.is_some_and(|it| self.orders.is_of_plan(it.layer));
        }
        if Some(who.layer) != self.orders.witness() {
            return facts.side != Side::Witness;
        }
        facts.side == Side::Witness
            && facts.facility == Facility::Channel
            && self.orders.is_witnessed(facts.edge)
            && link_of(facts.sequence) == who.generation - 1
    }

    /// Writes a use down, with the rule that it falls under.
    fn record(&mut self, place: usize, mut entry: Entry, payload: &[u8], at: Moment) {
        entry.rule = self.rules.find(&entry);
        // Which methods are in a batch, only those know who can open it; and which request a layer is at
        // takes no grant.
        let sealed = entry.side == Side::Witness && entry.form == Form::Batch;
        // What a helper refused falls under no rule either.
        let takes_up = entry.facility == Facility::None && entry.trace.is_some();
        let unruled = sealed || takes_up;
        let ruled = entry.verdict != Verdict::Allowed || entry.rule != Entry::NO_RULE || unruled;
        if ruled {
            self.write_down(place, entry, payload, at);
        } else if self.append(place, &entry, payload, at) {
            // Nor does it say anything against a peer that it can't have.
            self.alarm(self.rings[place].who, "it reports what no rule allows");
        }
    }

    /// Appends to the log, and has the reconciler look at it. False: it found no room, and is
    /// counted.
    fn write_down(&mut self, place: usize, entry: Entry, payload: &[u8], at: Moment) -> bool {
        if !self.append(place, &entry, payload, at) {
            return false;
        }
        let record = Record { index: self.log.size() - 1, at, entry, payload: None };
        let disagreements = &mut self.disagreements;
        self.reconciler.push(&record, &mut |it| disagreements.push(it));
        self.write_down_disagreements();
        true
    }

    /// Appends to the log, or counts what finds no room there.
    fn append(&mut self, place: usize, entry: &Entry, payload: &[u8], at: Moment) -> bool {
        if self.trouble.is_none() {
            match self.log.append(entry, payload, at) {
                Ok(_) => return true,
                // A turn's reports have more bytes than the backlog: out with it, and once more.
                Err(LogError::Backlog) => match self.log.write() {
                    Ok(()) if self.log.append(entry, payload, at).is_ok() => return true,
                    Ok(()) => {}
                    Err(error) => self.troubled(&error),
                },
                Err(error) => self.troubled(&error),
            }
        }
        self.rings[place].dropped += 1;
        false
    }

    /// Notes that a reporter lost reports.
    fn lose(&mut self, place: usize, count: u64, at: Moment) {
        let ring = &mut self.rings[place];
        ring.next = ring.next.saturating_add(count);
        self.write_loss_down(place, count, at);
    }

    /// Writes down that so many reports of a reporter are not in the log; what can't be written is
    /// counted as they are. The number may be any: a layer says it.
    fn write_loss_down(&mut self, place: usize, count: u64, at: Moment) {
        let reporter = self.rings[place].who;
        let loss = Entry { reporter, length: count, ..Entry::new(Kind::Loss) };
        if !self.write_down(place, loss, &[], at) {
            // The loss itself was counted as one.
            let ring = &mut self.rings[place];
            ring.dropped = ring.dropped.saturating_add(count.saturating_sub(1));
        }
    }

    /// Takes what the supervisor did.
    fn take_act(&mut self, place: usize, bytes: &[u8], at: Moment) {
        // The supervisor is trusted; what it can't have written is a mistake of ours.
        let Ok(Record { index: number, mut entry, .. }) = entry::decode(bytes) else {
            return self.silence(place, "an act of the supervisor has no sense");
        };
        let due = self.rings[place].next;
        if number < due {
            return;
        }
        if number > due {
            self.lose_acts(place, number - due, at);
        }
        self.rings[place].next = number.saturating_add(1);
        let ended = (entry.kind == Kind::Exit).then_some(entry.peer);
        if let Some(gone) = ended {
            self.take_last_words(gone, at);
        }
        entry.side = Side::Supervisor;
        if entry.kind == Kind::Broker {
            entry.rule = self.rules.find(&entry);
        }
        self.write_down(place, entry, &[], at);
    }

    /// Notes that acts of the supervisor found no room.
    fn lose_acts(&mut self, place: usize, count: u64, at: Moment) {
        self.lose(place, count, at);
        if self.orders.plan.audit.on_full == LogFull::Halt {
            let text =
                format!("{count} acts of the supervisor are lost: the daemon stops (`on-full`)");
            self.say(true, &text);
        }
    }

    /// Writes down how many acts the supervisor did that it can't say any more: it is gone, or has
    /// said stop.
    pub(super) fn tell_untold_acts(&mut self) {
        let own = self.rings.iter().position(|ring| ring.who == Who::SUPERVISOR && !ring.mute);
        let Some(place) = own else { return };
        let untold = self.rings[place].untold();
        if untold > 0 {
            self.lose(place, untold, now());
        }
    }

    /// Takes all that an instance reported before it ended, and what it couldn't say any more.
    fn take_last_words(&mut self, gone: Who, at: Moment) {
        let Some(place) = self.rings.iter().position(|ring| ring.who == gone) else { return };
        // Its writer is dead, so this ends.
        while self.take_from(place, TURN) > 0 {}
        let ring = &self.rings[place];
        let untold = if ring.mute { 0 } else { ring.untold() };
        if untold > 0 {
            self.lose(place, untold, at);
        }
        self.rings[place].over = true;
    }

    /// Reads nothing more from a ring whose writer broke the rules.
    fn silence(&mut self, place: usize, why: &str) {
        let ring = &mut self.rings[place];
        if ring.mute {
            return;
        }
        ring.mute = true;
        let who = ring.who;
        // Once in a life, so there is always room for it.
        self.write_alarm_down(who, &format!("its reports are not believed any more: {why}"));
        let lie = format!("{} reports what can't be: {why}", self.name(who));
        self.say(false, &lie);
    }

    /// Appends a record of the auditor's own.
    pub(super) fn note(&mut self, entry: &Entry) {
        if self.trouble.is_none()
            && let Err(error) = self.log.append(entry, &[], now())
        {
            self.troubled(&error);
        }
    }

    /// Writes down how many reports were dropped while the log couldn't be written.
    pub(super) fn tell_losses(&mut self) {
        let at = now();
        for place in 0..self.rings.len() {
            let dropped = std::mem::take(&mut self.rings[place].dropped);
            if dropped > 0 {
                self.write_loss_down(place, dropped, at);
            }
        }
    }

    /// Begins a segment with how far all reports have come.
    pub(super) fn write_progress(&mut self) {
        for place in 0..self.rings.len() {
            let Ring { who, next, .. } = self.rings[place];
            self.note(&progress(who, next));
        }
        self.note(&life(self.orders.run, self.layer.instance().generation));
    }
}

/// Whether a report says that somebody was ended for a system call, or refused one, or refused something
/// by Landlock.
fn is_denial(facts: &Facts) -> bool {
    matches!(
        (facts.facility, facts.verdict),
        (Facility::Syscall, Verdict::Killed | Verdict::Refused)
            | (Facility::Landlock, Verdict::Refused)
    )
}

/// What a report says. `denies`: its reporter tells what the kernel denied others.
fn entry_of(reporter: Who, report: &Report<'_>, denies: bool) -> Entry {
    let facts = &report.head.facts;
    let hash = match report.head.what {
        What::Message => *blake3::hash(report.message).as_bytes(),
        What::Hash => report.message.try_into().unwrap_or_default(),
        What::Bare | What::Loss => [0; 32],
    };
    // What a helper did for somebody is that one's act.
    let client = report.detail.split_first_chunk().filter(|_| facts.side == Side::Helper);
    let client = client.and_then(|(who, rest)| Some((Who::from_bytes(who)?, rest)));
    let (kind, actor, peer, detail) = match client {
        Some((whom, rest)) if denies => (Kind::Denial, reporter, whom, rest),
        Some((client, rest)) if facts.peer == Who::NOBODY => (Kind::Broker, client, reporter, rest),
        Some((client, rest)) => (Kind::Broker, client, facts.peer, rest),
        None => (Kind::Use, reporter, facts.peer, report.detail),
    };
    Entry {
        kind,
        // Nobody but the supervisor speaks for the supervisor.
        side: if facts.side == Side::Supervisor { Side::None } else { facts.side },
        verdict: facts.verdict,
        facility: facts.facility,
        edge: facts.edge,
        descriptors: facts.descriptors,
        form: facts.form,
        rule: Entry::NO_RULE,
        method: facts.method,
        reported: report.head.reported,
        sequence: facts.sequence,
        length: facts.length,
        reporter: actor,
        peer,
        value: facts.value,
        hash,
        trace: facts.trace,
        detail: detail.to_vec(),
    }
}
