//! Removing a payload. The record keeps its digest, so the chain still verifies.

use super::entry::Record;
use super::frame::{HEAD, LINK, PayloadState, REMOVED};
use super::log::{segment_name, segment_number};
use super::query::{Filter, query};
use super::reader::Reader;
use super::store::{self, Store, StoreError};

/// What removing did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redaction {
    /// The payload is gone.
    Done(Box<Record>),
    /// It was gone already.
    Already,
    /// The record has none.
    NoPayload,
    /// There is no such record.
    NotThere,
    /// The record, or one before it in its segment, is damaged.
    Damaged,
}

/// Removes the payload of record `index`: marks it, then writes zeros over it, each durably.
///
/// A writer may be at work: it never touches what is committed. The caller has an
/// [`Order`](super::log::Order) written down before, or verifying the log finds that nobody did. The
/// old bytes may stay on disks and file systems that write elsewhere instead of in place, and in
/// backups.
pub fn redact(store: &Store, index: u64) -> Result<Redaction, StoreError> {
    visit(store, index, true)
}

/// How many bytes the payload of record `index` has, if [`redact`] would remove it.
pub fn removable(store: &Store, index: u64) -> Result<Option<u32>, StoreError> {
    Ok(match visit(store, index, false)? {
        Redaction::Done(record) => record.payload.map(|mark| mark.length),
        _ => None,
    })
}

fn visit(store: &Store, index: u64, removes: bool) -> Result<Redaction, StoreError> {
    let mut numbers: Vec<u64> =
        store.names()?.iter().filter_map(|name| segment_number(name)).collect();
    numbers.sort_unstable();
    for number in numbers.into_iter().rev() {
        let name = segment_name(number);
        let mut reader = Reader::new(store.reader(&name)?, &name, 0);
        let Ok(header) = reader.header()? else { return Ok(Redaction::Damaged) };
        if header.before.size() > index {
            continue;
        }
        let mut next = header.before.size();
        while let Some((offset, frame)) = reader.frame()? {
            let Ok(frame) = frame else { return Ok(Redaction::Damaged) };
            if next < index {
                next += 1;
                continue;
            }
            let Ok(record) = frame.record() else { return Ok(Redaction::Damaged) };
            return match frame.payload_state() {
                PayloadState::None => Ok(Redaction::NoPayload),
                PayloadState::Removed => Ok(Redaction::Already),
                PayloadState::Altered => Ok(Redaction::Damaged),
                PayloadState::There | PayloadState::Leftover => {
                    if removes {
                        remove(store, &name, offset, &frame)?;
                    }
                    Ok(Redaction::Done(Box::new(record)))
                }
            };
        }
        break;
    }
    Ok(Redaction::NotThere)
}

/// The records that keep the payload of the same message as record `index`, of both ends: that one
/// first; that one alone if it can't be read.
pub fn copies(store: &Store, index: u64) -> Result<Vec<u64>, StoreError> {
    let mut one = None;
    let exactly = Filter { first: index, end: index.checked_add(1), ..Filter::default() };
    query(store, &exactly, |record| {
        one = Some(record.entry);
        false
    })?;
    let mut all = vec![index];
    if let Some(one) = one.filter(|one| one.hash != [0; 32]) {
        let alike = Filter { full: true, kinds: vec![one.kind], ..Filter::default() };
        query(store, &alike, |record| {
            let it = &record.entry;
            let same = (it.hash, it.facility, it.edge) == (one.hash, one.facility, one.edge);
            if same && record.payload.is_some() && record.index != index {
                all.push(record.index);
            }
            true
        })?;
    }
    Ok(all)
}

fn remove(
    store: &Store,
    name: &str,
    offset: u64,
    frame: &super::frame::Frame<'_>,
) -> Result<(), StoreError> {
    let file = store.writer(name)?;
    // The checksum covers head, body and link, not the payload.
    let sealed = HEAD + frame.body.len() + LINK;
    let mut bytes = vec![0; sealed];
    store::read_at(&file, name, &mut bytes, offset)?;
    bytes[12] = REMOVED;
    let crc = crc32c::crc32c(&bytes[4..]);
    bytes[..4].copy_from_slice(&crc.to_le_bytes());
    store::write_at(&file, name, &bytes[..HEAD], offset)?;
    store::sync_data(&file, name)?;
    store::write_at(&file, name, &vec![0; frame.payload.len()], offset + sealed as u64)?;
    store::sync_data(&file, name)
}
