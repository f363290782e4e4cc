//! A segment's header: where in the log its records stand.
//!
//! ```text
//! magic "cfdaudit", version u16, zero u16, crc32c u32 over the rest, log id 32, segment u64,
//! first record u64, link before it 32, roots of the tree before it: 32 * ones(first record)
//! ```
//!
//! The header is not signed: the next checkpoint is, and only the right link and roots lead to it.

use super::entry::{hash_at, u16_at, u32_at, u64_at};
use super::hash::Hash;
use super::tree::Frontier;

/// What every segment begins with.
pub const MAGIC: &[u8; 8] = b"cfdaudit";
/// The version of the format.
pub const VERSION: u16 = 1;
/// Bytes of a header without roots.
pub const FIXED: usize = 96;

/// A segment's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Which log it is of.
    pub log: Hash,
    /// The segment's number, from 0.
    pub number: u64,
    /// The chain before its first record.
    pub link: Hash,
    /// The tree before its first record, whose size is that record's number.
    pub before: Frontier,
}

/// Why bytes are not a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The file ends within it.
    #[error("the segment ends within its header")]
    Short,
    /// No segment, or of another version of the format.
    #[error("this is no segment of version {VERSION} of the format")]
    Version,
    /// The checksum differs.
    #[error("the segment's header is damaged")]
    Checksum,
}

impl Header {
    /// Bytes of the header of a segment that begins with record `first`.
    pub fn length(first: u64) -> usize {
        FIXED + 32 * first.count_ones() as usize
    }

    /// The header as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::length(self.before.size()));
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 6]);
        out.extend_from_slice(&self.log);
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.before.size().to_le_bytes());
        out.extend_from_slice(&self.link);
        self.before.roots().iter().for_each(|root| out.extend_from_slice(root));
        let crc = crc32c::crc32c(&out[16..]);
        out[12..16].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads the header in front of `bytes`.
    pub fn parse(bytes: &[u8]) -> Result<Self, HeaderError> {
        let fixed = bytes.get(..FIXED).ok_or(HeaderError::Short)?;
        if fixed[..8] != *MAGIC || u16_at(fixed, 8) != VERSION || u16_at(fixed, 10) != 0 {
            return Err(HeaderError::Version);
        }
        let first = u64_at(fixed, 56);
        let whole = bytes.get(..Self::length(first)).ok_or(HeaderError::Short)?;
        if crc32c::crc32c(&whole[16..]) != u32_at(fixed, 12) {
            return Err(HeaderError::Checksum);
        }
        let roots = whole[FIXED..].chunks_exact(32).map(|root| hash_at(root, 0)).collect();
        let before = Frontier::from_parts(first, roots).ok_or(HeaderError::Checksum)?;
        Ok(Self {
            log: hash_at(fixed, 16),
            number: u64_at(fixed, 48),
            link: hash_at(fixed, 64),
            before,
        })
    }
}
