//! What stands in the way here: what causes that a protection can't be had, and the shortest remedy.
//!
//! A filter that isn't ours is found by calls to which the kernel itself says the same to everybody
//! ([`probe::QUESTIONS`](crate::sys::probe::QUESTIONS)).

use std::fs;
use std::io;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD};
use rustix::io::Errno;

use super::around::Around;
use super::probe::Findings;
use crate::confine::Got;
use crate::policy::plan::Protection;
use crate::policy::syscall::errno_name;
use crate::sys::probe::{Answer, QUESTIONS, ask};
use crate::users::{LOCKS, RECORD};

/// One thing in the way.
#[derive(Debug)]
pub(super) struct Obstacle {
    /// What there isn't, and what follows.
    pub(super) what: String,
    /// What causes it.
    pub(super) cause: String,
    /// What to do.
    pub(super) remedy: String,
}

/// Everything in the way; of what the examined child found, where it could be examined.
pub(super) fn all(around: &Around, findings: Option<&Findings>) -> Vec<Obstacle> {
    let refused = refused();
    let mut all = filters(around, &refused);
    let is_refused = |name: &str| refused.iter().any(|(call, _)| *call == name);
    all.extend(capabilities(around));
    all.extend(read_only(around));
    if let Some(findings) = findings {
        let lacks_users = findings.spaces.refused.iter().any(|(it, _)| *it != Protection::Root);
        if findings.rootless && lacks_users && !is_refused("clone") {
            all.extend(user_namespaces());
        }
        all.extend(groups(around, findings));
        all.extend(landlock(around, findings));
        all.extend(findings.own_proc.as_ref().err().map(|said| own_proc(around, said)));
    }
    all
}

/// The calls that a filter answers, and how.
fn refused() -> Vec<(&'static str, Answer)> {
    let answers = QUESTIONS.iter().filter_map(|it| Some((it.name, ask(it).ok()?)));
    answers.filter(|(_, answer)| *answer != Answer::Kernel).collect()
}

/// Calls that filters refuse together: what follows, and what to do in a pod, in a container, in a
/// unit.
struct Family {
    calls: &'static [&'static str],
    follows: &'static str,
    pod: &'static str,
    container: &'static str,
    /// The line of a unit that causes it, and the line that ends it.
    unit: (&'static str, &'static str),
}

const POD: &str = "securityContext: { capabilities: { add: [SYS_ADMIN] }, seccompProfile: { type: \
                   Unconfined }, appArmorProfile: { type: Unconfined } }";
const CONTAINER: &str = "ENGINE run --cap-add=SYS_ADMIN --security-opt seccomp=unconfined \
                         --security-opt apparmor=unconfined";
/// An ordinary user's namespaces take no capability.
const POD_USER: &str = "securityContext: { seccompProfile: { type: Unconfined }, appArmorProfile: { type: Unconfined } }";
const CONTAINER_USER: &str =
    "ENGINE run --security-opt seccomp=unconfined --security-opt apparmor=unconfined";
const POD_FILTER: &str = "securityContext: { seccompProfile: { type: Unconfined } }";
const CONTAINER_FILTER: &str = "ENGINE run --security-opt seccomp=unconfined";

const FAMILIES: [Family; 7] = [
    Family {
        calls: &["clone", "unshare", "setns"],
        follows: "layers get no namespaces of their own, and so no root of their own",
        pod: POD,
        container: CONTAINER,
        unit: ("RestrictNamespaces=", "RestrictNamespaces=no"),
    },
    Family {
        calls: &[
            "mount",
            "umount2",
            "mount_setattr",
            "open_tree",
            "fsopen",
            "move_mount",
            "pivot_root",
        ],
        follows: "layers get no root of their own",
        pod: POD,
        container: CONTAINER,
        unit: ("SystemCallFilter= without @mount", "SystemCallFilter=@mount"),
    },
    Family {
        calls: &["sethostname"],
        follows: "no layer with a namespace of its own for the host's name starts",
        pod: POD_FILTER,
        container: CONTAINER_FILTER,
        unit: ("ProtectHostname=yes", "ProtectHostname=no"),
    },
    Family {
        calls: &["keyctl"],
        follows: "layers share the session keyring",
        pod: POD_FILTER,
        container: CONTAINER_FILTER,
        unit: ("SystemCallFilter= without @keyring", "SystemCallFilter=@keyring"),
    },
    Family {
        calls: &["openat2"],
        follows: "daemons start all the same, and walk along paths by hand; a `run` layer that \
                  opens files in a directory of its view by itself gets this errno",
        pod: POD_FILTER,
        container: CONTAINER_FILTER,
        unit: ("RestrictSUIDSGID=yes", "RestrictSUIDSGID=no"),
    },
    Family {
        calls: &["capset", "setresuid", "prlimit64"],
        follows: "no layer can be confined",
        pod: POD_FILTER,
        container: CONTAINER_FILTER,
        unit: (
            "SystemCallFilter= without @privileged or @resources",
            "SystemCallFilter=@system-service",
        ),
    },
    Family {
        calls: &["mmap"],
        follows: "what compiles at run time fails, also in a layer with `execmem = true`; others \
                  never get such memory",
        pod: POD_FILTER,
        container: CONTAINER_FILTER,
        unit: ("MemoryDenyWriteExecute=yes", "MemoryDenyWriteExecute=no"),
    },
];

fn filters(around: &Around, refused: &[(&'static str, Answer)]) -> Vec<Obstacle> {
    let found = FAMILIES.iter().filter_map(|family| {
        let calls = refused.iter().filter(|(call, _)| family.calls.contains(call));
        let calls: Vec<_> =
            calls.map(|(call, answer)| format!("{call} {}", said(*answer))).collect();
        if calls.is_empty() {
            return None;
        }
        let (line, remedy) = family.unit;
        let is_user = family.pod == POD && !rustix::process::geteuid().is_root();
        let (pod, container) =
            if is_user { (POD_USER, CONTAINER_USER) } else { (family.pod, family.container) };
        Some(Obstacle {
            what: format!("{}: {}", calls.join(", "), family.follows),
            cause: around.say(
                "the seccomp profile of the pod's container",
                "the container's seccomp profile",
                &format!("the unit's {line}"),
                "a system-call filter that was loaded before cofferdam started",
            ),
            remedy: around.say(pod, container, remedy, "start it without that filter"),
        })
    });
    found.collect()
}

fn said(answer: Answer) -> String {
    match answer {
        Answer::Killed => "kills".to_owned(),
        Answer::Errno(0) | Answer::Kernel => "succeeds".to_owned(),
        Answer::Errno(errno) => {
            let name = u16::try_from(errno).ok().and_then(errno_name);
            format!("answers {}", name.map_or_else(|| errno.to_string(), str::to_owned))
        }
    }
}

/// What root lacks of the capabilities that starting layers takes.
fn capabilities(around: &Around) -> Option<Obstacle> {
    use caps::{CapSet, Capability};
    const NEEDED: [(Capability, &str); 4] = [
        (Capability::CAP_SYS_ADMIN, "layers get no namespaces of their own"),
        (Capability::CAP_SETUID, "layers get no users of their own"),
        (Capability::CAP_SETGID, "layers get no groups of their own"),
        (Capability::CAP_SETPCAP, "layers keep the set of capabilities that an exec could give"),
    ];
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let held = caps::read(None, CapSet::Effective).ok()?;
    let lacking: Vec<_> = NEEDED.iter().filter(|(one, _)| !held.contains(one)).collect();
    let (_, follows) = lacking.first()?;
    let names: Vec<_> = lacking.iter().map(|(one, _)| one.to_string()).collect();
    let short: Vec<_> = names.iter().map(|name| name.trim_start_matches("CAP_")).collect();
    let flags: Vec<_> = short.iter().map(|name| format!("--cap-add={name}")).collect();
    let only_admin = short == ["SYS_ADMIN"];
    Some(Obstacle {
        what: format!("root has no {}: {follows}", names.join(", ")),
        cause: around.say(
            "the capabilities of the pod's container",
            "the container's capabilities",
            "the unit's CapabilityBoundingSet=",
            "who started cofferdam had dropped them",
        ),
        remedy: around.say(
            if only_admin { POD } else { "securityContext: { capabilities: { add: [...] } }" },
            &if only_admin {
                CONTAINER.to_owned()
            } else {
                format!("ENGINE run {}", flags.join(" "))
            },
            &format!("CapabilityBoundingSet={}", names.join(" ")),
            "start it with them",
        ),
    })
}

/// Where root records and locks the users of layers.
fn read_only(around: &Around) -> Option<Obstacle> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let places = [RECORD, LOCKS].into_iter().filter(|path| is_read_only(Path::new(path)));
    let places: Vec<_> = places.collect();
    if places.is_empty() {
        return None;
    }
    Some(Obstacle {
        what: format!(
            "{} can't be written to: no daemon starts whose layers have no `uid` of their own",
            places.join(" and ")
        ),
        cause: around.say(
            "readOnlyRootFilesystem",
            "the container's root is read-only",
            "the unit's ProtectSystem=strict",
            "it is on a read-only file system",
        ),
        remedy: around.say(
            "a volume at /var/lib/cofferdam that outlives the pod, and an emptyDir at /run/cofferdam",
            "ENGINE run -v cofferdam:/var/lib/cofferdam --tmpfs /run/cofferdam",
            "StateDirectory=cofferdam, RuntimeDirectory=cofferdam and RuntimeDirectoryPreserve=yes",
            "mount something writable there",
        ),
    })
}

/// Whether it, or what it would be made in, is on a file system that is mounted read-only.
fn is_read_only(path: &Path) -> bool {
    let there = path.ancestors().find(|it| it.exists()).unwrap_or(path);
    let asked = rustix::fs::accessat(CWD, there, Access::WRITE_OK, AtFlags::EACCESS);
    asked == Err(Errno::ROFS)
}

/// Which setting keeps ordinary users from namespaces.
fn user_namespaces() -> Option<Obstacle> {
    const SETTINGS: [(&str, &str, &str, &str); 3] = [
        (
            "/proc/sys/user/max_user_namespaces",
            "0",
            "sysctl user.max_user_namespaces=0",
            "sysctl user.max_user_namespaces=10000",
        ),
        (
            "/proc/sys/kernel/unprivileged_userns_clone",
            "0",
            "sysctl kernel.unprivileged_userns_clone=0",
            "sysctl kernel.unprivileged_userns_clone=1",
        ),
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "sysctl kernel.apparmor_restrict_unprivileged_userns=1",
            "an AppArmor profile with `userns,` for this program, or sysctl \
             kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    ];
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let (.., cause, remedy) = SETTINGS.iter().find(|it| read(it.0).trim() == it.1)?;
    Some(Obstacle {
        what: "ordinary users can't confine layers by namespaces".to_owned(),
        cause: (*cause).to_owned(),
        remedy: format!("{remedy}; or start as root"),
    })
}

/// Why no cgroup can be made.
fn groups(around: &Around, findings: &Findings) -> Option<Obstacle> {
    let refusal = findings.groups.refused().first()?;
    let what = format!(
        "no cgroup can be made ({}: {}): limits of memory and tasks are held for each process, and \
         `cpu` not at all",
        refusal.path.display(),
        refusal.error
    );
    let is_ours = refusal.error.kind() == io::ErrorKind::PermissionDenied && findings.rootless;
    let (cause, remedy) = match refusal.error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => (
            around.say(
                "the container sees its cgroup read-only",
                "the container sees its cgroup read-only",
                "the unit's ProtectControlGroups=yes",
                "/sys/fs/cgroup is mounted read-only",
            ),
            around.say(
                "the pod's own limits (resources: { limits: ... })",
                "ENGINE run -v /sys/fs/cgroup:/sys/fs/cgroup:rw, or the container's own limits",
                "Delegate=yes and ProtectControlGroups=no",
                "mount it writable",
            ),
        ),
        _ if is_ours => (
            "the cgroup isn't delegated to this user".to_owned(),
            around.say(
                "the pod's own limits (resources: { limits: ... })",
                "the container's own limits",
                "Delegate=yes",
                "systemd-run --user --scope -p Delegate=yes cofferdam run ...",
            ),
        ),
        _ => (
            "no hierarchy of control groups can be used from here".to_owned(),
            around.say(
                "the pod's own limits (resources: { limits: ... })",
                "ENGINE run -v /sys/fs/cgroup:/sys/fs/cgroup:rw, or the container's own limits",
                "Delegate=yes",
                "mount cgroup2 at /sys/fs/cgroup",
            ),
        ),
    };
    Some(Obstacle { what, cause, remedy })
}

/// Why there is no Landlock, or not all of it.
fn landlock(around: &Around, findings: &Findings) -> Option<Obstacle> {
    let got = findings.receipt.got(Protection::LandlockFile);
    let Got::Missing(errno) = got else {
        let lacks = |it| matches!(findings.receipt.got(it), Got::Missing(_));
        let is_old = lacks(Protection::LandlockScope) || lacks(Protection::LandlockNet);
        let abi = findings.receipt.landlock_kernel();
        return is_old.then(|| Obstacle {
            what: format!("Landlock's version is {abi}: some of it is missing"),
            cause: format!("the kernel is {}", rustix::system::uname().release().to_string_lossy()),
            remedy: "Linux 6.12 has all".to_owned(),
        });
    };
    let what = "no Landlock: paths are guarded by the empty root alone".to_owned();
    let (cause, remedy) = match i32::from(errno) {
        libc::EOPNOTSUPP => (
            "the kernel has it, and it is switched off at boot".to_owned(),
            "`landlock` in the list of the kernel's parameter `lsm=`".to_owned(),
        ),
        _ => (
            around.say(
                "the kernel is built without it, or the container's seccomp profile refuses it",
                "the kernel is built without it, or the container's seccomp profile refuses it",
                "the kernel is built without it, or the unit's SystemCallFilter= lacks @sandbox",
                "the kernel is built without it (CONFIG_SECURITY_LANDLOCK), or a filter refuses it",
            ),
            around.say(
                POD_FILTER,
                CONTAINER_FILTER,
                "SystemCallFilter=@sandbox",
                "a kernel with it: since Linux 5.13",
            ),
        ),
    };
    Some(Obstacle { what, cause, remedy })
}

/// Why no layer gets a `/proc` of its own.
fn own_proc(around: &Around, said: &str) -> Obstacle {
    Obstacle {
        what: format!("no layer with `view = [\"proc\"]` starts: {said}"),
        cause:
            "parts of /proc are covered or read-only here, and the kernel lets an ordinary user \
                see no more of a new one (mount_too_revealing in fs/namespace.c)"
                .to_owned(),
        remedy: around.say(
            "securityContext: { procMount: Unmasked }",
            "ENGINE run --security-opt systempaths=unconfined",
            "ProtectKernelTunables=no, ProtectKernelLogs=no and ProcSubset=all",
            "uncover it, or leave `proc` out of the view",
        ),
    }
}
