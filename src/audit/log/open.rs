//! Opening a log: a new one, one that was closed, or one that a crash left.
//!
//! What is not whole at the end is cut, and the log's first new record says how many bytes that
//! were. Damage before the last checkpoint is no crash: the log is then refused and left alone.

use super::{
    Chain, Log, LogError, Notebook, Open, Options, notes_name, segment_name, segment_number,
};
use crate::audit::entry::{self, Entry, Kind, Moment};
use crate::audit::frame::FrameError;
use crate::audit::hash::{self, Hash};
use crate::audit::index::Index;
use crate::audit::keys::{EPOCHS, Keys};
use crate::audit::note::{Checkpoint, Notes, Signed};
use crate::audit::reader::Reader;
use crate::audit::segment::Header;
use crate::audit::store::{self, Store, StoreError, Trouble};
use crate::audit::tree::Frontier;
use crate::seal::Chance;

/// What opening a log found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// How many whole records there are.
    pub records: u64,
    /// How many bytes were cut from the end of the last segment: of records that no commit had
    /// acknowledged.
    pub cut: u64,
    /// How many bytes of an unfinished checkpoint were cut.
    pub cut_notes: u64,
    /// Whether the last writer ended in order.
    pub clean: bool,
}

/// The longest file of checkpoints that is read: some hundred thousand of them.
const MAX_NOTES: u64 = 256 << 20;

impl Log {
    /// Opens the log in `store`, or makes one where there is none, and appends a [`Kind::Start`]
    /// record, to be committed with what follows.
    pub fn open(
        store: Store,
        options: Options,
        mut chance: Box<dyn Chance>,
        now: Moment,
    ) -> Result<(Self, Recovery), LogError> {
        let lock = store.lock().map_err(|error| match error.trouble() {
            Trouble::Held => LogError::Held,
            _ => error.into(),
        })?;
        let mut recovery = Recovery::default();
        let (mut epochs, known) = read_notes(&store, EPOCHS, &mut recovery)?;
        let mut segments: Vec<u64> =
            store.names()?.iter().filter_map(|name| segment_number(name)).collect();
        segments.sort_unstable();
        let mut last;
        let keys;
        match known.last() {
            Some(signed) => {
                last = signed.checkpoint;
                keys = Keys::load(&store, signed)?;
            }
            None if segments.is_empty() => {
                recovery = Recovery { clean: true, ..Recovery::default() };
                keys = Keys::first(&store, &mut *chance)?;
                let signed = genesis(&keys, now);
                last = signed.checkpoint;
                epochs.append(&store, &signed)?;
            }
            None => return Err(damaged(EPOCHS, 0, "the first checkpoint is gone")),
        }

        let (segment, chain, seen) = match segments.last() {
            None if last.size > 0 => return Err(damaged(EPOCHS, 0, "all segments are gone")),
            None => {
                let before = Frontier::default();
                let header = Header { log: last.log, number: 0, link: last.log, before };
                let segment = Self::make_segment(&store, &header, now)?;
                let chain = Chain { link: last.log, tree: header.before };
                (segment, chain, Seen { first: Some((0, 0)), ..Seen::default() })
            }
            Some(&number) => resume(&store, number, &mut last, &mut recovery, now)?,
        };

        let mut log = Self {
            written: chain.tree.size(),
            committed: chain.tree.size(),
            first: (last.first, segments.first().copied().unwrap_or(0)),
            store,
            options,
            chance,
            keys,
            next_keys: None,
            epochs,
            segment,
            buffer: Vec::new(),
            chain,
            last,
            tables: seen.policy,
            now,
            unknown: false,
            _lock: lock,
        };
        log.finish_dropping(&segments)?;
        recovery.records = log.committed;
        recovery.clean |= seen.stopped && recovery.cut == 0;
        let clean = u32::from(recovery.clean);
        let length = recovery.cut;
        log.append(&Entry { length, value: clean, ..Entry::new(Kind::Start) }, &[], now)?;
        Ok((log, recovery))
    }

    /// Drops again what a crash left of segments that a checkpoint says are dropped.
    fn finish_dropping(&mut self, segments: &[u64]) -> Result<(), LogError> {
        let Some(&oldest) = segments.first() else { return Ok(()) };
        for &number in segments {
            let header = self.store.read(&segment_name(number), 1 << 12)?.unwrap_or_default();
            match Header::parse(&header) {
                Ok(header) if header.before.size() <= self.last.first => self.first.1 = number,
                _ => break,
            }
        }
        Ok(self.drop_before(oldest)?)
    }
}

/// The checkpoint of a log without records.
fn genesis(keys: &Keys, now: Moment) -> Signed {
    let key = keys.public();
    let log = hash::log_id(&key);
    let root = hash::empty();
    let empty = Checkpoint {
        log,
        size: 0,
        root,
        link: log,
        epoch: 0,
        key,
        first: 0,
        time: now,
        next: None,
    };
    empty.sign(&keys.signing)
}

fn damaged(file: &str, byte: u64, what: &str) -> LogError {
    LogError::Damaged { file: file.to_owned(), byte, what: what.to_owned() }
}

/// Reads a file of checkpoints and cuts the torn rest of a write from its end.
fn read_notes(
    store: &Store,
    name: &str,
    recovery: &mut Recovery,
) -> Result<(Notebook, Vec<Signed>), LogError> {
    let mut book = Notebook { name: name.to_owned(), length: 0 };
    let Some(bytes) = store.read(name, MAX_NOTES)? else { return Ok((book, Vec::new())) };
    let mut notes = Notes::read(&bytes);
    // Blocks that were allocated and never written come back as zeros: no whole note.
    let mut signed = Vec::with_capacity(notes.notes.len());
    for (at, note) in &notes.notes {
        match note {
            Ok(note) => signed.push(*note),
            Err(_) if bytes[*at..].iter().all(|byte| *byte == 0) => {
                notes.end = *at;
                break;
            }
            Err(error) => return Err(damaged(name, *at as u64, &error.to_string())),
        }
    }
    book.length = notes.end as u64;
    if notes.end < bytes.len() {
        recovery.cut_notes += (bytes.len() - notes.end) as u64;
        store::cut(&store.writer(name)?, name, book.length)?;
    }
    Ok((book, signed))
}

/// What the last segment's records tell.
#[derive(Default)]
struct Seen {
    /// The last policy record.
    policy: Option<Entry>,
    /// Whether the last record is a stop.
    stopped: bool,
    /// The segment's beginning, if it has no records.
    first: Option<(u64, u64)>,
}

/// Goes on with the last segment: finds its end, and cuts what is not whole.
fn resume(
    store: &Store,
    number: u64,
    last: &mut Checkpoint,
    recovery: &mut Recovery,
    now: Moment,
) -> Result<(Open, Chain, Seen), LogError> {
    let name = segment_name(number);
    let file = store.writer(&name)?;
    let whole = store::length(&file, &name)?;
    let mut reader = Reader::new(store.reader(&name)?, &name, 0);
    let header = match reader.header()? {
        Ok(header) => header,
        // A crash while the segment was made: the one before goes on. If this one had records that
        // were signed for, the check at the end says so.
        Err(_)
            if number > 0
                && whole <= 96 + 64 * 32
                && store.reader(&segment_name(number - 1)).is_ok() =>
        {
            let before = resume(store, number - 1, last, recovery, now)?;
            store.remove(&name)?;
            recovery.cut += whole;
            return Ok(before);
        }
        // The very first segment, before anything was signed for.
        Err(_)
            if number == 0
                && last.size == 0
                && whole <= 96
                && !store.names()?.contains(&notes_name(0)) =>
        {
            let header =
                Header { log: last.log, number: 0, link: last.log, before: Frontier::default() };
            recovery.cut += whole;
            let segment = Log::make_segment(store, &header, now)?;
            return Ok((
                segment,
                Chain { link: header.link, tree: header.before },
                Seen::default(),
            ));
        }
        Err(error) => return Err(damaged(&name, 0, &error.to_string())),
    };
    if header.log != last.log || header.number != number {
        return Err(damaged(&name, 0, "the segment is of another log or place"));
    }
    let (notes, signed) = read_notes(store, &notes_name(number), recovery)?;
    if let Some(signed) = signed.last()
        && (signed.checkpoint.log == last.log && signed.checkpoint.size >= last.size)
    {
        *last = signed.checkpoint;
    }

    let mut chain = Chain { link: header.link, tree: header.before.clone() };
    let mut index = Index::default();
    let mut seen = Seen::default();
    let mut opened = now;
    let mut root: Option<(Hash, Hash)> = at_size(&chain, last.size);
    // The end of the last record that follows: the reader may be past one that doesn't.
    let mut end = reader.offset();
    while let Some((offset, frame)) = reader.frame()? {
        let Ok(record) = frame.and_then(|frame| follow(&mut chain, frame)) else { break };
        end = reader.offset();
        if seen.first.is_none() {
            seen.first = Some((offset, record.index));
            let age = now.real.saturating_sub(record.at.real);
            opened = Moment { monotonic: now.monotonic.saturating_sub(age), ..record.at };
        }
        index.push(offset, record.index, record.at, &record.entry);
        seen.stopped = record.entry.kind == Kind::Stop;
        if record.entry.kind == Kind::Policy {
            seen.policy = Some(record.entry);
        }
        root = at_size(&chain, last.size).or(root);
    }
    if root != Some((last.root, last.link)) {
        return Err(damaged(&name, end, "the log differs from its last checkpoint"));
    }
    if end < whole {
        recovery.cut += whole - end;
        store::cut(&file, &name, end)?;
    }
    let segment = Open { number, name, file, link: header.link, length: end, opened, index, notes };
    Ok((segment, chain, seen))
}

fn at_size(chain: &Chain, size: u64) -> Option<(Hash, Hash)> {
    (chain.tree.size() == size).then(|| (chain.tree.root(), chain.link))
}

/// Takes a frame into the chain, if it is the next one.
fn follow(
    chain: &mut Chain,
    frame: crate::audit::frame::Frame<'_>,
) -> Result<entry::Record, FrameError> {
    use crate::audit::frame::PayloadState::Altered;
    let record = frame.record()?;
    let leaf = hash::leaf(frame.body);
    let link = hash::link(&chain.link, &leaf);
    let payload = frame.payload_state();
    if link != frame.link || record.index != chain.tree.size() || payload == Altered {
        return Err(FrameError::Checksum);
    }
    chain.link = link;
    chain.tree.push(leaf);
    Ok(record)
}

/// When the first record of a segment was taken, if there is one.
pub(super) fn began(store: &Store, number: u64) -> Result<Option<Moment>, StoreError> {
    let name = segment_name(number);
    let mut reader = Reader::new(store.reader(&name)?, &name, 0);
    if reader.header()?.is_err() {
        return Ok(None);
    }
    let Some((_, Ok(frame))) = reader.frame()? else { return Ok(None) };
    Ok(frame.record().ok().map(|record| record.at))
}

/// The number of a segment's first record; `None` if its header is damaged.
pub fn first_record(store: &Store, number: u64) -> Result<Option<u64>, StoreError> {
    let header = store.read(&segment_name(number), 1 << 12)?.unwrap_or_default();
    Ok(Header::parse(&header).ok().map(|header| header.before.size()))
}
