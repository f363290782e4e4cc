//! Logs that can't begin, and logs that go on.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use cofferdam::audit::entry::Kind;

use super::Test;
use super::layers::policy;
use super::log::{assert_sound, records};
use crate::harness::Daemon;

pub(crate) const TESTS: &[Test] = &[
    ("begin::a_demanded_log_needs_a_place", nowhere),
    ("begin::a_directory_of_something_else_is_refused", used),
    ("begin::a_directory_that_others_may_write_is_refused", open),
    ("begin::a_directory_within_a_layers_reach_is_refused", reached),
    ("begin::a_log_goes_on_in_the_next_run", goes_on),
    ("begin::a_daemon_that_has_done_its_work_ends_its_log", ends),
    ("begin::a_damaged_log_is_left_alone", damaged),
    ("begin::two_supervisors_dont_share_a_log", shared),
];

const SLEEPERS: [&str; 2] = ["sleeper", "sleeper"];

fn sleepers() -> String {
    policy(SLEEPERS[0], SLEEPERS[1], "", "")
}

/// Starts a daemon that must refuse, and gives what it said.
fn refused(policy: &str, prepare: impl FnOnce(&Path)) -> Daemon {
    let mut daemon = Daemon::start_with("-", policy, prepare);
    assert_eq!(daemon.end(), Some(3), "{daemon}");
    assert_eq!(daemon.count("a/0.g1 is confined"), 0, "no layer runs without its log: {daemon}");
    daemon
}

fn nowhere() {
    let policy = sleepers().replace("directory = \"DIR/log\"", "");
    let daemon = refused(&policy, |_| {});
    assert_eq!(daemon.count("give `--audit DIR`"), 1, "{daemon}");
}

fn used() {
    let daemon = refused(&sleepers(), |dir| {
        fs::create_dir(dir.join("log")).unwrap();
        fs::write(dir.join("log/passwd"), "root").unwrap();
    });
    assert_eq!(daemon.count("holds \"passwd\", which is no part of a log"), 1, "{daemon}");
    assert_eq!(fs::read(daemon.directory().join("log/passwd")).unwrap(), b"root");
}

fn open() {
    let daemon = refused(&sleepers(), |dir| {
        fs::create_dir(dir.join("log")).unwrap();
        fs::set_permissions(dir.join("log"), fs::Permissions::from_mode(0o777)).unwrap();
    });
    assert_eq!(daemon.count("chmod go-w"), 1, "{daemon}");
}

/// What the policy's text can't show is found when the directory is there.
fn reached() {
    let grant = "[file.all]\npath = \"DIR/shared\"\ngrant = { a = [\"read\", \"list\"] }\n";
    let policy = policy("sleeper", "sleeper", "", grant).replace(
        "syscalls = [\"@core\"]\nrestart",
        "syscalls = [\"@core\", \"@file-read\"]\nrestart",
    );
    let daemon = refused(&policy, |dir| {
        fs::create_dir_all(dir.join("shared/log")).unwrap();
        std::os::unix::fs::symlink(dir.join("shared/log"), dir.join("log")).unwrap();
    });
    assert_eq!(daemon.count("is within reach of [file.all"), 1, "{daemon}");
}

/// Runs a daemon until its layers are there, and ends it; its log is taken to `to`.
fn run_once(from: Option<&Path>, to: &Path) {
    let prepare = |dir: &Path| {
        if let Some(from) = from {
            copy(from, &dir.join("log"));
        }
    };
    let mut daemon = Daemon::start_with("-", &sleepers(), prepare);
    daemon.confined("a/0.g1");
    daemon.confined("b/0.g1");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    copy(&daemon.directory().join("log"), to);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn goes_on() {
    let kept = tempfile::tempdir().unwrap();
    let (one, two) = (kept.path().join("1"), kept.path().join("2"));
    run_once(None, &one);
    let first = records(&one);
    run_once(Some(&one), &two);
    assert_sound(&two);
    let both = records(&two);
    assert_eq!(both[..first.len()], first);
    assert!(both.len() > first.len() + 8);
}

fn ends() {
    let mut daemon = Daemon::command_line(
        "[audit]\ndirectory = \"DIR/log\"\n[layer.once]\nexec = [\"/bin/true\"]\n\
         syscalls = [\"@core\", \"@loader\"]\n",
    );
    assert_eq!(daemon.end(), Some(0), "{daemon}");
    let log = daemon.directory().join("log");
    assert_sound(&log);
    let last = records(&log).pop().expect("records");
    assert_eq!(last.entry.kind, Kind::Stop);
}

fn damaged() {
    let kept = tempfile::tempdir().unwrap();
    let one = kept.path().join("1");
    run_once(None, &one);
    let segment = one.join("00000000.log");
    let mut bytes = fs::read(&segment).unwrap();
    bytes[400] ^= 1;
    fs::write(&segment, &bytes).unwrap();
    let daemon = refused(&sleepers(), |dir| copy(&one, &dir.join("log")));
    assert_eq!(daemon.count("cofferdam audit verify"), 1, "{daemon}");
    assert_eq!(fs::read(daemon.directory().join("log/00000000.log")).unwrap(), bytes);
}

fn shared() {
    let mut first = Daemon::start("-", &sleepers());
    first.confined("a/0.g1");
    let directory = first.directory().join("log");
    let policy = sleepers().replace("DIR/log", directory.to_str().unwrap());
    let second = refused(&policy, |_| {});
    assert_eq!(second.count("another supervisor writes the log"), 1, "{second}");
    assert_eq!(first.stop(), Some(0), "{first}");
    assert_sound(&directory);
}
