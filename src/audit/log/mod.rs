//! Writing a log: append, commit, checkpoint.
//!
//! [`Log::append`] hashes a record into the chain and keeps it in memory; [`Log::commit`] writes
//! what was appended and makes it durable. Only then is a record *acknowledged*: no crash loses it.
//! A log's files are described in `docs/audit-format.md`, section 2.

mod crash;
mod open;
mod redaction;
mod rotate;

use std::fs::File;

use super::entry::{self, Entry, Kind, MAX_DETAIL, MAX_PAYLOAD, Moment, PayloadMark};
use super::frame;
use super::hash::{self, Hash};
use super::index::Index;
use super::keys::{KeyError, Keys};
use super::note::Checkpoint;
use super::store::{self, Lock, Store, StoreError, Trouble};
use super::tree::Frontier;
use crate::seal::{Chance, SealError};

pub use open::{Recovery, first_record};
pub use redaction::{MAX_REASON, ORDER, Order};

/// Bounds and rhythms of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// A segment that has at least so many bytes is ended by the next commit.
    pub segment_bytes: u64,
    /// A segment that is at least so old, in nanoseconds, is ended by the next commit.
    pub segment_age: u64,
    /// A commit signs a checkpoint once there are so many records since the last one.
    pub checkpoint_records: u64,
    /// A commit signs a checkpoint once the last one is so old, in nanoseconds. Who writes the log
    /// commits then, also where nothing more comes: see [`Log::should_sign`].
    pub checkpoint_age: u64,
    /// How many bytes wait for a commit at most; then [`LogError::Backlog`].
    pub backlog: usize,
    /// Old segments are dropped while all have more bytes than this.
    pub keep_bytes: u64,
    /// Segments are dropped whose last record is older than this, in nanoseconds.
    pub keep_age: u64,
    /// A change of the real clock against the monotonic one by more nanoseconds than this is a
    /// jump, which gets a record.
    pub clock_slack: u64,
}

const SECOND: u64 = 1_000_000_000;

impl Default for Options {
    /// Segments of 64 MiB or a day, a checkpoint every second or 100,000 records, 16 MiB of
    /// backlog, everything kept.
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            segment_age: 86_400 * SECOND,
            checkpoint_records: 100_000,
            checkpoint_age: SECOND,
            backlog: 16 << 20,
            keep_bytes: u64::MAX,
            keep_age: u64::MAX,
            clock_slack: SECOND / 10,
        }
    }
}

/// Why the log didn't do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The system refused. See [`LogError::trouble`] for what a policy wants to know of it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another process writes this log.
    #[error("another supervisor writes the log in this directory: give each its own")]
    Held,
    /// What is there can't be gone on with, and is left as it is.
    #[error("{file}, byte {byte}: {what}; run `cofferdam audit verify`, then start another log")]
    Damaged {
        /// Which file.
        file: String,
        /// Where in it.
        byte: u64,
        /// What is wrong.
        what: String,
    },
    /// The current secret key is gone.
    #[error("the secret key of epoch {epoch} is lost: keep this log and start another")]
    KeyLost {
        /// The epoch.
        epoch: u64,
    },
    /// The system has no randomness.
    #[error(transparent)]
    Chance(#[from] SealError),
    /// As much waits for a commit as may. Nothing was appended: wait, count or halt.
    #[error("the log's backlog is full")]
    Backlog,
    /// The caller's detail or payload is too long.
    #[error("a record's detail or payload is longer than any may be")]
    TooLong,
    /// A sync failed before, so nobody knows what is on the disk: open the log anew.
    #[error("the log couldn't be synced; it must be opened anew")]
    Unknown,
}

impl LogError {
    /// What kind of trouble the system made, if it was the system.
    pub fn trouble(&self) -> Option<Trouble> {
        match self {
            Self::Store(error) => Some(error.trouble()),
            Self::Held => Some(Trouble::Held),
            _ => None,
        }
    }
}

impl From<KeyError> for LogError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Store(error) => Self::Store(error),
            KeyError::Chance(error) => Self::Chance(error),
            KeyError::Lost { epoch } => Self::KeyLost { epoch },
        }
    }
}

/// What a commit made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The log has so many records on the disk.
    pub size: u64,
    /// The checkpoint that it signed, if it was time for one.
    pub checkpoint: Option<Checkpoint>,
}

/// A log open for writing, by this process alone.
pub struct Log {
    store: Store,
    options: Options,
    chance: Box<dyn Chance>,
    keys: Keys,
    /// The next epoch's keys, once a checkpoint on disk names them, until they are installed.
    next_keys: Option<Keys>,
    epochs: Notebook,
    segment: Open,
    /// Encoded records that no commit has written yet.
    buffer: Vec<u8>,
    chain: Chain,
    /// The number of records in the file.
    written: u64,
    /// The number of records on the disk.
    committed: u64,
    /// The last checkpoint.
    last: Checkpoint,
    /// The first record and the first segment kept.
    first: (u64, u64),
    tables: Option<Entry>,
    now: Moment,
    unknown: bool,
    _lock: Lock,
}

/// Where chain and tree stand, with everything appended.
#[derive(Clone, Debug)]
struct Chain {
    link: Hash,
    tree: Frontier,
}

/// The segment being written.
struct Open {
    number: u64,
    name: String,
    file: File,
    /// The link in its header.
    link: Hash,
    /// Its bytes on the disk.
    length: u64,
    opened: Moment,
    index: Index,
    notes: Notebook,
}

/// A file of checkpoints being appended to; made when the first one comes.
struct Notebook {
    name: String,
    length: u64,
}

/// The names of a segment's files.
pub fn segment_name(number: u64) -> String {
    format!("{number:08}.log")
}

/// The name of the file of a segment's checkpoints.
pub fn notes_name(number: u64) -> String {
    format!("{number:08}.note")
}

/// The name of a segment's index.
pub fn index_name(number: u64) -> String {
    format!("{number:08}.idx")
}

/// The number of the segment with that file name.
pub fn segment_number(name: &str) -> Option<u64> {
    number(name, ".log", segment_name)
}

/// The number of the segment whose checkpoints have that file name.
pub fn notes_number(name: &str) -> Option<u64> {
    number(name, ".note", notes_name)
}

/// The number of the segment whose index has that file name.
pub fn index_number(name: &str) -> Option<u64> {
    number(name, ".idx", index_name)
}

fn number(name: &str, end: &str, named: fn(u64) -> String) -> Option<u64> {
    let number = name.strip_suffix(end)?.parse().ok()?;
    (named(number) == name).then_some(number)
}

impl Log {
    /// The log's id.
    pub fn id(&self) -> Hash {
        self.last.log
    }

    /// How many records the log has, with those that no commit has written.
    pub fn size(&self) -> u64 {
        self.chain.tree.size()
    }

    /// How many records are durable.
    pub fn committed(&self) -> u64 {
        self.committed
    }

    /// How many bytes wait for a commit.
    pub fn backlog(&self) -> usize {
        self.buffer.len()
    }

    /// Whether it is time to sign records that are written, though no others may follow.
    pub fn should_sign(&self, now: Moment) -> bool {
        let age = now.monotonic.saturating_sub(self.last.time.monotonic);
        self.is_unsigned() && age >= self.options.checkpoint_age
    }

    /// Whether there are records that no checkpoint signs.
    pub fn is_unsigned(&self) -> bool {
        self.last.size < self.size()
    }

    /// The last checkpoint signed.
    pub fn last_checkpoint(&self) -> &Checkpoint {
        &self.last
    }

    /// The number of the segment being written.
    pub fn segment(&self) -> u64 {
        self.segment.number
    }

    /// The log's directory.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Appends a record, with a sealed payload beside it unless that is empty, and gives its
    /// number. It is durable after the next [`commit`](Self::commit).
    ///
    /// If the real clock has jumped since the last record, a record about that comes before.
    pub fn append(&mut self, entry: &Entry, payload: &[u8], now: Moment) -> Result<u64, LogError> {
        if entry.detail.len() > MAX_DETAIL || payload.len() > MAX_PAYLOAD {
            return Err(LogError::TooLong);
        }
        // A lone record that is larger than the backlog must still get through.
        let more = frame::HEAD + entry::BODY + 96 + entry.detail.len() + payload.len();
        if !self.buffer.is_empty() && self.buffer.len() + more > self.options.backlog {
            return Err(LogError::Backlog);
        }
        if let Some((back, by)) = self.jump(now) {
            let value = u32::from(back);
            self.push(&Entry { length: by, value, ..Entry::new(Kind::ClockJump) }, &[], now);
        }
        self.now = now;
        Ok(self.push(entry, payload, now))
    }

    /// Whether the real clock went back, and how far it jumped against the monotonic one.
    fn jump(&self, now: Moment) -> Option<(bool, u64)> {
        let should = self.now.real.saturating_add(now.monotonic.saturating_sub(self.now.monotonic));
        let by = should.abs_diff(now.real);
        (by > self.options.clock_slack).then_some((now.real < should, by))
    }

    fn push(&mut self, entry: &Entry, payload: &[u8], now: Moment) -> u64 {
        let start = self.buffer.len();
        let index = self.chain.tree.size();
        let mark = u32::try_from(payload.len()).ok().filter(|length| *length > 0);
        let mark = mark.map(|length| PayloadMark { length, digest: hash::payload(payload) });
        self.segment.index.push(self.segment.length + start as u64, index, now, entry);
        self.buffer.extend_from_slice(&[0; frame::HEAD]);
        entry::encode(index, now, entry, mark, &mut self.buffer);
        let leaf = hash::leaf(&self.buffer[start + frame::HEAD..]);
        self.chain.link = hash::link(&self.chain.link, &leaf);
        self.chain.tree.push(leaf);
        frame::seal(&mut self.buffer, start, &self.chain.link, payload, 0);
        index
    }

    /// Logs what the numbers of all later records mean. The log repeats it at the beginning of
    /// every segment.
    pub fn policy(&mut self, tables: &super::tables::Tables, now: Moment) -> Result<u64, LogError> {
        let entry = tables.entry();
        let index = self.append(&entry, &[], now)?;
        self.tables = Some(entry);
        Ok(index)
    }

    /// Writes what was appended and makes it durable, then signs a checkpoint and goes on to the
    /// next segment if it is time.
    ///
    /// After [`Trouble::Full`] or [`Trouble::Forbidden`] nothing is lost: what was appended still
    /// waits, and another commit tries again. [`Trouble::Missing`]: somebody has removed the segment,
    /// and what is written there is nowhere.
    pub fn commit(&mut self, now: Moment) -> Result<Committed, LogError> {
        self.flush()?;
        let mut checkpoint = None;
        let records = self.committed - self.last.size;
        let age = now.monotonic.saturating_sub(self.last.time.monotonic);
        if records > 0
            && (records >= self.options.checkpoint_records || age >= self.options.checkpoint_age)
        {
            checkpoint = Some(self.checkpoint(now)?);
        }
        let age = now.monotonic.saturating_sub(self.segment.opened.monotonic);
        let full = self.segment.length >= self.options.segment_bytes;
        if (full || age >= self.options.segment_age) && !self.segment.index.blocks.is_empty() {
            self.rotate(now)?;
            checkpoint = Some(self.last);
        }
        Ok(Committed { size: self.committed, checkpoint })
    }

    /// Writes what was appended without waiting for the disk. What is written survives the end of
    /// every process; only a [commit](Self::commit) makes it survive that of the machine.
    pub fn write(&mut self) -> Result<(), LogError> {
        if self.unknown {
            return Err(LogError::Unknown);
        }
        if self.buffer.is_empty() {
            return Ok(());
        }
        let Open { file, name, length, .. } = &mut self.segment;
        if let Err(error) = store::write_at(file, name, &self.buffer, *length) {
            // Take the part that was written back; if that fails, the next try overwrites it.
            let _ = store::cut(file, name, *length);
            return Err(error.into());
        }
        *length += self.buffer.len() as u64;
        self.buffer.clear();
        self.written = self.chain.tree.size();
        Ok(())
    }

    fn flush(&mut self) -> Result<(), LogError> {
        self.write()?;
        if self.committed == self.written {
            return Ok(());
        }
        store::find(&self.segment.file, &self.segment.name)?;
        if let Err(error) = store::sync_data(&self.segment.file, &self.segment.name) {
            // On a full disk the pages may be dropped, and a second sync would say "fine".
            self.unknown = true;
            return Err(error.into());
        }
        self.committed = self.written;
        Ok(())
    }
}
