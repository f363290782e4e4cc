//! What the program does with its policy, and where it calls `Daemon::main`.

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::Test;
use crate::harness::{Daemon, directory};

pub(crate) const TESTS: &[Test] = &[
    ("program::a_policy_that_others_can_write_is_refused_by_each_way", others_can_write),
    ("program::a_policy_that_is_not_there_is_refused_by_each_way", not_there),
    ("program::a_daemon_is_not_started_on_another_thread", other_thread),
    ("program::a_layer_is_not_entered_on_another_thread", layer_on_another_thread),
    ("program::a_layer_that_never_comes_to_main_is_no_success", never_comes),
];

/// The layers by whose names this test program knows, when it is run again in them, that it is to
/// do it wrongly.
pub(crate) const THREADED: &str = "threaded";
pub(crate) const ASTRAY: &str = "astray";

/// How a program may come by a policy's file.
const WAYS: [&str; 6] = ["sleeper", "flagged", "embedded", "read", "asked", "made"];

fn policy(layer: &str) -> String {
    format!(
        "cofferdam = 1\nname = \"test\"\n[layer.{layer}]\nrun = \"sleeper\"\n\
         syscalls = [\"@core\"]\n"
    )
}

/// The daemon `way` with a policy file of this mode, if there is to be one.
fn start(way: &str, layer: &str, mode: Option<u32>) -> Daemon {
    let directory = directory();
    let path = directory.path().join("own.toml");
    if let Some(mode) = mode {
        std::fs::write(&path, policy(layer)).unwrap();
        set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--daemon", way]).arg(path);
    Daemon::run(command, directory)
}

fn others_can_write() {
    for way in WAYS {
        let mut daemon = start(way, "a", Some(0o644));
        daemon.line("a/0.g1: asleep");
        assert_eq!(daemon.stop(), Some(0), "{way}: {daemon}");
        let mut daemon = start(way, "a", Some(0o666));
        assert_eq!(daemon.end(), Some(1), "{way}: {daemon}");
        assert_eq!(daemon.count("own.toml is not safe to run"), 1, "{way}: {daemon}");
        assert_eq!(daemon.count("everybody can change it"), 1, "{way}: {daemon}");
        assert_eq!(daemon.count("confined"), 0, "{way}: {daemon}");
    }
}

fn not_there() {
    for way in WAYS {
        let mut daemon = start(way, "a", None);
        assert_eq!(daemon.end(), Some(3), "{way}: {daemon}");
        assert_eq!(daemon.count("own.toml: No such file or directory"), 1, "{way}: {daemon}");
    }
}

fn other_thread() {
    let mut daemon = start(THREADED, "a", Some(0o644));
    assert_eq!(daemon.end(), Some(3), "{daemon}");
    assert_eq!(daemon.count("on another thread than the program's first"), 1, "{daemon}");
    assert_eq!(daemon.count("has `harness = false`"), 1, "{daemon}");
}

fn layer_on_another_thread() {
    let mut daemon = start("sleeper", THREADED, Some(0o644));
    assert_eq!(daemon.end(), Some(3), "{daemon}");
    assert_eq!(daemon.count("threaded/0.g1 could not be confined: `Daemon::main`"), 1, "{daemon}");
    assert_eq!(daemon.count("asleep"), 0, "{daemon}");
}

fn never_comes() {
    let mut daemon = start("sleeper", ASTRAY, Some(0o644));
    assert_eq!(daemon.end(), Some(3), "{daemon}");
    let told = "astray/0.g1 ended with exit code 0 before it was confined: every layer runs";
    assert_eq!(daemon.count(told), 1, "{daemon}");
}
