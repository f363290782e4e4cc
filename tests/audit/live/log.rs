//! Reading a log back.

use std::collections::BTreeMap;
use std::path::Path;

use cofferdam::audit::Store;
use cofferdam::audit::entry::{Entry, Facility, Form, Kind, Record, Side, Who};
use cofferdam::audit::query::{Filter, query};
use cofferdam::audit::verify::{Options, verify};

/// A log's records, none damaged.
pub(crate) fn records(dir: &Path) -> Vec<Record> {
    let store = Store::open(dir).expect("the log");
    let mut records = Vec::new();
    let effort = query(&store, &Filter { full: true, ..Filter::default() }, |record| {
        records.push(record);
        true
    });
    assert_eq!(effort.expect("the log").damaged, 0);
    records
}

/// Asserts that nobody altered the log.
pub(crate) fn assert_sound(dir: &Path) {
    let told = verify(&Store::open(dir).expect("the log"), &Options::default()).expect("a log");
    assert!(told.sound(), "{:?}", told.findings);
}

/// The texts of all alarms.
pub(crate) fn alarms(records: &[Record]) -> Vec<String> {
    let alarms = records.iter().filter(|record| record.entry.kind == Kind::Alarm);
    alarms.map(|record| String::from_utf8_lossy(&record.entry.detail).into_owned()).collect()
}

/// How many reports of messages there are from each side, of each pair of instances.
pub(crate) fn messages(records: &[Record]) -> BTreeMap<(Side, Who, Who, u64), Vec<Entry>> {
    let mut all = BTreeMap::<_, Vec<Entry>>::new();
    for Record { entry, .. } in records {
        let ends = match entry.side {
            Side::Sender => (entry.reporter, entry.peer),
            Side::Receiver => (entry.peer, entry.reporter),
            _ => continue,
        };
        if entry.kind == Kind::Use && entry.facility == Facility::Channel {
            let key = (entry.side, ends.0, ends.1, entry.sequence);
            all.entry(key).or_default().push(entry.clone());
        }
    }
    all
}

/// Asserts that each message is there once from each side, and that the two agree; but for those
/// whose ends ended in the middle. Says how many there are.
pub(crate) fn assert_two_sided(records: &[Record]) -> usize {
    let ended: Vec<Who> = records
        .iter()
        .filter(|record| record.entry.kind == Kind::Exit)
        .map(|record| record.entry.peer)
        .collect();
    let all = messages(records);
    let mut matched = 0;
    for (&(side, from, to, sequence), reports) in &all {
        assert_eq!(reports.len(), 1, "{side:?} {from:?} {to:?} {sequence} is there twice");
        let other = if side == Side::Sender { Side::Receiver } else { Side::Sender };
        if let Some(others) = all.get(&(other, from, to, sequence)) {
            let (one, two) = (&reports[0], &others[0]);
            assert_eq!(
                (one.hash, one.length, one.form, one.method, one.value, &one.detail),
                (two.hash, two.length, two.form, two.method, two.value, &two.detail)
            );
            matched += 1;
        } else {
            let last = !all.contains_key(&(other, from, to, sequence + 2));
            assert!(ended.contains(&from) || ended.contains(&to), "{side:?} of {sequence}");
            assert!(last || side == Side::Sender, "{side:?} of {sequence} has no other half");
        }
    }
    matched / 2
}

/// How many messages these reports of one side are about.
pub(crate) fn count(records: &[Record], side: Side, form: Form) -> u64 {
    let of_side = records.iter().filter(|record| record.entry.side == side);
    let runs = of_side.flat_map(|record| cofferdam::audit::runs::of(&record.entry));
    runs.filter(|run| run.form == form).map(|run| u64::from(run.messages)).sum()
}

/// How many reports the log says were lost.
pub(crate) fn lost(records: &[Record]) -> u64 {
    let losses = records.iter().filter(|record| record.entry.kind == Kind::Loss);
    losses.fold(0, |all, record| all.saturating_add(record.entry.length))
}
