//! What control groups promise. Where this user can make none, only that is tried.

use std::ffi::CString;
use std::fs;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cofferdam::confine::cgroup::Hierarchies;
use cofferdam::policy::plan::Limits;
use cofferdam::sys::pidfd;
use cofferdam::sys::spawn::{Spawn, spawn};

use super::harness::{exec_order, start_in};
use super::promises::run_outer;

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("group::a_cgroup_limits_and_goes", a_cgroup_limits_and_goes),
    ("group::a_hog_dies_alone", a_hog_dies_alone),
    ("group::the_dead_are_swept", the_dead_are_swept),
    ("group::what_outlives_its_parent_is_killed", what_outlives_its_parent_is_killed),
    ("group::nobody_else_may_open_a_group", nobody_else_may_open_a_group),
    ("group::a_child_is_born_in_its_unified_group", a_child_is_born_in_its_unified_group),
];

fn a_cgroup_limits_and_goes() {
    let groups = Hierarchies::find("confine-test");
    let mut order = exec_order(
        "exec 2>/dev/null; i=0; while [ $i -lt 40 ]; do sleep 5 & i=$((i+1)); done; echo bomb off",
    );
    let Some(mut group) = groups.make("bomb", &order.layer.limits).expect("a group") else {
        assert!(groups.refused().len() == 3, "{groups:?}");
        return;
    };
    // The group alone, not RLIMIT_NPROC, is to stop it.
    order.layer.limits.tasks = 1000;
    order.grouped = group.grouped();
    let mut running = start_in("exec", &order, None, Some(&group));
    let facts = running.facts();
    assert_eq!(facts.0.get("bomb"), None, "40 processes in a group of 16: {facts:?}");
    assert_ne!(facts.get("ended"), "exited with code 0");
    running.end();
    let end = Instant::now() + Duration::from_secs(20);
    while !group.remove() {
        assert!(Instant::now() < end, "{group:?} stays busy");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// By the group's limit, or by `RLIMIT_DATA`: the shell's memory grows until it is told no.
fn a_hog_dies_alone() {
    let groups = Hierarchies::find("confine-hog");
    // 16 bytes doubled 24 times are 256 MiB.
    let script = "x=xxxxxxxxxxxxxxxx; i=0; while [ $i -lt 24 ]; do x=$x$x; i=$((i+1)); done";
    let mut order = exec_order(script);
    order.layer.limits.memory = 32 << 20;
    let mut group = groups.make("hog", &order.layer.limits).expect("a group");
    if let Some(group) = &group {
        order.grouped = group.grouped();
    }
    let mut running = start_in("exec", &order, None, group.as_ref());
    let facts = running.facts();
    assert_ne!(facts.0.get("ended").map(String::as_str), Some("exited with code 0"));
    running.end();
    let end = Instant::now() + Duration::from_secs(20);
    while group.as_mut().is_some_and(|group| !group.remove()) {
        assert!(Instant::now() < end, "{group:?} stays busy");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Groups of a supervisor that died without a word go when the next one starts.
fn the_dead_are_swept() {
    let said = run_outer("abandon");
    let abandoned: Vec<PathBuf> = said.lines().map(PathBuf::from).collect();
    let groups = Hierarchies::find("confine-sweep");
    assert_eq!(abandoned.len(), groups.usable().count(), "{groups:?}");
    for path in abandoned {
        assert!(path.is_absolute() && !path.exists(), "{} is still there", path.display());
    }
}

/// Without a pid namespace nothing else ends what a layer has started, least of all what goes on
/// making more.
fn what_outlives_its_parent_is_killed() {
    let groups = Hierarchies::find("confine-outlive");
    let Some(mut group) = groups.make("layer", &Limits::default()).expect("a group") else {
        return;
    };
    let null = fs::OpenOptions::new().read(true).write(true).open("/dev/null").expect("null");
    let sh = fs::File::open("/bin/sh").expect("sh");
    let script = c"setsid sh -c 'while :; do sleep 1000 & sleep 0.001; done' & sleep 1000 & exit 0";
    let argv = [c"sh", c"-c", script].map(CString::from);
    let joins = group.joins();
    let child = spawn(&Spawn {
        cgroup: joins.unified,
        tasks: &joins.tasks,
        fds: &[null.as_fd(); 3],
        ..Spawn::new(sh.as_fd(), &argv)
    });
    pidfd::wait(&child.expect("a child").pidfd).expect("its end");
    let members = || {
        let bases = groups.usable().map(|(_, _, base)| base.join("layer/cgroup.procs"));
        bases.filter_map(|path| fs::read_to_string(path).ok()).collect::<String>()
    };
    assert!(!members().is_empty(), "it left somebody behind");
    let end = Instant::now() + Duration::from_secs(20);
    while !group.remove() {
        assert!(Instant::now() < end, "{group:?} stays busy: {}", members());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whoever could open it could lock it, and it would look alive for ever.
fn nobody_else_may_open_a_group() {
    use std::os::unix::fs::PermissionsExt;
    let groups = Hierarchies::find("confine-mode");
    for (_, _, base) in groups.usable() {
        let mode = fs::metadata(base).expect("the daemon's group").permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{}", base.display());
    }
}

/// Makes groups and exits without removing them.
#[allow(clippy::print_stdout)]
pub(crate) fn abandon() {
    let groups = Hierarchies::find("confine-abandon");
    let group = groups.make("layer", &Limits { cpu: Some(50), ..Limits::default() });
    let group = group.expect("a group");
    for (_, _, base) in groups.usable() {
        assert!(base.join("layer").exists());
        println!("{}", base.display());
    }
    std::mem::forget((groups, group));
}

/// `CLONE_INTO_CGROUP`, where there is a version 2 hierarchy that we may write to.
fn a_child_is_born_in_its_unified_group() {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let unified = mounts.lines().find(|line| line.contains(" - cgroup2 "));
    let Some(point) = unified.and_then(|line| line.split(' ').nth(4)) else { return };
    let name = format!("cofferdam-test-{}", std::process::id());
    let directory = PathBuf::from(point).join(&name);
    if fs::create_dir(&directory).is_err() {
        return;
    }
    let group = fs::File::open(&directory).expect("the group");
    let cat = fs::File::open("/bin/cat").expect("cat");
    let argv = [c"cat", c"/proc/self/cgroup"].map(CString::from);
    let (read, write) = rustix::pipe::pipe().expect("a pipe");
    let child = spawn(&Spawn {
        cgroup: Some(group.as_fd()),
        fds: &[read.as_fd(), write.as_fd(), write.as_fd()],
        ..Spawn::new(cat.as_fd(), &argv)
    });
    drop(write);
    let said = std::io::read_to_string(fs::File::from(read)).expect("what cat says");
    pidfd::wait(&child.expect("a child").pidfd).expect("its end");
    fs::remove_dir(&directory).expect("an empty group");
    let own = said.lines().find_map(|line| line.strip_prefix("0::")).expect("its group");
    assert!(own.ends_with(&name), "{said}");
}
