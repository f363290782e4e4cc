//! The example `ten_ways`, end to end: every way is used, and refuses what isn't granted.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cofferdam::audit::Store;
use cofferdam::audit::entry::{Facility, Kind};
use cofferdam::audit::query::{Filter, query};
use cofferdam::audit::reconcile::{Bounds, reconcile};
use cofferdam::audit::verify::{Options, verify};

/// The classic table: each way, a part of what came of it, and the policy's place that the refusal
/// names.
const ROWS: [(&str, &str, &str); 10] = [
    ("file", "\"sow and reap\"", "`[file.notes] deny = [\"*.key\"]`"),
    ("signal", "USR1 from front", "`[signal.wake] send = [\"USR1\"]`"),
    ("socket", "\"good morning\"", "`[layer.front] connect = { elsewhere = "),
    ("message queue", "\"put out the fire\", then", "`[queue.jobs] depth = 2`"),
    ("pipe", "\"all that was to be said\"", "`[pipe.words] to = \"front\"`"),
    ("named pipe", "sh wrote \"reload\"", "`[fifo.commands] to = \"front\"`"),
    ("semaphore", "then back had lease", "`[semaphore.turn] permits`"),
    ("shared memory", "\"sunshine\"", "`[region.weather] grant = { back = \"r\" }`"),
    ("message passing", "back answered in time", "`[channel.talk] methods`"),
    ("memory-mapped file", "\"42\"", "`[mapped-file.count] grant = { back = \"r\" }`"),
];

/// Its exit code and its log.
fn run(directory: &Path, flags: &[&OsStr]) -> (Option<i32>, String) {
    let program = std::env::current_exe().unwrap();
    let program = program.parent().unwrap().with_file_name("examples").join("ten_ways");
    assert!(
        program.exists(),
        "{} is missing: build it with `cargo build --example ten_ways`",
        program.display()
    );
    let mut command = Command::new(program);
    command.args(flags).env("TMPDIR", directory).stdin(Stdio::null());
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// What the table says, a line at a time: the way, `allowed` or `refused`, and the rest.
fn table(log: &str) -> Vec<[String; 3]> {
    let rows = log.lines().filter_map(|line| line.strip_prefix("front/0.g1: "));
    let cells = rows.map(|row| {
        let cells: Vec<_> = row.splitn(3, " | ").map(|cell| cell.trim().to_owned()).collect();
        cells.try_into().unwrap_or_else(|_| panic!("{row}\n{log}"))
    });
    cells.collect()
}

#[test]
fn all_ten_are_allowed_and_refused_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let (code, log) = run(directory.path(), &[]);
    assert_eq!(code, Some(0), "{log}");
    let table = table(&log);
    assert_eq!(table.len(), 2 * ROWS.len(), "{log}");
    for (lines, (way, allowed, refused)) in table.chunks(2).zip(ROWS) {
        assert_eq!(lines[0][..2], [way, "allowed"], "{log}");
        assert!(lines[0][2].contains(allowed), "{way}: {}", lines[0][2]);
        assert_eq!(lines[1][..2], ["", "refused"], "{log}");
        assert!(lines[1][2].contains(refused), "{way}: {}", lines[1][2]);
    }
    let left: Vec<PathBuf> =
        fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn each_way_is_in_its_audit_log() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let (code, log) = run(directory.path(), &["--audit".as_ref(), path.as_ref()]);
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(table(&log).len(), 2 * ROWS.len(), "{log}");
    let store = Store::open(&path).unwrap();
    assert!(verify(&store, &Options::default()).unwrap().sound());
    let (mut used, mut alarms) = (BTreeSet::new(), Vec::new());
    let all = Filter { full: true, ..Filter::default() };
    query(&store, &all, |record| {
        match record.entry.kind {
            Kind::Use | Kind::Broker => drop(used.insert(record.entry.facility)),
            Kind::Alarm => alarms.push(String::from_utf8(record.entry.detail).unwrap()),
            _ => {}
        }
        true
    })
    .unwrap();
    // What the library refuses for want of a grant has no object.
    let ways = Facility::ALL.iter().copied();
    let ways = ways.filter(|it| !matches!(it, Facility::Syscall | Facility::Landlock));
    assert_eq!(used, ways.collect());
    assert_eq!(alarms, [""; 0]);
    let (counts, _) = reconcile(&store, Bounds::default(), |_| {}).unwrap();
    // At least the two jobs and the words with their end, beside what was called.
    assert!(counts.honest() && counts.matched >= 4, "{counts:?}");
}

#[test]
fn what_goes_wrong_is_told_and_is_exit_code_2() {
    let (code, log) = run(Path::new("/nonexistent"), &[]);
    assert_eq!(code, Some(2), "{log}");
    assert!(log.contains("/nonexistent"), "{log}");
}
