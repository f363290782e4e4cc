//! Reading a whole log with mistrust: every byte of it, segments in parallel.
//!
//! A log is sound if there are no findings. What can't be known from the directory alone is said
//! too: [`Verified::unknown`].

mod finding;
mod notes;
mod scan;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

pub use self::finding::{Finding, Unknown, What};
use self::notes::KeyChain;
use self::scan::Scan;
use super::hash::Hash;
use super::log::{segment_name, segment_number};
use super::note::Signed;
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
    /// What is wrong, in the log's order. None: the log is sound.
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
    let mut numbers: Vec<u64> =
        store.names()?.iter().filter_map(|name| segment_number(name)).collect();
    numbers.sort_unstable();
    let keys = KeyChain::read(store, &mut out.findings, options.live)?;
    let mut signed = keys.notes.clone();
    for &number in &numbers {
        signed.extend(keys.segment(store, number, &mut out.findings, options.live)?);
    }
    let outside = keys.outside(options, &mut out.findings);
    let sizes = {
        let all =
            signed.iter().map(|note| &note.signed).chain(outside.iter().map(|(_, note)| note));
        let mut sizes: Vec<u64> = all.map(|signed| signed.checkpoint.size).collect();
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    };

    let scans = scan_all(store, &numbers, &sizes, options)?;
    let missing =
        |number: u64| Finding::of(segment_name(number), Some(number), What::SegmentMissing);
    for pair in scans.windows(2) {
        let gap = pair[0].number + 1..pair[1].number;
        out.findings.extend(gap.clone().take(1).map(missing));
        if gap.is_empty() {
            out.findings.extend(pair[1].continues(&pair[0]));
        }
    }
    if let (Some(id), Some(log)) = (options.id, keys.log)
        && id != log
    {
        out.findings.push(Finding::of(super::keys::EPOCHS.to_owned(), None, What::OtherLog));
    }
    let last = signed.iter().map(|note| note.signed.checkpoint).max_by_key(|c| (c.size, c.epoch));
    out.log = keys.log;
    out.epochs = keys.epochs();
    out.segments = scans.len();
    out.first = scans.first().map_or(0, |scan| scan.first);
    out.size = scans.last().map_or(0, Scan::end);
    out.signed = last.map_or(0, |last| last.size);
    let dropped = last.map_or(0, |last| last.first);
    if out.first > dropped || (scans.is_empty() && out.signed > 0) {
        out.findings.push(missing(scans.first().map_or(0, |scan| scan.number.saturating_sub(1))));
    }
    for scan in &scans {
        if keys.log.is_some_and(|log| scan.log.is_some_and(|own| own != log)) {
            let what = What::OtherLog;
            out.findings.push(Finding::of(scan.name.clone(), Some(scan.number), what));
        }
        out.bytes += scan.bytes;
        out.redacted += scan.redacted;
        out.findings.extend(scan.findings.iter().cloned());
        out.unknown.extend(scan.unknown.iter().cloned());
    }
    let places = signed.iter().map(|note| (note.file.as_str(), note.byte, &note.signed));
    let outside = outside.iter().map(|(name, note)| (name.as_str(), 0, note));
    let mut unchecked = 0;
    for (file, byte, signed) in places.chain(outside) {
        unchecked += compare(&mut out, &scans, (file, byte, signed));
    }
    conclude(&mut out, &scans, options, unchecked);
    Ok(out)
}

/// Compares a checkpoint with what was read. 1 if its records are there no more.
fn compare(out: &mut Verified, scans: &[Scan], (file, byte, signed): (&str, u64, &Signed)) -> u64 {
    let check = &signed.checkpoint;
    let finding = |what| Finding { byte: Some(byte), ..Finding::of(file.to_owned(), None, what) };
    if check.size > out.size {
        let what = What::TailCut { signed: check.size, there: out.size };
        out.findings.push(Finding { record: Some(out.size), ..finding(what) });
        return 0;
    }
    let (mut seen, mut damaged) = (false, false);
    for scan in scans {
        damaged |= scan.first <= check.size && !scan.findings.is_empty();
        for (size, root, link) in &scan.roots {
            if *size == check.size {
                seen = true;
                if (*root, *link) == (check.root, check.link) {
                    return 0;
                }
            }
        }
    }
    // Where a record is found broken, that finding stands for the root as well.
    if check.size == 0 && scans.is_empty() {
        let empty = (super::hash::empty(), check.log);
        if (check.root, check.link) != empty {
            out.findings.push(finding(What::Rewritten { size: 0, epoch: check.epoch }));
        }
        return 0;
    }
    if seen && !damaged {
        let what = What::Rewritten { size: check.size, epoch: check.epoch };
        let record = check.size.checked_sub(1);
        out.findings.push(Finding { record, ..finding(what) });
    }
    u64::from(!seen)
}

fn conclude(out: &mut Verified, scans: &[Scan], options: &Options, unchecked: u64) {
    if out.size > out.signed {
        out.unknown.push(Unknown::Unsigned { from: out.signed, to: out.size });
    }
    if scans.last().is_none_or(|scan| !scan.stopped) {
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
                    let live = options.live && numbers.last() == Some(&number);
                    let scan = Scan::read(store, number, sizes, live);
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
