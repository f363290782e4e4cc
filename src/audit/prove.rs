//! Proofs for third parties: that a record is in the log, and that one checkpoint continues
//! another. Who checks a proof needs nothing of the log but a signed checkpoint.

use super::entry::{self, Record};
use super::hash::{self, Hash};
use super::log::{segment_name, segment_number};
use super::note::{NoteError, Signed};
use super::reader::Reader;
use super::segment::HeaderError;
use super::store::{Store, StoreError};
use super::tree::{self, Collector, Frontier};

/// Shows that a record is in the log that a checkpoint signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The record's body, without its payload.
    pub body: Vec<u8>,
    /// Its number.
    pub index: u64,
    /// The siblings on its way to the root, from below.
    pub path: Vec<Hash>,
    /// The signed checkpoint, as text.
    pub checkpoint: String,
}

/// Why there is no proof, or why one is none.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// The log can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Not a checkpoint.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// A segment is damaged.
    #[error("segment {segment} is damaged: verify the log")]
    Damaged {
        /// Which.
        segment: u64,
    },
    /// The record was dropped or is not there yet, or the checkpoint is of later records.
    #[error("record {index} is not among the records {first} to {size} that are there and signed")]
    NotThere {
        /// Which record.
        index: u64,
        /// The first that is there.
        first: u64,
        /// The number behind the last that is there and signed.
        size: u64,
    },
    /// The way doesn't lead to the signed root.
    #[error("the proof doesn't lead to the root that was signed")]
    False,
    /// The checkpoint's key is not the one that is trusted.
    #[error("the checkpoint is not signed with the key that is trusted")]
    Key,
}

/// Proves that record `index` is in the log, under a checkpoint of it.
pub fn prove(store: &Store, index: u64, checkpoint: &str) -> Result<Proof, ProofError> {
    let size = Signed::parse(checkpoint)?.checkpoint.size;
    let mut body = None;
    let ranges = tree::inclusion_ranges(index, size);
    let (path, first) = collect(store, &ranges, size, |at, bytes| {
        if at == index {
            body = Some(bytes.to_vec());
        }
    })?;
    let body = body.filter(|_| index < size);
    let (Some(body), Some(path)) = (body, path) else {
        return Err(ProofError::NotThere { index, first, size });
    };
    let proof = Proof { body, index, path, checkpoint: checkpoint.to_owned() };
    proof.check(None)?;
    Ok(proof)
}

/// The nodes that prove that the log of the checkpoint `new` begins with the log of `old`.
pub fn prove_extension(store: &Store, old: &str, new: &str) -> Result<Vec<Hash>, ProofError> {
    let (old, new) = (Signed::parse(old)?.checkpoint, Signed::parse(new)?.checkpoint);
    let ranges = tree::consistency_ranges(old.size, new.size);
    let (path, first) = collect(store, &ranges, new.size, |_, _| {})?;
    let (index, size) = (old.size, new.size);
    let path = path.ok_or(ProofError::NotThere { index, first, size })?;
    let holds =
        old.log == new.log && tree::extends((old.size, &old.root), (new.size, &new.root), &path);
    if holds { Ok(path) } else { Err(ProofError::False) }
}

impl Proof {
    /// Checks the proof, and says which record it proves. `key` is the public key of the
    /// checkpoint's epoch, if the one who checks knows it.
    pub fn check(&self, key: Option<[u8; 32]>) -> Result<Record, ProofError> {
        let checkpoint = Signed::parse(&self.checkpoint)?.checkpoint;
        if key.is_some_and(|key| key != checkpoint.key) {
            return Err(ProofError::Key);
        }
        let leaf = hash::leaf(&self.body);
        let record = entry::decode(&self.body).map_err(|_| ProofError::False)?;
        let leads =
            tree::includes(self.index, checkpoint.size, &leaf, &self.path, &checkpoint.root);
        if leads && record.index == self.index { Ok(record) } else { Err(ProofError::False) }
    }
}

/// Reads all records before `size`, and gives the roots over `ranges` and the first record there.
fn collect(
    store: &Store,
    ranges: &[(u64, u64)],
    size: u64,
    mut each: impl FnMut(u64, &[u8]),
) -> Result<(Option<Vec<Hash>>, u64), ProofError> {
    let mut numbers: Vec<u64> =
        store.names()?.iter().filter_map(|name| segment_number(name)).collect();
    numbers.sort_unstable();
    let mut collector = Collector::new(&Frontier::default(), ranges);
    let (mut first, mut next) = (0, 0);
    for (at, &segment) in numbers.iter().enumerate() {
        let damaged = |_: HeaderError| ProofError::Damaged { segment };
        let name = segment_name(segment);
        let mut reader = Reader::new(store.reader(&name)?, &name, 0);
        let header = reader.header()?.map_err(damaged)?;
        if at == 0 {
            collector = Collector::new(&header.before, ranges);
            (first, next) = (header.before.size(), header.before.size());
        }
        while next < size
            && let Some((_, frame)) = reader.frame()?
        {
            let frame = frame.map_err(|_| ProofError::Damaged { segment })?;
            collector.leaf(next, hash::leaf(frame.body));
            each(next, frame.body);
            next += 1;
        }
    }
    Ok((collector.finish(), first))
}
