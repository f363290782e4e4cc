//! Opening a log: a new one, one that was closed, or one that a crash left.
//!
//! What is not whole at the end is cut, and the log's first new record says how many bytes that
//! were. Damage before the last checkpoint is no crash: the log is then refused and left alone.

use super::crash::{Cuts, damaged, no_orphans, read_notes};
use super::{
    Chain, Log, LogError, Open, Options, index_name, notes_name, segment_name, segment_number,
};
use crate::audit::entry::{self, Entry, Kind, Moment};
use crate::audit::frame::FrameError;
use crate::audit::hash::{self, Hash};
use crate::audit::index::Index;
use crate::audit::keys::{EPOCHS, Keys};
use crate::audit::note::{Checkpoint, Signed};
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
        // Nothing is cut before all of it is known to be what a crash leaves.
        let mut cuts = Cuts::default();
        let (mut epochs, known) = read_notes(&store, EPOCHS, &mut cuts)?;
        let names = store.names()?;
        let mut segments: Vec<u64> = names.iter().filter_map(|name| segment_number(name)).collect();
        segments.sort_unstable();
        no_orphans(&names, segments.last().copied())?;
        let mut last;
        let mut keys = None;
        match known.last() {
            Some(signed) => last = signed.checkpoint,
            None if segments.is_empty() => {
                cuts.make(&store)?;
                recovery.clean = true;
                let first = Keys::first(&store, &mut *chance)?;
                let signed = genesis(&first, now);
                last = signed.checkpoint;
                epochs.append(&store, &signed)?;
                keys = Some(first);
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
            Some(&number) => resume(&store, number, &mut last, &mut cuts, now)?,
        };
        let keys = match (keys, known.last()) {
            (Some(first), _) => first,
            (None, Some(signed)) => Keys::load(&store, signed)?,
            (None, None) => return Err(damaged(EPOCHS, 0, "the first checkpoint is gone")),
        };
        if !recovery.clean {
            cuts.make(&store)?;
            (recovery.cut, recovery.cut_notes) = (cuts.records, cuts.notes);
        }

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
        // An orderly end signs everything.
        recovery.clean |= seen.stopped && recovery.cut == 0 && log.last.size == log.committed;
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

/// Goes on with the last segment: finds its end, and what is to be cut because it isn't whole.
fn resume(
    store: &Store,
    number: u64,
    last: &mut Checkpoint,
    cuts: &mut Cuts,
    now: Moment,
) -> Result<(Open, Chain, Seen), LogError> {
    let name = segment_name(number);
    let file = store.writer(&name)?;
    let whole = store::length(&file, &name)?;
    let mut reader = Reader::new(store.reader(&name)?, &name, 0);
    let header = match reader.header()? {
        Ok(header) => header,
        // A crash while the segment was made: the one before goes on. Nothing was signed in this
        // one then, and it has no index.
        Err(_)
            if number > 0
                && whole <= 96 + 64 * 32
                && store.reader(&notes_name(number)).is_err()
                && store.reader(&index_name(number)).is_err()
                && store.reader(&segment_name(number - 1)).is_ok() =>
        {
            cuts.files.push((name, None));
            cuts.records += whole;
            return resume(store, number - 1, last, cuts, now);
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
            cuts.records += whole;
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
    let (notes, signed) = read_notes(store, &notes_name(number), cuts)?;
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
        if seen.stopped && record.entry.kind != Kind::Start {
            return Err(damaged(&name, offset, "a record stands behind the end of the log"));
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
        cuts.records += whole - end;
        cuts.files.push((name.clone(), Some(end)));
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
