//! The record: one sealed datagram on a channel.
//!
//! ```text
//! header, 16 bytes, clear, authenticated:
//!     version u8, kind u8, method u16, descriptors u8, flags u8, reserved u16 = 0, sequence u64
//! body, sealed:
//!     lone message: call u32, [total u32 if it has more pieces,] [within u32 if it is a request,]
//!                   [trace 32 bytes if flagged,] a description for each descriptor, payload
//!     later piece:  payload
//!     batch:        frames of {kind u8, flags u8, method u16, call u32, length u32,
//!                   [within u32 if it is a request,] [trace 32 bytes if flagged,] payload}
//! tag, 16 bytes
//! ```
//!
//! `within` is how many milliseconds the caller waits for the answer, counted from when it sends;
//! 0 is for ever. A credit's payload is how many more items may come, u32 and not 0; a cancel and
//! an end have none. A request or message says which [trace](super::trace) it belongs to, if its
//! sender knows.
//!
//! All numbers are little-endian. A decoder here refuses everything that an encoder here would
//! not have written, so each record has one meaning and one encoding.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub use super::limits::{DESCRIPTOR, HEADER, WITHIN};
use super::limits::{MESSAGE, PAYLOAD};
pub use super::trace::TRACE;
use super::trace::Trace;
use crate::policy::plan::DescriptorPlan;
pub use crate::seal::handshake::VERSION;

/// Bytes of a frame's head in a batch.
pub const FRAME: usize = size_of::<FrameHead>();
const _: () = assert!(size_of::<Header>() == HEADER);
const _: () = assert!(size_of::<U32>() == WITHIN);
const _: () = assert!(size_of::<Descriptor>() == DESCRIPTOR);
/// A flag: more pieces of the same message follow.
pub const MORE: u8 = 1;
/// A flag, also of a frame: the body says which trace the message belongs to.
pub const TRACED: u8 = 2;

/// What a record or frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A handshake message; the one kind that is not sealed as records are.
    Handshake = 1,
    /// A message that wants no answer.
    Message = 2,
    /// A call.
    Request = 3,
    /// The answer to a call.
    Reply = 4,
    /// A call that the other end declined, with the reason as text.
    Refusal = 5,
    /// Several of the others, which carry no descriptors, in one record.
    Batch = 6,
    /// The caller wants no answer any more. An answer still ends the call.
    Cancel = 7,
    /// One message of a stream that answers a call.
    Item = 8,
    /// The end of such a stream.
    End = 9,
    /// The caller has room for more items of a stream.
    Credit = 10,
}

impl Kind {
    fn from_byte(byte: u8) -> Result<Self, WireError> {
        Ok(match byte {
            1 => Self::Handshake,
            2 => Self::Message,
            3 => Self::Request,
            4 => Self::Reply,
            5 => Self::Refusal,
            6 => Self::Batch,
            7 => Self::Cancel,
            8 => Self::Item,
            9 => Self::End,
            10 => Self::Credit,
            other => return Err(WireError::Kind(other)),
        })
    }

    /// Whether it is so short that it neither carries descriptors nor comes in pieces.
    fn is_short(self) -> bool {
        matches!(self, Self::Refusal | Self::Cancel | Self::End | Self::Credit)
    }

    /// Whether it can say which trace it belongs to.
    fn is_traceable(self) -> bool {
        matches!(self, Self::Message | Self::Request)
    }

    /// Whether its payload can be one. Limits by method are the endpoint's business.
    fn check_payload(self, payload: &[u8]) -> Result<(), WireError> {
        match self {
            Self::Cancel | Self::End if !payload.is_empty() => Err(WireError::Length),
            Self::Credit if payload.len() != 4 || payload == [0; 4] => Err(WireError::Length),
            _ => Ok(()),
        }
    }
}

/// Why bytes are not a record. Each of these is the sender's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Too short to hold what it must.
    #[error("a record is cut short")]
    Short,
    /// Longer than any record.
    #[error("a record is longer than the limit")]
    Long,
    /// Another version of the protocol.
    #[error("protocol version {0} is not {VERSION}")]
    Version(u8),
    /// An unknown kind.
    #[error("record kind {0} is unknown")]
    Kind(u8),
    /// A kind that has no place here.
    #[error("a record of kind {0:?} has no place here")]
    Misplaced(Kind),
    /// Unknown flags, or a flag where it has no meaning.
    #[error("record flags {0:#04x} are unknown or misplaced")]
    Flags(u8),
    /// Reserved bits that are not zero.
    #[error("reserved bits are set")]
    Reserved,
    /// More descriptors than any plan allows, or some where there can be none.
    #[error("a record announces {0} descriptors where that many can't be")]
    Descriptors(u8),
    /// A method in a header that has none.
    #[error("a record of a kind without a method names method {0}")]
    Method(u16),
    /// Not the next sequence number.
    #[error("record {got} came where {expected} was due")]
    Sequence {
        /// What came.
        got: u64,
        /// What was due.
        expected: u64,
    },
    /// A trace of zeros, which is none.
    #[error("a trace in a record is all zeros")]
    Trace,
    /// A length inside that disagrees with the record's own, or passes a limit.
    #[error("a length inside a record is wrong")]
    Length,
}

/// A header as its bytes lie.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    version: u8,
    kind: u8,
    method: U16,
    descriptors: u8,
    flags: u8,
    reserved: U16,
    sequence: U64,
}

/// What a header says, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// What the record is.
    pub kind: Kind,
    /// The method's number in the plan; 0 where there is none.
    pub method: u16,
    /// How many descriptors come along.
    pub descriptors: u8,
    /// Whether more pieces of this message follow.
    pub more: bool,
    /// Whether it says which trace it belongs to.
    pub traced: bool,
    /// The record's number in its direction.
    pub sequence: u64,
}

impl Head {
    /// The head of a record that carries neither descriptors nor a method.
    pub const fn bare(kind: Kind, sequence: u64) -> Self {
        Self { kind, method: 0, descriptors: 0, more: false, traced: false, sequence }
    }

    /// The header's bytes.
    pub fn encode(self) -> [u8; HEADER] {
        let header = Header {
            version: VERSION,
            kind: self.kind as u8,
            method: self.method.into(),
            descriptors: self.descriptors,
            flags: if self.more { MORE } else { 0 } | if self.traced { TRACED } else { 0 },
            reserved: U16::ZERO,
            sequence: self.sequence.into(),
        };
        zerocopy::transmute!(header)
    }

    /// Reads the header at the start of `record`.
    pub fn decode(record: &[u8]) -> Result<Self, WireError> {
        let (header, _) = Header::ref_from_prefix(record).map_err(|_| WireError::Short)?;
        if header.version != VERSION {
            return Err(WireError::Version(header.version));
        }
        let kind = Kind::from_byte(header.kind)?;
        if header.flags & !(MORE | TRACED) != 0 {
            return Err(WireError::Flags(header.flags));
        }
        if header.reserved != U16::ZERO {
            return Err(WireError::Reserved);
        }
        let head = Self {
            kind,
            method: header.method.get(),
            descriptors: header.descriptors,
            more: header.flags & MORE != 0,
            traced: header.flags & TRACED != 0,
            sequence: header.sequence.get(),
        };
        head.check()
    }

    /// What no sender writes: descriptors, methods or pieces of kinds that have none.
    fn check(self) -> Result<Self, WireError> {
        let bare = matches!(self.kind, Kind::Handshake | Kind::Batch);
        if self.descriptors > DescriptorPlan::MAX
            || (self.descriptors != 0 && (bare || self.kind.is_short()))
        {
            return Err(WireError::Descriptors(self.descriptors));
        }
        if bare && self.method != 0 {
            return Err(WireError::Method(self.method));
        }
        if self.more && (bare || self.kind.is_short()) {
            return Err(WireError::Flags(MORE));
        }
        if self.traced && !self.kind.is_traceable() {
            return Err(WireError::Flags(TRACED));
        }
        Ok(self)
    }
}

/// A description of one descriptor, sealed in the body of the message that carries it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Descriptor {
    /// `st_dev`.
    pub device: U64,
    /// `st_ino`.
    pub inode: U64,
    /// The [`DescriptorKind`](crate::policy::plan::DescriptorKind), by its place there.
    pub kind: u8,
    /// `O_RDONLY`, `O_WRONLY` or `O_RDWR`.
    pub access: u8,
    /// Zero.
    pub reserved: U16,
    /// `F_GET_SEALS`, or 0 for what has no seals.
    pub seals: U32,
}

/// The start of a message: what comes before its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening<'a> {
    /// The call's number; 0 for a message.
    pub call: u32,
    /// Bytes of the whole message, when more pieces follow.
    pub total: Option<u32>,
    /// Milliseconds that the caller waits, 0 for ever; 0 too for what is no request.
    pub within: u32,
    /// The trace that it belongs to, if its head says that there is one.
    pub trace: Option<Trace>,
    /// The descriptions.
    pub descriptors: &'a [Descriptor],
    /// The payload, or its first piece.
    pub payload: &'a [u8],
}

impl<'a> Opening<'a> {
    /// Reads the body of a record that begins a message.
    pub fn decode(head: Head, body: &'a [u8]) -> Result<Self, WireError> {
        let (call, rest) = U32::read_from_prefix(body).map_err(|_| WireError::Short)?;
        let (total, rest) = if head.more {
            let (total, rest) = U32::read_from_prefix(rest).map_err(|_| WireError::Short)?;
            (Some(total.get()), rest)
        } else {
            (None, rest)
        };
        let (within, rest) = take_within(head.kind, rest)?;
        let (trace, rest) = take_trace(head.traced, rest)?;
        let (descriptors, payload) =
            <[Descriptor]>::ref_from_prefix_with_elems(rest, usize::from(head.descriptors))
                .map_err(|_| WireError::Short)?;
        if descriptors.iter().any(|one| one.reserved != U16::ZERO) {
            return Err(WireError::Reserved);
        }
        // A message in pieces fills every record but the last one, so there is one way to cut it.
        let whole = match total {
            Some(total) => total as usize <= MESSAGE && total as usize > payload.len(),
            None => true,
        };
        let full = payload.len() == PAYLOAD || !head.more;
        if !whole || !full || payload.len() > PAYLOAD {
            return Err(WireError::Length);
        }
        head.kind.check_payload(payload)?;
        let call = check_call(head.kind, call.get())?;
        Ok(Self { call, total, within, trace, descriptors, payload })
    }

    /// Appends it to `body`, as the beginning of a record of this kind.
    pub fn encode(&self, kind: Kind, body: &mut Vec<u8>) {
        body.extend_from_slice(&self.call.to_le_bytes());
        if let Some(total) = self.total {
            body.extend_from_slice(&total.to_le_bytes());
        }
        put_within(kind, self.within, body);
        put_trace(self.trace, body);
        body.extend_from_slice(self.descriptors.as_bytes());
        body.extend_from_slice(self.payload);
    }
}

/// The trace that a record's body names, if its head says that there is one.
pub fn trace_of(head: &Head, body: &[u8]) -> Option<Trace> {
    let call_and_total = if head.more { 8 } else { 4 };
    let within = if head.kind == Kind::Request { WITHIN } else { 0 };
    let (trace, _) = take_trace(head.traced, body.get(call_and_total + within..)?).ok()?;
    trace
}

/// A frame's head in a batch, as its bytes lie.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct FrameHead {
    kind: u8,
    flags: u8,
    method: U16,
    call: U32,
    length: U32,
}

/// One message in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it is: anything but a handshake or a batch.
    pub kind: Kind,
    /// The method's number.
    pub method: u16,
    /// The call's number; 0 for a message.
    pub call: u32,
    /// Milliseconds that the caller waits, 0 for ever; 0 too for what is no request.
    pub within: u32,
    /// The trace that it belongs to.
    pub trace: Option<Trace>,
    /// The payload.
    pub payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Appends the frame to the body of a batch.
    pub fn encode(&self, body: &mut Vec<u8>) {
        let head = FrameHead {
            kind: self.kind as u8,
            flags: if self.trace.is_some() { TRACED } else { 0 },
            method: self.method.into(),
            call: self.call.into(),
            // Payloads in frames are bounded by `limits::SHARED_PAYLOAD`.
            length: u32::try_from(self.payload.len()).unwrap_or(u32::MAX).into(),
        };
        body.extend_from_slice(head.as_bytes());
        put_within(self.kind, self.within, body);
        put_trace(self.trace, body);
        body.extend_from_slice(self.payload);
    }

    /// Takes the next frame from the front of `rest`.
    pub fn decode(rest: &mut &'a [u8]) -> Result<Self, WireError> {
        let (head, after) = FrameHead::ref_from_prefix(rest).map_err(|_| WireError::Short)?;
        let kind = Kind::from_byte(head.kind)?;
        if matches!(kind, Kind::Handshake | Kind::Batch) {
            return Err(WireError::Misplaced(kind));
        }
        let traced = head.flags == TRACED;
        if head.flags != 0 && !(traced && kind.is_traceable()) {
            return Err(WireError::Flags(head.flags));
        }
        let length = usize::try_from(head.length.get()).map_err(|_| WireError::Length)?;
        let (within, after) = take_within(kind, after)?;
        let (trace, after) = take_trace(traced, after)?;
        let (payload, after) = after.split_at_checked(length).ok_or(WireError::Length)?;
        kind.check_payload(payload)?;
        *rest = after;
        let call = check_call(kind, head.call.get())?;
        Ok(Self { kind, method: head.method.get(), call, within, trace, payload })
    }
}

/// Reads how long a caller waits, which only requests say.
fn take_within(kind: Kind, bytes: &[u8]) -> Result<(u32, &[u8]), WireError> {
    if kind != Kind::Request {
        return Ok((0, bytes));
    }
    let (within, rest) = U32::read_from_prefix(bytes).map_err(|_| WireError::Short)?;
    Ok((within.get(), rest))
}

fn put_within(kind: Kind, within: u32, body: &mut Vec<u8>) {
    if kind == Kind::Request {
        body.extend_from_slice(&within.to_le_bytes());
    }
}

fn take_trace(traced: bool, bytes: &[u8]) -> Result<(Option<Trace>, &[u8]), WireError> {
    if !traced {
        return Ok((None, bytes));
    }
    let (trace, rest) = bytes.split_first_chunk().ok_or(WireError::Short)?;
    let trace = Trace::from_bytes(trace).ok_or(WireError::Trace)?;
    Ok((Some(trace), rest))
}

fn put_trace(trace: Option<Trace>, body: &mut Vec<u8>) {
    if let Some(trace) = trace {
        body.extend_from_slice(&trace.to_bytes());
    }
}

/// Messages have no call number, everything else has one.
fn check_call(kind: Kind, call: u32) -> Result<u32, WireError> {
    if (kind == Kind::Message) == (call == 0) { Ok(call) } else { Err(WireError::Length) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head() -> Head {
        Head {
            kind: Kind::Request,
            method: 7,
            descriptors: 2,
            more: false,
            traced: false,
            sequence: 9,
        }
    }

    #[test]
    fn a_header_lies_as_documented() {
        let bytes = head().encode();
        assert_eq!(bytes, [3, 3, 7, 0, 2, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Head::decode(&bytes), Ok(head()));
    }

    #[test]
    fn unknown_versions_kinds_flags_and_reserved_bits_are_refused() {
        let with = |place: usize, byte: u8| {
            let mut bytes = head().encode();
            bytes[place] = byte;
            Head::decode(&bytes)
        };
        assert_eq!(with(0, 1), Err(WireError::Version(1)));
        assert_eq!(with(1, 0), Err(WireError::Kind(0)));
        assert_eq!(with(1, 11), Err(WireError::Kind(11)));
        assert_eq!(with(1, 7), Err(WireError::Descriptors(2)));
        assert_eq!(with(5, 4), Err(WireError::Flags(4)));
        assert_eq!(with(5, 2), Ok(Head { traced: true, ..head() }));
        let reply = Head { kind: Kind::Reply, traced: true, ..head() };
        assert_eq!(Head::decode(&reply.encode()), Err(WireError::Flags(2)));
        assert_eq!(with(6, 1), Err(WireError::Reserved));
        assert_eq!(with(7, 1), Err(WireError::Reserved));
        assert_eq!(with(4, 17), Err(WireError::Descriptors(17)));
        assert_eq!(Head::decode(&head().encode()[..15]), Err(WireError::Short));
    }

    #[test]
    fn a_piece_must_fill_its_record_and_leave_some_for_the_next() {
        let head = Head { descriptors: 0, more: true, ..head() };
        let mut body = Vec::new();
        let opening = Opening {
            call: 1,
            total: Some(70_000),
            within: 9,
            trace: None,
            descriptors: &[],
            payload: &[],
        };
        opening.encode(head.kind, &mut body);
        body.resize(8 + WITHIN + PAYLOAD, 0);
        assert_eq!(Opening::decode(head, &body).unwrap().within, 9);
        assert_eq!(Opening::decode(head, &body).unwrap().total, Some(70_000));
        assert_eq!(Opening::decode(head, &body[..100]), Err(WireError::Length));
        body[4..8].copy_from_slice(&65_536_u32.to_le_bytes());
        assert_eq!(Opening::decode(head, &body), Err(WireError::Length));
        body[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(Opening::decode(head, &body), Err(WireError::Length));
    }

    #[test]
    fn frames_come_back_in_order() {
        let mut body = Vec::new();
        let first = Frame {
            kind: Kind::Message,
            method: 1,
            call: 0,
            within: 0,
            trace: None,
            payload: b"one",
        };
        let second = Frame {
            trace: Trace::new([1; 16], 2, 0),
            kind: Kind::Request,
            method: 2,
            call: 5,
            within: 7,
            payload: b"",
        };
        first.encode(&mut body);
        second.encode(&mut body);
        let mut rest = body.as_slice();
        assert_eq!(Frame::decode(&mut rest), Ok(first));
        assert_eq!(Frame::decode(&mut rest), Ok(second));
        assert!(rest.is_empty());
        assert_eq!(Frame::decode(&mut &body[..14]), Err(WireError::Length));
        assert_eq!(Frame::decode(&mut &body[15..50]), Err(WireError::Short));
        body[16] = 4;
        assert_eq!(Frame::decode(&mut &body[15..]), Err(WireError::Flags(4)));
        body[15..17].copy_from_slice(&[Kind::Reply as u8, TRACED]);
        assert_eq!(Frame::decode(&mut &body[15..]), Err(WireError::Flags(2)));
    }

    #[test]
    fn what_steers_a_call_has_its_one_payload_and_no_other() {
        let read = |kind, payload: &[u8]| {
            let mut body = Vec::new();
            Frame { kind, method: 1, call: 3, within: 0, trace: None, payload }.encode(&mut body);
            Frame::decode(&mut body.as_slice()).map(|frame| frame.payload.len())
        };
        for kind in [Kind::Cancel, Kind::End] {
            assert_eq!((read(kind, b""), read(kind, b"x")), (Ok(0), Err(WireError::Length)));
        }
        assert_eq!(read(Kind::Credit, &[1, 0, 0, 0]), Ok(4));
        for wrong in [&[0; 4][..], &[1; 3], &[1; 5], b""] {
            assert_eq!(read(Kind::Credit, wrong), Err(WireError::Length));
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_decode_to_what_encodes_to_them(bytes: Vec<u8>) {
            if let Ok(head) = Head::decode(&bytes) {
                prop_assert_eq!(&head.encode()[..], &bytes[..HEADER]);
                let body = &bytes[HEADER..];
                if let Ok(opening) = Opening::decode(head, body) {
                    let mut again = Vec::new();
                    opening.encode(head.kind, &mut again);
                    prop_assert_eq!(&again[..], body);
                }
            }
            let mut rest = bytes.as_slice();
            while let Ok(frame) = Frame::decode(&mut rest) {
                prop_assert!(frame.payload.len() <= bytes.len());
            }
        }
    }
}
