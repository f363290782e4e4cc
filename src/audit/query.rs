//! Finding records: a filter, and the blocks of the index that can hold what it asks for.

use super::entry::{Entry, Facility, Form, Kind, Record, Verdict};
use super::frame::FrameError;
use super::index::{Block, Index, bit, edge_bit};
use super::log::{first_record, index_name, segment_name, segment_number};
use super::reader::Reader;
use super::runs;
use super::segment::{Header, HeaderError};
use super::store::{Store, StoreError, Trouble};

/// What to look for. What is `None` or empty is not asked for.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Any of these kinds.
    pub kinds: Vec<Kind>,
    /// This layer, as reporter or peer.
    pub layer: Option<u16>,
    /// This facility.
    pub edge: Option<(Facility, u16)>,
    /// This method.
    pub method: Option<u32>,
    /// Any of these verdicts.
    pub verdicts: Vec<Verdict>,
    /// From this real time on, in nanoseconds.
    pub from: Option<u64>,
    /// Before this real time.
    pub to: Option<u64>,
    /// From this record on.
    pub first: u64,
    /// Before this record.
    pub end: Option<u64>,
    /// Read every record, and trust no index. What a log says is proved by
    /// [`verify`](super::verify) alone; but an index that was altered can hide records.
    pub full: bool,
}

impl Filter {
    /// Whether it asks for this record.
    pub fn matches(&self, record: &Record) -> bool {
        let entry = &record.entry;
        (self.kinds.is_empty() || self.kinds.contains(&entry.kind))
            && self.layer.is_none_or(|n| entry.reporter.layer == n || entry.peer.layer == n)
            && self.edge.is_none_or(|edge| edge == (entry.facility, entry.edge))
            && self.method.is_none_or(|method| has(entry, method))
            && (self.verdicts.is_empty() || self.verdicts.contains(&entry.verdict))
            && self.from.is_none_or(|from| record.at.real >= from)
            && self.to.is_none_or(|to| record.at.real < to)
            && record.index >= self.first
            && self.end.is_none_or(|end| record.index < end)
    }

    /// Whether a block can hold a record that it asks for.
    fn may(&self, block: &Block) -> bool {
        let kinds = self.kinds.iter().fold(0, |set, kind| set | 1_u32 << (*kind as u8 % 32));
        let verdicts = self.verdicts.iter().fold(0, |set, verdict| set | bit(*verdict as u64));
        (kinds == 0 || kinds & block.kinds != 0)
            && (verdicts == 0 || verdicts & block.verdicts != 0)
            && self.layer.is_none_or(|layer| block.layers & bit(layer.into()) != 0)
            && self.edge.is_none_or(|(kind, n)| block.edges & edge_bit(kind, n) != 0)
            && self.method.is_none_or(|method| block.methods & bit(method.into()) != 0)
            && self.from.is_none_or(|from| block.real.1 >= from)
            && self.to.is_none_or(|to| block.real.0 < to)
            && block.first.saturating_add(block.records.into()) > self.first
            && self.end.is_none_or(|end| block.first < end)
    }
}

/// Whether a record is about a method: of a batch, whether any of its messages is.
fn has(entry: &Entry, method: u32) -> bool {
    entry.method == method
        || entry.form == Form::Batch
            && runs::of(entry).iter().any(|run| u32::from(run.method) == method)
}

/// What a query went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effort {
    /// Records that were found.
    pub found: u64,
    /// Records that were read.
    pub read: u64,
    /// Segments of which a part can't be read, or before which others are missing;
    /// [`verify`](super::verify) says why.
    pub damaged: u64,
    /// The log ends within a record: it is being written, or its writer ended within one.
    pub growing: bool,
}

/// Gives every record that `filter` asks for to `each`, in order, until that says no.
///
/// Somebody may be writing the log: what is dropped meanwhile is left out, and what is not whole at
/// the end isn't there yet.
pub fn query(
    store: &Store,
    filter: &Filter,
    mut each: impl FnMut(Record) -> bool,
) -> Result<Effort, StoreError> {
    query_with_payloads(store, filter, |record, _| each(record))
}

/// The same, with the payload that stands beside each record: nothing where there is none, zeros
/// where it was removed.
pub fn query_with_payloads(
    store: &Store,
    filter: &Filter,
    mut each: impl FnMut(Record, &[u8]) -> bool,
) -> Result<Effort, StoreError> {
    let mut numbers: Vec<u64> =
        store.names()?.iter().filter_map(|name| segment_number(name)).collect();
    numbers.sort_unstable();
    let begin = before(store, &numbers, filter.first)?;
    let mut effort = Effort::default();
    let mut before = None;
    for &number in &numbers[begin..] {
        if before.replace(number).is_some_and(|before| before + 1 < number) {
            effort.damaged += 1;
        }
        let last = numbers.last() == Some(&number);
        match segment(store, number, last, filter, &mut effort, &mut each) {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) if error.trouble() == Trouble::Missing => {}
            Err(error) => return Err(error),
        }
    }
    Ok(effort)
}

/// The place of the last segment that begins with record `first` or before it.
fn before(store: &Store, numbers: &[u64], first: u64) -> Result<usize, StoreError> {
    let (mut low, mut high) = (0, numbers.len());
    while first > 0 && high - low > 1 {
        let middle = low + (high - low) / 2;
        // A segment that can't be read, or is gone, is told when its records are asked for.
        match first_record(store, numbers[middle])? {
            Some(begin) if begin > first => high = middle,
            Some(_) => low = middle,
            None => return Ok(low),
        }
    }
    Ok(low)
}

fn segment(
    store: &Store,
    number: u64,
    last: bool,
    filter: &Filter,
    effort: &mut Effort,
    each: &mut impl FnMut(Record, &[u8]) -> bool,
) -> Result<bool, StoreError> {
    let name = segment_name(number);
    let head = Header::length(u64::MAX) as u64;
    let mut reader = Reader::new(store.reader(&name)?, &name, 0).ending(head);
    let header = match reader.header()? {
        Ok(header) => header,
        Err(HeaderError::Short) if last => {
            effort.growing = true;
            return Ok(true);
        }
        Err(_) => {
            effort.damaged += 1;
            return Ok(true);
        }
    };
    if filter.end.is_some_and(|end| header.before.size() >= end) {
        return Ok(false);
    }
    let begin = reader.offset();
    let index = if filter.full { None } else { store.read(&index_name(number), 1 << 30)? };
    let index = index.and_then(|bytes| Index::parse(&bytes, &header.link));
    let (index, covered) = index.unwrap_or((Index::default(), begin));
    // What no index covers is read wholly, and so are neighbouring blocks in one go.
    let ends = index.blocks.iter().skip(1).map(|block| block.offset).chain([covered]);
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for (block, end) in index.blocks.iter().zip(ends) {
        match ranges.last_mut() {
            _ if !filter.may(block) => {}
            Some((_, to)) if *to == block.offset => *to = end,
            _ => ranges.push((block.offset, end)),
        }
    }
    ranges.push((covered, u64::MAX));
    for (from, to) in ranges {
        reader = Reader::new(store.reader(&name)?, &name, from).ending(to);
        while let Some((_, frame)) = reader.frame()? {
            let read = frame.and_then(|frame| Ok((frame.record()?, frame.payload)));
            let (record, payload) = match read {
                Ok(read) => read,
                Err(FrameError::Short { .. }) if last && to == u64::MAX => {
                    effort.growing = true;
                    break;
                }
                Err(_) => {
                    effort.damaged += 1;
                    break;
                }
            };
            effort.read += 1;
            if filter.end.is_some_and(|end| record.index >= end) {
                return Ok(false);
            }
            if filter.matches(&record) {
                effort.found += 1;
                if !each(record, payload) {
                    return Ok(false);
                }
            }
        }
    }
    Ok(true)
}
