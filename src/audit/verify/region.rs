//! Which records are those that were signed, and where they begin and cease to be.
//!
//! Segments are gone through in order. What was signed for are fixed points: up to one that is
//! found again, everything is as it was signed, for chain and tree lead there from the beginning.
//! Behind a damaged record the chain alone leads on; it holds every record since, so where it
//! arrives at a signed link, nothing between was altered. So faults without a fixed point between
//! them are one [`Region`], and get one finding: at the first record that shows it.

use std::collections::BTreeMap;

use super::finding::{Finding, Region, What};
use super::scan::{Event, Scan, follows};
use crate::audit::hash::Hash;
use crate::audit::log::{index_name, segment_name};
use crate::audit::note::Checkpoint;

/// Every checkpoint that a key of the log signed, by its number of records.
pub(super) type Anchors = BTreeMap<u64, Vec<Checkpoint>>;

/// Goes through the segments.
pub(super) struct Walk<'a> {
    anchors: &'a Anchors,
    pub(super) findings: Vec<Finding>,
    /// So many records are as they were signed, or follow on those.
    good: u64,
    /// The finding whose region has no end yet, and where it would be.
    open: Option<(usize, u64)>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(anchors: &'a Anchors) -> Self {
        Self { anchors, findings: Vec::new(), good: 0, open: None }
    }

    /// Takes the segments, which are in order.
    pub(super) fn go(&mut self, scans: &[Scan], log: Option<Hash>) {
        let mut before: Option<&Scan> = None;
        for scan in scans {
            match before {
                None => self.begin(scan, log),
                Some(before) if before.number + 1 < scan.number => {
                    self.close(None);
                    let missing = before.number + 1;
                    let finding =
                        Finding::of(segment_name(missing), Some(missing), What::SegmentMissing);
                    self.findings.push(finding);
                    self.begin(scan, log);
                }
                Some(before) => self.seam(before, scan, log),
            }
            if scan.begin.is_none() || scan.is_of(log) {
                self.events(scan);
                self.findings.extend(scan.findings.iter().cloned());
            }
            before = Some(scan);
        }
    }

    /// Where nothing stands before a segment.
    fn begin(&mut self, scan: &Scan, log: Option<Hash>) {
        self.good = scan.first;
        if self.stranger(scan, log) {
            return;
        }
        match self.begins(scan, log) {
            Some(false) => {
                let what = self.rewritten(scan.first);
                self.fault(scan, None, 0, what, scan.first);
            }
            _ if scan.first == 0 && scan.begin.is_some() => {
                let wrong = scan.begins.and_then(|begins| follows(None, begins));
                self.findings.extend(wrong.map(|what| place(scan, Some(0), None, what)));
            }
            _ => {}
        }
    }

    /// Where a segment follows on another.
    fn seam(&mut self, before: &Scan, scan: &Scan, log: Option<Hash>) {
        if self.stranger(scan, log) {
            return;
        }
        let Some((link, tree)) = &scan.begin else { return };
        let counted = before.next == scan.first;
        let fits = counted
            && before.is_of(log)
            && before.link == Some(*link)
            && before.tree.as_ref().is_none_or(|end| end == tree);
        let begins = self.begins(scan, log);
        if begins == Some(true) {
            if !fits && self.open.is_none() {
                let record = if counted { self.good } else { before.next.min(scan.first) };
                self.fault(before, Some(record), before.bytes, What::End, scan.first);
            }
            self.close(Some(scan.first));
            self.good = scan.first;
        } else if !fits {
            self.fault(scan, Some(before.next), 0, What::Seam, scan.first);
        }
        if fits && let (Some(end), Some(begins)) = (before.ends, scan.begins) {
            let wrong = follows(Some(end), begins);
            self.findings.extend(wrong.map(|what| place(scan, Some(scan.first), None, what)));
        }
    }

    /// Whether a segment is of another log or place: nothing of it can be placed here.
    fn stranger(&mut self, scan: &Scan, log: Option<Hash>) -> bool {
        match scan.misplaced {
            _ if scan.begin.is_none() || scan.is_of(log) => return false,
            Some(found) => self.fault(scan, None, 48, What::Misplaced { found }, scan.next),
            None => self.fault(scan, None, 16, What::OtherLog, scan.next),
        }
        true
    }

    /// Whether a segment's header is what was signed for, if that can be told.
    fn begins(&self, scan: &Scan, log: Option<Hash>) -> Option<bool> {
        let (link, tree) = scan.begin.as_ref()?;
        if scan.first == 0 {
            return log.map(|log| log == *link);
        }
        if let Some(signed) = self.anchors.get(&scan.first) {
            let root = tree.root();
            return Some(signed.iter().all(|it| (it.root, it.link) == (root, *link)));
        }
        match scan.events.first()? {
            Event::Mark { size, root, link } if self.matches(*size, root.as_ref(), link) => {
                Some(true)
            }
            _ => None,
        }
    }

    fn matches(&self, size: u64, root: Option<&Hash>, link: &Hash) -> bool {
        let signed = self.anchors.get(&size).map_or(&[][..], Vec::as_slice);
        signed.iter().all(|it| it.link == *link && root.is_none_or(|root| *root == it.root))
    }

    fn events(&mut self, scan: &Scan) {
        for event in &scan.events {
            match event {
                Event::Fault { record, byte, what, until } => {
                    self.fault(scan, *record, *byte, what.clone(), *until);
                }
                Event::Mark { size, root, link } if self.matches(*size, root.as_ref(), link) => {
                    let until = self.open.map(|(_, until)| until.min(*size));
                    self.close(until);
                    self.good = *size;
                }
                Event::Mark { size, .. } => {
                    let what = self.rewritten(*size);
                    self.fault(scan, size.checked_sub(1), 0, what, *size);
                }
            }
        }
    }

    fn rewritten(&self, size: u64) -> What {
        let epoch = self.anchors.get(&size).and_then(|all| all.first()).map_or(0, |it| it.epoch);
        What::Rewritten { size, epoch }
    }

    fn fault(&mut self, scan: &Scan, record: Option<u64>, byte: u64, what: What, until: u64) {
        if let Some((_, end)) = &mut self.open {
            *end = until;
        } else {
            self.open = Some((self.findings.len(), until));
            self.findings.push(place(scan, record, Some(byte), what));
        }
    }

    fn close(&mut self, before: Option<u64>) {
        if let Some((at, _)) = self.open.take() {
            let after = self.good.checked_sub(1);
            self.findings[at].region = Some(Region { after, before });
        }
    }

    /// There are no more segments, and so many records; so many were signed for. Of the segment
    /// `orphan` everything but itself is there.
    pub(super) fn end(&mut self, scans: &[Scan], (end, signed): (u64, u64), orphan: Option<u64>) {
        let cut = What::TailCut { signed, there: end };
        let number = orphan.or(scans.last().map(|scan| scan.number)).unwrap_or(0);
        let after = end.checked_sub(1);
        let missing = |what| Finding {
            record: Some(end),
            region: Some(Region { after, before: None }),
            ..Finding::of(segment_name(number), Some(number), what)
        };
        if signed > end && (orphan.is_some() || self.open.is_none()) {
            self.findings.push(missing(cut));
        } else if signed > end {
            let at = self.open.map(|(at, _)| at);
            if let Some(finding) = at.and_then(|at| self.findings.get_mut(at))
                && matches!(finding.what, What::Torn { .. })
            {
                finding.what = cut;
            }
        } else if orphan.is_some() {
            self.findings.push(missing(What::SegmentMissing));
        }
        self.close(None);
        // Where records were altered, the index says so too.
        for scan in scans.iter().filter(|scan| !scan.indexed) {
            let altered = |it: &&Finding| match it.region {
                Some(Region { after, before }) => {
                    it.segment == Some(scan.number)
                        || after.is_none_or(|after| after < scan.next)
                            && before.is_none_or(|before| before > scan.first)
                }
                None => it.segment == Some(scan.number) && matches!(it.what, What::SegmentMissing),
            };
            if !self.findings.iter().any(|it| altered(&it)) {
                let file = index_name(scan.number);
                self.findings.push(Finding::of(file, Some(scan.number), What::Index));
            }
        }
    }
}

fn place(scan: &Scan, record: Option<u64>, byte: Option<u64>, what: What) -> Finding {
    Finding { record, byte, ..Finding::of(scan.name.clone(), Some(scan.number), what) }
}
