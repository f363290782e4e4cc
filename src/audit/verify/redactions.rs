//! Whether what was removed is what records say was.

use std::collections::BTreeMap;

use super::scan::{MOST, Scan};
use super::{Finding, What};
use crate::audit::redact::removable;
use crate::audit::store::{Store, StoreError};

/// Compares the payloads that are gone with those of which a record says so. `first`: the first record
/// that is kept; `live`: a payload may be about to be removed.
pub(super) fn compare(
    store: &Store,
    scans: &[Scan],
    (first, live): (u64, bool),
    findings: &mut Vec<Finding>,
) -> Result<(), StoreError> {
    let told: BTreeMap<u64, u64> =
        scans.iter().flat_map(|scan| scan.redacted.iter().copied()).collect();
    let gone = scans.iter().flat_map(|scan| scan.removed.iter().map(move |it| (scan, *it)));
    let unrecorded = gone.clone().filter(|(_, record)| !told.contains_key(record));
    findings.extend(unrecorded.take(MOST).map(|(scan, it)| of(scan, it, What::Unrecorded)));
    if live {
        return Ok(());
    }
    let gone: Vec<u64> = gone.map(|(_, record)| record).collect();
    let there = told.range(first..).filter(|(record, _)| gone.binary_search(record).is_err());
    for (record, by) in there.take(MOST) {
        let scan = scans.iter().find(|it| (it.first..it.next).contains(record));
        if let Some(scan) = scan
            && removable(store, *record)?.is_some()
        {
            findings.push(of(scan, *record, What::NotRemoved { by: *by }));
        }
    }
    Ok(())
}

fn of(scan: &Scan, record: u64, what: What) -> Finding {
    let finding = Finding::of(scan.name.clone(), Some(scan.number), what);
    Finding { record: Some(record), ..finding }
}
