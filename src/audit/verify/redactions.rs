//! Whether what was removed is what records say was.

use std::collections::BTreeMap;

use super::scan::{MOST, Scan};
use super::{Finding, What};

/// Compares the payloads that are gone with those of which a record says so. `first`: the first record
/// that is kept; `live`: a payload may be about to be removed.
pub(super) fn compare(scans: &[Scan], first: u64, live: bool, findings: &mut Vec<Finding>) {
    let told: BTreeMap<u64, u64> =
        scans.iter().flat_map(|scan| scan.redacted.iter().copied()).collect();
    let gone = scans.iter().flat_map(|scan| scan.removed.iter().map(move |it| (scan, *it)));
    let unrecorded = gone.clone().filter(|(_, record)| !told.contains_key(record));
    findings.extend(unrecorded.take(MOST).map(|(scan, it)| of(scan, it, What::Unrecorded)));
    if live {
        return;
    }
    let gone: Vec<u64> = gone.map(|(_, record)| record).collect();
    let there = told.range(first..).filter(|(record, _)| gone.binary_search(record).is_err());
    findings.extend(there.take(MOST).filter_map(|(record, by)| {
        let scan = scans.iter().find(|it| (it.first..it.next).contains(record))?;
        Some(of(scan, *record, What::NotRemoved { by: *by }))
    }));
}

fn of(scan: &Scan, record: u64, what: What) -> Finding {
    let finding = Finding::of(scan.name.clone(), Some(scan.number), what);
    Finding { record: Some(record), ..finding }
}
