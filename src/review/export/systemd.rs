//! Units of systemd: a service for each layer, and a socket unit where it listens
//! (systemd.exec(5), systemd.resource-control(5), systemd.socket(5)).

mod view;

use std::fmt::Write;

use super::quote::{path, percent, quote};
use super::{Export, facilities, family};
use crate::policy::plan::{
    FileRight, GiveUp, LayerPlan, Limits, ListenAddress, Pass, Plan, Program, RestartOn,
};
use crate::policy::syscall;

/// What every layer has, whatever its policy says.
const ALWAYS: &str = "\
NoNewPrivileges=yes
PrivateNetwork=yes
PrivateIPC=yes
PrivateDevices=yes
ProtectSystem=strict
ProtectHome=yes
ProtectProc=invisible
ProcSubset=pid
ProtectClock=yes
ProtectHostname=yes
ProtectControlGroups=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictNamespaces=yes
RestrictRealtime=yes
LockPersonality=yes
KeyringMode=private
RemoveIPC=yes
UMask=0077
LimitCORE=0
SystemCallArchitectures=native
";

/// The units of one layer, as one text: each begins with a comment that says its file's name.
///
/// What the units do not say is in comments in front of them too.
pub fn systemd(plan: &Plan, layer: &LayerPlan) -> Export<String> {
    let mut unit = Unit { text: String::new(), not_expressed: Vec::new() };
    unit.service(plan, layer);
    unit.socket(plan, layer);
    let mut value = format!("# Layer {} of the policy {}.\n", layer.name, plan.name);
    if !unit.not_expressed.is_empty() {
        value += "# Not expressed here:\n";
        for line in &unit.not_expressed {
            let _ = writeln!(value, "#  - {}", crate::text::neutralise(line.as_bytes()));
        }
    }
    value += &unit.text;
    Export { value, not_expressed: unit.not_expressed }
}

struct Unit {
    text: String,
    not_expressed: Vec<String>,
}

impl Unit {
    fn say(&mut self, key: &str, value: &str) {
        let _ = writeln!(self.text, "{key}={value}");
    }

    fn miss(&mut self, what: impl Into<String>) {
        self.not_expressed.push(what.into());
    }

    fn service(&mut self, plan: &Plan, layer: &LayerPlan) {
        let _ = write!(self.text, "\n# {}-{}.service\n[Unit]\n", plan.name, layer.name);
        self.say("Description", &format!("Layer {} of {}", layer.name, plan.name));
        self.restart_limits(layer);
        self.text.push_str("\n[Service]\n");
        self.program(layer);
        self.text.push_str(ALWAYS);
        self.set_ids(layer);
        match layer.uid {
            Some(uid) => self.say("User", &uid.to_string()),
            None => self.say("DynamicUser", "yes"),
        }
        self.say("MemoryDenyWriteExecute", if layer.execmem { "no" } else { "yes" });
        self.capabilities(layer);
        self.limits(layer);
        self.files(plan, layer);
        self.calls(layer);
        self.families(layer);
        self.beside(plan, layer);
    }

    /// Under that line `openat2` answers `ENOSYS`, for its modes can't be seen by a filter.
    fn set_ids(&mut self, layer: &LayerPlan) {
        let opens = layer
            .syscalls
            .iter()
            .any(|call| Some(call.number) == syscall::by_name("openat2") && !call.allow.is_empty());
        self.say("RestrictSUIDSGID", if opens { "no" } else { "yes" });
        if opens {
            self.miss(
                "no set-user-ID bit on what it makes: systemd can't refuse it and allow openat2",
            );
        }
    }

    fn program(&mut self, layer: &LayerPlan) {
        match &layer.program {
            Program::Exec(words) => {
                let words: Vec<_> = words.iter().map(|word| quote(word, true)).collect();
                self.say("ExecStart", &words.join(" "));
            }
            Program::Run(name) => {
                self.say("ExecStart", "/usr/bin/false");
                self.miss(format!(
                    "the layer is the function {name} of its daemon's program: put a program of \
                     your own in ExecStart"
                ));
            }
        }
        for (key, value) in &layer.env {
            self.say("Environment", &quote(&format!("{key}={value}"), false));
        }
        let restart = match layer.restart.on {
            RestartOn::Never => "no",
            RestartOn::Failure => "on-failure",
            RestartOn::Always => "always",
        };
        self.say("Restart", restart);
        if layer.instances > 1 {
            self.miss(format!("{} instances: one unit is one of them", layer.instances));
        }
    }

    fn restart_limits(&mut self, layer: &LayerPlan) {
        if layer.restart.on == RestartOn::Never {
            return;
        }
        self.say("StartLimitBurst", &layer.restart.max.saturating_add(1).to_string());
        let within = layer.restart.within.as_millis();
        self.say("StartLimitIntervalSec", &format!("{within}ms"));
        if layer.restart.then == GiveUp::StopDaemon {
            self.miss("a layer that gives up stops the whole daemon: systemd leaves the others up");
        }
    }

    fn capabilities(&mut self, layer: &LayerPlan) {
        let mut known: Vec<_> = caps::all()
            .into_iter()
            .filter(|one| layer.capabilities.contains(&one.index()))
            .map(|one| one.to_string())
            .collect();
        known.sort_unstable();
        self.say("CapabilityBoundingSet", &known.join(" "));
        self.say("AmbientCapabilities", &known.join(" "));
    }

    fn limits(&mut self, layer: &LayerPlan) {
        // Taken apart, so that the compiler names this when there is one more.
        let Limits { memory, files, tasks, cpu, file_size } = &layer.limits;
        self.say("MemoryMax", &memory.to_string());
        self.say("TasksMax", &tasks.to_string());
        self.say("LimitNOFILE", &files.to_string());
        self.say("LimitFSIZE", &file_size.to_string());
        if let Some(percent) = cpu {
            self.say("CPUQuota", &format!("{percent}%"));
        }
    }

    fn files(&mut self, plan: &Plan, layer: &LayerPlan) {
        self.say("TemporaryFileSystem", "/:ro");
        self.view(layer);
        self.directories(layer);
        for (file, rights) in plan.files_of(&layer.name) {
            let has = |right| rights.contains(&right);
            let all = FileRight::ALL.iter().filter(|it| it.changes() && **it != FileRight::Append);
            let all = all.count();
            let changes = rights.iter().filter(|it| it.changes() && **it != FileRight::Append);
            let mut changes = changes.count();
            if changes == 0 && has(FileRight::Append) {
                changes = 1;
            }
            let bind = if changes == 0 { "BindReadOnlyPaths" } else { "BindPaths" };
            let missing = if file.optional { "-" } else { "" };
            let seen = file.at.as_deref().map(|at| format!(":{}", path(at))).unwrap_or_default();
            self.say(bind, &format!("{missing}{}{seen}", path(&file.path)));
            if !has(FileRight::Execute) {
                self.say("NoExecPaths", &format!("{missing}{}", path(file.seen_at())));
            }
            if file.follow {
                self.miss(format!("file {}: follow", file.name));
            }
            if (1..all).contains(&changes) {
                self.miss(format!(
                    "file {}: not every change of it is granted, the unit allows all",
                    file.name
                ));
            }
            if !has(FileRight::List) || !has(FileRight::Read) {
                self.miss(format!(
                    "file {}: reading and listing are not told apart, the unit allows both",
                    file.name
                ));
            }
            if !file.deny.is_empty() || file.max_open.is_some() {
                self.miss(format!("file {}: deny and max-open", file.name));
            }
        }
    }

    fn calls(&mut self, layer: &LayerPlan) {
        let mut allowed = Vec::new();
        let mut conditional = Vec::new();
        let mut refused = Vec::new();
        for call in &layer.syscalls {
            let Some(name) = syscall::name_of(call.number) else {
                self.miss(format!("system call {} has no name", call.number));
                continue;
            };
            if !call.allow.is_empty() {
                allowed.push(name);
                if !call.allow.iter().any(|rule| rule.0.is_empty()) {
                    conditional.push(name);
                }
            } else if let Some(errno) = call.otherwise {
                let errno = syscall::errno_name(errno).unwrap_or("an error");
                refused.push(format!("{name} ({errno})"));
            }
        }
        if allowed.is_empty() {
            // An empty list would be no filter at all.
            allowed.push("exit");
        }
        for some in allowed.chunks(10) {
            self.say("SystemCallFilter", &some.join(" "));
        }
        if !refused.is_empty() {
            // In a list of what is allowed, systemd takes no errno for a single call.
            self.miss(format!(
                "calls that fail with an errno: they end the unit's process instead, unless \
                 SystemCallErrorNumber= is set for all: {}",
                refused.join(" ")
            ));
        }
        if !conditional.is_empty() {
            self.miss(format!(
                "conditions on arguments: the unit allows these calls with any: {}",
                conditional.join(" ")
            ));
        }
        self.miss(
            "systemd allows execve, exit, sigreturn, getrlimit and the calls that ask for the time \
             or sleep in every unit",
        );
    }

    /// The families that `socket` may be called with.
    fn families(&mut self, layer: &LayerPlan) {
        let socket = layer
            .syscalls
            .iter()
            .find(|call| Some(call.number) == syscall::by_name("socket") && !call.allow.is_empty());
        let Some(socket) = socket else {
            self.say("RestrictAddressFamilies", "none");
            return;
        };
        let mut names = Vec::new();
        for rule in &socket.allow {
            let Some(name) = family(rule) else {
                self.miss("socket: not every rule names a family, the unit allows any");
                return;
            };
            names.push(name);
        }
        names.dedup();
        self.say("RestrictAddressFamilies", &names.join(" "));
    }

    fn beside(&mut self, plan: &Plan, layer: &LayerPlan) {
        for socket in &layer.connect {
            self.miss(format!(
                "connect {}: nobody connects for a unit, and it has no network of its own",
                socket.name
            ));
        }
        let others = facilities(plan, layer);
        if !others.is_empty() {
            self.miss(format!("only cofferdam makes these: {}", others.join(", ")));
        }
        if plan.audit.demanded {
            self.miss("the audit log: the journal has what a unit says, and nobody signs it");
        }
        self.miss(
            "where the kernel lacks a protection, systemd starts the unit without it; cofferdam \
             doesn't, unless it is optional",
        );
    }

    fn socket(&mut self, plan: &Plan, layer: &LayerPlan) {
        for listen in &layer.listen {
            let (daemon, layer) = (&plan.name, &layer.name);
            let _ = write!(
                self.text,
                "\n# {daemon}-{layer}-{name}.socket\n[Socket]\n",
                name = listen.name
            );
            match &listen.address {
                ListenAddress::Tcp(address) => self.say("ListenStream", &address.to_string()),
                ListenAddress::Udp(address) => self.say("ListenDatagram", &address.to_string()),
                ListenAddress::Unix(path) => self.say("ListenStream", &percent(path)),
            }
            self.say("FileDescriptorName", listen.name.as_str());
            self.say("Service", &format!("{daemon}-{layer}.service"));
            if matches!(listen.pass, Pass::Bind | Pass::Fd(_)) {
                self.miss(format!(
                    "listen {}: the program finds it by `LISTEN_FDS` alone, and can't bind it",
                    listen.name
                ));
            }
            if listen.pass == Pass::Inetd {
                self.miss(format!(
                    "listen {}: a process for each connection, which takes `Accept=yes` here and a \
                     service unit by template",
                    listen.name
                ));
            }
            if listen.rate.is_some() || listen.per_source.is_some() {
                self.miss(format!("listen {}: rate and per-source", listen.name));
            }
        }
    }
}
