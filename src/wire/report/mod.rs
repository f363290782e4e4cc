//! What a layer says to the auditor of what it did, as bytes in a ring.
//!
//! ```text
//! what u8, side u8, verdict u8, facility u8, edge u16, descriptors u8, form u8, method u32,
//! value u32, number u64, reported u64, sequence u64, length u64, peer's layer u16, copy u16,
//! bytes of the trace u32, generation u64, bytes of the message u32, bytes of the detail u32
//! then the message as it went over the socket, or its hash; the trace, if there is one; the detail;
//! the payload
//! ```
//! All numbers are little-endian. The fields are those of a record of the log
//! (`docs/audit-format.md`, section 3). `number` counts a reporter's reports from 0, those
//! included that found no room.
//!
//! Nothing in a report says whose it is: that is known by the ring that it is in. Whoever reads
//! one reads a copy in memory of its own.

pub mod acts;
pub mod runs;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::trace::{TRACE, Trace};
use crate::ident::{Instance, Name};

/// Makes an enum of one byte, its numbers and its words.
macro_rules! numbered {
    ($(#[$doc:meta])* $name:ident { $($(#[$what:meta])* $variant:ident = $number:literal, $word:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[$what])* $variant = $number,)* }

        impl $name {
            /// All there are.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The one with that number.
            pub const fn from_byte(byte: u8) -> Option<Self> {
                match byte { $($number => Some(Self::$variant),)* _ => None }
            }

            /// The word for it in tables, filters and exports.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }
    };
}

pub(crate) use numbered;

numbered! {
    /// Which end reports.
    Side {
        /// Nobody's end.
        None = 0, "none";
        /// The end that sent.
        Sender = 1, "sender";
        /// The end that received.
        Receiver = 2, "receiver";
        /// The relay between the ends.
        Witness = 3, "witness";
        /// The supervisor.
        Supervisor = 4, "supervisor";
        /// A layer of the framework's own, of what it did or refused to do for another. The detail
        /// of its reports begins with whose act it is ([`Who::to_bytes`]).
        Helper = 5, "helper";
    }
}

numbered! {
    /// What became of an act.
    Verdict {
        /// It is not an act.
        None = 0, "none";
        /// A rule allowed it.
        Allowed = 1, "allowed";
        /// No rule allowed it, or one forbade it.
        Refused = 2, "refused";
        /// It was allowed, but it failed.
        Failed = 3, "failed";
        /// The one who did it was ended for it.
        Killed = 4, "killed";
    }
}

numbered! {
    /// What a message on a channel is: the kind of its record, as in
    /// [`wire::record`](crate::wire::record).
    Form {
        /// It is no message on a channel.
        None = 0, "none";
        /// A message that wants no answer.
        Message = 2, "message";
        /// A call.
        Request = 3, "request";
        /// The answer to a call.
        Reply = 4, "reply";
        /// A call that was declined.
        Refusal = 5, "refusal";
        /// Several messages in one record; the detail lists them.
        Batch = 6, "batch";
        /// A call that is called off.
        Cancel = 7, "cancel";
        /// A part of a stream that answers a call.
        Item = 8, "item";
        /// The end of such a stream.
        End = 9, "end";
        /// Room for more items of a stream.
        Credit = 10, "credit";
        /// A later piece of the message before.
        Piece = 11, "piece";
    }
}

numbered! {
    /// A kind of facility, whose numbers are places in the plan.
    Facility {
        /// No facility.
        None = 0, "none";
        /// A channel.
        Channel = 1, "channel";
        /// A listening address.
        Listen = 2, "listen";
        /// An outward connection.
        Connect = 3, "connect";
        /// A signal.
        Signal = 4, "signal";
        /// A file or directory.
        File = 5, "file";
        /// A message queue.
        Queue = 6, "queue";
        /// A pipe.
        Pipe = 7, "pipe";
        /// A named pipe.
        Fifo = 8, "fifo";
        /// A semaphore.
        Semaphore = 9, "semaphore";
        /// Shared memory.
        Region = 10, "region";
        /// A memory-mapped file.
        MappedFile = 11, "mapped-file";
        /// A system call.
        Syscall = 12, "syscall";
        /// A right that Landlock handles.
        Landlock = 13, "landlock";
    }
}

/// A running instance by numbers: the layer's place in the plan, the copy, the generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Who {
    /// The layer's place in the plan.
    pub layer: u16,
    /// Which copy, from 0.
    pub copy: u16,
    /// Which life, from 1.
    pub generation: u64,
}

impl Who {
    /// No instance.
    pub const NOBODY: Self = Self { layer: u16::MAX, copy: 0, generation: 0 };
    /// The supervisor.
    pub const SUPERVISOR: Self = Self { layer: u16::MAX - 1, copy: 0, generation: 0 };
    /// The auditor.
    pub const AUDITOR: Self = Self { layer: u16::MAX - 2, copy: 0, generation: 0 };

    /// Its bytes: the layer and the copy, a word of zeros between, the generation.
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&self.layer.to_le_bytes());
        bytes[2..4].copy_from_slice(&self.copy.to_le_bytes());
        bytes[8..].copy_from_slice(&self.generation.to_le_bytes());
        bytes
    }

    /// Back from bytes; `None` for any that [`to_bytes`](Self::to_bytes) doesn't write.
    pub fn from_bytes(bytes: &[u8; 16]) -> Option<Self> {
        let [l0, l1, c0, c1, 0, 0, 0, 0, generation @ ..] = bytes else { return None };
        Some(Self {
            layer: u16::from_le_bytes([*l0, *l1]),
            copy: u16::from_le_bytes([*c0, *c1]),
            generation: u64::from_le_bytes(*generation),
        })
    }

    /// The numbers of an instance, if its layer is among `layers`, the plan's in its order.
    pub fn of(layers: &[Name], instance: &Instance) -> Option<Self> {
        let layer = layers.iter().position(|layer| *layer == instance.layer)?;
        let layer = u16::try_from(layer).ok()?;
        Some(Self { layer, copy: instance.index, generation: instance.generation })
    }
}

/// The number of a link's first record in reports, where the witness of that generation relays it;
/// 0: none does.
///
/// A link ends with its witness, and the next one between the same two instances begins anew. So
/// that no report of the one is taken for one of the other, the upper 16 bits tell them apart.
pub const fn first_sequence(witness: u64) -> u64 {
    witness.saturating_sub(1) << LINK_SHIFT
}

/// Which link between two instances a sequence is of: the reverse of [`first_sequence`], from 0.
pub const fn link_of(sequence: u64) -> u64 {
    sequence >> LINK_SHIFT
}

/// The highest generation of a witness that [`first_sequence`] can tell from the others.
pub const MAX_WITNESS: u64 = 1 << (64 - LINK_SHIFT);

/// At a million records a second a link would have to last nine years to use these bits up.
const LINK_SHIFT: u32 = 48;

/// Bytes of a report before its message.
pub const HEAD: usize = size_of::<HeadBytes>();
/// Bytes of a report's trace, where it has one.
const TRACED: u32 = 32;
const _: () = assert!(TRACED as usize == TRACE);

/// Bytes of a message's hash.
pub const HASH: usize = 32;

/// The longest message that goes into a report whole, in bytes: whoever writes it only copies it,
/// and the auditor hashes it. Of a longer one the hash goes in; it is made at several times the
/// speed of a short one's, for BLAKE3 works on many KiB side by side.
pub const WHOLE: usize = 4096;

/// What a report says of one act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Which end reports.
    pub side: Side,
    /// What became of it.
    pub verdict: Verdict,
    /// The kind of the facility.
    pub facility: Facility,
    /// The facility's number in the plan.
    pub edge: u16,
    /// How many descriptors came along.
    pub descriptors: u8,
    /// What the message is, on a channel.
    pub form: Form,
    /// The method, act or signal.
    pub method: u32,
    /// A call's number, how many messages a batch has, a refusal's code.
    pub value: u32,
    /// The message's number on its edge, in its direction, between these two instances.
    pub sequence: u64,
    /// The message's length in bytes, or a count.
    pub length: u64,
    /// Who is at the other end.
    pub peer: Who,
    /// Which request it was done for, if that is known.
    pub trace: Option<Trace>,
}

impl Facts {
    /// A use of a facility that says nothing else yet.
    pub const fn new(facility: Facility, edge: u16, side: Side) -> Self {
        Self {
            side,
            verdict: Verdict::Allowed,
            facility,
            edge,
            descriptors: 0,
            form: Form::None,
            method: 0,
            value: 0,
            sequence: 0,
            length: 0,
            peer: Who::NOBODY,
            trace: None,
        }
    }
}

/// What of a message a report carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum What {
    /// Nothing.
    Bare = 1,
    /// Its BLAKE3 hash.
    Hash = 2,
    /// The message, for the auditor to hash.
    Message = 3,
    /// It is no message: `length` reports found no room.
    Loss = 4,
}

impl What {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Bare,
            2 => Self::Hash,
            3 => Self::Message,
            4 => Self::Loss,
            _ => return None,
        })
    }
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct HeadBytes {
    what: u8,
    side: u8,
    verdict: u8,
    facility: u8,
    edge: U16,
    descriptors: u8,
    form: u8,
    method: U32,
    value: U32,
    number: U64,
    reported: U64,
    sequence: U64,
    length: U64,
    layer: U16,
    copy: U16,
    trace: U32,
    generation: U64,
    message: U32,
    detail: U32,
}

/// A report's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// What of the message follows.
    pub what: What,
    /// What it says.
    pub facts: Facts,
    /// The report's number.
    pub number: u64,
    /// When it happened: `CLOCK_MONOTONIC`, nanoseconds.
    pub reported: u64,
    /// How many bytes of the message or its hash follow.
    pub message: u32,
    /// How many bytes of detail follow those.
    pub detail: u32,
}

impl Head {
    /// The head's bytes.
    pub fn encode(&self) -> [u8; HEAD] {
        let facts = &self.facts;
        let head = HeadBytes {
            what: self.what as u8,
            side: facts.side as u8,
            verdict: facts.verdict as u8,
            facility: facts.facility as u8,
            edge: facts.edge.into(),
            descriptors: facts.descriptors,
            form: facts.form as u8,
            method: facts.method.into(),
            value: facts.value.into(),
            number: self.number.into(),
            reported: self.reported.into(),
            sequence: facts.sequence.into(),
            length: facts.length.into(),
            layer: facts.peer.layer.into(),
            copy: facts.peer.copy.into(),
            trace: if facts.trace.is_some() { TRACED.into() } else { U32::ZERO },
            generation: facts.peer.generation.into(),
            message: self.message.into(),
            detail: self.detail.into(),
        };
        zerocopy::transmute!(head)
    }
}

/// A report, as its reader finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report<'a> {
    /// Its head.
    pub head: Head,
    /// The message, or its hash.
    pub message: &'a [u8],
    /// The detail.
    pub detail: &'a [u8],
    /// The payload.
    pub payload: &'a [u8],
}

impl<'a> Report<'a> {
    /// Reads a report; `None` for anything that no reporter writes.
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        let (head, rest) = HeadBytes::ref_from_prefix(bytes).ok()?;
        let what = What::from_byte(head.what)?;
        let (message, detail) = (head.message.get(), head.detail.get());
        let (bytes, rest) = rest.split_at_checked(usize::try_from(message).ok()?)?;
        let (trace, rest) = match head.trace.get() {
            0 => (None, rest),
            TRACED => {
                let (trace, rest) = rest.split_first_chunk()?;
                (Some(Trace::from_bytes(trace)?), rest)
            }
            _ => return None,
        };
        let facts = Facts {
            side: Side::from_byte(head.side)?,
            verdict: Verdict::from_byte(head.verdict)?,
            facility: Facility::from_byte(head.facility)?,
            edge: head.edge.get(),
            descriptors: head.descriptors,
            form: Form::from_byte(head.form)?,
            method: head.method.get(),
            value: head.value.get(),
            sequence: head.sequence.get(),
            length: head.length.get(),
            peer: Who {
                layer: head.layer.get(),
                copy: head.copy.get(),
                generation: head.generation.get(),
            },
            trace,
        };
        let sound = match what {
            What::Bare | What::Loss => message == 0,
            What::Hash => message == 32,
            What::Message => true,
        };
        let (number, reported) = (head.number.get(), head.reported.get());
        let head = Head { what, facts, number, reported, message, detail };
        let (detail, payload) = rest.split_at_checked(usize::try_from(detail).ok()?)?;
        sound.then_some(Self { head, message: bytes, detail, payload })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(what: What, message: u32, detail: u32) -> Head {
        let facts = Facts {
            verdict: Verdict::Refused,
            descriptors: 3,
            form: Form::Reply,
            method: 7,
            value: 1 << 20,
            sequence: 1 << 40,
            length: 9,
            peer: Who { layer: 2, copy: 1, generation: 1 << 33 },
            ..Facts::new(Facility::Pipe, 513, Side::Receiver)
        };
        Head { what, facts, number: 77, reported: 1 << 50, message, detail }
    }

    #[test]
    fn reads_back_what_was_written() {
        let head = head(What::Message, 3, 2);
        let bytes = [&head.encode()[..], b"msg", b"dt", b"payload"].concat();
        let expected = Report { head, message: b"msg", detail: b"dt", payload: b"payload" };
        assert_eq!(Report::decode(&bytes), Some(expected));

        let trace = Trace::new([5; 16], 6, 7);
        let head = Head { facts: Facts { trace, ..head.facts }, ..head };
        let trace = trace.unwrap().to_bytes();
        let bytes = [&head.encode()[..], b"msg", &trace, b"dt", b"payload"].concat();
        assert_eq!(Report::decode(&bytes), Some(Report { head, ..expected }));
        assert_eq!(Report::decode(&bytes[..HEAD + 3 + TRACE - 1]), None);
    }

    #[test]
    fn links_are_told_apart_by_their_numbers() {
        assert_eq!((first_sequence(0), first_sequence(1)), (0, 0));
        for witness in [1, 2, 700, MAX_WITNESS] {
            assert_eq!(link_of(first_sequence(witness)), witness - 1);
            assert_eq!(link_of(first_sequence(witness) + (1 << 47)), witness - 1);
        }
    }

    #[test]
    fn refuses_what_no_reporter_writes() {
        let whole = [&head(What::Hash, 32, 0).encode()[..], &[0; 32]].concat();
        assert!(Report::decode(&whole).is_some());
        assert!(Report::decode(&whole[..HEAD - 1]).is_none());
        assert!(Report::decode(&head(What::Hash, 31, 0).encode()).is_none());
        assert!(Report::decode(&head(What::Bare, 1, 0).encode()).is_none());
        assert!(Report::decode(&head(What::Message, u32::MAX, u32::MAX).encode()).is_none());
        for at in [0, 1, 2, 3, 7, 52] {
            let mut bytes = whole.clone();
            bytes[at] = 200;
            assert!(Report::decode(&bytes).is_none(), "byte {at}");
        }
    }
}
