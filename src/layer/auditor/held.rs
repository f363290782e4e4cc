//! When the log can't be written, or the auditor doesn't run: who waits, and who is not to blame.
//!
//! What is late then is late through no fault of its reporter's. A [`Kind::Held`] record says for how
//! long no reports were taken, so that whoever reconciles the log later knows it too.

use super::{Auditor, now};
use crate::audit::LogError;
use crate::audit::entry::{Entry, Kind, Moment, Who};
use crate::policy::plan::LogFull;

/// In nanoseconds: after a turn of the loop that took longer, what waits for its other half has
/// waited for the auditor. Longer than any sleep of it, and shorter than the grace of
/// [`Bounds::default`](crate::audit::reconcile::Bounds::default).
const HELD: u64 = 400_000_000;

const SECOND: u64 = 1_000_000_000;

impl Auditor<'_> {
    /// The log can't be written for now: says so, once.
    pub(super) fn troubled(&mut self, error: &LogError) {
        let text = error.to_string();
        let (halt, then) = match self.orders.plan.audit.on_full {
            LogFull::Halt => (true, "the daemon stops"),
            LogFull::Block => (false, "layers wait until it can be"),
            LogFull::Count => (false, "what is not recorded is counted"),
        };
        if let Some((why, _)) = &mut self.trouble {
            *why = text;
        } else {
            let said = format!("the audit log can't be written: {text}; {then} (`on-full`)");
            self.say(halt, &said);
            self.trouble = Some((text, now()));
        }
    }

    /// Writes down that the log couldn't be written, and for how long.
    pub(super) fn tell_held(&mut self, why: &str, since: Moment) {
        let time = now().monotonic.saturating_sub(since.monotonic);
        let then = match self.orders.plan.audit.on_full {
            LogFull::Halt => "the daemon was to stop",
            LogFull::Block => "layers waited",
            LogFull::Count => "what was not recorded is counted",
        };
        let shown = format!("{}.{:03} s", time / SECOND, time % SECOND / 1_000_000);
        let text = format!("the log couldn't be written for {shown}, and is again: {why}; {then}");
        self.hold(time, since, &text);
        self.write_alarm_down(Who::NOBODY, &text);
    }

    /// Notices that this process didn't run, or waited for a disk, for longer than reports may take.
    pub(super) fn look_at_the_clock(&mut self) {
        let since = std::mem::replace(&mut self.turned, now());
        let time = self.turned.monotonic.saturating_sub(since.monotonic);
        if time > HELD && self.trouble.is_none() {
            self.hold(time, since, "the auditor didn't run, or waited for its disk");
        }
    }

    /// Writes down that no reports were taken for a time, and lets all that waits have it.
    pub(super) fn hold(&mut self, time: u64, since: Moment, why: &str) {
        self.note(&Entry {
            length: time,
            reported: since.monotonic,
            reporter: Who::AUDITOR,
            detail: why.as_bytes().to_vec(),
            ..Entry::new(Kind::Held)
        });
        self.reconciler.held(time);
    }

    /// Says once of each layer that it waits for the log.
    pub(super) fn tell_who_waits(&mut self) {
        if self.orders.plan.audit.on_full == LogFull::Count {
            return;
        }
        for place in 0..self.rings.len() {
            let ring = &self.rings[place];
            let who = ring.who;
            let waits = who != Who::SUPERVISOR && !ring.over && ring.is_full();
            if waits && self.waiting.insert(ring.name) {
                let text = format!("{} waits until the audit log can be written", self.name(who));
                self.say(false, &text);
            }
        }
    }
}
