//! What the log says of a refused act, pasted into the policy as it says, makes exactly that act work.

#![allow(unsafe_code, reason = "a child is put under a filter before its exec")]

use std::collections::BTreeMap;

use crate::foreign::{free, layer};
use crate::harness::Daemon;
use crate::refused_acts::{ACTS, Act, PATHS, prepare_paths};
use crate::{Function, Test};

pub(crate) const TESTS: &[Test] = &[
    ("refusals::each_advice_allows_its_act_and_no_other", advised),
    ("refusals::each_advice_on_a_path_allows_its_act_and_no_other", advised_on_paths),
    ("refusals::every_process_is_told_of_with_its_program", told),
    ("refusals::a_flood_is_counted", flood),
    ("refusals::who_handles_or_blocks_the_signal_ends_all_the_same", stubborn),
    ("refusals::a_refusal_is_one_record", recorded),
    ("refusals::beneath_another_observer_the_filter_answers_itself", observed),
];

pub(crate) const LAYERS: &[Function] = &[];

/// The policy of the acts, with more lines for the layer's table, system calls, and tables behind it.
fn policy(ports: &str, syscalls: &str, keys: &str, tables: &str) -> String {
    let own = "\"@process\", \"@file-write\", \"@net-connect\", \"bind\"";
    layer("acts", &["DIR/data", ports], &format!("restart = {{ on = \"never\" }}\n{keys}"))
        .replace("\"@process\"]", &format!("{own}{syscalls}]"))
        + tables
}

/// What became of each act, and what the log says of those that were refused.
fn outcomes(policy: &str) -> (BTreeMap<String, String>, Vec<String>) {
    outcomes_of(Daemon::start("-", policy))
}

fn outcomes_of(mut daemon: Daemon) -> (BTreeMap<String, String>, Vec<String>) {
    let code = daemon.end();
    assert_eq!(code, Some(0), "{daemon}");
    let acts = daemon.seen.iter().filter_map(|line| {
        let (name, outcome) = line.strip_prefix("a/0.g1: act ")?.split_once(": ")?;
        Some((name.to_owned(), outcome.to_owned()))
    });
    let acts = acts.collect();
    let told = daemon.seen.iter().filter(|line| line.contains(" and was refused ("));
    (acts, told.cloned().collect())
}

/// What a line says to paste: an item of `syscalls`, and other lines for the layer's table.
fn advice(line: &str) -> (String, String) {
    let (_, way) = line.rsplit_once("): ").unwrap();
    if let Some(rest) = way.strip_prefix('`') {
        let key = rest.split('`').next().unwrap();
        return (String::new(), key.replace("NAME", "advised"));
    }
    let item = way.split(" in `syscalls` of [layer.a]").next().unwrap();
    let item = item.rsplit('"').nth(1).unwrap();
    let because = way.split("such as `").nth(1).map(|rest| rest.split('`').next().unwrap());
    (format!(", \"{item}\""), because.unwrap_or_default().to_owned())
}

fn advised() {
    // One that is free, and one at which somebody listens.
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let ports = [free(), server.local_addr().unwrap()].map(|it| it.port().to_string()).join(",");
    let (before, lines) = outcomes(&policy(&ports, "", "", ""));
    assert_eq!(before.len(), ACTS.len(), "{before:?}");
    let mut wrong = Vec::new();
    for Act { name, said, .. } in ACTS {
        if before[*name] == "done" {
            wrong.push(format!("{name} is allowed from the start"));
            continue;
        }
        let Some(line) = lines.iter().find(|line| line.contains(said)) else {
            wrong.push(format!("{name} ({}) is not told of as {said}", before[*name]));
            continue;
        };
        let (item, keys) = advice(line);
        let (after, _) = outcomes(&policy(&ports, &item, &keys, ""));
        for (other, outcome) in &after {
            // What is refused may be so by another answer: sockets bring some along.
            if (outcome == "done") != (other == name) {
                wrong.push(format!("{name} by {item} {keys}: {other} is {outcome} ({line})"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), lines.join("\n"));
}

fn advised_on_paths() {
    let policy = |advised: &str| {
        let calls = "\"@process\", \"@file-write\", \"@file-symlink\", \"@file-fifo\", \"@exec\"";
        let keys = "restart = { on = \"never\" }\nbecause = \"a test\"";
        let layer = layer("paths", &["DIR"], keys).replace("\"@process\"", calls);
        format!(
            "{advised}\n{layer}[file.data]\npath = \"DIR/data\"\ngrant = {{ a = [\"list\"] }}\n"
        )
    };
    let outcomes = |advised: &str| {
        let policy = policy(advised);
        let daemon = Daemon::command_line_prepared(&policy, &["--tell-paths"], prepare_paths);
        let directory = daemon.directory().display().to_string();
        let (acts, lines) = outcomes_of(daemon);
        let lines: Vec<String> = lines.iter().map(|line| line.replace(&directory, "DIR")).collect();
        (acts, lines)
    };
    let (before, lines) = outcomes("");
    assert_eq!(before.len(), PATHS.len(), "{before:?}");
    let mut wrong = Vec::new();
    for (path, _) in PATHS {
        let Some(line) = lines.iter().find(|line| line.contains(&format!("\"DIR/{path}\""))) else {
            wrong.push(format!("{path} ({}) is not told of", before[*path]));
            continue;
        };
        let advised = line.rsplit('`').nth(1).unwrap().replace("file.NAME", "file.advised");
        let (after, more) = outcomes(&advised);
        for (other, outcome) in &after {
            let expected = if other == path { "done" } else { &*before[other] };
            if outcome != expected {
                wrong.push(format!("{path} by {advised}: {other} is {outcome} ({line})"));
            }
        }
        if more.iter().any(|line| line.contains(&format!("\"DIR/{path}\""))) {
            wrong.push(format!("{path} by {advised}: it is told of all the same"));
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), lines.join("\n"));
}

/// The program's own first thread, a child, and a thread of that.
fn told() {
    let mut daemon = Daemon::start("-", &policy("", "", "", "").replace("\"acts\"", "\"family\""));
    assert_eq!(daemon.end(), Some(0), "{daemon}");
    let program = std::env::current_exe().unwrap();
    let program = program.file_name().unwrap().to_str().unwrap();
    for (call, answer) in [("inotify_init1(O_RDONLY)", "ENOSYS"), ("sync()", "killed")] {
        let lines = daemon.seen.iter().filter(|line| line.contains(call));
        let lines: Vec<_> = lines.collect();
        assert_eq!(lines.len(), 1, "{daemon}");
        assert!(lines[0].contains(&format!("({answer}; {program}, thread ")), "{daemon}");
    }
    assert_eq!(daemon.count("the child was ended by signal 31"), 1, "{daemon}");
}

fn flood() {
    let mut daemon = Daemon::start("-", &policy("", "", "", "").replace("\"acts\"", "\"flood\""));
    assert_eq!(daemon.end(), Some(0), "{daemon}");
    assert_eq!(
        daemon.count("made the system call inotify_init1(O_RDONLY) and was refused"),
        5,
        "{daemon}"
    );
    assert_eq!(daemon.count(", 10000 times by now)"), 1, "{daemon}");
    // Of one call with ever other arguments.
    assert_eq!(daemon.count("made the system call pidfd_open("), 16, "{daemon}");
    assert_eq!(daemon.count("84 more refusals were only counted"), 1, "{daemon}");
}

fn stubborn() {
    let mut daemon =
        Daemon::start("-", &policy("", "", "", "").replace("\"acts\"", "\"stubborn\""));
    assert_eq!(daemon.end(), Some(0), "{daemon}");
    assert_eq!(daemon.count("plainly: ended by signal 31"), 1, "{daemon}");
    for way in ["handling", "blocking", "ignoring"] {
        assert_eq!(daemon.count(&format!("{way}: ended by signal 9")), 1, "{daemon}");
    }
    assert_eq!(daemon.count("went on"), 0, "{daemon}");
}

/// A daemon beneath an observer, as in a container whose manager observes it.
pub(crate) fn beneath_an_observer(policy: &str) -> Daemon {
    use std::os::fd::IntoRawFd;
    use std::os::unix::process::CommandExt;

    let observe = || {
        // Allows all calls, and asks about none.
        let allows = cofferdam::sys::spawn::FilterLine { code: 6, jt: 0, jf: 0, k: 0x7fff_0000 };
        let listener = cofferdam::sys::observe::load(&[allows])?;
        rustix::io::fcntl_setfd(&listener, rustix::io::FdFlags::empty())?;
        let _ = listener.into_raw_fd();
        Ok(())
    };
    Daemon::start_by(
        "-",
        policy,
        |_| {},
        |command| {
            // SAFETY: makes system calls alone.
            unsafe { command.pre_exec(observe) };
        },
    )
}

fn observed() {
    let policy = policy("", "", "", "").replace("\"acts\"", "\"stubborn\"");
    let mut daemon = beneath_an_observer(&policy);
    assert_eq!(daemon.end(), Some(0), "{daemon}");
    assert_eq!(daemon.count("what its program is refused can't be told"), 1, "{daemon}");
    for way in ["plainly", "handling", "blocking", "ignoring"] {
        assert_eq!(daemon.count(&format!("{way}: ended by signal 31")), 1, "{daemon}");
    }
    assert_eq!(daemon.count("and was refused"), 0, "{daemon}");
}

fn recorded() {
    use cofferdam::audit::entry::{Facility, Kind, Side, Verdict};

    let policy = policy("", "", "", "[audit]\ndirectory = \"DIR/log\"\n");
    let mut daemon = Daemon::start("-", &policy.replace("\"acts\"", "\"family\""));
    assert_eq!(daemon.end(), Some(0), "{daemon}");
    let store = cofferdam::audit::Store::open(&daemon.directory().join("log")).unwrap();
    let mut denials = Vec::new();
    cofferdam::audit::query::query(&store, &cofferdam::audit::query::Filter::default(), |record| {
        if record.entry.kind == Kind::Denial {
            denials.push(record.entry);
        }
        true
    })
    .unwrap();
    let find = |call: &str| {
        let mut of_it = denials.iter().filter(|it| it.detail.starts_with(call.as_bytes()));
        let one = of_it.next().unwrap_or_else(|| panic!("{call}: {denials:?}"));
        assert!(of_it.next().is_none(), "{call}: {denials:?}");
        one
    };
    for (call, verdict) in
        [("inotify_init1(O_RDONLY)", Verdict::Refused), ("sync()", Verdict::Killed)]
    {
        let denial = find(call);
        assert_eq!((denial.side, denial.verdict), (Side::Helper, verdict));
        assert_eq!((denial.facility, denial.length), (Facility::Syscall, 1));
        assert_eq!((denial.peer.layer, denial.peer.generation), (0, 1));
        let detail = String::from_utf8_lossy(&denial.detail);
        let parts: Vec<&str> = detail.split('\0').collect();
        assert_eq!((parts.len(), parts[0]), (6, call), "{detail}");
        assert!(parts[2].parse::<i32>().is_ok_and(|thread| thread > 1), "{detail}");
        assert!(parts[4].contains("would allow it"), "{detail}");
        assert_eq!(parts[5], "call 0,0,0,0,0,0", "{detail}");
    }
}
