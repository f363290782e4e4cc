//! `cofferdam metrics`: the numbers of a daemon that runs, accepted by who collects them.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use crate::Test;
use crate::harness::{Daemon, eventually};
use crate::support::suite::ignore;

pub(crate) const TESTS: &[Test] = &[
    ("metrics::of_a_daemon_that_runs", of_a_daemon_that_runs),
    ("metrics::without_a_daemon_there_are_none", without_a_daemon),
];

fn metrics(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
    command.arg("metrics").args(arguments).output().unwrap()
}

/// The name by which a daemon is found.
fn name_of(daemon: &Daemon) -> String {
    let base = if rustix::process::geteuid().is_root() {
        PathBuf::from("/run")
    } else if let Some(base) = std::env::var_os("XDG_RUNTIME_DIR") {
        PathBuf::from(base)
    } else {
        ignore("a user without a runtime directory has no daemons that are found by name")
    };
    let pid = format!("\"pid\":{},", daemon.pid().as_raw_nonzero());
    let files = std::fs::read_dir(base.join("cofferdam/daemons")).unwrap();
    let found = files
        .flatten()
        .find(|file| std::fs::read_to_string(file.path()).is_ok_and(|text| text.contains(&pid)));
    found.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()
}

/// Each sample, by its name and labels but the daemon's.
fn samples(text: &str, daemon: &str) -> BTreeMap<String, String> {
    let of = format!("{{daemon=\"{daemon}\"");
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        let name = name.replacen(&of, "{", 1).replacen("{,", "{", 1);
        (name.trim_end_matches("{}").to_owned(), value.to_owned())
    };
    text.lines().filter(|line| !line.starts_with('#')).map(sample).collect()
}

fn of_a_daemon_that_runs() {
    let policy = "[audit]\ndirectory = \"DIR/log\"\n[layer.a]\nrun = \"caller\"\n\
                  syscalls = [\"@core\"]\n[layer.b]\nrun = \"callee\"\nsyscalls = [\"@core\"]\n\
                  [channel.talk]\nfrom = \"a\"\nto = \"b\"\nmethods = { echo = {} }\n";
    let mut daemon = Daemon::start("talk", policy);
    daemon.confined("b/0.g1");
    let pid = daemon.confined("a/0.g1");
    let name = name_of(&daemon);
    let mut all = BTreeMap::new();
    let mut text = String::new();
    eventually("the log tells of both", || {
        let out = metrics(&[&name]);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        text = String::from_utf8(out.stdout).unwrap();
        all = samples(&text, &name);
        let runs = |layer: &str| {
            all.get(&format!("cofferdam_instance_running{{layer=\"{layer}\",instance=\"0\"}}"))
        };
        ["a", "b"].into_iter().all(|layer| runs(layer).is_some_and(|it| it == "1"))
    });
    assert_eq!(all["cofferdam_up"], "1", "{text}");
    assert!(all["cofferdam_start_time_seconds"].len() >= 10, "{text}");
    let a = "{layer=\"a\",instance=\"0\"}";
    assert_eq!(all[&format!("cofferdam_instance_generation{a}")], "1", "{text}");
    assert_eq!(all[&format!("cofferdam_instance_denials_total{a}")], "0", "{text}");
    let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_nonzero())).unwrap();
    if groups.lines().any(|line| line.ends_with("/a-0.g1") && line.contains("memory")) {
        assert_ne!(all[&format!("cofferdam_instance_memory_bytes{a}")], "0", "{text}");
    }
    assert!(text.ends_with("\n# EOF\n"), "{text}");
    accepted(&text);
    // One that was killed has another life, and an end.
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    daemon.line("a/0.g2 is confined");
    let ends = "cofferdam_layer_ends_total{layer=\"a\",reason=\"SIGKILL\"}";
    eventually("its end is counted", || {
        all = samples(&String::from_utf8(metrics(&[&name]).stdout).unwrap(), &name);
        all.contains_key(ends)
    });
    assert_eq!(all[ends], "1");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

/// What Prometheus's own tool says of it.
pub(crate) fn accepted(text: &str) {
    let tool = Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).spawn();
    let Ok(mut tool) = tool else {
        let _ = writeln!(std::io::stderr(), "without promtool, it isn't asked");
        return;
    };
    tool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(tool.wait().unwrap().success(), "{text}");
}

fn without_a_daemon() {
    let out = metrics(&["no-such-daemon"]);
    assert_ne!(out.status.code(), Some(0));
    let folder = crate::harness::directory();
    let out = metrics(&["--audit", folder.path().to_str().unwrap()]);
    assert_ne!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stdout));
}
