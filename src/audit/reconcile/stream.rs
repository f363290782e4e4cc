//! One stream's reports: those that wait for others, and the numbers that are done.

use std::collections::BTreeMap;

use super::Stream;
use super::half::{Half, RECEIVER, SENDER, WITNESS};
use super::outcome::{Counts, Disagreement, Outcome, Teller, tell};
use super::queue::Queues;
use super::ways::Way;
use super::witness::Seen;
use crate::audit::entry::Side;

/// One direction of an edge between two instances.
#[derive(Debug)]
pub(super) struct State {
    pub(super) way: Way,
    pub(super) waiting: BTreeMap<u64, Half>,
    /// What is done: beginning and end of each run of numbers.
    pub(super) done: BTreeMap<u64, u64>,
    /// Since when there has been a hole in that.
    pub(super) hole_since: Option<u64>,
    /// The number behind the highest that sender, receiver and witness reported.
    high: [u64; 3],
    /// When one of the two ended, or the witness between them, or the receiver ended the link.
    pub(super) ended: Option<u64>,
    overdue: bool,
}

impl State {
    pub(super) fn new(way: Way) -> Self {
        Self {
            way,
            waiting: BTreeMap::new(),
            done: BTreeMap::new(),
            hole_since: None,
            high: [0; 3],
            ended: None,
            overdue: false,
        }
    }

    /// Takes a report in.
    pub(super) fn take(
        &mut self,
        stream: Stream,
        number: u64,
        half: Half,
        counts: &mut Counts,
        each: &mut impl FnMut(Disagreement),
    ) {
        let high = match half.sides {
            SENDER => &mut self.high[0],
            RECEIVER => &mut self.high[1],
            _ => &mut self.high[2],
        };
        *high = (*high).max(number.saturating_add(1));
        let repeated = Disagreement::of(Outcome::Repeated, stream, number, Some(half.record));
        let whole = match self.way {
            Way::Witnessed => SENDER | RECEIVER | WITNESS,
            _ => SENDER | RECEIVER,
        };
        let Some(waiting) = self.waiting.get_mut(&number) else {
            if self.is_done(number) {
                tell(counts, each, repeated);
            } else {
                self.waiting.insert(number, half);
            }
            return;
        };
        if waiting.sides & half.sides != 0 {
            tell(counts, each, repeated);
            return;
        }
        waiting.join(&half);
        self.overdue = false;
        if waiting.sides != whole {
            return;
        }
        let joined = *waiting;
        if joined.differ != 0 {
            let altered = Disagreement::of(Outcome::Altered, stream, number, Some(half.record));
            let told = match joined.odd() {
                // Against the witness there is no suspicion: the two ends lie, and agree on it.
                Some(Side::Witness) => Disagreement { outcome: Outcome::Unwitnessed, ..altered },
                against => Disagreement { against, ..altered },
            };
            tell(counts, each, told);
        } else if joined.dropped {
            let record = Some(half.record);
            tell(counts, each, Disagreement::of(Outcome::Dropped, stream, number, record));
        } else if joined.refused {
            counts.refused += 1;
        } else {
            counts.matched += 1;
        }
        if joined.refused {
            // The receiver ended the link: what was sent behind it doesn't arrive.
            self.ended.get_or_insert(joined.since);
        }
        self.waiting.remove(&number);
        self.mark_done(number);
    }

    /// The receiver refuses a record, and ends the link: what was sent behind it doesn't arrive.
    /// It may have reported the record itself before.
    pub(super) fn refuse(
        &mut self,
        stream: Stream,
        number: u64,
        half: Half,
        counts: &mut Counts,
        each: &mut impl FnMut(Disagreement),
    ) {
        self.ended.get_or_insert(half.since);
        let told = self.waiting.get(&number).is_some_and(|half| half.sides & RECEIVER != 0);
        if !told && !self.is_done(number) {
            // What number it has, its sender may have made up.
            let high = self.high;
            self.take(stream, number, half, counts, each);
            self.high = high;
        }
    }

    /// What waits has done so through no fault of its ends' for the time `by`.
    pub(super) fn held(&mut self, by: u64) {
        let waiting = self.waiting.values_mut().map(|half| &mut half.since);
        for since in waiting.chain(&mut self.hole_since).chain(&mut self.ended) {
            *since = since.saturating_add(by);
        }
    }

    /// The sender takes back what it said it would send: there was no room. What somebody else
    /// reports to have received stays.
    pub(super) fn take_back(&mut self, number: u64) {
        self.high[0] = self.high[0].max(number.saturating_add(1));
        match self.waiting.get(&number) {
            Some(half) if half.sides != SENDER => return,
            Some(_) => drop(self.waiting.remove(&number)),
            None => {}
        }
        self.mark_done(number);
    }

    /// How many messages the sender alone reported, too long ago. The last one may not have been
    /// sent yet, or never.
    pub(super) fn sent_only(&self, now: u64, grace: u64) -> usize {
        let before = self.waiting.range(..self.high[0].saturating_sub(1));
        before.filter(|(_, half)| half.sent_only(now, grace)).count()
    }

    /// Judges all that is left of a stream that is over.
    pub(super) fn judge_all<F: FnMut(Disagreement)>(
        &mut self,
        stream: Stream,
        more: (&mut Queues, &mut Seen),
        teller: &mut Teller<'_, F>,
    ) -> usize {
        let mut done = self.judge(stream, (u64::MAX, 0), usize::MAX, more, teller);
        // What stays in a queue is nobody's fault.
        for (number, half) in std::mem::take(&mut self.waiting) {
            teller.tell(Disagreement::of(Outcome::InFlight, stream, number, Some(half.record)));
            self.mark_done(number);
            done += 1;
        }
        while self.done.len() > 1 {
            self.close_hole(stream, teller.counts, teller.each);
        }
        done
    }

    /// Judges the reports that waited longer than the grace, at most so many. Says how many are
    /// done.
    pub(super) fn judge<F: FnMut(Disagreement)>(
        &mut self,
        stream: Stream,
        (now, grace): (u64, u64),
        most: usize,
        (queues, seen): (&mut Queues, &mut Seen),
        teller: &mut Teller<'_, F>,
    ) -> usize {
        if self.waiting.is_empty() {
            return 0;
        }
        let late = |half: &Half| now.saturating_sub(half.since) > grace;
        let old: Vec<(u64, Half)> = self
            .waiting
            .iter()
            .filter(|(_, half)| late(half))
            .map(|(number, half)| (*number, *half))
            .take(most)
            .collect();
        let mut done = 0;
        let forced = most < usize::MAX;
        let holds_all = self.holds_all();
        for (number, half) in old {
            if self.way == Way::Witnessed
                && let Some(other) = seen.unpark(&stream, number, Some(&half), true)
            {
                self.take(stream, number, other, teller.counts, teller.each);
            }
            let Some(&half) = self.waiting.get(&number) else {
                done += 1;
                continue;
            };
            let mut told = Disagreement::of(Outcome::Gap, stream, number, Some(half.record));
            let Some(outcome) = self.outcome(&mut told, &half, forced, queues, teller) else {
                continue;
            };
            told.outcome = outcome;
            if outcome == Outcome::Overdue {
                if !self.overdue && !holds_all {
                    self.overdue = true;
                    teller.tell(told);
                }
                continue;
            }
            teller.tell(told);
            self.waiting.remove(&number);
            // Nothing follows what was refused, whatever number its sender gave it.
            if half.sides & SENDER != 0 || !half.refused || number < self.high[0] {
                self.mark_done(number);
            }
            done += 1;
        }
        done
    }

    /// What a message is of which reports are missing; `None` while that is no fault.
    fn outcome<F: FnMut(Disagreement)>(
        &self,
        told: &mut Disagreement,
        half: &Half,
        forced: bool,
        queues: &mut Queues,
        teller: &mut Teller<'_, F>,
    ) -> Option<Outcome> {
        let (number, stream) = (told.from, told.stream);
        let ended = self.ended.is_some();
        let (sent, received) = (half.sides & SENDER != 0, half.sides & RECEIVER != 0);
        let witnessed = half.is_witnessed();
        let overtaken = number < self.high[1];
        if teller.is_lonely(half.record) {
            return Some(Outcome::InFlight);
        }
        if self.way == Way::Queue && sent {
            let outcome = queues.judge(&stream, overtaken, teller);
            return outcome.or(forced.then_some(Outcome::InFlight));
        }
        // One message may have been sent, and its sender killed before it could say so.
        if !sent && ended && number == self.high[0] && !half.refused {
            return Some(Outcome::InFlight);
        }
        if !sent && teller.lost(|who| who == stream.sender) {
            return Some(Outcome::Lost);
        }
        if sent && !received && teller.lost(|who| who == stream.receiver) {
            return Some(Outcome::Lost);
        }
        let witness = teller.witness;
        if sent && received && teller.lost(|who| Some(who.layer) == witness) {
            return Some(Outcome::Lost);
        }
        let suspicious = match (sent, received) {
            (true, true) => Outcome::Unwitnessed,
            (false, _) if !witnessed => Outcome::Forged,
            (true, false) if overtaken && !witnessed => Outcome::Gap,
            (true, false) if !overtaken && ended => return Some(Outcome::InFlight),
            // Making room for others.
            (true, false) if !overtaken && forced => Outcome::Gap,
            (true, false) if !overtaken => return Some(Outcome::Overdue),
            _ => Outcome::Hidden,
        };
        if !witnessed && self.way == Way::Witnessed {
            told.against = match suspicious {
                Outcome::Forged => Some(Side::Receiver),
                Outcome::Gap if number < self.high[2] => Some(Side::Sender),
                _ => None,
            };
        } else if suspicious == Outcome::Hidden {
            told.against = match (sent, received) {
                (true, false) => Some(Side::Receiver),
                (false, true) => Some(Side::Sender),
                _ => None,
            };
        }
        Some(suspicious)
    }

    /// Whether a pipe may still hold all that its writer alone reported.
    fn holds_all(&self) -> bool {
        let Way::Pipe(most) = self.way else { return false };
        let sent = self.waiting.values().filter(|half| half.sides == SENDER);
        sent.fold(0_u64, |all, half| all.saturating_add(half.length())) <= most
    }

    fn is_done(&self, number: u64) -> bool {
        self.done.range(..=number).next_back().is_some_and(|(_, end)| number < *end)
    }

    fn mark_done(&mut self, number: u64) {
        let to = number.saturating_add(1);
        // Nearly always the next number of the one run there is.
        if let Some(mut last) = self.done.last_entry()
            && *last.get() == number
        {
            *last.get_mut() = to;
            return;
        }
        let (mut from, mut to) = (number, to);
        if let Some((&start, &end)) = self.done.range(..=number).next_back()
            && end >= number
        {
            (from, to) = (start, to.max(end));
        }
        if let Some(end) = self.done.remove(&to) {
            to = end;
        }
        self.done.insert(from, to);
    }

    /// Gives up on the lowest hole in what is done: nobody reported those numbers.
    pub(super) fn close_hole(
        &mut self,
        stream: Stream,
        counts: &mut Counts,
        each: &mut impl FnMut(Disagreement),
    ) {
        let mut runs = self.done.iter();
        let (Some((&start, &from)), Some((&to, &end))) = (runs.next(), runs.next()) else { return };
        // What waits in the hole has a reporter, and is judged on its own.
        let mut next = from;
        let waiting: Vec<u64> = self.waiting.range(from..to).map(|(number, _)| *number).collect();
        for number in waiting.into_iter().chain([to]) {
            if next < number {
                let gap = Disagreement::of(Outcome::Gap, stream, next, None);
                tell(counts, each, Disagreement { to: number, ..gap });
            }
            next = number.saturating_add(1);
        }
        self.done.remove(&to);
        self.done.insert(start, end);
        self.hole_since = None;
    }
}
