//! Reading a whole log with mistrust: every byte of it, segments in parallel.
//!
//! A log is sound if there are no findings. What can't be known from the directory alone is said
//! too: [`Verified::unknown`].

mod finding;
mod notes;
mod redactions;
mod region;
mod scan;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

pub use self::finding::{Finding, Region, Unknown, What};
use self::notes::KeyChain;
use self::region::{Anchors, Walk};
use self::scan::Scan;
use super::entry::Kind;
use super::hash::Hash;
use super::log::{index_number, notes_number, segment_name, segment_number};
use super::store::{Store, StoreError};

/// How to verify.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Signed checkpoints of this log that were kept elsewhere, as text.
    pub outside: Vec<String>,
    /// The log's id as it was noted elsewhere.
    pub id: Option<Hash>,
    /// A writer is at work: an unfinished end is no finding.
    pub live: bool,
    /// How many threads; 0 is one a core.
    pub threads: usize,
    /// The log must have been closed in order, with everything signed.
    pub closed: bool,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Verified {
    /// The log's id.
    pub log: Option<Hash>,
    /// The first record that is there.
    pub first: u64,
    /// The number behind the last record.
    pub size: u64,
    /// How many of these the last checkpoint signs.
    pub signed: u64,
    /// How many bytes were read of segments.
    pub bytes: u64,
    /// How many segments there are.
    pub segments: usize,
    /// How many epochs have begun.
    pub epochs: u64,
    /// How many payloads were removed.
    pub redacted: u64,
    /// What is wrong: of checkpoints first, then of records in their order. None: the log is sound.
    pub findings: Vec<Finding>,
    /// What can't be known.
    pub unknown: Vec<Unknown>,
}

impl Verified {
    /// Whether nothing is wrong.
    pub fn sound(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Verifies the log in `store`. An error is the system's refusal to read; what is wrong with the
/// log is in the result.
pub fn verify(store: &Store, options: &Options) -> Result<Verified, StoreError> {
    let mut out = Verified::default();
    // Checkpoints first: a log that grows meanwhile never has fewer records than they sign.
    let names = store.names()?;
    let numbered = |number: fn(&str) -> Option<u64>| {
        let mut numbers: Vec<u64> = names.iter().filter_map(|name| number(name)).collect();
        numbers.sort_unstable();
        numbers
    };
    let numbers = numbered(segment_number);
    let keys = KeyChain::read(store, &mut out.findings, options.live)?;
    let mut signed = keys.notes.clone();
    for number in numbered(notes_number) {
        signed.extend(keys.segment(store, number, &mut out.findings, options.live)?);
    }
    let outside = keys.outside(options, &mut out.findings);
    if let (Some(id), Some(log)) = (options.id, keys.log)
        && id != log
    {
        out.findings.push(Finding::of(super::keys::EPOCHS.to_owned(), None, What::OtherLog));
    }
    let mut anchors = Anchors::new();
    for checkpoint in signed.iter().map(|note| note.signed.checkpoint).chain(outside) {
        anchors.entry(checkpoint.size).or_default().push(checkpoint);
    }
    let sizes: Vec<u64> = anchors.keys().copied().collect();

    let scans = scan_all(store, &numbers, &sizes, options)?;
    // A segment that was begun since is no orphan's.
    let last = numbers.last().copied();
    let orphans = numbered(notes_number).into_iter().chain(numbered(index_number));
    let mut orphan = orphans.filter(|number| last.is_none_or(|last| *number > last)).min();
    if let Some(number) = orphan
        && store.reader(&segment_name(number)).is_ok()
    {
        orphan = None;
    }
    let known = |scan: &&Scan| scan.is_of(keys.log);
    let last = signed.iter().map(|note| note.signed.checkpoint).max_by_key(|c| (c.size, c.epoch));
    out.log = keys.log;
    out.epochs = keys.epochs();
    out.segments = scans.len();
    out.first = scans.iter().find(known).map_or(0, |scan| scan.first);
    out.size = scans.iter().rfind(known).map_or(0, |scan| scan.next);
    out.signed = last.map_or(0, |last| last.size);
    out.bytes = scans.iter().map(|scan| scan.bytes).sum();
    out.redacted = scans.iter().map(|scan| scan.removed.len() as u64).sum();
    out.unknown.extend(scans.iter().flat_map(|scan| scan.unknown.iter().cloned()));

    let mut walk = Walk::new(&anchors);
    if out.first > last.map_or(0, |last| last.first) {
        let number = scans.first().map_or(0, |scan| scan.number.saturating_sub(1));
        let what = What::SegmentMissing;
        walk.findings.push(Finding::of(segment_name(number), Some(number), what));
    }
    walk.go(&scans, keys.log);
    let most = sizes.last().copied().unwrap_or(0);
    walk.end(&scans, (out.size, most), orphan);
    for note in &signed {
        let Some(number) = notes_number(&note.file) else { continue };
        let of = |number: u64| scans.iter().find(|it| it.number == number && it.is_of(keys.log));
        let size = note.signed.checkpoint.size;
        let before = of(number).is_some_and(|scan| size < scan.first);
        if before || of(number + 1).is_some_and(|scan| size > scan.first) {
            notes::once(&mut out.findings, notes::at(note, What::NotePlace { size }));
        }
    }
    // Where the chain of keys is broken, what its keys signed can't be told from what nobody did.
    if out.findings.iter().any(|finding| finding.file == super::keys::EPOCHS) {
        walk.findings.retain(|finding| finding.what != What::StopUnsigned);
    } else {
        signs_what_it_must(&mut walk.findings, &scans, &sizes, &out, options);
    }
    let whole = walk.findings.is_empty();
    // Where records are altered, those that say so may be among them.
    if whole && out.findings.is_empty() {
        redactions::compare(store, &scans, (out.first, options.live), &mut walk.findings)?;
    }
    out.findings.append(&mut walk.findings);
    let unchecked = sizes.iter().filter(|size| **size < out.first).count();
    conclude(&mut out, &scans, options, unchecked as u64);
    if options.closed && whole && (out.size > out.signed || !stopped(&scans)) {
        let (from, to) = (out.signed, out.size);
        let what = What::NotClosed { from, to };
        let finding =
            Finding::of(scans.last().map_or_else(String::new, |it| it.name.clone()), None, what);
        out.findings.push(finding);
    }
    Ok(out)
}

/// How long records may wait for a checkpoint: twice the longest that a policy may say.
const UNSIGNED: u64 = 120_000_000_000;

/// What a writer always signs: the end of each life that ended in order, and everything before long.
fn signs_what_it_must(
    findings: &mut Vec<Finding>,
    scans: &[Scan],
    sizes: &[u64],
    out: &Verified,
    options: &Options,
) {
    let Some(last) = scans.last().filter(|last| last.tree.is_some()) else { return };
    let unsigned = sizes.last().is_none_or(|size| *size < out.size);
    if !unsigned {
        return;
    }
    let what = if last.ends == Some(Kind::Stop) && !options.live {
        What::StopUnsigned
    } else {
        let Some(from) = scans.iter().find_map(|scan| scan.unsigned) else { return };
        let Some(to) = last.last else { return };
        // Between the two the machine may have begun again.
        let took = if to.monotonic < from.monotonic {
            to.real.saturating_sub(from.real)
        } else {
            to.monotonic - from.monotonic
        };
        if took < UNSIGNED {
            return;
        }
        What::Unsigned { from: out.signed, to: out.size, seconds: took / 1_000_000_000 }
    };
    let record = match what {
        What::StopUnsigned => out.size.checked_sub(1),
        _ => Some(out.signed),
    };
    findings.push(Finding { record, ..Finding::of(last.name.clone(), Some(last.number), what) });
}

fn stopped(scans: &[Scan]) -> bool {
    scans.last().is_some_and(|scan| scan.ends == Some(Kind::Stop))
}

fn conclude(out: &mut Verified, scans: &[Scan], options: &Options, unchecked: u64) {
    if out.size > out.signed {
        out.unknown.push(Unknown::Unsigned { from: out.signed, to: out.size });
    }
    if !stopped(scans) {
        out.unknown.push(Unknown::NotClosed);
    }
    if options.outside.is_empty() {
        out.unknown.push(Unknown::NoOutside);
    }
    if options.outside.is_empty() && options.id.is_none() {
        out.unknown.push(Unknown::Replaced);
    }
    if unchecked > 0 && out.first > 0 {
        out.unknown.push(Unknown::Dropped { before: out.first, checkpoints: unchecked });
    }
}

fn scan_all(
    store: &Store,
    numbers: &[u64],
    sizes: &[u64],
    options: &Options,
) -> Result<Vec<Scan>, StoreError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = if options.threads == 0 { cores } else { options.threads };
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(numbers.len()));
    std::thread::scope(|scope| {
        for _ in 0..threads.min(numbers.len()) {
            scope.spawn(|| {
                while let Some(&number) = numbers.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let last = numbers.last() == Some(&number);
                    let scan = Scan::read(store, number, sizes, (options.live && last, last));
                    done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(scan);
                }
            });
        }
    });
    let done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut scans = done.into_iter().collect::<Result<Vec<_>, _>>()?;
    scans.sort_by_key(|scan| scan.number);
    Ok(scans)
}
