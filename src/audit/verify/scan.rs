//! One segment, read from end to end.

use super::{Finding, Unknown, What};
use crate::audit::entry::Kind;
use crate::audit::frame::{Frame, FrameError, PayloadState};
use crate::audit::hash::{self, Hash};
use crate::audit::index::Index;
use crate::audit::log::{index_name, segment_name};
use crate::audit::reader::Reader;
use crate::audit::store::{self, Store, StoreError};
use crate::audit::tree::Frontier;

/// No more findings than this of one segment: a wholly damaged one has one for each record.
const MOST: usize = 100;

/// What reading a segment gave.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) number: u64,
    pub(super) name: String,
    pub(super) log: Option<Hash>,
    /// The number of its first record.
    pub(super) first: u64,
    /// The chain and the tree in its header.
    begin: (Hash, Frontier),
    link: Hash,
    tree: Frontier,
    /// At each wanted size: root and link.
    pub(super) roots: Vec<(u64, Hash, Hash)>,
    pub(super) bytes: u64,
    pub(super) redacted: u64,
    /// Whether its last record is a stop.
    pub(super) stopped: bool,
    /// The link before the next record is not known: the record before it is damaged.
    adrift: bool,
    pub(super) findings: Vec<Finding>,
    pub(super) unknown: Vec<Unknown>,
    index: Index,
}

impl Scan {
    /// Reads segment `number`, and computes the roots at those of `sizes` that lie in it.
    pub(super) fn read(
        store: &Store,
        number: u64,
        sizes: &[u64],
        live: bool,
    ) -> Result<Self, StoreError> {
        let name = segment_name(number);
        let file = store.reader(&name)?;
        let bytes = store::length(&file, &name)?;
        let mut scan = Self { number, name, bytes, ..Self::default() };
        let mut reader = Reader::new(file, &scan.name, 0);
        match reader.header()? {
            Err(error) => {
                scan.find(None, 0, What::Header(error));
                return Ok(scan);
            }
            Ok(header) => {
                if header.number != number {
                    scan.find(None, 48, What::Misplaced { found: header.number });
                }
                scan.log = Some(header.log);
                scan.first = header.before.size();
                (scan.link, scan.tree) = (header.link, header.before.clone());
                scan.begin = (header.link, header.before);
            }
        }
        let first = scan.first;
        let mut sizes = sizes.iter().copied().skip_while(|size| *size < first).peekable();
        scan.root(&mut sizes);
        while let Some((offset, frame)) = reader.frame()? {
            match frame {
                Ok(frame) => scan.take(offset, &frame),
                Err(error) => match scan.damaged(offset, error, live) {
                    Some(()) if scan.findings.len() >= MOST => break,
                    Some(()) if reader.skip_frame()? => scan.adrift = true,
                    _ => break,
                },
            }
            scan.root(&mut sizes);
        }
        scan.look_at_index(store, reader.offset())?;
        Ok(scan)
    }

    /// The number behind its last record.
    pub(super) fn end(&self) -> u64 {
        self.tree.size()
    }

    /// What is wrong where this segment follows on `before`.
    pub(super) fn continues(&self, before: &Self) -> Option<Finding> {
        let fits = self.begin == (before.link, before.tree.clone());
        // What is said of a damaged segment says it for this seam too.
        let known = before.findings.is_empty() && self.log.is_some();
        (known && !fits).then(|| Finding {
            record: Some(before.end()),
            byte: Some(0),
            ..Finding::of(self.name.clone(), Some(self.number), What::Seam)
        })
    }

    fn find(&mut self, record: Option<u64>, byte: u64, what: What) {
        let finding = Finding::of(self.name.clone(), Some(self.number), what);
        self.findings.push(Finding { record, byte: Some(byte), ..finding });
    }

    fn root(&mut self, sizes: &mut std::iter::Peekable<impl Iterator<Item = u64>>) {
        while sizes.next_if(|size| *size <= self.tree.size()).is_some() {
            self.roots.push((self.tree.size(), self.tree.root(), self.link));
        }
    }

    fn take(&mut self, offset: u64, frame: &Frame<'_>) {
        let expected = self.tree.size();
        let leaf = hash::leaf(frame.body);
        let link = hash::link(&self.link, &leaf);
        match frame.record() {
            Err(error) => self.find(Some(expected), offset, What::Frame(error)),
            Ok(record) => {
                if record.index != expected {
                    self.find(Some(expected), offset, What::Order { found: record.index });
                } else if link != frame.link && !self.adrift {
                    self.find(Some(expected), offset, What::Chain);
                }
                self.index.push(offset, record.index, record.at, &record.entry);
                self.stopped = record.entry.kind == Kind::Stop;
            }
        }
        match frame.payload_state() {
            PayloadState::None | PayloadState::There => {}
            PayloadState::Removed => self.redacted += 1,
            PayloadState::Leftover => self.find(Some(expected), offset, What::Leftover),
            PayloadState::Altered => self.find(Some(expected), offset, What::Payload),
        }
        self.adrift = false;
        self.link = frame.link;
        self.tree.push(leaf);
    }

    /// Notes a damaged record. `None` if nothing behind it can be read.
    fn damaged(&mut self, offset: u64, error: FrameError, live: bool) -> Option<()> {
        let record = self.tree.size();
        let rest = self.bytes.saturating_sub(offset);
        match error {
            _ if live => self.unknown.push(Unknown::Growing { record }),
            FrameError::Short { .. } => self.find(Some(record), offset, What::Torn { bytes: rest }),
            FrameError::Head => self.find(Some(record), offset, What::Lost(error, rest)),
            error => {
                self.find(Some(record), offset, What::Frame(error));
                // Its leaf is not known, but its place is taken.
                self.tree.push([0; 32]);
                return Some(());
            }
        }
        None
    }

    fn look_at_index(&mut self, store: &Store, end: u64) -> Result<(), StoreError> {
        let file = index_name(self.number);
        let Some(bytes) = store.read(&file, self.bytes + 4096)? else { return Ok(()) };
        let told = Index::parse(&bytes, &self.begin.0);
        let right = told.is_some_and(|(index, covered)| covered < end || index == self.index);
        if self.findings.is_empty() && !right {
            self.unknown.push(Unknown::Index { file });
        }
        Ok(())
    }
}
