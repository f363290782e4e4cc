//! Where people run it: containers, hardened units, machines that restrict namespaces or lack a part
//! of what protects. Each is made, by namespaces, mounts and filters beneath the program; what
//! `cofferdam doctor` says there is then what happens.

mod made;

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

use self::made::{Make, Place};
use crate::support::suite::ignore;

crate::support::suite::tests! {
    a_container_as_root,
    a_container_with_admin,
    a_container_as_a_user,
    a_unit_without_openat2,
    a_unit_without_openat2_as_a_user,
    a_unit_without_namespaces,
    a_unit_without_a_host_name,
    a_unit_with_a_strict_system,
    a_unit_that_kills_for_mounts,
    a_unit_with_what_does_no_harm,
    no_user_namespaces,
    restricted_user_namespaces,
    a_proc_that_hides_others,
    a_proc_that_hides_others_from_a_user,
    a_proc_that_is_covered,
    no_landlock,
    landlock_switched_off,
    cgroups_read_only,
    no_cgroups,
    cgroups_of_version_two_alone,
}

/// What is expected of a place.
#[derive(Clone, Copy)]
enum Then {
    /// A daemon that demands everything starts.
    Whole,
    /// It starts with less, as the doctor says, and not with everything.
    Weaker,
    /// None does, and these words say why, the doctor's and the daemon's.
    Nothing(&'static str, &'static str),
}

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_cofferdam"))
}

fn at(place: &Place, command: &mut Command) -> Output {
    command.env_clear().envs(place.env.iter().copied());
    let steps = place.steps.clone();
    // SAFETY: the steps make system calls, on memory that was prepared before the fork but for short
    // paths; nothing in this process waits for a lock of theirs.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(move || steps.iter().try_for_each(Make::make));
    }
    match command.output() {
        Ok(output) => output,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !made::is_root() => {
            ignore("only root can make this place")
        }
        Err(error) => panic!("the place can't be made: {error}"),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// One layer of a foreign program, which ends at once, with these protections optional.
fn run(place: &Place, optional: &BTreeSet<String>, view: &str) -> (Option<i32>, String) {
    let optional: Vec<_> = optional.iter().map(|name| format!("{name:?}")).collect();
    // Without cgroups and namespaces, other tests of the same user count.
    let tasks = "limits = { tasks = 4096 }\n";
    let policy = format!(
        "cofferdam = 1\nname = \"places\"\n[layer.a]\nexec = [\"/bin/true\"]\n\
         syscalls = [\"@core\", \"@foreign\"]\nview = [{view}]\nrestart = {{ on = \"never\" }}\n\
         optional = [{}]\n{tasks}",
        optional.join(", ")
    );
    let directory = tempfile::tempdir().unwrap();
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(directory.path(), mode).unwrap();
    let path = directory.path().join("places.toml");
    std::fs::write(&path, policy).unwrap();
    let output = at(place, program().arg("run").arg(&path));
    (output.status.code(), text(&output.stderr))
}

/// Asks the doctor there, and then tries whether it is as he says.
fn holds(place: &Place, told: &[&str], then: Then) {
    let asked = at(place, program().arg("doctor"));
    let said = text(&asked.stdout) + &text(&asked.stderr);
    for words in told {
        assert!(said.contains(words), "the doctor doesn't say {words:?}:\n{said}");
    }
    let nothing = BTreeSet::new();
    let (strict, log) = run(place, &nothing, "\"system\"");
    if let Then::Nothing(doctors, daemons) = then {
        assert!(said.contains(doctors), "{said}");
        assert_ne!(strict, Some(0), "{log}");
        assert!(log.contains(daemons), "{log}");
        return;
    }
    let json = at(place, program().args(["doctor", "--format", "json"]));
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    let protections = json["protections"].as_array().unwrap().iter();
    let lacking: BTreeSet<_> = protections
        .filter(|it| it["given"] == "no")
        .map(|it| it["name"].as_str().unwrap().to_owned())
        .collect();
    // No limit of processor time is asked for.
    let asked: BTreeSet<_> = lacking.iter().filter(|it| *it != "cgroup.cpu").cloned().collect();
    if matches!(then, Then::Whole) {
        assert!(asked.is_empty(), "{said}");
        assert_eq!(strict, Some(0), "{said}\n{log}");
    } else {
        assert!(!asked.is_empty(), "{said}");
        assert_eq!(strict, Some(3), "{said}\n{log}");
        let told = asked.iter().any(|name| log.contains(&format!("{name} can't be enforced")));
        assert!(told, "{said}\n{log}");
    }
    let (weaker, log) = run(place, &asked, "\"system\"");
    assert_eq!(weaker, Some(0), "{said}\n{log}");
    for name in &asked {
        assert!(log.lines().any(|line| line.contains("missing: ") && line.contains(name)), "{log}");
    }
    // Without any one of them, it doesn't start.
    for name in asked.iter().take(3) {
        let mut fewer = asked.clone();
        fewer.remove(name);
        let (code, log) = run(place, &fewer, "\"system\"");
        assert_eq!(code, Some(3), "without {name}: {log}");
        assert!(log.contains(&format!("{name} can't be enforced")), "{log}");
    }
}

fn a_container_as_root() {
    let place =
        Place::of("KUBERNETES_SERVICE_HOST").needs_root().step(Make::default_capabilities());
    let place = place.step(Make::container(&[]));
    let told = [
        "clone answers EPERM, unshare answers EPERM, setns answers EPERM: layers get no namespaces",
        "the seccomp profile of the pod's container",
        "seccompProfile: { type: Unconfined }",
        "root has no CAP_SYS_ADMIN",
        "capabilities: { add: [SYS_ADMIN] }",
        "keyctl answers EPERM",
    ];
    holds(&place, &told, Then::Weaker);
}

/// What the engine's flag alone gives: its profile still refuses to change the root.
fn a_container_with_admin() {
    const GIVEN: [i64; 12] = [
        libc::SYS_clone,
        libc::SYS_clone3,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_fsopen,
        libc::SYS_fsconfig,
        libc::SYS_fsmount,
        libc::SYS_move_mount,
        libc::SYS_open_tree,
        libc::SYS_mount_setattr,
    ];
    let more = [libc::SYS_sethostname, libc::SYS_setdomainname];
    let given = [&GIVEN[..], &more].concat();
    let place = Place::of("KUBERNETES_SERVICE_HOST").needs_root().step(Make::container(&given));
    holds(&place, &["keyctl answers EPERM", "pivot_root answers EPERM"], Then::Weaker);
}

fn a_container_as_a_user() {
    let place = Place::of("KUBERNETES_SERVICE_HOST").user().step(Make::container(&[]));
    holds(&place, &["clone answers EPERM", "seccompProfile: { type: Unconfined }"], Then::Weaker);
}

const OPENAT2: [&str; 3] = [
    "openat2 answers ENOSYS: daemons start all the same",
    "the unit's RestrictSUIDSGID=yes",
    "remedy: RestrictSUIDSGID=no",
];

fn a_unit_without_openat2() {
    let place = Place::of("INVOCATION_ID").needs_root().step(Make::restrict_sxid());
    holds(&place, &OPENAT2, Then::Whole);
    let (code, log) =
        run(&place, &BTreeSet::new(), "\"system\", \"tls\", \"zone\", \"proc\", \"tmp=1MiB\"");
    assert_eq!(code, Some(0), "{log}");
}

fn a_unit_without_openat2_as_a_user() {
    let place = Place::of("INVOCATION_ID").user().step(Make::restrict_sxid());
    holds(&place, &OPENAT2, Then::Whole);
}

fn a_unit_without_namespaces() {
    let place = Place::of("INVOCATION_ID").needs_root().step(Make::restrict_namespaces());
    let told = ["the unit's RestrictNamespaces=", "remedy: RestrictNamespaces=no"];
    holds(&place, &told, Then::Weaker);
}

fn a_unit_without_a_host_name() {
    let calls = [libc::SYS_sethostname, libc::SYS_setdomainname];
    let place = Place::of("INVOCATION_ID").needs_root().step(Make::refuse(&calls, libc::EPERM));
    let told = ["sethostname answers EPERM", "ProtectHostname=no"];
    holds(&place, &told, Then::Nothing("ProtectHostname=yes", "setting the host name"));
}

fn a_unit_with_a_strict_system() {
    let read_only = Make::read_only(&["/var/lib", "/run"]);
    let place = Place::of("INVOCATION_ID").needs_root().step(read_only);
    let told = [
        "/var/lib/cofferdam and /run/cofferdam can't be written to",
        "ProtectSystem=strict",
        "StateDirectory=cofferdam, RuntimeDirectory=cofferdam",
    ];
    holds(&place, &told, Then::Nothing("no daemon starts", "/cofferdam"));
}

/// `SystemCallFilter=@system-service` without an errno ends who makes another call.
fn a_unit_that_kills_for_mounts() {
    let place = Place::of("INVOCATION_ID").needs_root().step(Make::kill(made::MOUNTS));
    let told = ["mount kills", "pivot_root kills", "SystemCallFilter=@mount"];
    holds(
        &place,
        &told,
        Then::Nothing("can't be examined", "killed by SIGSYS before it was confined"),
    );
}

/// The lines of a unit that need no answer.
fn a_unit_with_what_does_no_harm() {
    let place = Place::of("INVOCATION_ID").needs_root().step(Make::no_new_privileges());
    let place = place.step(Make::private_tmp()).step(Make::no_write_execute());
    holds(&place, &["mmap answers EPERM", "MemoryDenyWriteExecute=no"], Then::Whole);
}

fn no_user_namespaces() {
    let place = Place::of("NOTHING").user().step(Make::nested(&["max_user_namespaces"]));
    let told = ["cause:  sysctl user.max_user_namespaces=0", "sysctl user.max_user_namespaces="];
    holds(&place, &told, Then::Weaker);
}

/// An ordinary user gets a user namespace, and in it no right to make others.
fn restricted_user_namespaces() {
    let others = ["mnt", "pid", "net", "ipc", "uts", "cgroup"];
    let others: Vec<_> = others.iter().map(|it| format!("max_{it}_namespaces")).collect();
    let others: Vec<_> = others.iter().map(String::as_str).collect();
    let setting = Make::kernel_setting("apparmor_restrict_unprivileged_userns", "1");
    let place = Place::of("NOTHING").needs_root().step(setting);
    let place = place.user().step(Make::nested(&others));
    let told = ["sysctl kernel.apparmor_restrict_unprivileged_userns=1", "`userns,`"];
    holds(&place, &told, Then::Weaker);
}

fn a_proc_that_hides_others() {
    let place = Place::of("NOTHING").needs_root().step(Make::hidden_proc());
    holds(&place, &["hidepid="], Then::Whole);
}

fn a_proc_that_hides_others_from_a_user() {
    let place = Place::of("NOTHING").needs_root().step(Make::hidden_proc()).user();
    holds(&place, &["hidepid="], Then::Whole);
}

fn a_proc_that_is_covered() {
    let place = Place::of("KUBERNETES_SERVICE_HOST").needs_root().step(Make::covered_proc()).user();
    let told = ["no layer with `view = [\"proc\"]` starts", "procMount: Unmasked"];
    holds(&place, &told, Then::Whole);
    let (code, log) = run(&place, &BTreeSet::new(), "\"system\", \"proc\"");
    assert_eq!(code, Some(3), "{log}");
    assert!(log.contains("/proc"), "{log}");
}

const LANDLOCK: [i64; 3] = [
    libc::SYS_landlock_create_ruleset,
    libc::SYS_landlock_add_rule,
    libc::SYS_landlock_restrict_self,
];

fn no_landlock() {
    let place = Place::of("NOTHING").step(Make::refuse(&LANDLOCK, libc::ENOSYS));
    holds(&place, &["no Landlock", "built without it"], Then::Weaker);
}

fn landlock_switched_off() {
    let place = Place::of("NOTHING").step(Make::refuse(&LANDLOCK, libc::EOPNOTSUPP));
    holds(&place, &["switched off at boot", "`lsm=`"], Then::Weaker);
}

fn cgroups_read_only() {
    let place = Place::of("INVOCATION_ID").needs_root().step(Make::read_only_groups());
    let told = ["no cgroup can be made", "ProtectControlGroups=yes", "Delegate=yes"];
    holds(&place, &told, Then::Whole);
}

fn no_cgroups() {
    let place = Place::of("NOTHING").needs_root().step(Make::over_groups("tmpfs"));
    holds(&place, &["no cgroup can be made"], Then::Whole);
}

/// On this machine it may have no controller to give.
fn cgroups_of_version_two_alone() {
    let place = Place::of("NOTHING").needs_root().step(Make::over_groups("cgroup2"));
    holds(&place, &["cgroup"], Then::Whole);
}
