//! The unit of a whole daemon, as cofferdam itself runs it (systemd.exec(5), systemd.service(5)).
//!
//! What the unit says holds for the supervisor and for every layer, each of which is confined further
//! by its own policy. So there is no line in it that a supervisor can't start layers under:
//! `RestrictNamespaces=`, `ProtectHostname=`, `ProtectControlGroups=`, `ProtectKernelTunables=`,
//! `ProtectKernelLogs=` and `RestrictSUIDSGID=` (which has `openat2` answer `ENOSYS`) are left out, and
//! of system calls only such are refused as nobody makes, for the lists differ between versions.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use super::family;
use super::quote::{path, quote};
use crate::policy::plan::{
    CallRule, FileRight, LayerPlan, ListenAddress, ListenPlan, Plan, Program,
};
use crate::policy::syscall;

/// What every daemon can live with.
const ALWAYS: &str = "\
NoNewPrivileges=yes
ProtectSystem=strict
ProtectProc=invisible
ProtectClock=yes
ProtectKernelModules=yes
PrivateMounts=yes
RestrictRealtime=yes
LockPersonality=yes
KeyringMode=private
SystemCallArchitectures=native
UMask=0077
LimitCORE=0
";

/// Capabilities that a supervisor takes: to start layers, to make what the policy names, and to read
/// in the kernel's log what a layer was killed for.
const CAPABILITIES: [&str; 12] = [
    "CAP_SYS_ADMIN",
    "CAP_SETUID",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_KILL",
    "CAP_DAC_READ_SEARCH",
    "CAP_DAC_OVERRIDE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_NICE",
    "CAP_CHOWN",
    "CAP_FOWNER",
    "CAP_SYSLOG",
];

/// Calls that a supervisor and most layers have no use for, as groups of systemd with the calls by
/// which a policy could need one. `@debug` isn't among them: an observer of refusals takes
/// descriptors of the layer's threads.
const UNUSED: [(&str, &[&str]); 7] = [
    ("@clock", &["adjtimex", "clock_adjtime", "clock_settime", "settimeofday"]),
    ("@cpu-emulation", &["modify_ldt"]),
    ("@module", &["init_module", "finit_module", "delete_module"]),
    ("@obsolete", &["uselib", "ustat", "sysfs", "vserver"]),
    ("@raw-io", &["ioperm", "iopl"]),
    ("@reboot", &["kexec_load", "kexec_file_load", "reboot"]),
    ("@swap", &["swapon", "swapoff"]),
];

/// A unit that starts the daemon of `plan` by the words of `command`: `cofferdam run POLICY`, or its
/// own program.
pub fn service_unit(plan: &Plan, command: &[String]) -> String {
    let mut text = format!(
        "# {name}.service: the daemon {name}, started as root\n[Unit]\nDescription=Daemon {name}\n\n\
         [Service]\n",
        name = plan.name
    );
    let mut say = |key: &str, value: &str| {
        let _ = writeln!(text, "{key}={value}");
    };
    let words: Vec<_> = command.iter().map(|word| quote(word, true)).collect();
    say("ExecStart", &words.join(" "));
    say("Type", "notify");
    // By the command it is known whether it came to anything; a signal is heard by every daemon.
    let program = command.first().map(String::as_str);
    if let Some(cofferdam) = program.filter(|it| it.ends_with("/cofferdam")) {
        say("ExecReload", &format!("{} reload {}", quote(cofferdam, true), plan.name));
    } else {
        say("ExecReload", "/bin/kill -HUP $MAINPID");
    }
    // The supervisor says itself that it lives, from the loop that does all else.
    say("WatchdogSec", "30");
    let listen = plan.layers.iter().map(|layer| layer.listen.len()).sum::<usize>();
    if listen > 0 {
        // With whoever waits there, they outlive a supervisor that dies.
        say("FileDescriptorStoreMax", &listen.min(60).to_string());
    }
    say("KillMode", "mixed");
    say("TimeoutStopSec", &stopping(plan).as_secs().to_string());
    say("Restart", "on-failure");
    // Layers get control groups of their own in the unit's.
    say("Delegate", "yes");
    if plan.layers.iter().any(|layer| layer.uid.is_none()) {
        // Who is which user, for ever.
        say("StateDirectory", "cofferdam");
    }
    // Other daemons have their locks there too.
    say("RuntimeDirectory", "cofferdam");
    say("RuntimeDirectoryPreserve", "yes");
    for line in ALWAYS.lines() {
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        say(key, value);
    }
    let execmem = plan.layers.iter().any(|layer| layer.execmem);
    say("MemoryDenyWriteExecute", if execmem { "no" } else { "yes" });
    let named = paths(plan);
    let is_beneath = |above: &str| named.iter().any(|it| Path::new(it).starts_with(above));
    let homes = ["/home", "/root", "/run/user"].into_iter().any(is_beneath);
    say("ProtectHome", if homes { "no" } else { "yes" });
    say("PrivateTmp", if is_beneath("/tmp") || is_beneath("/var/tmp") { "no" } else { "yes" });
    if !is_beneath("/dev") {
        say("PrivateDevices", "yes");
        say("DevicePolicy", "closed");
    }
    for place in written(plan) {
        say("ReadWritePaths", &format!("-{}", path(&place)));
    }
    say("CapabilityBoundingSet", &capabilities(plan).join(" "));
    if let Some(families) = families(plan) {
        say("RestrictAddressFamilies", &families.join(" "));
    }
    let grants = |name: &str| granted(plan, name).next().is_some();
    let unused = UNUSED.iter().filter(|(_, calls)| !calls.iter().any(|call| grants(call)));
    let unused: Vec<_> = unused.map(|(group, _)| *group).collect();
    say("SystemCallFilter", &format!("~{}", unused.join(" ")));
    // As a call that the kernel doesn't have: what only tries goes on.
    say("SystemCallErrorNumber", "ENOSYS");
    text.push_str("\n[Install]\nWantedBy=multi-user.target\n");
    text
}

/// How long the daemon may take to stop: layers end one after another, each within its `grace`, and
/// then the framework's own.
fn stopping(plan: &Plan) -> Duration {
    let own = 4 * LayerPlan::DEFAULT_GRACE;
    plan.layers.iter().map(|layer| layer.grace).sum::<Duration>() + own
}

/// What the supervisor takes and layers are granted.
fn capabilities(plan: &Plan) -> Vec<String> {
    let mut all: Vec<_> = CAPABILITIES.iter().map(|&name| name.to_owned()).collect();
    let listens = plan.layers.iter().flat_map(|layer| &layer.listen);
    let is_low = |it: &ListenPlan| match &it.address {
        ListenAddress::Tcp(address) | ListenAddress::Udp(address) => address.port() < 1024,
        ListenAddress::Unix(_) => false,
    };
    if listens.into_iter().any(is_low) {
        all.push("CAP_NET_BIND_SERVICE".to_owned());
    }
    let granted = plan.layers.iter().flat_map(|layer| &layer.capabilities).copied();
    let granted: BTreeSet<_> = granted.collect();
    let more = caps::all().into_iter().filter(|one| granted.contains(&one.index()));
    let more: BTreeSet<_> = more.map(|one| one.to_string()).collect();
    all.extend(more.into_iter().filter(|name| !CAPABILITIES.contains(&name.as_str())));
    all.dedup();
    all
}

/// The rules by which layers are granted the call `name`.
fn granted<'p>(plan: &'p Plan, name: &str) -> impl Iterator<Item = &'p CallRule> {
    let number = syscall::by_name(name);
    let calls = plan.layers.iter().flat_map(|layer| &layer.syscalls);
    calls.filter(move |call| Some(call.number) == number).flat_map(|call| &call.allow)
}

/// The families of sockets that somebody may make; `None`: a layer may make any.
fn families(plan: &Plan) -> Option<Vec<&'static str>> {
    // The supervisor's own, and those by which a namespace's loopback is set up.
    let mut all = vec!["AF_UNIX", "AF_INET", "AF_INET6"];
    let connects = plan.layers.iter().any(|layer| !layer.connect.is_empty());
    if connects {
        // The C library asks by it which addresses the host has.
        all.push("AF_NETLINK");
    }
    for rule in granted(plan, "socket") {
        all.push(family(rule)?);
    }
    let mut seen = BTreeSet::new();
    all.retain(|name| seen.insert(*name));
    Some(all)
}

/// Every path of the host that the policy names.
fn paths(plan: &Plan) -> BTreeSet<String> {
    let mut all = written(plan);
    all.extend(plan.files.iter().map(|file| file.path.clone()));
    all.extend(plan.layers.iter().filter_map(|layer| match &layer.program {
        Program::Exec(words) => words.first().cloned(),
        Program::Run(_) => None,
    }));
    all
}

/// Those that the daemon writes to or makes something at: directories, for what isn't there yet can't
/// be opened for writing.
fn written(plan: &Plan) -> BTreeSet<String> {
    let above = |path: &str| {
        let parent = Path::new(path).parent().and_then(Path::to_str);
        parent.unwrap_or("/").to_owned()
    };
    let changed = |it: &&crate::policy::plan::FilePlan| {
        it.grant.values().flatten().any(|right: &FileRight| right.changes())
    };
    let mut all: BTreeSet<_> =
        plan.files.iter().filter(changed).map(|file| file.path.clone()).collect();
    let owned = plan.layers.iter().flat_map(|layer| &layer.directories);
    all.extend(owned.map(|it| above(&it.path)));
    all.extend(plan.facilities.fifos.iter().map(|it| above(&it.path)));
    all.extend(plan.facilities.mapped_files.iter().map(|it| above(&it.path)));
    let listens = plan.layers.iter().flat_map(|layer| &layer.listen);
    all.extend(listens.filter_map(|it| match &it.address {
        ListenAddress::Unix(path) => Some(above(path)),
        _ => None,
    }));
    all.extend(plan.audit.directory.as_deref().map(above));
    all
}
