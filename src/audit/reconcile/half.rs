//! A message of which some reports are there and others not.

use crate::audit::entry::{Entry, Facility, Form, Record, Side, Verdict};
use crate::audit::hash::Hash;
use crate::wire::trace::TRACE;

/// What the ends must agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Says {
    hash: Hash,
    /// `None`: who reports can't know.
    method: Option<u32>,
    length: u64,
    descriptors: u8,
    form: Form,
    /// Zeros where there is none. `None`: the witness can't know.
    trace: Option<[u8; TRACE]>,
}

impl Says {
    fn of(entry: &Entry) -> Self {
        let Entry { hash, method, length, descriptors, form, .. } = *entry;
        let both = entry.facility == Facility::Channel && entry.side != Side::Witness;
        let trace = both.then(|| entry.trace.map_or([0; TRACE], |it| it.to_bytes()));
        // Of a batch it is the first message's, which is sealed to the witness.
        let sealed = entry.side == Side::Witness && form == Form::Batch;
        Self { hash, method: (!sealed).then_some(method), length, descriptors, form, trace }
    }

    /// Whether the two agree in all that both can know.
    fn agrees(&self, other: &Self) -> bool {
        let method = self.method.and(other.method).is_none() || self.method == other.method;
        let trace = self.trace.and(other.trace).is_none() || self.trace == other.trace;
        let rest = |says: &Self| Self { method: None, trace: None, ..*says };
        method && trace && rest(self) == rest(other)
    }

    /// A few bits by which two differing ones are told apart.
    fn brief(&self) -> u64 {
        let hash = u64::from_le_bytes(self.hash[..8].try_into().unwrap_or_default());
        let method = u64::from(self.method.unwrap_or(0));
        let rest = method << 16 ^ self.length << 32 ^ self.length >> 32;
        hash ^ rest ^ u64::from(self.descriptors) << 8 ^ u64::from(self.form as u8)
    }
}

/// The bits that stand for the ends.
pub(super) const SENDER: u8 = 1;
pub(super) const RECEIVER: u8 = 2;
pub(super) const WITNESS: u8 = 4;

/// A message that waits for more reports of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Half {
    /// Which ends reported it, in bits.
    pub(super) sides: u8,
    /// Which of them differ from the first.
    pub(super) differ: u8,
    /// What the first of those says, in brief.
    other: u64,
    /// Whether the receiver refused it.
    pub(super) refused: bool,
    /// All that is known so far is that the receiver refused it.
    blank: bool,
    /// Whether a full queue gave it up in place of giving it to a receiver.
    pub(super) dropped: bool,
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
            dropped: false,
            record: record.index,
            since: record.at.monotonic,
            says: Says::of(entry),
        }
    }

    /// The receiver's report that it refuses a record, which it may not have been able to read.
    pub(super) fn refusal(record: &Record) -> Self {
        Self { sides: RECEIVER, refused: true, blank: true, ..Self::of(record) }
    }

    /// Whether it says no more than that the receiver refused the record.
    pub(super) fn is_refusal(&self) -> bool {
        self.blank && self.refused
    }

    /// Whether this and another end's report don't contradict each other.
    pub(super) fn fits(&self, other: &Self) -> bool {
        self.blank || other.blank || self.says.agrees(&other.says)
    }

    /// The broker's record of a message that a full queue gave up.
    pub(super) fn dropped(record: &Record) -> Self {
        Self { sides: RECEIVER, dropped: true, ..Self::of(record) }
    }

    /// Whether the sender alone reported it, too long ago.
    pub(super) fn sent_only(&self, now: u64, grace: u64) -> bool {
        self.sides == SENDER && now.saturating_sub(self.since) > grace
    }

    /// Bytes of the message, as the first one says.
    pub(super) fn length(&self) -> u64 {
        self.says.length
    }

    /// Whether the witness reported it.
    pub(super) fn is_witnessed(&self) -> bool {
        self.sides & WITNESS != 0
    }

    /// Takes the report of another end in.
    pub(super) fn join(&mut self, more: &Self) {
        // Who refuses a message may not have understood what it is; the broker knows its bytes.
        let brief = |half: &Self| half.refused || half.dropped;
        let alike = if self.blank || more.blank {
            true
        } else if brief(self) || brief(more) {
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
        } else if self.blank || more.sides == SENDER && brief(self) && !more.blank {
            self.says = more.says;
        }
        self.blank &= more.blank;
        if alike {
            self.says.method = self.says.method.or(more.says.method);
            self.says.trace = self.says.trace.or(more.says.trace);
        }
        self.sides |= more.sides;
        self.refused |= more.refused;
        self.dropped |= more.dropped;
    }

    /// Who says something else than the two others, who agree.
    pub(super) fn odd(&self) -> Option<Side> {
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
