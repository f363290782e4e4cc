//! Crashes, full disks and unwritable directories: what was acknowledged stays, what was cut is
//! told exactly, and a policy can tell the troubles apart.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::log::*;
use cofferdam::audit::entry::Side;
use cofferdam::audit::log::Recovery;
use cofferdam::audit::query::{Filter, query};
use cofferdam::audit::store::Trouble;
use cofferdam::audit::{Log, LogError, Options, Store};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use proptest::prelude::*;

crate::support::suite::tests! {
    a_killed_writer_loses_nothing_that_it_acknowledged,
    a_full_disk_is_told_and_waited_out,
    a_directory_that_may_not_be_written_is_told,
    damage_that_is_no_crash_is_left_alone,
    a_change_of_keys_survives_a_crash_between_any_two_steps,
    any_crash_keeps_what_was_committed,
}

/// Names what the other process does.
pub(crate) const PART: &str = "AUDIT_TEST_PART";
const DIRECTORY: &str = "AUDIT_TEST_DIRECTORY";

/// Runs the part of the other process that [`PART`] names.
pub(crate) fn other_process(part: &str) -> ! {
    let dir = PathBuf::from(std::env::var_os(DIRECTORY).unwrap());
    match part {
        "writer" => writer(&dir),
        "full_disk" => full_disk(&dir),
        other => panic!("no part {other}"),
    }
    std::process::exit(0)
}

/// This program as the other process.
fn other(part: &str, dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .env(PART, part)
        .env(DIRECTORY, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn reopen(dir: &Path, n: u64) -> Result<(Log, Recovery), LogError> {
    Log::open(Store::open(dir).unwrap(), busy(), Box::new(Counter(100)), at(n))
}

/// Everything happens often.
fn busy() -> Options {
    Options {
        segment_bytes: 40_000,
        checkpoint_records: 50,
        keep_bytes: 200_000,
        ..Options::default()
    }
}

/// The process that is killed.
fn writer(dir: &Path) {
    let (mut log, _) = reopen(dir, 0).unwrap();
    let mut out = std::io::stdout();
    for n in log.size().. {
        for part in 0..5 {
            log.append(&message(n * 5 + part, Side::Sender), &payload(n), at(n)).unwrap();
        }
        let committed = log.commit(at(n)).unwrap();
        writeln!(out, "\nacknowledged {}", committed.size).unwrap();
    }
}

fn sizes(dir: &Path, end: &str) -> u64 {
    files(dir, end).iter().map(|name| fs::metadata(dir.join(name)).unwrap().len()).sum()
}

fn a_killed_writer_loses_nothing_that_it_acknowledged() {
    let times = std::env::var("AUDIT_KILLS").map_or(50, |n| n.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for round in 0..times {
        let mut child = other("writer", dir.path());
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut lines = lines.map_while(Result::ok);
        let number = |line: String| line.strip_prefix("acknowledged ")?.parse::<u64>().ok();
        // It works, and then it is killed somewhere.
        acknowledged = lines.by_ref().find_map(number).expect("the writer acknowledges");
        std::thread::sleep(Duration::from_micros(round * 7_919 % 60_000));
        child.kill().unwrap();
        child.wait().unwrap();
        acknowledged = lines.filter_map(number).last().unwrap_or(acknowledged);

        let before = sizes(dir.path(), ".log");
        let notes = sizes(dir.path(), ".note");
        let (log, told) = reopen(dir.path(), 0).unwrap();
        assert!(told.records >= acknowledged, "round {round}: {told:?}, {acknowledged}");
        // What retention had begun to drop is dropped first; nothing else goes untold.
        let gone = before - sizes(dir.path(), ".log");
        assert!(gone == told.cut || gone > 40_000, "round {round}: {gone} {told:?}");
        assert!(notes - sizes(dir.path(), ".note") >= told.cut_notes);
        drop(log);
        let checked = verify(dir.path());
        assert!(checked.sound(), "round {round}: {:?}", checked.findings);
        assert_eq!(checked.size, told.records);
    }
    assert!(acknowledged > 0);
}

/// The process whose files may not grow.
fn full_disk(dir: &Path) {
    // Blocked, the signal stays away and write(2) says EFBIG.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGXFSZ);
    signals.thread_block().unwrap();
    let options = Options { backlog: 4_000, checkpoint_records: 5, ..Options::default() };
    let store = Store::open(dir).unwrap();
    let (mut log, _) = Log::open(store, options, Box::new(Counter(0)), at(0)).unwrap();
    let (_, most) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
    setrlimit(Resource::RLIMIT_FSIZE, 10_000, most).unwrap();
    let (mut sent, mut full, mut counted) = (0, 0, 0);
    for n in 0..200 {
        match log.append(&message(n, Side::Sender), &[], at(n)) {
            Ok(_) => sent += 1,
            Err(LogError::Backlog) => counted += 1,
            Err(error) => panic!("{error}"),
        }
        if let Err(error) = log.commit(at(n)) {
            assert_eq!(error.trouble(), Some(Trouble::Full), "{error}");
            full += 1;
        }
    }
    assert!(full > 0 && counted > 0 && sent + counted == 200);
    assert!(verify(dir).sound(), "what is there is whole");
    setrlimit(Resource::RLIMIT_FSIZE, most, most).unwrap();
    log.commit(at(300)).unwrap();
    assert_eq!(log.committed(), sent + 1);
    log.close(at(301)).unwrap();
}

fn a_full_disk_is_told_and_waited_out() {
    let dir = tempfile::tempdir().unwrap();
    let out = other("full_disk", dir.path()).wait_with_output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
    assert!(verify(dir.path()).sound());
}

fn a_directory_that_may_not_be_written_is_told() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = if nix::unistd::geteuid().is_root() {
        // No permission stops root; this file system takes no new files from anybody.
        Path::new("/proc/self/task")
    } else {
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o500)).unwrap();
        dir.path()
    };
    let Err(error) = reopen(path, 0) else { panic!("it was opened") };
    assert!(matches!(error, LogError::Store(_)), "{error}");
    if !nix::unistd::geteuid().is_root() {
        assert_eq!(error.trouble(), Some(Trouble::Forbidden));
    }
}

fn damage_that_is_no_crash_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), Options { checkpoint_records: 16, ..Options::default() }, 100);
    let path = dir.path().join("00000000.log");
    let good = fs::read(&path).unwrap();
    for (byte, _) in frames(&good).into_iter().step_by(7) {
        let mut bad = good.clone();
        bad[byte + 40] ^= 1;
        fs::write(&path, &bad).unwrap();
        let told = reopen(dir.path(), 0).map(|(_, told)| told);
        assert!(matches!(told, Err(LogError::Damaged { .. })), "{byte}: {told:?}");
        assert_eq!(fs::read(&path).unwrap(), bad, "evidence was changed");
    }
    fs::write(&path, &good[..good.len() - 50]).unwrap();
    assert!(matches!(reopen(dir.path(), 0), Err(LogError::Damaged { .. })), "signed records cut");
    fs::write(&path, good).unwrap();
    fs::write(dir.path().join("key"), [0; 48]).unwrap();
    assert!(matches!(reopen(dir.path(), 0), Err(LogError::KeyLost { epoch: 0 })));
}

fn a_change_of_keys_survives_a_crash_between_any_two_steps() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), busy(), 0);
    log.append(&message(0, Side::Sender), &[], at(0)).unwrap();
    log.checkpoint(at(0)).unwrap();
    let before = copy(dir.path());
    log.next_epoch(at(1)).unwrap();
    log.close(at(2)).unwrap();
    let read = |dir: &Path, name: &str| fs::read(dir.join(name)).unwrap();
    let old_key = read(before.path(), "key");
    let new_key = read(dir.path(), "key");
    assert_ne!(old_key, new_key);
    let epochs = read(dir.path(), "epochs.note");
    // The next key's file, the epoch's last checkpoint, the old key's file: how far each got.
    let states: [(&[u8], bool, &[u8], u64); 6] = [
        (&[], false, &old_key, 1),
        (&new_key[..20], false, &old_key, 1),
        (&new_key, false, &old_key, 1),
        (&new_key, true, &old_key, 2),
        (&new_key, true, &[0; 20], 2),
        (&new_key, true, &[0; 48], 2),
    ];
    for (next, announced, key, expected) in states {
        let dir = copy(before.path());
        fs::write(dir.path().join("key.next"), next).unwrap();
        fs::write(dir.path().join("key"), key).unwrap();
        if announced {
            fs::write(dir.path().join("epochs.note"), &epochs).unwrap();
        }
        let (log, _) = reopen(dir.path(), 3).unwrap();
        log.close(at(4)).unwrap();
        assert!(!dir.path().join("key.next").exists());
        let told = verify(dir.path());
        assert!(told.sound() && told.epochs == expected, "{told:?}");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Append(u8),
    Commit,
    /// The process dies while it commits: so much of it (of 256) was written, then so many bytes
    /// of something else.
    Crash(u8, u8, u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1..12_u8).prop_map(Step::Append),
        Just(Step::Commit),
        (any::<u8>(), 0..60_u8, any::<u8>()).prop_map(|(a, b, c)| Step::Crash(a, b, c)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    fn any_crash_keeps_what_was_committed(steps in proptest::collection::vec(step(), 1..30)) {
        let mut dir = tempfile::tempdir().unwrap();
        let options = Options { checkpoint_records: 10, segment_bytes: 6_000, ..Options::default() };
        let mut log = open(dir.path(), options, 0);
        let (mut n, mut committed) = (0, 0);
        for step in steps {
            match step {
                Step::Append(count) => for _ in 0..count {
                    log.append(&message(n, Side::Sender), &payload(n), at(n)).unwrap();
                    n += 1;
                },
                Step::Commit => committed = log.commit(at(n)).unwrap().size,
                Step::Crash(part, more, byte) => {
                    let crashed = copy(dir.path());
                    let name = cofferdam::audit::log::segment_name(log.segment());
                    let _ = log.commit(at(n));
                    let whole = fs::read(dir.path().join(&name)).unwrap();
                    drop(log);
                    let old = fs::read(crashed.path().join(&name)).unwrap().len();
                    let to = old + (whole.len() - old) * usize::from(part) / 256;
                    let mut torn = whole[..to].to_vec();
                    torn.extend(std::iter::repeat_n(byte, more.into()));
                    fs::write(crashed.path().join(&name), &torn).unwrap();
                    dir = crashed;
                    let store = Store::open(dir.path()).unwrap();
                    let chance = Box::new(Counter(byte));
                    let (again, told) = Log::open(store, options, chance, at(n)).unwrap();
                    prop_assert!(told.records >= committed);
                    let left = fs::metadata(dir.path().join(&name)).unwrap().len();
                    prop_assert_eq!(told.cut, torn.len() as u64 - left);
                    log = again;
                    committed = log.commit(at(n)).unwrap().size;
                }
            }
        }
        log.close(at(n)).unwrap();
        let told = verify(dir.path());
        prop_assert!(told.sound(), "{:?}", told.findings);
        let mut last = None;
        query(&Store::open(dir.path()).unwrap(), &Filter::default(), |record| {
            if record.entry.side == Side::Sender {
                last = last.max(Some(record.entry.sequence));
            }
            true
        }).unwrap();
        prop_assert!(last.is_none_or(|last| last < n));
    }
}
