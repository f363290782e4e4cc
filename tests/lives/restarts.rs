//! Crashes and restarts, many of them: afterwards the supervisor holds what it held before.
//!
//! `COFFERDAM_CYCLES` says how many; `.ci/soak` asks for a thousand.

use std::path::{Path, PathBuf};

use crate::support::daemon::Daemon;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

crate::support::suite::tests! {
    restarts_leave_nothing_behind,
    a_layer_may_die_at_any_moment,
}

/// Enough to see a leak of one descriptor or process a restart.
const CYCLES: u64 = 60;

/// Copies that crash together. A copy that fails again and again is restarted ever later, up to
/// 5 s: a thousand restarts of one copy would take over an hour.
const COPIES: u64 = 60;

/// Memory that an allocator may keep without anything being lost, in KiB.
const SLACK: usize = 1024;

const POLICY: &str = r#"
cofferdam = 1
name = "NAME"

[layer.crasher]
run       = "crasher"
instances = 60
syscalls  = ["@core"]
limits    = { memory = "64MiB", tasks = 4 }
restart   = { on = "always", max = 1000, within = "10s" }
optional  = ["cgroup"]

[layer.neighbour]
run      = "neighbour"
syscalls = ["@core"]
limits   = { memory = "64MiB" }
optional = ["cgroup"]

[channel.pulse]
from = "neighbour"
to   = "crasher"
"#;

fn restarts_leave_nothing_behind() {
    let cycles = std::env::var("COFFERDAM_CYCLES").ok().and_then(|text| text.parse().ok());
    let cycles: u64 = cycles.unwrap_or(CYCLES);
    let name = format!("restarts-{}", std::process::id());
    let daemon = Daemon::start(&POLICY.replace("NAME", &name), ":", &[]);
    daemon.confined("neighbour/0.g1");

    // What is allocated once, at the first restart, has been after one round.
    let mut mark = round(&daemon, 0, 1);
    let before = held(&daemon, &name, None);
    for generation in 2..cycles.div_ceil(COPIES) + 2 {
        mark = round(&daemon, mark, generation);
        eprintln!("{} lives: {:?}", generation * COPIES, held(&daemon, &name, None));
    }
    daemon.beats(daemon.mark(), "neighbour/0.g1", &["pulse"]);

    let after = held(&daemon, &name, Some(&before));
    if after.descriptors == 0 {
        eprintln!("not looked at: this user can't see the supervisor's descriptors");
    }
    // What was printed may not have been written yet when it was counted first.
    assert!(after.descriptors <= before.descriptors, "{after:?}, before {before:?}");
    assert_eq!(after.children, before.children, "children, dead ones too");
    assert_eq!(after.groups, before.groups, "control groups");
    assert!(after.memory <= before.memory + SLACK, "{after:?}, before {before:?}");

    let (status, lines) = daemon.stop();
    assert!(status.success(), "{status}\n{}", lines.join("\n"));
    let left = groups(&name);
    assert!(left.is_empty(), "control groups are left: {left:?}");
}

/// Whoever is found is killed at once, at whatever point of its start it is: cloned, executed,
/// confined, introduced.
fn a_layer_may_die_at_any_moment() {
    let name = format!("moments-{}", std::process::id());
    let policy = POLICY.replace("NAME", &name).replace("instances = 60", "instances = 12");
    let daemon = Daemon::start(&policy, ":", &[]);
    let neighbour = daemon.confined("neighbour/0.g1");
    let mut killed = 0;
    let until = std::time::Instant::now() + std::time::Duration::from_secs(3);
    // Three seconds, and longer where a machine is too busy to start any again.
    while std::time::Instant::now() < until || killed <= 12 {
        assert!(until.elapsed() < std::time::Duration::from_mins(1), "only {killed} were found");
        for (pid, parent) in crate::support::daemon::parents() {
            if parent == daemon.pid() && pid != neighbour {
                killed += u32::from(kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok());
            }
        }
        // A different moment each time.
        std::thread::sleep(std::time::Duration::from_micros(u64::from(killed * 37 % 2900)));
    }
    // The last lives of all are still to come, and they are as good as the first.
    daemon.beats(daemon.mark(), "neighbour/0.g1", &["pulse"]);
    let (status, lines) = daemon.stop();
    assert!(status.success(), "{status}\n{}", lines.join("\n"));
    let left = groups(&name);
    assert!(left.is_empty(), "control groups are left: {left:?}");
}

/// Kills every copy in its life `generation`, some of them while they are being introduced to their
/// peer, and waits for the next life of each. Gives the place in the log where that began.
fn round(daemon: &Daemon, mark: usize, generation: u64) -> usize {
    let next = daemon.mark();
    let confined = |mark, copy, generation| {
        daemon.confined_after(mark, &format!("crasher/{copy}.g{generation}"))
    };
    for copy in 0..COPIES {
        kill(Pid::from_raw(confined(mark, copy, generation)), Signal::SIGKILL).expect("it lives");
    }
    for copy in 0..COPIES {
        confined(next, copy, generation + 1);
    }
    next
}

/// What a supervisor holds.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    descriptors: usize,
    children: usize,
    memory: usize,
    groups: usize,
}

/// What it holds while all copies run. A group goes a moment after its last process: so this looks
/// again, some times, if it is more than `expected`.
fn held(daemon: &Daemon, name: &str, expected: Option<&Held>) -> Held {
    for _ in 0..250 {
        let (descriptors, memory) = daemon.weight();
        let held =
            Held { descriptors, memory, children: daemon.children(), groups: groups(name).len() };
        // With their neighbour, and who writes the log.
        let is_whole = held.children == usize::try_from(COPIES).expect("few") + 2;
        let is_settled = expected.is_none_or(|before| {
            (before.descriptors, before.groups) == (held.descriptors, held.groups)
        });
        if is_whole && is_settled {
            return held;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let (descriptors, memory) = daemon.weight();
    Held { descriptors, memory, children: daemon.children(), groups: groups(name).len() }
}

/// Directories of this daemon's control groups.
fn groups(name: &str) -> Vec<PathBuf> {
    fn search(directory: &Path, name: &str, depth: usize, found: &mut Vec<PathBuf>) {
        let Ok(entries) = std::fs::read_dir(directory) else { return };
        let is_directory = |entry: &std::fs::DirEntry| entry.file_type().is_ok_and(|t| t.is_dir());
        for entry in entries.flatten().filter(is_directory) {
            let path = entry.path();
            let is_ours = path
                .components()
                .any(|part| part.as_os_str().to_str().is_some_and(|part| part.starts_with(name)));
            if is_ours {
                found.push(path.clone());
            }
            if depth > 0 {
                search(&path, name, depth - 1, found);
            }
        }
    }
    let mut found = Vec::new();
    search(Path::new("/sys/fs/cgroup"), name, 8, &mut found);
    found
}
