//! What a message looks like in a queue: a clear header, the sealed body, its tag.
//!
//! Priorities reorder, so a message's number travels with it. The header is authenticated with the
//! body; until that has been checked it is what somebody claims.

use crate::seal::aead::TAG;

/// Bytes of the header.
pub const HEADER: usize = 24;

/// What sealing adds to a message, in bytes.
pub const SEALING: usize = HEADER + TAG;

/// The largest generation and so the last life of a sender: 2^48 - 1.
pub const LAST_GENERATION: u64 = (1 << 48) - 1;

/// The form of messages that this library writes and reads.
const VERSION: u8 = 1;

/// The header of a message in a queue.
///
/// | bytes | what |
/// |---|---|
/// | 0 | version |
/// | 1 | priority |
/// | 2-3 | the sender's layer: its place in the queue's list of senders |
/// | 4-7 | the epoch of the key |
/// | 8-9 | which copy of the layer |
/// | 10-15 | in which life |
/// | 16-23 | the message's number: each sender counts its own, whatever the priority |
///
/// All numbers are little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The priority that it was sent with.
    pub priority: u8,
    /// Who sent it.
    pub sender: Sender,
    /// Which of the queue's keys sealed it.
    pub epoch: u32,
    /// Its number among the sender's messages.
    pub number: u64,
}

/// A sender, by numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sender {
    /// The layer's place in the queue's list of senders.
    pub layer: u16,
    /// Which copy, from 0.
    pub index: u16,
    /// Which life of that copy, from 1; at most [`LAST_GENERATION`].
    pub generation: u64,
}

impl Header {
    /// The header's bytes.
    pub fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[0] = VERSION;
        bytes[1] = self.priority;
        bytes[2..4].copy_from_slice(&self.sender.layer.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[8..10].copy_from_slice(&self.sender.index.to_le_bytes());
        bytes[10..16].copy_from_slice(&self.sender.generation.to_le_bytes()[..6]);
        bytes[16..].copy_from_slice(&self.number.to_le_bytes());
        bytes
    }

    /// Reads a header; `None` if it is of another version.
    pub fn decode(bytes: &[u8; HEADER]) -> Option<Self> {
        let [version, priority, l0, l1, e0, e1, e2, e3, i0, i1, rest @ ..] = *bytes;
        let [g0, g1, g2, g3, g4, g5, number @ ..] = rest;
        (version == VERSION).then_some(Self {
            priority,
            sender: Sender {
                layer: u16::from_le_bytes([l0, l1]),
                index: u16::from_le_bytes([i0, i1]),
                generation: u64::from_le_bytes([g0, g1, g2, g3, g4, g5, 0, 0]),
            },
            epoch: u32::from_le_bytes([e0, e1, e2, e3]),
            number: u64::from_le_bytes(number),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back_and_every_byte_is_part_of_it() {
        let sender = Sender { layer: 0x0102, index: 0x0304, generation: LAST_GENERATION - 1 };
        let header = Header { priority: 31, sender, epoch: 0x0506_0708, number: u64::MAX - 1 };
        let bytes = header.encode();
        assert_eq!(Header::decode(&bytes), Some(header));
        for place in 0..HEADER {
            let mut other = bytes;
            other[place] ^= 1;
            assert_ne!(Header::decode(&other), Some(header), "byte {place}");
        }
    }
}
