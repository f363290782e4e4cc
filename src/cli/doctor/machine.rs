//! Facts of the machine that no receipt has, and what follows from each.

use std::fs;
use std::io;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::PidfdFlags;

use super::probe::Findings;
use crate::sys::{probe, socket};
use crate::users;

/// One fact.
pub(super) struct Fact {
    pub(super) name: &'static str,
    pub(super) value: String,
    pub(super) consequence: &'static str,
}

/// Which kernel, and who asks.
pub(super) fn title() -> String {
    let kernel = rustix::system::uname();
    let user = rustix::process::geteuid();
    let whose = if user.is_root() { "root".to_owned() } else { format!("uid {}", user.as_raw()) };
    let release = kernel.release().to_string_lossy();
    format!(
        "{} {release} on {}, as {whose}",
        kernel.sysname().to_string_lossy(),
        std::env::consts::ARCH
    )
}

/// All of them.
pub(super) fn facts(findings: &Findings) -> Vec<Fact> {
    let mut facts = vec![users(findings), landlock(findings)];
    facts.extend(findings.groups.usable().map(|(controller, version, base)| Fact {
        name: match controller {
            crate::confine::cgroup::Controller::Memory => "cgroup for memory",
            crate::confine::cgroup::Controller::Pids => "cgroup for tasks",
            crate::confine::cgroup::Controller::Cpu => "cgroup for cpu",
        },
        value: format!("version {version}"),
        consequence: if base.starts_with("/sys/fs/cgroup") { "" } else { "at an unusual place" },
    }));
    facts.extend([
        user_namespaces(),
        seccomp_actions(),
        answer(
            "memfd_secret",
            probe::secret_memory(),
            "keys are in locked memory, which root can read",
        ),
        answer("pidfd", own_pidfd(), "nothing works: Linux 5.3 has it"),
        answer(
            "SO_PASSRIGHTS",
            passrights(),
            "unwanted descriptors are closed on arrival, not refused to the sender; Linux 6.16 has it",
        ),
        proc(),
        io_uring(),
        tiocsti(),
    ]);
    facts
}

/// Whether layers can be users of their own, who stay who they are.
fn users(findings: &Findings) -> Fact {
    let name = "users of layers";
    if findings.rootless {
        let consequence = "outside of their user namespaces layers are this user";
        return Fact { name, value: "none".to_owned(), consequence };
    }
    match users::recorded() {
        Ok(count) => Fact { name, value: format!("{count} recorded"), consequence: "" },
        Err(error) => Fact {
            name,
            value: format!("no: {error}"),
            consequence: "no daemon starts whose layers have no `uid` of their own",
        },
    }
}

fn landlock(findings: &Findings) -> Fact {
    let abi = findings.receipt.landlock_abi();
    let kernel = findings.receipt.landlock_kernel();
    Fact {
        name: "Landlock ABI",
        value: if kernel > abi { format!("{kernel}, {abi} used") } else { abi.to_string() },
        consequence: match abi {
            _ if kernel > abi => {
                "the kernel is newer than cofferdam: rights that came since aren't restricted"
            }
            0 => "no Landlock at all",
            1..=5 => "older than what cofferdam can use (6, for signals and abstract sockets)",
            6..=8 => "path-named Unix sockets are not covered: the empty root hides them",
            _ => "",
        },
    }
}

fn user_namespaces() -> Fact {
    let limit = sysctl("/proc/sys/user/max_user_namespaces");
    let closed = |path: &str, value: &str| sysctl(path) == value;
    let consequence = if limit == "0"
        || closed("/proc/sys/kernel/unprivileged_userns_clone", "0")
        || closed("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1")
    {
        "ordinary users can't confine layers by namespaces; root can"
    } else {
        ""
    };
    Fact { name: "user namespaces, at most", value: limit, consequence }
}

fn seccomp_actions() -> Fact {
    let actions = sysctl("/proc/sys/kernel/seccomp/actions_avail");
    let has = |name: &str| actions.split(' ').any(|action| action == name);
    let consequence = if !has("kill_process") {
        "a forbidden call can't end the whole process: Linux 4.14 has it"
    } else if !has("user_notif") {
        "`cofferdam learn` can't watch calls"
    } else {
        ""
    };
    Fact { name: "seccomp actions", value: actions.split(' ').count().to_string(), consequence }
}

fn io_uring() -> Fact {
    let value = sysctl("/proc/sys/kernel/io_uring_disabled");
    let consequence = match value.as_str() {
        "2" => "nobody can use it, not even a layer whose policy grants it",
        _ => "layers can't use it unless a policy grants it: filters refuse it",
    };
    Fact { name: "io_uring_disabled", value, consequence }
}

fn tiocsti() -> Fact {
    let value = sysctl("/proc/sys/dev/tty/legacy_tiocsti");
    let consequence = match value.as_str() {
        "0" => "",
        _ => "a program with a terminal can type into it; layers never have one",
    };
    Fact { name: "legacy_tiocsti", value, consequence }
}

/// How much of `/proc` this user sees (proc(5), mount options).
fn proc() -> Fact {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    // The last one is on top.
    let options = mounts.lines().rev().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        (fields.next() == Some("/proc")).then(|| fields.nth(1).unwrap_or_default().to_owned())
    });
    let options = options.unwrap_or_else(|| "not mounted".to_owned());
    let is_hidden = options.split(',').any(|it| it.starts_with("hidepid") && it != "hidepid=0");
    let consequence = if options.contains("subset=pid") {
        "settings of the kernel can't be read here, and none is `unknown` for another reason"
    } else if is_hidden {
        "daemons aren't concerned; `cofferdam top` sees those of this user, or as root all"
    } else {
        ""
    };
    let named = ["hidepid", "subset", "not mounted"];
    let shown: Vec<_> =
        options.split(',').filter(|it| named.iter().any(|name| it.starts_with(name))).collect();
    let value = if shown.is_empty() { "whole".to_owned() } else { shown.join(",") };
    Fact { name: "/proc", value, consequence }
}

fn answer(name: &'static str, result: io::Result<()>, otherwise: &'static str) -> Fact {
    match result {
        Ok(()) => Fact { name, value: "yes".to_owned(), consequence: "" },
        Err(error) => Fact { name, value: format!("no: {error}"), consequence: otherwise },
    }
}

fn own_pidfd() -> io::Result<()> {
    let own = rustix::process::getpid();
    Ok(rustix::process::pidfd_open(own, PidfdFlags::empty()).map(drop)?)
}

fn passrights() -> io::Result<()> {
    let flags = SocketFlags::CLOEXEC;
    let (one, _other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    let refuses = socket::refuse_descriptors(one)?;
    if refuses { Ok(()) } else { Err(io::ErrorKind::Unsupported.into()) }
}

/// A kernel setting; "unknown" where the kernel has no such setting.
fn sysctl(path: &str) -> String {
    fs::read_to_string(path).map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}
