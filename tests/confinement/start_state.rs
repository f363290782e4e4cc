//! What a layer starts with, whatever state its supervisor was started in: descriptors,
//! environment, signals, limits, identity.

use std::collections::BTreeMap;

use crate::support::daemon::{Daemon, Outcome};
use crate::support::is_root;

crate::support::suite::tests! {
    a_layer_starts_the_same_from_anywhere,
    a_program_starts_the_same_from_anywhere,
    a_layer_holds_no_descriptor_that_nobody_gave_it,
    a_program_holds_its_three_descriptors,
    many_starts_at_once_share_no_descriptor,
    scheduling_is_not_inherited,
}

/// An odd place to be started from: directories and files open, signals ignored, a low priority,
/// an environment made to take over a program (threats D18, H8, H13).
const ODD: &str = "umask 000; trap '' HUP USR2 WINCH; exec 5</ 6>/dev/null 7</etc/passwd; \
    ulimit -n 1024; cd /etc; renice -n 5 -p $$ >/dev/null";

const ENVIRONMENT: &[(&str, &str)] = &[
    ("LD_LIBRARY_PATH", "/tmp"),
    ("LD_BIND_NOW", "1"),
    ("GLIBC_TUNABLES", "glibc.malloc.check=1"),
    ("RUST_LOG", "trace"),
    ("RUST_BACKTRACE", "full"),
    ("MALLOC_ARENA_MAX", "1"),
    ("TMPDIR", "/tmp"),
    ("IFS", "x"),
    ("SECRET_TOKEN", "hunter2"),
];

const WIDE: &str = include_str!("../policies/wide.toml");

fn said(daemon: &Daemon, instance: &str) -> String {
    match daemon.outcome(instance) {
        Outcome::Worked(text) => text,
        other => panic!("{instance}: {other:?}\n{}", daemon.lines().join("\n")),
    }
}

fn facts(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split(' ').filter_map(|fact| fact.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// Values that every layer starts with; numbers are hexadecimal.
fn expect(text: &str, expected: &[(&str, &str)]) {
    let facts = facts(text);
    for (name, value) in expected {
        let found = facts.get(*name).map(String::as_str);
        assert_eq!(found, Some(*value), "{name}, of: {text}");
    }
}

const EVERYWHERE: &[(&str, &str)] = &[
    ("no-new-privs", "1"),
    ("seccomp", "2"),
    ("mdwe", "1"),
    ("mask", "0"),
    ("ignored", "0"),
    ("core", "1"),
    ("queues", "0"),
    ("realtime", "0"),
    ("cwd", "/"),
    ("umask", "77"),
    ("personality", "0"),
    ("groups", "0"),
    ("uids-equal", "true"),
    ("capabilities", "0"),
    ("bounding", "0"),
    // NOROOT, NO_SETUID_FIXUP, NO_CAP_AMBIENT_RAISE, and all four locked.
    ("securebits", "ef"),
];

fn a_layer_starts_the_same_from_anywhere() {
    for odd in ["true", ODD] {
        let daemon = Daemon::start_by(odd, WIDE, "attacker:start-state", ENVIRONMENT);
        daemon.go(&["attacker/0.g1".to_owned()], &[]);
        let text = said(&daemon, "attacker/0.g1");
        expect(&text, EVERYWHERE);
        expect(
            &text,
            &[
                ("dumpable", "0"),
                ("pid", "1"),
                ("ppid", "0"),
                ("files", "c8"),
                // Only its title, in place of a program's name.
                ("arguments", "1"),
                ("environment", "0"),
            ],
        );
        // Of its user, which two lives are in an upgrade: where a group limits each of them to the 8.
        let tasks = facts(&text)["tasks"].clone();
        assert!(tasks == "8" || is_root() && tasks == "10", "{text}");
        if is_root() {
            // An ordinary user's priority stays as low as it was.
            expect(&text, &[("nice", "0")]);
        }
    }
}

fn a_program_starts_the_same_from_anywhere() {
    for odd in ["true", ODD] {
        let daemon = Daemon::start_by(odd, &program("start-state"), ":", ENVIRONMENT);
        let text = said(&daemon, "a/0.g1");
        let groups_differ = |(name, _): &&(&str, &str)| *name != "umask";
        let expected: Vec<_> = EVERYWHERE.iter().filter(groups_differ).copied().collect();
        expect(&text, &expected);
        expect(&text, &[("umask", "77"), ("pid", "2"), ("ppid", "1")]);
        // What its policy says, and nothing else.
        expect(&text, &[("environment", "1")]);
    }
}

fn a_layer_holds_no_descriptor_that_nobody_gave_it() {
    let policy =
        WIDE.replace("[layer.attacker]", "[layer.plain]").replace("\"attacker\"", "\"plain\"");
    let daemon = Daemon::start_by(ODD, &policy, "plain:list-descriptors", ENVIRONMENT);
    // The null device, two pipes to the log, the control socket.
    assert_eq!(said(&daemon, "plain/0.g1"), "0:character 1:pipe 2:pipe 4:socket");
}

fn a_program_holds_its_three_descriptors() {
    // The second supervisor has no standard input and output itself (threat H12).
    for odd in [ODD, "exec 0<&- 1>&-"] {
        let daemon = Daemon::start_by(odd, &program("list-descriptors"), ":", ENVIRONMENT);
        assert_eq!(said(&daemon, "a/0.g1"), "0:character 1:pipe 2:pipe");
    }
}

fn many_starts_at_once_share_no_descriptor() {
    let layer = "[layer.attacker]\n";
    let policy = WIDE.replace(layer, &format!("{layer}instances = 32\n"));
    let attacks = vec!["list-descriptors"; 32].join(",");
    let daemon = Daemon::start_by(ODD, &policy, &format!("attacker:{attacks}"), ENVIRONMENT);
    let targets: Vec<String> = (0..32).map(|n| format!("attacker/{n}.g1")).collect();
    daemon.go(&targets, &targets);
    let first = said(&daemon, &targets[0]);
    for instance in &targets {
        assert_eq!(said(&daemon, instance), first, "{instance}");
    }
}

/// Real time, the disk before all others, and wake-ups to the nanosecond: a layer has none of it,
/// or a compromised one could keep the supervisor from ever running.
fn scheduling_is_not_inherited() {
    let odd = if is_root() {
        "chrt -f -p 10 $$ && ionice -c1 -n0 -p $$"
    } else {
        "chrt -b -p 0 $$ && ionice -c3 -p $$"
    };
    let daemon = Daemon::start_by(odd, WIDE, "attacker:start-state", ENVIRONMENT);
    let pids = [daemon.confined("attacker/0.g1")];
    for pid in pids {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
        let (_, fields) = stat.rsplit_once(") ").expect("a name in brackets");
        let fields: Vec<&str> = fields.split(' ').collect();
        // Fields 40 and 41 of proc_pid_stat(5), counted from 3.
        assert_eq!(fields[37..39], ["0", "0"], "real-time priority and policy: {stat}");
        let told = std::process::Command::new("ionice").args(["-p", &pid.to_string()]).output();
        let told = String::from_utf8(told.expect("ionice").stdout).expect("text");
        assert!(told.starts_with("none"), "{told}");
    }
    // The supervisor itself is as it was started.
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).expect("it runs");
    let policy = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(38));
    assert_eq!(policy, Some(if is_root() { "1" } else { "3" }), "{stat}");
}

/// A policy that runs the probe as a program, with every call granted.
fn program(attack: &str) -> String {
    let probe = crate::support::probe().display().to_string();
    let (_, calls) = WIDE.split_once("syscalls = [").expect("the calls");
    let (calls, _) = calls.split_once("]\n").expect("their end");
    format!(
        "cofferdam = 1\nname = \"program\"\n
         [layer.a]
         exec     = [\"{probe}\", \"--inside\", \"{attack}\"]
         because  = \"a test\"
         syscalls = [{calls}]
         env      = {{ LANG = \"C\" }}
         optional = [\"cgroup\"]\n
         [file.probe]
         path  = \"{probe}\"
         grant = {{ a = [\"read\", \"execute\"] }}\n"
    )
}
