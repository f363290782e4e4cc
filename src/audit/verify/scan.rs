//! One segment, read from end to end.

use super::{Finding, Unknown, What};
use crate::audit::entry::{Kind, Moment, Record};
use crate::audit::frame::{Frame, FrameError, PayloadState};
use crate::audit::hash::{self, Hash};
use crate::audit::index::Index;
use crate::audit::log::{index_name, segment_name};
use crate::audit::reader::Reader;
use crate::audit::store::{self, Store, StoreError};
use crate::audit::tree::Frontier;

/// No more payloads of one segment are named than this.
pub(super) const MOST: usize = 100;

/// What of a segment bears on whether its records are those that were signed, in their order.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// Records that aren't what they should be: what the first one shows.
    Fault {
        record: Option<u64>,
        byte: u64,
        what: What,
        /// The first record behind them that the chain leads from again.
        until: u64,
    },
    /// A checkpoint signs so many records. The root is known if all before are whole.
    Mark { size: u64, root: Option<Hash>, link: Hash },
}

/// What reading a segment gave.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) number: u64,
    pub(super) name: String,
    pub(super) log: Option<Hash>,
    /// The number in its header, if that is another one.
    pub(super) misplaced: Option<u64>,
    /// The number of its first record.
    pub(super) first: u64,
    /// The chain and the tree in its header; `None` if that is none.
    pub(super) begin: Option<(Hash, Frontier)>,
    pub(super) events: Vec<Event>,
    /// The link after the last record; `None` if that one is damaged.
    pub(super) link: Option<Hash>,
    /// The tree, as long as every leaf is known.
    pub(super) tree: Option<Frontier>,
    /// The number of the next record.
    pub(super) next: u64,
    /// What would be the next number if the last record's own were right.
    elsewhere: Option<u64>,
    pub(super) bytes: u64,
    /// The records whose payload was removed.
    pub(super) removed: Vec<u64>,
    /// The records of which one here says that their payload is to be removed, each with that one.
    pub(super) redacted: Vec<(u64, u64)>,
    /// The first record's kind, and whether that is a start which says that the last life ended in
    /// order.
    pub(super) begins: Option<(Kind, bool)>,
    /// The last record's kind.
    pub(super) ends: Option<Kind>,
    /// When the first record that nobody signed was taken, and the last one of all.
    pub(super) unsigned: Option<Moment>,
    pub(super) last: Option<Moment>,
    /// What is wrong besides with single records and files.
    pub(super) findings: Vec<Finding>,
    pub(super) unknown: Vec<Unknown>,
    index: Index,
    /// Whether the index is right, or there is none.
    pub(super) indexed: bool,
}

impl Scan {
    /// Reads segment `number`. `sizes` are those that are signed, in order; `last`: no segment follows.
    pub(super) fn read(
        store: &Store,
        number: u64,
        sizes: &[u64],
        (live, last): (bool, bool),
    ) -> Result<Self, StoreError> {
        let name = segment_name(number);
        let file = store.reader(&name)?;
        let bytes = store::length(&file, &name)?;
        let mut scan = Self { number, name, bytes, ..Self::default() };
        // What the index said before the segment was read: a writer may replace it meanwhile.
        let index = store.read(&index_name(number), bytes + 4096)?;
        let mut reader = Reader::new(file, &scan.name, 0);
        match reader.header()? {
            Err(error) => {
                scan.fault(None, 0, What::Header(error), 0);
                return Ok(scan);
            }
            Ok(header) => {
                scan.log = Some(header.log);
                scan.first = header.before.size();
                scan.next = scan.first;
                scan.misplaced = (header.number != number).then_some(header.number);
                scan.link = Some(header.link);
                scan.tree = Some(header.before.clone());
                scan.begin = Some((header.link, header.before));
            }
        }
        let told = index.map(|bytes| {
            let link = scan.begin.as_ref().map_or([0; 32], |(link, _)| *link);
            Index::parse(&bytes, &link)
        });
        let mut right = told == Some(Some((Index::default(), reader.offset())));
        while let Some((offset, frame)) = reader.frame()? {
            match frame {
                Ok(frame) => scan.take(offset, &frame, sizes),
                Err(error) => {
                    let torn = matches!(error, FrameError::Short { .. });
                    let on = !torn && reader.skip_frame()?;
                    // Nobody has signed what a writer is at.
                    if live && !on && sizes.last().is_none_or(|signed| *signed <= scan.next) {
                        scan.unknown.push(Unknown::Growing { record: scan.next });
                        break;
                    }
                    scan.damaged(offset, error, (on, last));
                    if !on {
                        break;
                    }
                }
            }
            right |= matches!(&told, Some(Some((index, covered)))
                if *covered == reader.offset() && *index == scan.index);
        }
        scan.indexed = told.is_none() || right;
        Ok(scan)
    }

    /// Whether it is the segment of that number of that log, as far as its header goes.
    pub(super) fn is_of(&self, log: Option<Hash>) -> bool {
        self.begin.is_some() && self.misplaced.is_none() && (log.is_none() || self.log == log)
    }

    fn fault(&mut self, record: Option<u64>, byte: u64, what: What, until: u64) {
        match self.events.last_mut() {
            // Nothing that was signed stands between the two: they are one region.
            Some(Event::Fault { until: end, .. }) => *end = until,
            _ => self.events.push(Event::Fault { record, byte, what, until }),
        }
        self.tree = None;
    }

    fn take(&mut self, offset: u64, frame: &Frame<'_>, sizes: &[u64]) {
        let leaf = hash::leaf(frame.body);
        let before = self.link.replace(frame.link);
        let record = frame.record();
        let found = record.as_ref().map_or(self.next, |record| record.index);
        // Where records were taken out or put in, the numbers go on from there.
        if found != self.next && self.elsewhere == Some(found) {
            self.next = found;
        }
        let place = self.next;
        let wrong = match &record {
            Err(error) => Some(What::Frame(*error)),
            Ok(_) if found != place => {
                self.elsewhere = found.checked_add(1);
                Some(What::Order { found })
            }
            Ok(_) => before
                .is_some_and(|before| hash::link(&before, &leaf) != frame.link)
                .then_some(What::Chain),
        };
        self.next = place.saturating_add(1);
        // Behind a damaged record the chain leads from this one on, and not to it.
        let wrong = wrong.or(before.is_none().then_some(What::Chain));
        let follows = wrong.is_none();
        if let Some(what) = wrong {
            self.fault(Some(place), offset, what, self.next);
        } else if let Some(tree) = &mut self.tree {
            tree.push(leaf);
        }
        match frame.payload_state() {
            PayloadState::None | PayloadState::There => {}
            PayloadState::Removed => self.removed.push(place),
            PayloadState::Leftover => self.find(place, offset, What::Leftover),
            PayloadState::Altered => self.find(place, offset, What::Payload),
        }
        if let Ok(record) = &record {
            self.look(record, offset, sizes);
        }
        if follows && sizes.binary_search(&self.next).is_ok() {
            let root = self.tree.as_ref().map(Frontier::root);
            self.events.push(Event::Mark { size: self.next, root, link: frame.link });
        }
    }

    /// What a record tells of the log's lives.
    fn look(&mut self, record: &Record, offset: u64, sizes: &[u64]) {
        let kind = record.entry.kind;
        let clean = kind == Kind::Start && record.entry.value == 1;
        let place = self.next - 1;
        if self.begins.is_none() {
            self.begins = Some((kind, clean));
        } else if let Some(what) = follows(self.ends, (kind, clean)) {
            self.find(place, offset, what);
        }
        if clean && self.ends == Some(Kind::Stop) && sizes.binary_search(&place).is_err() {
            self.find(place - 1, offset, What::StopUnsigned);
        }
        if kind == Kind::Redacted {
            self.redacted.push((record.entry.sequence, place));
        }
        self.ends = Some(kind);
        if sizes.last().map_or(0, |size| *size) == place {
            self.unsigned = Some(record.at);
        }
        self.last = Some(record.at);
        self.index.push(offset, record.index, record.at, &record.entry);
    }

    fn find(&mut self, record: u64, byte: u64, what: What) {
        let alike =
            |it: &&Finding| std::mem::discriminant(&it.what) == std::mem::discriminant(&what);
        if self.findings.iter().filter(alike).count() < MOST {
            let finding = Finding::of(self.name.clone(), Some(self.number), what);
            self.findings.push(Finding { record: Some(record), byte: Some(byte), ..finding });
        }
    }

    /// Notes a record that isn't whole; `on` if what is behind it can be read. A crash tears nothing
    /// but the `last` segment.
    fn damaged(&mut self, offset: u64, error: FrameError, (on, last): (bool, bool)) {
        let rest = self.bytes.saturating_sub(offset);
        let what = match error {
            FrameError::Short { .. } if last => What::Torn { bytes: rest },
            error if on => What::Frame(error),
            error => What::Lost(error, rest),
        };
        self.fault(Some(self.next), offset, what, self.next + 1);
        self.link = None;
        // Its place is taken.
        self.next += u64::from(on);
    }
}

/// What is wrong with a record of this kind behind one of that kind: a life begins with a start,
/// and ends with a stop if it ends in order.
pub(super) fn follows(before: Option<Kind>, (kind, clean): (Kind, bool)) -> Option<What> {
    match (before, kind) {
        (None | Some(Kind::Stop), Kind::Start) => None,
        (None, _) => Some(What::NoStart),
        (Some(Kind::Stop), _) => Some(What::AfterStop),
        (Some(_), Kind::Start) if clean => Some(What::NoStop),
        _ => None,
    }
}
