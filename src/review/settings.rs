//! Settings: what a layer has whatever it does: limits, protections, what runs.

use std::fmt::Write;

use crate::ident::{Name, hex};
use crate::policy::plan::{
    Amount, AuditPlan, DirectoryKind, DirectoryPlan, HostPlan, LayerPlan, Limits, LogFull, Plan,
    Program, Protection, Stream, View, ViewPart,
};
use crate::policy::value::{show_duration, show_size};
use crate::policy::ways::facts::Bound;
use crate::text::counted;

/// One setting of a layer. A larger amount of its bound is more authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// What is set: `memory`, `protection.seccomp`, `execmem`.
    pub name: String,
    /// The path of the rule in the policy.
    pub rule: String,
    /// To what.
    pub bound: Bound,
}

/// Every setting of a layer, in the same order for all layers.
pub fn settings(layer: &LayerPlan) -> Vec<Setting> {
    let setting = |name: &str, key: &str, bound| {
        let rule = format!("layer.{}.{key}", layer.name);
        Setting { name: name.to_owned(), rule, bound }
    };
    // Taken apart, so that the compiler names this when a layer has one more.
    let LayerPlan {
        name: _,
        program,
        instances,
        first: _,
        hosts,
        // Facts, or facilities' ends.
        syscalls: _,
        listen: _,
        connect: _,
        capabilities: _,
        stdin,
        stdout,
        stderr,
        limits,
        // No authority.
        restart: _,
        workers: _,
        elastic: _,
        after: _,
        ready: _,
        reload: _,
        health: _,
        env: _,
        threads: _,
        vars: _,
        log: _,
        grace,
        // Of those that reach it anyway.
        stop_signal: _,
        optional,
        view,
        directories,
        // Where it begins is no authority.
        cwd: _,
        umask,
        execmem,
        uid,
        group,
    } = layer;
    let (key, program) = self::program(program);
    let mut all = vec![
        setting("program", key, Bound::flag("program", true, program)),
        setting("instances", "instances", Bound::count("instances", *instances)),
        setting("hosts", "hosts", Bound::flag("hosts", true, self::hosts(hosts))),
    ];
    for (key, amount) in limits.each() {
        all.push(setting(key, &format!("limits.{key}"), limit(key, amount)));
    }
    all.extend([
        setting("execmem", "execmem", Bound::flag("execmem", *execmem, yes(*execmem))),
        setting("uid", "uid", self::uid(*uid)),
        setting(
            "grace",
            "grace",
            Bound { name: "grace", amount: grace.as_millis(), text: show_duration(*grace) },
        ),
    ]);
    let streams = [("stdin", stdin), ("stdout", stdout), ("stderr", stderr)];
    for (key, _) in streams.into_iter().filter(|(_, it)| **it == Some(Stream::Inherited)) {
        all.push(setting(key, key, Bound::flag(key, true, "the daemon's own")));
    }
    all.extend(self::directories(directories).map(|(key, bound)| setting(key, key, bound)));
    // Whom its files are open to.
    let open = u128::from(!umask & 0o777);
    let mask = Bound { name: "umask", amount: open, text: format!("{umask:04o}") };
    all.push(setting("umask", "umask", mask));
    all.push(setting("group", "group", self::group(*group)));
    all.extend(self::view(view).map(|(name, bound)| setting(&name, "view", bound)));
    for protection in Protection::ALL {
        let optional = optional.contains(&protection);
        let text = if optional { "optional" } else { "demanded" };
        let bound = Bound::flag(protection.name(), optional, text);
        all.push(setting(&format!("protection.{}", protection.name()), "optional", bound));
    }
    all
}

/// Every setting of the audit log that says what evidence there is, and who reads it, in the same
/// order for all daemons. A larger amount is less evidence.
pub fn log(audit: &AuditPlan) -> Vec<Setting> {
    let setting = |name: &str, bound| {
        let rule = if name == "log" { "audit".to_owned() } else { format!("audit.{name}") };
        Setting { name: name.to_owned(), rule, bound }
    };
    let demanded = if audit.demanded { "demanded" } else { "only with --audit" };
    let directory = audit.directory.as_deref().unwrap_or("what --audit says");
    let key = audit.payload_key.map_or("none".to_owned(), |key| hex(&key));
    let counts = audit.on_full == LogFull::Count;
    let kept = |name, most: Option<(u128, String)>| {
        let (amount, text) =
            most.map_or((0, "everything".to_owned()), |(most, text)| (u128::MAX - most, text));
        Bound { name, amount, text }
    };
    let bytes = audit.keep_bytes.map(|most| (most.into(), show_size(most)));
    let age = audit.keep_age.map(|most| (most.as_millis(), show_duration(most)));
    vec![
        setting("log", Bound::flag("log", !audit.demanded, demanded)),
        setting("directory", Bound::flag("directory", true, directory)),
        setting("on-full", Bound::flag("on-full", counts, audit.on_full.name())),
        setting("payload-key", Bound::flag("payload-key", true, key)),
        setting("keep", kept("keep", bytes)),
        setting("keep-age", kept("keep-age", age)),
    ]
}

/// Every setting of the daemon as a whole, in the same order for all daemons.
pub fn daemon(plan: &Plan) -> Vec<Setting> {
    let setting =
        |rule: &str, bound| Setting { name: rule.to_owned(), rule: rule.to_owned(), bound };
    let served = plan.metrics.map_or("nowhere".to_owned(), |at| format!("at tcp:{at}"));
    let gain = plan.reload.gain;
    let hosts: Vec<_> = plan.hosts.iter().map(known).collect();
    let hosts = if hosts.is_empty() { "one machine".to_owned() } else { hosts.join(", ") };
    vec![
        setting("reload.gain", Bound::flag("gain", gain, if gain { "allowed" } else { "refused" })),
        setting("metrics.listen", Bound::flag("listen", plan.metrics.is_some(), served)),
        setting("host", Bound::flag("host", true, hosts)),
    ]
}

/// Limits as a sentence: `64MiB of memory, 64 descriptors, ...`.
pub fn limits(layer: &LayerPlan) -> String {
    let &Limits { memory, files, tasks, cpu, file_size } = &layer.limits;
    let mut text = format!(
        "{} of memory, {}, {}, files to {}",
        show_size(memory),
        counted(files, "descriptor"),
        counted(tasks, "task"),
        show_size(file_size)
    );
    match cpu {
        Some(percent) => {
            let _ = write!(text, ", {percent}% of a processor");
        }
        None => text.push_str(", no limit on the processor"),
    }
    text
}

/// A limit as a bound.
fn limit(key: &'static str, amount: Option<Amount>) -> Bound {
    match amount {
        None => Bound { name: key, amount: u128::MAX, text: "no limit".to_owned() },
        Some(Amount::Bytes(bytes)) => Bound::size(key, bytes),
        Some(Amount::Count(count)) => Bound::count(key, count),
        Some(Amount::Percent(share)) => {
            Bound { name: key, amount: share.into(), text: format!("{share}%") }
        }
    }
}

/// Each kind of directory of its own, and which it has.
fn directories(held: &[DirectoryPlan]) -> impl Iterator<Item = (&'static str, Bound)> {
    DirectoryKind::ALL.into_iter().map(|kind| {
        let found = held.iter().find(|it| it.kind == kind);
        let text = found.map_or("none".to_owned(), directory);
        (kind.name(), Bound::flag(kind.name(), found.is_some(), text))
    })
}

/// A directory of a layer's own: `/run/x, at most 16MiB`.
pub(super) fn directory(it: &DirectoryPlan) -> String {
    let most = it.size.map(|size| format!(", at most {}", show_size(size)));
    format!("{}{}", it.path, most.unwrap_or_default())
}

/// Root's group is more than another one, and that is more than one of its own.
fn group(group: Option<u32>) -> Bound {
    Bound { name: "group", ..uid(group) }
}

/// Each part of a view that there is, by `view.` and its word, and how much of it the layer has.
fn view(view: &View) -> impl Iterator<Item = (String, Bound)> {
    ViewPart::WORDS.iter().map(|&(word, is_sized)| {
        let part = view.parts().iter().find(|part| part.name() == word);
        let bound = match (is_sized, part.and_then(|part| part.size())) {
            (true, None) => Bound { name: word, amount: 0, text: "none".to_owned() },
            (true, Some(size)) => Bound::size(word, size),
            (false, _) => Bound::flag(word, part.is_some(), yes(part.is_some())),
        };
        (format!("view.{word}"), bound)
    })
}

/// Root is more than another user's uid, and that is more than one of its own.
/// On which hosts a layer runs.
fn hosts(hosts: &[Name]) -> String {
    let names: Vec<_> = hosts.iter().map(Name::as_str).collect();
    if names.is_empty() { "one machine".to_owned() } else { names.join(", ") }
}

/// Whom the daemon takes for which host, and where it calls them.
fn known(host: &HostPlan) -> String {
    let mut text = host.name.as_str().to_owned();
    for key in &host.keys {
        let _ = write!(text, " {}", hex(key));
    }
    if let Some(address) = host.address {
        let _ = write!(text, " at tcp:{address}");
    }
    text
}

fn uid(uid: Option<u32>) -> Bound {
    let amount = match uid {
        None => 0,
        Some(0) => 2,
        Some(_) => 1,
    };
    let text = uid.map_or("its own".to_owned(), |uid| uid.to_string());
    Bound { name: "uid", amount, text }
}

/// What runs, and the key that says so.
pub(super) fn program(program: &Program) -> (&'static str, String) {
    match program {
        Program::Run(name) => ("run", format!("the function {name}")),
        Program::Exec(words) => ("exec", words.join(" ")),
    }
}

fn yes(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}
