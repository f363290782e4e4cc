//! What a layer is after the recipe.

use std::ffi::CString;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cofferdam::confine::Identity;
use cofferdam::policy::plan::{FileRight, Protection};
use cofferdam::sys::pidfd::{self, Ended};
use cofferdam::sys::spawn::{Namespaces, Spawn, rehearse, spawn};

use super::harness::{Running, exec_order, grant, is_root, order, start};

type Test = fn();

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("everything_demanded_is_given", everything_demanded_is_given),
    ("the_kernel_shows_it_from_outside", the_kernel_shows_it_from_outside),
    ("root_as_granted_has_roots_number_alone", root_as_granted_has_roots_number_alone),
    ("a_limit_that_does_not_hold_is_not_told_as_one", a_limit_that_does_not_hold),
    ("the_user_that_is_asked_for_is_the_user_within", the_user_that_is_asked_for),
    ("the_start_state_is_as_documented", the_start_state_is_as_documented),
    ("only_grants_are_seen", only_grants_are_seen),
    ("mounts_carry_their_flags", mounts_carry_their_flags),
    ("only_declared_descriptors_are_open", only_declared_descriptors_are_open),
    ("an_absent_grant_is_an_error", an_absent_grant_is_an_error),
    ("a_symbolic_link_is_not_followed", a_symbolic_link_is_not_followed),
    ("a_device_or_fifo_is_not_granted", a_device_or_fifo_is_not_granted),
    ("a_dead_supervisor_stops_the_recipe", a_dead_supervisor_stops_the_recipe),
    ("the_layer_dies_with_its_parent", the_layer_dies_with_its_parent),
    ("the_parent_is_as_before", the_parent_is_as_before),
    ("a_refused_clone_is_an_error", a_refused_clone_is_an_error),
    ("a_program_that_is_none_is_an_error", a_program_that_is_none_is_an_error),
    ("an_empty_network_can_be_entered", an_empty_network_can_be_entered),
];

fn ended_well(running: Running) {
    assert_eq!(running.end(), Ended::Exited(0));
}

fn everything_demanded_is_given() {
    let mut running = start("facts", &order(), None);
    let facts = running.facts();
    assert_eq!(facts.0.get("refused"), None);
    assert_eq!(facts.get("missing"), "0");
    assert_eq!(facts.get("receipt-survives"), "true");
    assert_eq!(facts.get("got-cgroup.memory"), "by fallback");
    assert_eq!(facts.get("got-seccomp"), "enforced");
    let identity = if is_root() { "enforced" } else { "by fallback" };
    assert_eq!(facts.get("got-identity"), identity);
    ended_well(running);
}

fn the_kernel_shows_it_from_outside() {
    let order = order();
    let mut running = start("none", &order, None);
    running.facts();
    for field in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(running.status(field), "0000000000000000", "{field}");
    }
    assert_eq!(running.status("NoNewPrivs"), "1");
    assert_eq!(running.status("Seccomp"), "2");
    assert_eq!(running.status("Threads"), "1");
    let numbers = running.status("NSpid");
    assert!(numbers.ends_with(" 1"), "process 1 of its own namespace: {numbers}");
    if let Identity::Own { uid, gid } = order.identity {
        assert_eq!(running.status("Uid"), format!("{uid} {uid} {uid} {uid}"));
        assert_eq!(running.status("Gid"), format!("{gid} {gid} {gid} {gid}"));
        assert_eq!(running.status("Groups"), "");
    }
    ended_well(running);
}

/// `uid = 0`, as a policy may grant it.
fn as_root() -> cofferdam::confine::Order {
    let mut order = order();
    order.identity = match order.identity {
        Identity::Own { .. } => Identity::Own { uid: 0, gid: 0 },
        Identity::Mapped { .. } => Identity::Mapped { uid: 0, gid: 0 },
    };
    order.layer.uid = Some(0);
    order
}

/// The number, and neither a capability nor a way to one, nor to another user.
fn root_as_granted_has_roots_number_alone() {
    let mut order = as_root();
    order.layer.optional = vec![Protection::CgroupTasks];
    let mut running = start("facts", &order, None);
    let facts = running.facts();
    assert_eq!(facts.0.get("refused"), None);
    assert_eq!(facts.get("user"), "0 0 0 0");
    assert_eq!(facts.get("securebits"), "239");
    assert_eq!(facts.get("uid-changed"), "false");
    let identity = if is_root() { "enforced" } else { "by fallback" };
    assert_eq!(facts.get("got-identity"), identity);
    ended_well(running);

    let mut running = start("none", &order, None);
    running.facts();
    for field in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(running.status(field), "0000000000000000", "{field}");
    }
    ended_well(running);
}

/// The kernel holds root to no limit on tasks but a cgroup's.
fn a_limit_that_does_not_hold() {
    for order in [order(), as_root()] {
        let is_root = matches!(order.identity, Identity::Own { uid: 0, .. });
        let mut demanded = order.clone();
        demanded.layer.optional = vec![Protection::CgroupTasks];
        let mut running = start("tasks", &demanded, None);
        let facts = running.facts();
        let holds = facts.get("tasks").parse::<u64>().expect("a number") < order.layer.limits.tasks;
        let told = facts.get("got-cgroup.tasks");
        assert_eq!(holds, told == "by fallback", "{facts:?}");
        assert_eq!(holds, !is_root, "{facts:?}");
        ended_well(running);
        if is_root {
            let said = refusal(&order);
            assert!(said.contains("cgroup.tasks"), "{said}");
        }
    }
}

/// A program that asks who it is gets the same answer whoever starts the daemon, and it is root
/// only where the policy says so.
fn the_user_that_is_asked_for() {
    let mut order = order();
    let (own, ids) = match order.identity {
        Identity::Own { uid, gid } => ((uid, gid), Identity::Own { uid: 970, gid: 971 }),
        Identity::Mapped { uid, gid } => ((uid, gid), Identity::Mapped { uid: 970, gid: 971 }),
    };
    for (identity, (uid, gid)) in [(order.identity, own), (ids, (970, 971))] {
        order.identity = identity;
        let mut running = start("facts", &order, None);
        let facts = running.facts();
        assert_eq!(facts.get("user"), format!("{uid} {uid} {gid} {gid}"));
        assert_eq!(facts.get("missing"), "0");
        ended_well(running);
    }
}

/// Started by a parent in odd states; see [`outer`].
fn the_start_state_is_as_documented() {
    let said = run_outer("odd");
    let has = |line: &str| assert!(said.lines().any(|l| l == line), "{line:?} isn't in\n{said}");
    has("umask 77");
    has("cwd /");
    has("environment 0");
    has("pid 1");
    has("leads-session true");
    has("host worker");
    has("dumpable NotDumpable");
    has("death-signal Some(\"Signal::KILL\")");
    has("mdwe true");
    has("securebits 239");
    has("files-limit 64");
    has("tasks-limit 16");
    has("limit-raised false");
    has("uid-changed false");
    has("blocked 0000000000000000");
    // Its own user namespace allows no other in it; as root that is the filter's part alone.
    if !is_root() {
        has("user-namespace false");
    }
    // SIGPIPE (bit 12) is what Rust's start ignores.
    has("ignored 0000000000001000");
    if is_root() {
        has("nice 0");
    }
}

/// A directory of the test's own with three directories and a file in each.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        let base = tempfile::tempdir().expect("a directory");
        let open = |path: &std::path::Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("its mode");
        };
        open(base.path(), 0o755);
        for name in ["read", "write", "other"] {
            let path = base.path().join(name);
            fs::create_dir(&path).expect("a directory");
            open(&path, 0o777);
            let file = path.join("file");
            fs::write(&file, name).expect("a file");
            open(&file, 0o666);
        }
        Self(base)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

fn with_files(files: &Files) -> cofferdam::confine::Order {
    let mut order = order();
    let read = [FileRight::Read];
    let write = [FileRight::Write, FileRight::Create];
    order.contents.grants =
        vec![grant(&files.path("read"), &read), grant(&files.path("write"), &write)];
    order
}

fn only_grants_are_seen() {
    let files = Files::new();
    let mut running = start("files", &with_files(&files), None);
    let facts = running.facts();
    let is = |name: &str, what: &str| assert_eq!(facts.get(name), what, "{name}");
    is("read-granted", "ok");
    is("write-granted", "ok");
    is("create-granted", "ok");
    // Landlock's part: the mount allows it.
    is("read-written", "permission denied");
    // The mount's part; Landlock refuses it too.
    is("write-read-only", "read-only filesystem or storage medium");
    is("create-read-only", "read-only filesystem or storage medium");
    is("list-root", "permission denied");
    // The empty root's part.
    is("read-neighbour", "entity not found");
    is("dot-dot", "entity not found");
    is("read-passwd", "entity not found");
    is("proc", "entity not found");
    is("create-in-root", "read-only filesystem or storage medium");
    ended_well(running);
}

fn mounts_carry_their_flags() {
    let files = Files::new();
    let mut running = start("none", &with_files(&files), None);
    running.facts();
    let mounts = running.proc("mountinfo");
    let mut seen = Vec::new();
    for line in mounts.lines() {
        let mut fields = line.split(' ').skip(4);
        let (point, flags) = (fields.next().unwrap_or(""), fields.next().unwrap_or(""));
        let flags: Vec<&str> = flags.split(',').collect();
        for flag in ["nosuid", "nodev", "noexec"] {
            assert!(flags.contains(&flag), "{flag} is missing: {line}");
        }
        let writable = point == files.path("write").to_str().expect("UTF-8");
        assert_eq!(flags.contains(&"rw"), writable, "{line}");
        assert!(!line.contains("shared:"), "{line}");
        seen.push(point.to_owned());
    }
    assert_eq!(seen.len(), 3, "the root and two grants: {mounts}");
    ended_well(running);
}

fn only_declared_descriptors_are_open() {
    // One that is left open by mistake, in the parent.
    let leak = fs::File::open("/").expect("the root");
    rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).expect("not close-on-exec");
    let mut running = start("last", &order(), None);
    assert_eq!(running.facts().get("open-besides-declared"), "0");
    running.end();
}

fn refusal(order: &cofferdam::confine::Order) -> String {
    let mut running = start("none", order, None);
    let said = running.facts().get("refused").to_owned();
    running.end();
    said
}

fn an_absent_grant_is_an_error() {
    let mut order = order();
    order.contents.grants = vec![grant("/nowhere/at/all".as_ref(), &[FileRight::Read])];
    // Even where the root is optional: a grant is no protection.
    order.layer.optional = vec![Protection::Root];
    let said = refusal(&order);
    assert!(said.contains("/nowhere/at/all") && said.contains("opening it"), "{said}");
}

fn a_symbolic_link_is_not_followed() {
    let files = Files::new();
    std::os::unix::fs::symlink(files.path("other"), files.path("link")).expect("a link");
    for path in ["link", "link/file"] {
        let mut order = order();
        order.contents.grants = vec![grant(&files.path(path), &[FileRight::Read])];
        let said = refusal(&order);
        assert!(said.contains("symbolic link"), "{said}");
    }
}

fn a_device_or_fifo_is_not_granted() {
    let files = Files::new();
    let fifo = files.path("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).expect("a FIFO");
    for path in [fifo, PathBuf::from("/dev/zero")] {
        let mut order = order();
        order.contents.grants = vec![grant(&path, &[FileRight::Read])];
        let said = refusal(&order);
        assert!(said.contains("neither a regular file nor a directory"), "{said}");
    }
}

fn a_dead_supervisor_stops_the_recipe() {
    let mut running = start("orphan", &order(), None);
    let said = running.facts();
    assert!(said.get("refused").contains("supervisor is gone"), "{said:?}");
    running.end();
}

fn the_layer_dies_with_its_parent() {
    for (kind, processes) in [("parent", 1), ("parent-exec", 4)] {
        let mut outer = outer_command(kind).stdout(std::process::Stdio::piped()).spawn();
        let outer = outer.as_mut().expect("the outer process");
        let mut line = String::new();
        let output = outer.stdout.take().expect("its output");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line)
            .expect("a line");
        let mut family = vec![line.trim().to_owned()];
        let mut next = 0;
        while let Some(pid) = family.get(next) {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
            family.extend(children.unwrap_or_default().split_whitespace().map(str::to_owned));
            next += 1;
        }
        assert_eq!(family.len(), processes, "{family:?}");

        outer.kill().expect("killed");
        outer.wait().expect("reaped");
        let end = Instant::now() + Duration::from_secs(20);
        while let Some(survivor) = family.iter().find(|pid| alive(pid)) {
            assert!(Instant::now() < end, "{survivor} of {family:?} outlives its supervisor");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A zombie that nobody reaps is dead enough.
fn alive(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['Z', 'X']))
    })
}

/// Threat F16: the child borrows its parent's memory.
fn the_parent_is_as_before() {
    let said = run_outer("unchanged");
    assert!(said.contains("unchanged true"), "{said}");
}

fn a_refused_clone_is_an_error() {
    let said = run_outer("refused-clone");
    assert!(said.contains("clone3 for the child failed: Operation not permitted"), "{said}");
}

fn a_program_that_is_none_is_an_error() {
    let file = fs::File::open("/dev/null").expect("/dev/null");
    let argv = [c"none".to_owned()];
    let before = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let error = spawn(&Spawn::new(file.as_fd(), &argv)).expect_err("a device was executed");
    assert!(
        error.to_string().starts_with("the new child failed to execute its program"),
        "{error}"
    );
    let after = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    // Other tests of this process open and close theirs; a leak a try would show in a hundred.
    for _ in 0..100 {
        let _ = spawn(&Spawn::new(file.as_fd(), &argv));
    }
    let end = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    assert!(end < before.max(after) + 50, "{before}, {after}, {end} descriptors");
}

/// As root; an ordinary user's layers make their own.
fn an_empty_network_can_be_entered() {
    if !is_root() {
        return;
    }
    let said = run_outer("network");
    let devices: Vec<&str> =
        said.lines().filter_map(|line| line.split_once(':')).map(|d| d.0.trim()).collect();
    assert_eq!(devices, ["lo"], "{said}");
}

fn outer_command(kind: &str) -> std::process::Command {
    use std::os::unix::process::CommandExt;
    let mut command = std::process::Command::new("/proc/self/exe");
    command.arg0(super::harness::CHILD).arg(format!("outer-{kind}"));
    command
}

pub(crate) fn run_outer(kind: &str) -> String {
    let output = outer_command(kind).output().expect("the outer process");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// A process between the test and the layer, with one thread and a state of its own.
#[allow(clippy::print_stdout)]
pub(crate) fn outer(kind: &str) {
    use nix::sys::signal::{SigSet, Signal};
    match kind {
        "odd" => {
            rustix::process::umask(rustix::fs::Mode::empty());
            rustix::process::nice(7).expect("nice");
            SigSet::all().thread_block().expect("signals blocked");
            std::env::set_current_dir("/tmp").expect("a directory");
            let personality = nix::sys::personality::Persona::ADDR_NO_RANDOMIZE;
            nix::sys::personality::set(personality).expect("a personality");
            let mut running = start("facts", &order(), None);
            for (name, value) in running.facts().0 {
                println!("{name} {value}");
            }
            println!("blocked {}", running.status("SigBlk"));
            println!("ignored {}", running.status("SigIgn"));
            running.end();
        }
        "parent" | "parent-exec" => {
            let script = "sleep 1000 & sleep 1000 & echo ready; wait";
            let order = if kind == "parent" { order() } else { exec_order(script) };
            let mut running = start("none", &order, None);
            running.facts();
            println!("{}", running.child.pid.as_raw_nonzero());
            std::thread::sleep(Duration::from_mins(10));
        }
        "network" => {
            let own = fs::read_link("/proc/self/ns/net").expect("own network");
            let empty = cofferdam::confine::spaces::empty_network().expect("an empty network");
            assert_eq!(fs::read_link("/proc/self/ns/net").expect("own network"), own);
            let cat = fs::File::open("/bin/cat").expect("cat");
            let argv = [c"cat", c"/proc/self/net/dev"].map(CString::from);
            let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
            let child = spawn(&Spawn {
                network: Some(empty.as_fd()),
                fds: &[stdin.as_fd(), stdout.as_fd(), stderr.as_fd()],
                ..Spawn::new(cat.as_fd(), &argv)
            });
            let child = child.expect("a child");
            assert_eq!(pidfd::wait(&child.pidfd).expect("its end"), Ended::Exited(0));
        }
        "refused-clone" => {
            let program: Vec<_> = super::faults::refusing(libc::SYS_clone3, &[])
                .iter()
                .map(|l| seccompiler::sock_filter { code: l.code, jt: l.jt, jf: l.jf, k: l.k })
                .collect();
            seccompiler::apply_filter(&program).expect("a filter");
            let refused = rehearse(Namespaces::NONE, None).expect_err("it was refused");
            println!("{refused}");
        }
        "unchanged" => {
            let mask = SigSet::from(Signal::SIGUSR1);
            mask.thread_set_mask().expect("a mask");
            let not = rustix::process::DumpableBehavior::NotDumpable;
            rustix::process::set_dumpable_behavior(not).expect("not dumpable");
            let count = || fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
            let before = count();
            for _ in 0..20 {
                let mut running = start("none", &order(), None);
                assert_eq!(running.facts().get("missing"), "0");
                running.end();
            }
            let same = rustix::process::dumpable_behavior() == Ok(not)
                && SigSet::thread_get_mask().is_ok_and(|now| now == mask)
                && (count() == before || !is_root());
            println!("unchanged {same}");
        }
        "abandon" => super::groups::abandon(),
        other => panic!("no outer process {other}"),
    }
}
