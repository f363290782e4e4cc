//! What is special about a witness: it names the sender of what it passes on, not the receiver.
//!
//! There may be several streams from that sender on that edge, to copies of one layer, and one
//! more after each end of the witness. So its report belongs to the one where an end says the same; until one does it is parked. What is
//! still parked when an end's report is overdue contradicts that.

use std::collections::{BTreeMap, HashMap};

use super::half::Half;
use super::outcome::{Disagreement, Outcome, Teller};
use super::{Facility, Stream};
use crate::audit::entry::{Record, Who};
use crate::wire::report::link_of;

/// A parked report: edge, sender, number and record.
type ReportKey = (u16, Who, u64, u64);

/// What witnesses saw, and between whom.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The receivers of each sender on an edge, by links.
    peers: HashMap<(u16, Who, u64), Vec<Who>>,
    /// Reports without a stream, and whether their sender ended since.
    parked: BTreeMap<ReportKey, (Half, bool)>,
}

impl Seen {
    /// How many reports are parked.
    pub(super) fn parked(&self) -> usize {
        self.parked.len()
    }

    /// A stream with a witness begins.
    pub(super) fn known(&mut self, stream: &Stream) {
        self.peers
            .entry((stream.edge, stream.sender, stream.link))
            .or_default()
            .push(stream.receiver);
    }

    /// A stream is over.
    pub(super) fn forget(&mut self, stream: &Stream) {
        let key = (stream.edge, stream.sender, stream.link);
        if let Some(receivers) = self.peers.get_mut(&key) {
            receivers.retain(|receiver| *receiver != stream.receiver);
            if receivers.is_empty() {
                self.peers.remove(&key);
            }
        }
    }

    /// What is parked has been there through no fault of its ends' for the time `by`.
    pub(super) fn held(&mut self, by: u64) {
        for (half, _) in self.parked.values_mut() {
            half.since = half.since.saturating_add(by);
        }
    }

    /// An instance ended.
    pub(super) fn ended(&mut self, who: Who) {
        for ((_, sender, ..), (_, ended)) in &mut self.parked {
            *ended |= *sender == who;
        }
    }

    /// The stream that a witness's report belongs to, if it can be told. `waiting` gives what a
    /// stream's ends said of the message.
    pub(super) fn stream(
        &self,
        record: &Record,
        waiting: impl Fn(&Stream) -> Option<Half>,
    ) -> Option<Stream> {
        let entry = &record.entry;
        let (edge, sender, link) = (entry.edge, entry.peer, link_of(entry.sequence));
        let receivers = self.peers.get(&(edge, sender, link))?;
        let stream = |receiver: &Who| Stream {
            facility: Facility::Channel,
            edge,
            sender,
            receiver: *receiver,
            link,
        };
        let half = Half::of(record);
        let fits = |stream: &Stream| {
            waiting(stream).is_some_and(|other| !other.is_witnessed() && other.fits(&half))
        };
        receivers.iter().map(stream).find(fits)
    }

    /// Keeps a report whose stream isn't known, unless there are as many as may be.
    pub(super) fn park(&mut self, record: &Record, most: usize) {
        if self.parked.len() < most {
            let entry = &record.entry;
            let place = (entry.edge, entry.peer, entry.sequence, record.index);
            self.parked.insert(place, (Half::of(record), false));
        }
    }

    /// The parked report of a message that waits for it: one that says the same, or any at all.
    pub(super) fn unpark(
        &mut self,
        stream: &Stream,
        number: u64,
        waiting: Option<&Half>,
        any: bool,
    ) -> Option<Half> {
        let waiting = waiting.filter(|half| !half.is_witnessed())?;
        if self.parked.is_empty() {
            return None;
        }
        let place = |record| (stream.edge, stream.sender, number, record);
        let found = self
            .parked
            .range(place(0)..=place(u64::MAX))
            .find(|(_, (half, _))| any || half.fits(waiting))
            .map(|(place, _)| *place)?;
        self.parked.remove(&found).map(|(half, _)| half)
    }

    /// Everybody ended.
    pub(super) fn over<F: FnMut(Disagreement)>(&mut self, teller: &mut Teller<'_, F>) {
        self.parked.values_mut().for_each(|(_, ended)| *ended = true);
        self.judge((u64::MAX, 0), teller);
        self.peers.clear();
    }

    /// Judges what has been parked too long: no end said anything of it.
    pub(super) fn judge<F: FnMut(Disagreement)>(
        &mut self,
        (now, grace): (u64, u64),
        teller: &mut Teller<'_, F>,
    ) {
        self.parked.retain(|(edge, sender, number, record), (half, ended)| {
            if now.saturating_sub(half.since) <= grace {
                return true;
            }
            let (facility, receiver) = (Facility::Channel, Who::NOBODY);
            let (edge, sender, link) = (*edge, *sender, link_of(*number));
            let stream = Stream { facility, edge, sender, receiver, link };
            let outcome = if *ended || teller.is_lonely(half.record) {
                Outcome::InFlight
            } else if teller.lost(|who| who == sender) {
                Outcome::Lost
            } else {
                Outcome::Hidden
            };
            teller.tell(Disagreement::of(outcome, stream, *number, Some(*record)));
            false
        });
    }
}
