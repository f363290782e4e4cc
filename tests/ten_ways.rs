//! The example `ten_ways`, end to end: every way is used, and refuses what isn't granted.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

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
fn run(directory: &Path) -> (Option<i32>, String) {
    let program = std::env::current_exe().unwrap();
    let program = program.parent().unwrap().with_file_name("examples").join("ten_ways");
    assert!(
        program.exists(),
        "{} is missing: build it with `cargo build --example ten_ways`",
        program.display()
    );
    let output =
        Command::new(program).env("TMPDIR", directory).stdin(Stdio::null()).output().unwrap();
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
    let (code, log) = run(directory.path());
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
fn what_goes_wrong_is_told_and_is_exit_code_2() {
    let (code, log) = run(Path::new("/nonexistent"));
    assert_eq!(code, Some(2), "{log}");
    assert!(log.contains("/nonexistent"), "{log}");
}
