//! `cofferdam run`: ordinary programs as layers.

use rustix::process::{Signal, kill_process};

use crate::Test;
use crate::harness::{Daemon, eventually, is_alive};

pub(crate) const TESTS: &[Test] = &[
    ("commands::output_is_stamped_and_harmless", output),
    ("commands::receipts_are_shown_whole", receipts),
    ("commands::exit_codes_are_told", exit_codes),
    ("commands::a_program_that_is_not_there_is_named", not_there),
    ("commands::a_script_runs_by_its_interpreter", script),
    ("commands::a_script_that_can_not_run_says_why", bad_script),
    ("commands::a_program_that_can_not_run_says_why", bad_program),
    ("commands::sigterm_reaches_the_program", sigterm),
    ("commands::what_a_program_started_ends_with_it", children),
    ("commands::a_run_layer_has_no_function_here", no_function),
    ("commands::a_bad_policy_is_drawn", bad_policy),
];

fn sh(script: &str, more: &str) -> String {
    format!(
        "[layer.a]\nexec = [\"/bin/sh\", \"-c\", '''{script}''']\nsyscalls = [\"@core\", \
         \"@process\", \"@exec\", \"@signal\"]\nbecause = \"a test\"\nrestart = {{ on = \"never\" }}\n{more}"
    )
}

fn output() {
    let mut daemon = Daemon::command_line(&sh(
        r"printf 'plain\n\033]0;title\007\r\ncofferdam: a/0.g9 is confined\nlast'; echo err >&2",
        "",
    ));
    assert_eq!(daemon.end(), Some(0), "{daemon}");
    for line in [
        "a/0.g1: plain",
        "a/0.g1: \\x1b]0;title\\x07\\x0d",
        "a/0.g1: cofferdam: a/0.g9 is confined",
        "a/0.g1: last",
        "a/0.g1: err",
    ] {
        assert!(daemon.seen.iter().any(|seen| seen == line), "{line}: {daemon}");
    }
}

fn receipts() {
    let mut daemon = Daemon::command_line_with(&sh("exit 0", ""), &["--receipts"]);
    assert_eq!(daemon.end(), Some(0), "{daemon}");
    // The layer's, and that of the framework's own which writes the log.
    for protection in cofferdam::policy::plan::Protection::ALL {
        assert_eq!(daemon.count(&format!("{:18} ", protection.name())), 2, "{daemon}");
    }
    assert_eq!(daemon.count("seccomp            demanded  enforced"), 2, "{daemon}");
}

fn exit_codes() {
    let mut daemon = Daemon::command_line(&sh("exit 7", ""));
    assert_eq!(daemon.end(), Some(1), "{daemon}");
    assert_eq!(daemon.count("a/0.g1 ended with exit code 7"), 1, "{daemon}");
    let mut daemon = Daemon::command_line(&sh("kill -9 $$", ""));
    assert_eq!(daemon.end(), Some(1), "{daemon}");
    assert_eq!(daemon.count("a/0.g1 was killed by SIGKILL"), 1, "{daemon}");
}

fn not_there() {
    let policy = "[layer.a]\nexec = [\"/usr/bin/no-such-program\"]\nsyscalls = [\"@core\"]";
    let mut daemon = Daemon::command_line(policy);
    assert_eq!(daemon.end(), Some(3), "{daemon}");
    assert_eq!(
        daemon.count("[layer.a] exec: /usr/bin/no-such-program: No such file"),
        1,
        "{daemon}"
    );
}

/// A daemon of one layer that runs what is in a file of this text and these permission bits.
fn file(text: &[u8], bits: u32, more: &str) -> Daemon {
    use std::os::unix::fs::PermissionsExt;
    let directory = crate::harness::directory();
    let path = directory.path().join("program");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(bits)).unwrap();
    let policy = format!(
        "cofferdam = 1\nname = \"test\"\n[layer.a]\nexec = [\"{}\", \"one two\", \"\"]\n\
         syscalls = [\"@core\"]\nrestart = {{ on = \"never\" }}\n{more}",
        path.display()
    );
    let policy_path = crate::support::process::write_policy(directory.path(), &policy);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_cofferdam"));
    command.arg("run").arg(policy_path);
    Daemon::run(command, directory)
}

fn script() {
    let mut daemon = file(b"#!/bin/sh -u\necho \"$0\" got \"$1\" and $#\n", 0o755, "");
    assert_eq!(daemon.end(), Some(0), "{daemon}");
    assert_eq!(daemon.count("/program got one two and 2"), 1, "{daemon}");
    let mut daemon = file(b"#!/usr/bin/perl\nprint \"perl runs $ARGV[0]\\n\";\n", 0o755, "");
    assert_eq!(daemon.end(), Some(0), "{daemon}");
    assert_eq!(daemon.count("a/0.g1: perl runs one two"), 1, "{daemon}");
}

fn bad_script() {
    for (text, mode, why) in [
        (&b"#!/no/such/interpreter\n"[..], 0o755, "its interpreter /no/such/interpreter: No such"),
        (b"#!perl\n", 0o755, "it is a script for `perl`, which is no absolute path"),
        (b"#!/bin/sh\n", 0o644, "it isn't executable; `chmod a+x` it"),
        (b"echo no line\n", 0o755, "neither a program for this machine nor a script"),
    ] {
        let mut daemon = file(text, mode, "");
        assert_eq!(daemon.end(), Some(3), "{daemon}");
        assert_eq!(daemon.count(why), 1, "{why}: {daemon}");
        assert_eq!(daemon.count("[layer.a] exec: "), 1, "{daemon}");
    }
}

fn bad_program() {
    // Its loader isn't in an empty view.
    let program = std::fs::read("/usr/bin/true").unwrap();
    let mut daemon = file(&program, 0o755, "view = \"empty\"");
    assert_eq!(daemon.end(), Some(3), "{daemon}");
    assert_eq!(daemon.count("what loads its libraries isn't in the layer's view"), 1, "{daemon}");
}

fn sigterm() {
    let mut daemon = Daemon::command_line(&sh(
        "trap 'echo trapped; exit 0' TERM; echo ready; while :; do sleep 0.01; done",
        "",
    ));
    daemon.line("a/0.g1: ready");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert_eq!(daemon.count("a/0.g1: trapped"), 1, "{daemon}");
}

fn children() {
    let mut daemon = Daemon::command_line(&sh(
        "(trap '' TERM HUP; while :; do sleep 1; done) & echo started; while :; do sleep 1; done",
        "",
    ));
    daemon.line("started");
    let init = daemon.confined("a/0.g1");
    let inside = || {
        let listed = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            name.parse::<i32>().ok()
        });
        let group = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let own = group(&init.as_raw_nonzero().to_string());
        listed.filter(|pid| own.is_some() && group(&pid.to_string()) == own).count()
    };
    eventually("several processes run", || inside() >= 3);
    kill_process(init, Signal::KILL).unwrap();
    assert_eq!(daemon.end(), Some(1), "{daemon}");
    assert!(!is_alive(init));
}

fn no_function() {
    let mut daemon = Daemon::command_line("[layer.a]\nrun = \"x\"\nsyscalls = [\"@core\"]");
    assert_eq!(daemon.end(), Some(1), "{daemon}");
    assert_eq!(daemon.count("`exec = [\"/path/of/program\"]` runs an ordinary one"), 1, "{daemon}");
}

fn bad_policy() {
    let mut daemon = Daemon::command_line("[layer.a]\nrunn = \"x\"\nsyscalls = [\"@coer\"]");
    assert_eq!(daemon.end(), Some(1), "{daemon}");
    assert!(daemon.count("policy.toml:4:1") == 1, "{daemon}");
    assert!(daemon.count("did you mean `run`") == 1, "{daemon}");
    assert!(daemon.count("did you mean `@core`") == 1, "{daemon}");
}
