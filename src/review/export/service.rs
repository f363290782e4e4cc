//! The unit of a whole daemon, as cofferdam itself runs it (systemd.exec(5), systemd.service(5)).
//!
//! What the unit says holds for the supervisor and for every layer, each of which is confined further
//! by its own policy. So there is no line in it that a supervisor can't start layers under:
//! `RestrictNamespaces=`, `ProtectHostname=`, `ProtectControlGroups=`, `ProtectKernelTunables=`,
//! `RestrictSUIDSGID=` (which has `openat2` answer `ENOSYS`) and `SystemCallFilter=`, whose lists
//! differ between versions, are left out.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use super::quote::{path, quote};
use crate::policy::plan::{FileRight, ListenAddress, Plan, Program};

/// What every daemon can live with.
const ALWAYS: &str = "\
NoNewPrivileges=yes
ProtectSystem=strict
ProtectClock=yes
ProtectKernelModules=yes
RestrictRealtime=yes
LockPersonality=yes
KeyringMode=private
SystemCallArchitectures=native
LimitCORE=0
";

/// Capabilities that a supervisor takes: to start layers, to make what the policy names, and to read
/// in the kernel's log what a layer was killed for.
const CAPABILITIES: &str = "CAP_SYS_ADMIN CAP_SETUID CAP_SETGID CAP_SETPCAP CAP_KILL \
                            CAP_DAC_READ_SEARCH CAP_DAC_OVERRIDE CAP_SYS_RESOURCE CAP_SYS_NICE \
                            CAP_CHOWN CAP_FOWNER CAP_NET_BIND_SERVICE CAP_SYSLOG";

/// A unit that starts the daemon of `plan` by `command`: `cofferdam run POLICY`, or its own program.
pub fn systemd_daemon(plan: &Plan, command: &[&str]) -> String {
    let mut text = format!(
        "# {name}.service: the daemon {name}, started as root\n[Unit]\nDescription=Daemon {name}\n\n\
         [Service]\nType=exec\n",
        name = plan.name
    );
    let mut say = |key: &str, value: &str| {
        let _ = writeln!(text, "{key}={value}");
    };
    let words: Vec<_> = command.iter().map(|word| quote(word, true)).collect();
    say("ExecStart", &words.join(" "));
    say("KillMode", "mixed");
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
    for place in written(plan) {
        say("ReadWritePaths", &format!("-{}", path(&place)));
    }
    let granted = plan.layers.iter().flat_map(|layer| &layer.capabilities).copied();
    let granted: BTreeSet<_> = granted.collect();
    let known = caps::all().into_iter().filter(|one| granted.contains(&one.index()));
    let mut more: Vec<_> = known.map(|one| one.to_string()).collect();
    more.retain(|name| !CAPABILITIES.split(' ').any(|had| had == name));
    more.sort_unstable();
    let all: Vec<_> = CAPABILITIES.split(' ').map(str::to_owned).chain(more).collect();
    say("CapabilityBoundingSet", &all.join(" "));
    text.push_str("\n[Install]\nWantedBy=multi-user.target\n");
    text
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
