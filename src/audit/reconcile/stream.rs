//! One stream's reports: those that wait for others, and the numbers that are settled.

use std::collections::BTreeMap;

use super::Stream;
use super::outcome::{Counts, Disagreement, Outcome, Teller, tell};
use super::queue::Queues;
use super::ways::Way;
use super::witness::Seen;
use crate::audit::entry::{Entry, Form, Record, Side, Verdict};
use crate::audit::hash::Hash;

/// What the ends must agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Says {
    hash: Hash,
    /// `None`: who reports can't know.
    method: Option<u32>,
    length: u64,
    descriptors: u8,
    form: Form,
}

impl Says {
    fn of(entry: &Entry) -> Self {
        let Entry { hash, method, length, descriptors, form, .. } = *entry;
        // Of a batch it is the first message's, which is sealed to the witness.
        let sealed = entry.side == Side::Witness && form == Form::Batch;
        Self { hash, method: (!sealed).then_some(method), length, descriptors, form }
    }

    /// Whether the two agree in all that both can know.
    pub(super) fn agrees(&self, other: &Self) -> bool {
        let method = self.method.and(other.method).is_none() || self.method == other.method;
        method && Self { method: None, ..*self } == Self { method: None, ..*other }
    }

    /// A few bits by which two differing ones are told apart.
    fn brief(&self) -> u64 {
        let hash = u64::from_le_bytes(self.hash[..8].try_into().unwrap_or_default());
        let rest =
            u64::from(self.method.unwrap_or(0)) << 16 ^ self.length << 32 ^ self.length >> 32;
        hash ^ rest ^ u64::from(self.descriptors) << 8 ^ u64::from(self.form as u8)
    }
}

const SENDER: u8 = 1;
const RECEIVER: u8 = 2;
const WITNESS: u8 = 4;

/// A message that waits for more reports of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Half {
    /// Which ends reported it, in bits.
    sides: u8,
    /// Which of them differ from the first.
    differ: u8,
    /// What the first of those says, in brief.
    other: u64,
    /// Whether the receiver refused it.
    refused: bool,
    /// All that is known so far is that the receiver refused it.
    blank: bool,
    /// The first one's record.
    pub(super) record: u64,
    /// When that came.
    pub(super) since: u64,
    /// What it says.
    pub(super) says: Says,
}

impl Half {
    pub(super) fn of(record: &Record) -> Self {
        let entry = &record.entry;
        let sides = match entry.side {
            Side::Sender => SENDER,
            Side::Receiver => RECEIVER,
            _ => WITNESS,
        };
        Self {
            sides,
            differ: 0,
            other: 0,
            refused: sides == RECEIVER && entry.verdict == Verdict::Refused,
            blank: false,
            record: record.index,
            since: record.at.monotonic,
            says: Says::of(entry),
        }
    }

    /// The receiver's report that it refuses a record, which it may not have been able to read.
    pub(super) fn refusal(record: &Record) -> Self {
        Self { sides: RECEIVER, refused: true, blank: true, ..Self::of(record) }
    }

    /// Whether this and another end's report don't contradict each other.
    pub(super) fn fits(&self, other: &Self) -> bool {
        self.blank || other.blank || self.says.agrees(&other.says)
    }

    /// Whether the sender alone reported it, too long ago.
    pub(super) fn sent_only(&self, now: u64, grace: u64) -> bool {
        self.sides == SENDER && now.saturating_sub(self.since) > grace
    }

    /// Whether the witness reported it.
    pub(super) fn is_witnessed(&self) -> bool {
        self.sides & WITNESS != 0
    }

    /// Takes the report of another end in.
    fn join(&mut self, more: &Self) {
        // Who refuses a message may not have understood what it is.
        let alike = if self.blank || more.blank {
            true
        } else if self.refused || more.refused {
            (self.says.hash, self.says.length) == (more.says.hash, more.says.length)
        } else {
            self.says.agrees(&more.says)
        };
        if !alike {
            let brief = more.says.brief();
            if self.differ == 0 {
                self.other = brief;
            } else if self.other != brief {
                // All three say something else: nobody is the odd one.
                self.differ |= 1 << 7;
            }
            self.differ |= more.sides;
        } else if self.blank || more.sides == SENDER && self.refused && !more.blank {
            self.says = more.says;
        }
        self.blank &= more.blank;
        if alike {
            self.says.method = self.says.method.or(more.says.method);
        }
        self.sides |= more.sides;
        self.refused |= more.refused;
    }

    /// Who says something else than the two others, who agree.
    fn odd(&self) -> Option<Side> {
        let odd = match self.differ.count_ones() {
            1 => self.differ,
            _ if self.differ & 1 << 7 == 0 => self.sides & !self.differ,
            _ => 0,
        };
        side(odd).filter(|_| self.is_witnessed())
    }
}

fn side(bit: u8) -> Option<Side> {
    match bit {
        SENDER => Some(Side::Sender),
        RECEIVER => Some(Side::Receiver),
        WITNESS => Some(Side::Witness),
        _ => None,
    }
}

/// One direction of an edge between two instances.
#[derive(Debug)]
pub(super) struct State {
    pub(super) way: Way,
    pub(super) waiting: BTreeMap<u64, Half>,
    /// What is settled: beginning and end of each run of numbers.
    pub(super) done: BTreeMap<u64, u64>,
    /// Since when there has been a hole in that.
    pub(super) hole_since: Option<u64>,
    /// The number behind the highest that sender, receiver and witness reported.
    high: [u64; 3],
    /// When one of the two ended, or the witness between them, or the receiver ended the link.
    pub(super) ended: Option<u64>,
    /// Whether it was there when the log's writer began last.
    pub(super) before_start: bool,
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
            before_start: false,
            overdue: false,
        }
    }

    /// Whether a report can only be of a later life than the stream's, which a start came after.
    pub(super) fn is_older(&self, number: u64, half: &Half) -> bool {
        let waiting = self.waiting.get(&number);
        let there = waiting.is_some_and(|other| other.sides & half.sides != 0);
        self.before_start && (there || waiting.is_none() && self.is_done(number))
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
        self.settle(number);
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

    /// Judges all that is left of a stream that is over.
    pub(super) fn judge_all<F: FnMut(Disagreement)>(
        &mut self,
        stream: Stream,
        more: (&mut Queues, &mut Seen),
        teller: &mut Teller<'_, F>,
    ) -> usize {
        let mut settled = self.judge(stream, (u64::MAX, 0), usize::MAX, more, teller);
        // What stays in a queue is nobody's fault.
        for (number, half) in std::mem::take(&mut self.waiting) {
            teller.tell(Disagreement::of(Outcome::InFlight, stream, number, Some(half.record)));
            self.settle(number);
            settled += 1;
        }
        while self.done.len() > 1 {
            self.close_hole(stream, teller.counts, teller.each);
        }
        settled
    }

    /// Judges the reports that waited longer than the grace, at most so many. Says how many are
    /// settled.
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
        let mut settled = 0;
        let forced = most < usize::MAX;
        for (number, half) in old {
            if self.way == Way::Witnessed
                && let Some(other) = seen.unpark(&stream, number, Some(&half), true)
            {
                self.take(stream, number, other, teller.counts, teller.each);
            }
            let Some(&half) = self.waiting.get(&number) else {
                settled += 1;
                continue;
            };
            let mut told = Disagreement::of(Outcome::Gap, stream, number, Some(half.record));
            let Some(outcome) = self.outcome(&mut told, &half, forced, queues, teller) else {
                continue;
            };
            told.outcome = outcome;
            if outcome == Outcome::Overdue {
                if !self.overdue {
                    self.overdue = true;
                    teller.tell(told);
                }
                continue;
            }
            teller.tell(told);
            self.waiting.remove(&number);
            // Nothing follows what was refused, whatever number its sender gave it.
            if half.sides & SENDER != 0 || !half.refused || number < self.high[0] {
                self.settle(number);
            }
            settled += 1;
        }
        settled
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

    fn is_done(&self, number: u64) -> bool {
        self.done.range(..=number).next_back().is_some_and(|(_, end)| number < *end)
    }

    fn settle(&mut self, number: u64) {
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

    /// Gives up on the lowest hole in what is settled: nobody reported those numbers.
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
