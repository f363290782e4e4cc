//! A segment's index: what occurs in each block of its records.
//!
//! It only makes queries fast: it can be made again from the segment, and nothing that
//! [`verify`](super::verify) says rests on it.
//!
//! ```text
//! magic "cfdindex", crc32c u32 over the rest, zero u32, link in the segment's header 32,
//! bytes of the segment that it covers u64, then for each block 72 bytes:
//!     offset u64, records u32, kinds u32, from u64, to u64 (real time), layers u64, edges u64,
//!     methods u64, verdicts u64, first record u64
//! ```
//! In the sets, bit `n` stands for all numbers that are `n` modulo the set's size.

use super::entry::{Entry, Form, Moment, u32_at, u64_at};
use super::hash::Hash;
use super::runs;

/// Records in a block.
pub const RECORDS: u32 = 256;
const MAGIC: &[u8; 8] = b"cfdindex";
const FIXED: usize = 56;
const BLOCK: usize = 72;

/// What occurs in a block of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Where in the segment it begins.
    pub offset: u64,
    /// Its first record.
    pub first: u64,
    /// How many records it has, up to [`RECORDS`].
    pub records: u32,
    /// The kinds of records.
    pub kinds: u32,
    /// The earliest and the latest real time.
    pub real: (u64, u64),
    /// Reporters' and peers' layers.
    pub layers: u64,
    /// Facilities, see [`edge_bit`].
    pub edges: u64,
    /// Methods, of a batch all.
    pub methods: u64,
    /// Verdicts.
    pub verdicts: u64,
}

/// The index of one segment, also while it grows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    /// The blocks, in order.
    pub blocks: Vec<Block>,
}

/// The bit that stands for a facility in [`Block::edges`].
pub fn edge_bit(facility: super::entry::Facility, edge: u16) -> u64 {
    1 << ((u64::from(facility as u8) * 11 + u64::from(edge)) % 64)
}

/// The bit that stands for a number in a set of 64.
pub fn bit(number: u64) -> u64 {
    1 << (number % 64)
}

impl Index {
    /// Takes the next record in.
    pub fn push(&mut self, offset: u64, index: u64, at: Moment, entry: &Entry) {
        let block = match self.blocks.last_mut() {
            Some(block) if block.records < RECORDS => block,
            _ => {
                self.blocks.push(Block {
                    offset,
                    first: index,
                    records: 0,
                    kinds: 0,
                    real: (u64::MAX, 0),
                    layers: 0,
                    edges: 0,
                    methods: 0,
                    verdicts: 0,
                });
                let last = self.blocks.len() - 1;
                &mut self.blocks[last]
            }
        };
        block.records += 1;
        block.kinds |= 1 << (entry.kind as u8 % 32);
        block.real = (block.real.0.min(at.real), block.real.1.max(at.real));
        block.layers |= bit(entry.reporter.layer.into()) | bit(entry.peer.layer.into());
        block.edges |= edge_bit(entry.facility, entry.edge);
        block.methods |= bit(entry.method.into());
        if entry.form == Form::Batch {
            for run in runs::of(entry) {
                block.methods |= bit(run.method.into());
            }
        }
        block.verdicts |= bit(entry.verdict as u64);
    }

    /// The index as bytes, of the segment whose header has `link` and of its first `covered` bytes.
    pub fn encode(&self, link: &Hash, covered: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(FIXED + BLOCK * self.blocks.len());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(link);
        out.extend_from_slice(&covered.to_le_bytes());
        for block in &self.blocks {
            out.extend_from_slice(&block.offset.to_le_bytes());
            out.extend_from_slice(&block.records.to_le_bytes());
            out.extend_from_slice(&block.kinds.to_le_bytes());
            let longs = [
                block.real.0,
                block.real.1,
                block.layers,
                block.edges,
                block.methods,
                block.verdicts,
                block.first,
            ];
            for long in longs {
                out.extend_from_slice(&long.to_le_bytes());
            }
        }
        let crc = crc32c::crc32c(&out[12..]);
        out[8..12].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads an index, if it is one of the segment whose header has `link`. With it, how many of
    /// the segment's bytes it covers.
    pub fn parse(bytes: &[u8], link: &Hash) -> Option<(Self, u64)> {
        let (fixed, blocks) = bytes.split_at_checked(FIXED)?;
        let sound = fixed[..8] == *MAGIC
            && fixed[16..48] == *link
            && blocks.len() % BLOCK == 0
            && crc32c::crc32c(&bytes[12..]) == u32_at(fixed, 8);
        let blocks = blocks.chunks_exact(BLOCK).map(|block| Block {
            offset: u64_at(block, 0),
            records: u32_at(block, 8),
            kinds: u32_at(block, 12),
            real: (u64_at(block, 16), u64_at(block, 24)),
            layers: u64_at(block, 32),
            edges: u64_at(block, 40),
            methods: u64_at(block, 48),
            verdicts: u64_at(block, 56),
            first: u64_at(block, 64),
        });
        sound.then(|| (Self { blocks: blocks.collect() }, u64_at(fixed, 48)))
    }
}
