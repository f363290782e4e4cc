//! What the kernel says of a daemon's processes, read from outside: the receipt's claims, checked
//! by somebody who need not trust it.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::daemon::Daemon;
use crate::support::is_root;
use crate::support::suite::ignore;

crate::support::suite::tests! {
    every_thread_is_filtered_and_has_no_capability,
    layers_share_no_namespace_with_anybody,
    mounts_are_locked_and_stay_inside,
    the_steward_waits_for_nobody_else,
}

const POLICY: &str = r#"
cofferdam = 1
name = "outside"

[layer.plain]
run       = "plain"
instances = 2
syscalls  = ["@core"]
optional  = ["cgroup"]

[layer.reader]
run      = "reader"
syscalls = ["@core", "@file-read", "@thread"]
optional = ["cgroup"]

[layer.program]
exec     = ["PROBE", "--inside", "beat"]
syscalls = ["@core"]
optional = ["cgroup"]

[file.probe]
path  = "PROBE"
grant = { program = ["read", "execute"] }

[file.data]
path  = "DATA"
grant = { reader = ["read", "list"] }
"#;

/// A daemon with layers of each kind, and their process numbers; an `exec` layer has two.
fn daemon(data: &str) -> (Daemon, Vec<i32>) {
    let probe = crate::support::probe().display().to_string();
    let daemon = Daemon::start(&POLICY.replace("PROBE", &probe).replace("DATA", data), ":", &[]);
    for instance in ["plain/0.g1", "plain/1.g1", "reader/0.g1", "program/0.g1"] {
        let _ = daemon.confined(instance);
    }
    daemon.beats(0, "program/0.g1", &[]);
    daemon.beats(0, "reader/0.g1", &[]);
    // With the layer of the framework's own that writes the log, and besides the steward.
    let (steward, all): (Vec<_>, Vec<_>) =
        daemon.descendants().into_iter().partition(|pid| name_of(*pid) == "steward");
    assert_eq!((all.len(), steward.len()), (6, 1), "{all:?} {steward:?}");
    (daemon, all)
}

fn name_of(pid: i32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

/// What isn't confined waits for the supervisor's word and nothing else: it sleeps, holds one end of a
/// socket, and no layer has the other one.
fn the_steward_waits_for_nobody_else() {
    let data = tempfile::tempdir().expect("a directory");
    let (daemon, all) = daemon(&data.path().display().to_string());
    let mut below = daemon.descendants();
    below.retain(|pid| !all.contains(pid));
    let [steward] = below[..] else { panic!("{below:?}") };
    let status = &statuses(steward)[0];
    assert!(status["State"].starts_with('S'), "{}", status["State"]);
    assert_eq!(status["NoNewPrivs"], "1");
    assert_eq!(status["PPid"], daemon.pid().to_string());
    if !is_root() {
        ignore("only root sees what others hold");
    }
    let held = |pid: i32| -> BTreeSet<String> {
        let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors");
        let links = entries.flatten().filter_map(|it| std::fs::read_link(it.path()).ok());
        links.map(|link| link.display().to_string()).collect()
    };
    let sockets: Vec<_> =
        held(steward).into_iter().filter(|link| link.starts_with("socket:")).collect();
    assert_eq!(sockets.len(), 1, "{sockets:?}");
    for pid in all {
        assert!(!held(pid).contains(&sockets[0]), "{pid}");
    }
}

/// The lines of `/proc/PID/task/TID/status` of every thread.
fn statuses(pid: i32) -> Vec<BTreeMap<String, String>> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("its threads").flatten();
    tasks
        .map(|task| {
            let text = std::fs::read_to_string(task.path().join("status")).expect("its status");
            let pairs = text.lines().filter_map(|line| line.split_once(':'));
            pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
        })
        .collect()
}

fn every_thread_is_filtered_and_has_no_capability() {
    let data = tempfile::tempdir().expect("a directory");
    let (daemon, all) = daemon(&data.path().display().to_string());
    let mut users = Vec::new();
    for pid in &all {
        for status in statuses(*pid) {
            for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
                assert_eq!(status[set], "0000000000000000", "{pid} {set}");
            }
            assert_eq!((&*status["NoNewPrivs"], &*status["Seccomp"]), ("1", "2"), "{pid}");
            let ids: BTreeSet<&str> = status["Uid"].split_whitespace().collect();
            assert_eq!(ids.len(), 1, "{pid}: real, effective, saved and file system user");
            if is_root() {
                assert_eq!(status["Groups"], "", "{pid}");
            }
            users.extend(ids.into_iter().map(|id| id.parse::<u32>().expect("a user")));
        }
    }
    if is_root() {
        // A program and its init are one layer.
        assert_eq!(users.iter().collect::<BTreeSet<_>>().len(), 5, "a user for every layer");
        assert!(users.iter().all(|&user| user >= 0x4000_0000), "{users:?}");
    }
    // The supervisor has a filter of its own, and what it gave up is gone for good.
    let own = &statuses(daemon.pid())[0];
    assert_eq!((&*own["NoNewPrivs"], &*own["Seccomp"]), ("1", "2"));
    let bounding = u64::from_str_radix(&own["CapBnd"], 16).expect("a set");
    let ptrace = 1 << 19;
    assert!(!is_root() || bounding & ptrace == 0, "{bounding:x}");
}

fn layers_share_no_namespace_with_anybody() {
    if !is_root() {
        ignore("only root sees the namespaces of others");
    }
    let data = tempfile::tempdir().expect("a directory");
    let (_daemon, all) = daemon(&data.path().display().to_string());
    for kind in ["pid", "mnt", "net", "ipc", "uts", "cgroup"] {
        let of =
            |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("a namespace");
        let found: BTreeSet<_> = all.iter().map(|pid| of(&pid.to_string())).collect();
        assert!(!found.contains(&of("self")), "{kind}: the host's own");
        if kind != "cgroup" {
            // Five layers; the program is in the namespaces of its init.
            assert_eq!(found.len(), 5, "{kind}");
        }
    }
}

fn mounts_are_locked_and_stay_inside() {
    if !is_root() {
        ignore("only root sees the mounts of others");
    }
    let data = tempfile::tempdir().expect("a directory");
    let path = data.path().display().to_string();
    let (_daemon, all) = daemon(&path);
    let mounts = |pid: &str| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).expect("mounts");
        text.lines().map(ToOwned::to_owned).collect::<Vec<_>>()
    };
    let mut seen = 0;
    for pid in &all {
        for line in mounts(&pid.to_string()) {
            let fields: Vec<&str> = line.split(' ').collect();
            let (point, flags) = (fields[4], fields[5]);
            let has = |flag: &str| flags.split(',').any(|one| one == flag);
            assert!(has("ro") && has("nosuid"), "{pid}: {line}");
            // Devices are those that hold nothing.
            let harmless = ["/dev/null", "/dev/zero", "/dev/full", "/dev/urandom", "/dev/random"];
            assert!(has("nodev") || harmless.contains(&point), "{pid}: {line}");
            seen += usize::from(point == path);
        }
    }
    assert_eq!(seen, 1, "the reader sees its directory, and nobody else does");
    assert!(!mounts("self").iter().any(|line| line.contains(&path)), "it shows on the host");
}
