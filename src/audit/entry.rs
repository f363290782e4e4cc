//! What a record says: its body, of 128 bytes and what hangs on them.
//!
//! Everything is named by its number in the plan; [`tables`](super::tables) says what the numbers
//! mean. The layout stands in `docs/audit-format.md`, section 3. Each entry has one encoding.

use super::hash::Hash;
use crate::wire::report::numbered;
pub use crate::wire::report::{Facility, Form, Side, Verdict, Who};
use crate::wire::trace::TRACE;
pub use crate::wire::trace::Trace;

/// Bytes of a body without payload digest, trace and detail.
pub const BODY: usize = 128;
/// The bit beside the side that says that there is a trace.
const TRACED: u8 = 128;
/// The longest detail, in bytes: room for a large policy.
pub const MAX_DETAIL: usize = 4 << 20;
/// The longest payload, in bytes: a message of 16 MiB, sealed.
pub const MAX_PAYLOAD: usize = (16 << 20) + 256;

numbered! {
    /// What a record is about. Which fields each kind uses stands in `docs/audit-format.md`.
    Kind {
        /// The auditor began; `length` is how many bytes were cut from a torn end.
        Start = 1, "start";
        /// The auditor ended in order.
        Stop = 2, "stop";
        /// The policy and its names; the detail is a [`Tables`](super::tables::Tables).
        Policy = 3, "policy";
        /// A layer's instance was started.
        Spawn = 4, "spawn";
        /// What the kernel enforces on an instance; the detail is the receipt in words.
        Receipt = 5, "receipt";
        /// An instance ended; `value` is its wait status.
        Exit = 6, "exit";
        /// The broker answered a request: `method` is the act, `value` the refusal.
        Broker = 7, "broker";
        /// One end of a facility reports a message or another use.
        Use = 8, "use";
        /// The kernel refused a layer: `method` is the system call, or the Landlock right.
        Denial = 9, "denial";
        /// `length` reports of `reporter` were lost, on `edge` or, without one, on all.
        Loss = 10, "loss";
        /// Something is wrong; the detail says what.
        Alarm = 11, "alarm";
        /// The clock jumped: `length` nanoseconds forward, or back if `value` is 1.
        ClockJump = 12, "clock-jump";
        /// Old segments were dropped: before segment `value`, record `sequence`.
        Retained = 13, "retained";
        /// The payload of record `sequence` is to be removed: `value` is the user who asked, the
        /// detail says why.
        Redacted = 14, "redacted";
        /// The log has the first `sequence` reports of `reporter`.
        Progress = 15, "progress";
        /// For `length` nanoseconds the auditor took no reports, so those behind this came late
        /// through no fault of their reporters'. The detail says why.
        Held = 16, "held";
        /// Somebody outside asked the daemon for something; the detail says what and who.
        Command = 17, "command";
    }
}

/// A moment by both clocks, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// `CLOCK_REALTIME`: since 1970, and may jump.
    pub real: u64,
    /// `CLOCK_MONOTONIC`: since the machine started, and never goes back.
    pub monotonic: u64,
}

/// What one record says. Fields that a kind doesn't use have their [`Entry::new`] values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is about.
    pub kind: Kind,
    /// Which end reports it.
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
    /// The rule that decided, by its place in [`Tables::rules`](super::tables::Tables);
    /// [`Entry::NO_RULE`] if none did.
    pub rule: u32,
    /// The method, act, signal or system call.
    pub method: u32,
    /// When the reporter says that it happened: `CLOCK_MONOTONIC`, nanoseconds.
    pub reported: u64,
    /// The message's number on its edge, in its direction, in this pair of generations.
    pub sequence: u64,
    /// The message's length in bytes, or a count.
    pub length: u64,
    /// Who reports.
    pub reporter: Who,
    /// Who is at the other end.
    pub peer: Who,
    /// A call's number, how many messages a batch has, a refusal's code, a wait status.
    pub value: u32,
    /// The hash of the message's header and ciphertext.
    pub hash: Hash,
    /// Which request it was done for, as the reporter says.
    pub trace: Option<Trace>,
    /// Text, or what else the kind says. At most [`MAX_DETAIL`] bytes.
    pub detail: Vec<u8>,
}

impl Entry {
    /// In place of a rule: none.
    pub const NO_RULE: u32 = u32::MAX;

    /// An entry that says nothing but its kind.
    pub const fn new(kind: Kind) -> Self {
        Self {
            kind,
            side: Side::None,
            verdict: Verdict::None,
            facility: Facility::None,
            edge: 0,
            descriptors: 0,
            form: Form::None,
            rule: Self::NO_RULE,
            method: 0,
            reported: 0,
            sequence: 0,
            length: 0,
            reporter: Who::NOBODY,
            peer: Who::NOBODY,
            value: 0,
            hash: [0; 32],
            trace: None,
            detail: Vec::new(),
        }
    }
}

/// What a payload leaves in a record's body: all that remains of it once it is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayloadMark {
    /// Its length in bytes, from 1.
    pub length: u32,
    /// Its [digest](super::hash::payload).
    pub digest: Hash,
}

/// A record: an entry with its place and time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its number in the log, from 0.
    pub index: u64,
    /// When the log took it.
    pub at: Moment,
    /// What it says.
    pub entry: Entry,
    /// The payload beside it.
    pub payload: Option<PayloadMark>,
}

/// Writes a record's body at the end of `out`.
pub fn encode(
    index: u64,
    at: Moment,
    entry: &Entry,
    payload: Option<PayloadMark>,
    out: &mut Vec<u8>,
) {
    let mut head = [0_u8; BODY];
    head[0] = entry.kind as u8;
    head[1] = entry.side as u8 | if entry.trace.is_some() { TRACED } else { 0 };
    head[2] = entry.verdict as u8;
    head[3] = entry.facility as u8;
    head[4..6].copy_from_slice(&entry.edge.to_le_bytes());
    head[6] = entry.descriptors;
    head[7] = entry.form as u8;
    head[8..12].copy_from_slice(&entry.rule.to_le_bytes());
    head[12..16].copy_from_slice(&entry.method.to_le_bytes());
    let longs = [index, at.real, at.monotonic, entry.reported, entry.sequence, entry.length];
    for (place, long) in head[16..64].chunks_exact_mut(8).zip(longs) {
        place.copy_from_slice(&long.to_le_bytes());
    }
    let shorts = [entry.reporter.layer, entry.reporter.copy, entry.peer.layer, entry.peer.copy];
    for (place, short) in head[64..72].chunks_exact_mut(2).zip(shorts) {
        place.copy_from_slice(&short.to_le_bytes());
    }
    head[72..80].copy_from_slice(&entry.reporter.generation.to_le_bytes());
    head[80..88].copy_from_slice(&entry.peer.generation.to_le_bytes());
    head[88..92].copy_from_slice(&entry.value.to_le_bytes());
    head[92..96].copy_from_slice(&payload.map_or(0, |mark| mark.length).to_le_bytes());
    head[96..128].copy_from_slice(&entry.hash);
    out.extend_from_slice(&head);
    if let Some(mark) = payload {
        out.extend_from_slice(&mark.digest);
    }
    if let Some(trace) = &entry.trace {
        out.extend_from_slice(&trace.to_bytes());
    }
    out.extend_from_slice(&entry.detail);
}

/// Why bytes are not a record's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Shorter or longer than any body.
    #[error("a body of {0} bytes is shorter or longer than any")]
    Length(usize),
    /// An unknown number in one of the bytes that stand for kind, side, verdict, facility or form.
    #[error("byte {0} of the body holds an unknown number")]
    Number(u8),
    /// It is said to have a trace, and that is none.
    #[error("the trace in the body is all zeros")]
    Trace,
}

fn bytes<const N: usize>(body: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    if let Some(from) = body.get(at..at + N) {
        out.copy_from_slice(from);
    }
    out
}

pub(super) fn u16_at(body: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes(body, at))
}

pub(super) fn u32_at(body: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes(body, at))
}

pub(super) fn u64_at(body: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes(body, at))
}

pub(super) fn hash_at(body: &[u8], at: usize) -> Hash {
    bytes(body, at)
}

/// Reads a record's body. What it accepts, [`encode`] writes to the same bytes.
pub fn decode(body: &[u8]) -> Result<Record, BodyError> {
    let length = BodyError::Length(body.len());
    if body.len() < BODY {
        return Err(length);
    }
    let kind = Kind::from_byte(body[0]).ok_or(BodyError::Number(0))?;
    let side = Side::from_byte(body[1] & !TRACED).ok_or(BodyError::Number(1))?;
    let verdict = Verdict::from_byte(body[2]).ok_or(BodyError::Number(2))?;
    let facility = Facility::from_byte(body[3]).ok_or(BodyError::Number(3))?;
    let form = Form::from_byte(body[7]).ok_or(BodyError::Number(7))?;
    let (payload, detail) = match u32_at(body, 92) {
        0 => (None, BODY),
        _ if body.len() < BODY + 32 => return Err(length),
        length => (Some(PayloadMark { length, digest: hash_at(body, BODY) }), BODY + 32),
    };
    let (trace, detail) = match body.get(detail..).and_then(<[u8]>::first_chunk) {
        _ if body[1] & TRACED == 0 => (None, detail),
        None => return Err(length),
        Some(trace) => {
            let trace = Trace::from_bytes(trace).ok_or(BodyError::Trace)?;
            (Some(trace), detail + TRACE)
        }
    };
    if body.len() - detail > MAX_DETAIL {
        return Err(length);
    }
    let who = |at, generation| Who {
        layer: u16_at(body, at),
        copy: u16_at(body, at + 2),
        generation: u64_at(body, generation),
    };
    Ok(Record {
        index: u64_at(body, 16),
        at: Moment { real: u64_at(body, 24), monotonic: u64_at(body, 32) },
        entry: Entry {
            kind,
            side,
            verdict,
            facility,
            edge: u16_at(body, 4),
            descriptors: body[6],
            form,
            rule: u32_at(body, 8),
            method: u32_at(body, 12),
            reported: u64_at(body, 40),
            sequence: u64_at(body, 48),
            length: u64_at(body, 56),
            reporter: who(64, 72),
            peer: who(68, 80),
            value: u32_at(body, 88),
            hash: hash_at(body, 96),
            trace,
            detail: body[detail..].to_vec(),
        },
        payload,
    })
}
