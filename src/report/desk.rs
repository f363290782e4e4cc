//! Where the parts of a layer report: one desk for all of it, and a tap on each facility.

use std::sync::Arc;
use std::time::Duration;

use super::reporter::{Pending, Reporter};
use crate::ident::{Instance, Name};
use crate::policy::plan::Audit;
use crate::seal::capture::{self, Capture};
use crate::trace::{self, Trace};
use crate::wire::limits::RECORD;
use crate::wire::report::{Facility, Facts, HEAD, Side, Verdict, WHOLE, Who, runs};
use crate::wire::trace::TRACE;

/// How often a task that waits for room in the ring looks for some: nobody wakes it.
const NAP: Duration = Duration::from_millis(5);

/// In a record, as the reason for a refusal: the policy doesn't grant it.
const NOT_GRANTED: u32 = 1;

/// Room for the longest report without a payload: a whole message, the list of a batch's messages,
/// and another report of what is wrong with it.
const LONGEST: usize = 2 * (HEAD + WHOLE + TRACE) + (runs::MOST + 1) * runs::BYTES;

/// What of this process reports, and where to. A handle; clones are the same desk.
#[derive(Clone, Debug, Default)]
pub struct Desk(Option<Arc<Open>>);

#[derive(Debug)]
struct Open {
    reporter: Reporter,
    /// The plan's layers in their order: what a peer's number is.
    layers: Vec<Name>,
    capture: Option<Capture>,
}

/// A facility that reports.
#[derive(Clone, Debug)]
pub struct Tap {
    desk: Arc<Open>,
    facility: Facility,
    edge: u16,
    captures: bool,
}

impl Desk {
    /// A desk whose reports go to `reporter`. `layers` are the plan's, in its order.
    pub fn open(reporter: Reporter, layers: Vec<Name>, capture: Option<Capture>) -> Self {
        Self(Some(Arc::new(Open { reporter, layers, capture })))
    }

    /// The numbers of an instance; nobody's where there is no log.
    pub fn who(&self, instance: &Instance) -> Who {
        let found = self.0.as_ref().and_then(|open| Who::of(&open.layers, instance));
        found.unwrap_or(Who::NOBODY)
    }

    /// Has nobody wait for room; see [`Reporter::never_wait`].
    pub fn never_wait(&self) {
        if let Some(open) = &self.0 {
            open.reporter.never_wait();
        }
    }

    /// Reports that this process was refused what no part of the policy allows, in its own code: it got
    /// no further. `what` was asked for, in words.
    pub fn refused(&self, what: &str) {
        if let Some(open) = &self.0 {
            let facts = Facts::new(Facility::None, 0, Side::None);
            refuse(&open.reporter, facts, what);
        }
    }

    /// Reports that this task or thread goes on under another trace, and under which it was.
    pub fn took_up(&self, trace: Trace, before: Option<Trace>) {
        if let Some(open) = &self.0 {
            let facts = Facts::new(Facility::None, 0, Side::None);
            let detail = before.map(|it| it.to_bytes());
            let detail = detail.as_ref().map_or(&[][..], |it| it);
            open.reporter.report(&Facts { trace: Some(trace), ..facts }, b"", detail);
        }
    }

    /// Has a facility report, if there is a log and the policy doesn't say otherwise.
    pub fn tap(&self, facility: Facility, edge: u16, audit: Audit) -> Option<Tap> {
        let desk = self.0.as_ref().filter(|_| audit != Audit::None)?;
        let captures = audit == Audit::Payload && desk.capture.is_some();
        Some(Tap { desk: Arc::clone(desk), facility, edge, captures })
    }
}

#[cfg(feature = "testing")]
impl Desk {
    /// Writes over a part of the ring, as a layer would that has nothing to lose.
    pub fn scribble(&self, at: usize, bytes: &[u8]) {
        if let Some(open) = &self.0 {
            open.reporter.scribble(at, bytes);
        }
    }

    /// Says that `count` reports were lost from the one with that number on.
    pub fn claim_loss(&self, number: u64, count: u64) {
        if let Some(open) = &self.0 {
            open.reporter.claim_loss(number, count);
        }
    }

    /// Reports nothing from now on, as if nothing happened.
    pub fn fall_silent(&self) {
        if let Some(open) = &self.0 {
            open.reporter.fall_silent();
        }
    }
}

/// The longest text of what was refused, in bytes.
const WORDS: usize = 512;

fn refuse(reporter: &Reporter, facts: Facts, what: &str) {
    let facts = Facts { verdict: Verdict::Refused, value: NOT_GRANTED, ..facts };
    let end = what.floor_char_boundary(WORDS);
    reporter.report(&facts, b"", &what.as_bytes()[..end]);
}

/// Waits in this task until what a facility reports next finds room, if it reports at all.
pub async fn room(tap: Option<&Tap>) {
    if let Some(tap) = tap {
        tap.room().await;
    }
}

impl Tap {
    /// What a report on this facility says that says nothing else yet. What this layer does, it does
    /// for the request that it is at, if it is known which.
    pub fn facts(&self, side: Side) -> Facts {
        let trace = if side == Side::Receiver { None } else { trace::next() };
        Facts { trace, ..self.bare(side) }
    }

    /// The same of a message that was taken down before, so that the request of this moment has
    /// nothing to do with it.
    pub fn bare(&self, side: Side) -> Facts {
        Facts::new(self.facility, self.edge, side)
    }

    /// The numbers of an instance.
    pub fn who(&self, instance: &Instance) -> Who {
        Who::of(&self.desk.layers, instance).unwrap_or(Who::NOBODY)
    }

    /// Whether the next report finds room, or needn't wait for some. Who asks before it takes a lock
    /// doesn't wait with it.
    pub fn has_room(&self) -> bool {
        let kept = if self.captures { RECORD + CAPTURE_OVERHEAD } else { 0 };
        self.desk.reporter.has_room(LONGEST + kept)
    }

    /// Waits in this task for [room](Self::has_room).
    pub async fn room(&self) {
        while !self.has_room() {
            tokio::time::sleep(NAP).await;
        }
    }

    /// Reports an act. Of the message nothing is kept but its hash.
    pub fn report(&self, facts: &Facts, message: &[u8], detail: &[u8]) {
        self.desk.reporter.report(facts, message, detail);
    }

    /// Reports that a use of this facility was refused that the policy doesn't allow, before anything
    /// was done. Of a channel no message was made, so its edge stands in `what` alone.
    pub fn refused(&self, method: u32, what: &str) {
        let facts = match self.facility {
            Facility::Channel => Facts::new(Facility::None, 0, Side::None),
            _ => Facts { method, ..self.bare(Side::None) },
        };
        refuse(&self.desk.reporter, facts, what);
    }

    /// Begins a report; see [`Reporter::begin`].
    pub fn begin(&self, message: &[u8], extra: usize) -> Pending<'_> {
        self.desk.reporter.begin(message, extra)
    }

    /// Whether payloads are kept.
    pub fn captures(&self) -> bool {
        self.captures
    }

    /// What is kept of a payload: nothing, or all of it, sealed to the auditor. Where that fails
    /// the report goes without.
    pub fn capture(&self, facts: &Facts, payload: &[u8]) -> Vec<u8> {
        let capture = self.desk.capture.as_ref().filter(|_| self.captures);
        capture.and_then(|capture| capture.seal(&context(facts), payload).ok()).unwrap_or_default()
    }
}

/// By how many bytes what is kept of a payload is longer than it.
pub const CAPTURE_OVERHEAD: usize = capture::OVERHEAD;

/// What a captured payload is bound to: the facility, the side, and the message's number.
pub fn context(facts: &Facts) -> [u8; 16] {
    let mut context = [0; 16];
    context[0] = facts.facility as u8;
    context[1] = facts.side as u8;
    context[2..4].copy_from_slice(&facts.edge.to_le_bytes());
    context[4..8].copy_from_slice(&facts.method.to_le_bytes());
    context[8..].copy_from_slice(&facts.sequence.to_le_bytes());
    context
}
