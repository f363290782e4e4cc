//! A record in a segment: `head 16 | body | link 32 | payload`.
//!
//! ```text
//! head: crc32c u32 over all that follows but the payload, body length u32, payload length u32,
//!       flags u8, zero u8 * 3
//! ```
//!
//! The link is the chain's value after this record, so a break is found where it is. A payload
//! that was removed keeps its place, as zeros, with the flag [`REMOVED`].

use super::entry::{self, BODY, BodyError, MAX_DETAIL, MAX_PAYLOAD, Record};
use super::hash::{self, Hash};
use crate::wire::trace::TRACE;

/// Bytes of a frame's head.
pub const HEAD: usize = 16;
/// Bytes of the link after the body.
pub const LINK: usize = 32;
/// The flag of a record whose payload was removed.
pub const REMOVED: u8 = 1;

/// Why bytes are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The bytes end before the frame does: a torn write, or a cut.
    #[error("the record is not whole: {missing} bytes are missing")]
    Short {
        /// How many more bytes it would take, at least.
        missing: u64,
    },
    /// A length, a flag or a zero in the head is no frame's.
    #[error("the record's head is damaged")]
    Head,
    /// The checksum differs.
    #[error("the record's checksum differs: it is damaged")]
    Checksum,
    /// The body is none, though the checksum is right.
    #[error("the record was made with a wrong body: {0}")]
    Body(#[from] BodyError),
    /// The body names another payload length than the head.
    #[error("the record's body names another payload")]
    Payload,
}

/// A whole frame, of which the checksum was compared and the payload's digest was not.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// The record's body.
    pub body: &'a [u8],
    /// The chain's value after it.
    pub link: Hash,
    /// Bits: [`REMOVED`].
    pub flags: u8,
    /// The payload as it stands there.
    pub payload: &'a [u8],
}

/// What a payload is found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadState {
    /// There was none.
    None,
    /// It is there and is the one that the record names.
    There,
    /// It was removed wholly.
    Removed,
    /// The flag says that it was removed, but bytes of it are there.
    Leftover,
    /// It is another one.
    Altered,
}

/// Bytes of the frame whose head stands in front of `bytes`.
pub fn length(bytes: &[u8]) -> Result<usize, FrameError> {
    if bytes.len() < HEAD {
        return Err(FrameError::Short { missing: (HEAD - bytes.len()) as u64 });
    }
    let (body, payload) = (entry::u32_at(bytes, 4) as usize, entry::u32_at(bytes, 8) as usize);
    let sound = (BODY..=BODY + 32 + TRACE + MAX_DETAIL).contains(&body)
        && payload <= MAX_PAYLOAD
        && (bytes[12] == 0 || bytes[12] == REMOVED && payload > 0)
        && bytes[13..16] == [0; 3];
    if sound { Ok(HEAD + body + LINK + payload) } else { Err(FrameError::Head) }
}

/// Reads the frame in front of `bytes`.
pub fn parse(bytes: &[u8]) -> Result<Frame<'_>, FrameError> {
    let whole = length(bytes)?;
    let Some(frame) = bytes.get(..whole) else {
        return Err(FrameError::Short { missing: (whole - bytes.len()) as u64 });
    };
    let payload = entry::u32_at(frame, 8);
    let (sealed, payload_bytes) = frame.split_at(whole - payload as usize);
    if crc32c::crc32c(&sealed[4..]) != entry::u32_at(frame, 0) {
        return Err(FrameError::Checksum);
    }
    let (front, link) = sealed.split_at(sealed.len() - LINK);
    let body = &front[HEAD..];
    if entry::u32_at(body, 92) != payload {
        return Err(FrameError::Payload);
    }
    Ok(Frame { body, link: entry::hash_at(link, 0), flags: frame[12], payload: payload_bytes })
}

impl Frame<'_> {
    /// Bytes of the frame in its segment.
    pub fn length(&self) -> usize {
        HEAD + self.body.len() + LINK + self.payload.len()
    }

    /// What the body says.
    pub fn record(&self) -> Result<Record, FrameError> {
        Ok(entry::decode(self.body)?)
    }

    /// Compares the payload with the digest in the body.
    pub fn payload_state(&self) -> PayloadState {
        match (self.payload.is_empty(), self.flags == REMOVED) {
            (true, _) => PayloadState::None,
            (false, true) if self.payload.iter().all(|byte| *byte == 0) => PayloadState::Removed,
            (false, true) => PayloadState::Leftover,
            (false, false) if hash::payload(self.payload) == entry::hash_at(self.body, BODY) => {
                PayloadState::There
            }
            (false, false) => PayloadState::Altered,
        }
    }
}

/// Ends the frame whose 16 bytes of head and whose body stand in `out` from `start` on: appends
/// link and payload, and fills the head in.
pub fn seal(out: &mut Vec<u8>, start: usize, link: &Hash, payload: &[u8], flags: u8) {
    // Both lengths were checked against their limits, which are far below u32's.
    let body = u32::try_from(out.len() - start - HEAD).unwrap_or(u32::MAX);
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(link);
    out[start + 4..start + 8].copy_from_slice(&body.to_le_bytes());
    out[start + 8..start + 12].copy_from_slice(&length.to_le_bytes());
    out[start + 12] = flags;
    let crc = crc32c::crc32c(&out[start + 4..]);
    out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(payload);
}
