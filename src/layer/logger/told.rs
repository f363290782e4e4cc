//! What is said of a system call that an instance was refused.

use std::fmt::Write;

use super::kernel::Call;
use super::orders::{Granted, Orders};
use crate::confine::filter::Arch;
use crate::ident::{Instance, Name};
use crate::policy::check::reaches;
use crate::policy::plan::{FileRight, LayerPlan};
use crate::policy::syscall::refused::{
    Advice, Grant, Made, Way, advise, advise_some, answer, granted,
};
use crate::policy::syscall::{Implied, errno_name, name_of};
use crate::text::neutralise;
use crate::wire::refusal::{self, Asked, Lacks, Refusal};

/// What is told of a refusal.
pub(super) struct Told {
    /// In the log.
    pub line: String,
    /// In its record: the call, and behind zeros the program, its thread, the place in it, the way out, and
    /// what was asked for.
    pub record: String,
}

/// Which call the program of an `exec` layer was refused, what the layer has of it, and what would
/// allow it. What the layer's init has said of it is made harmless.
pub(super) fn told(instance: &Instance, refusal: &Refusal, orders: &Orders) -> Told {
    let said = |text: &str| neutralise(text.as_bytes());
    let layer = &instance.layer;
    let (program, site) = (said(&refusal.program), said(&refusal.site));
    let mut who = if program.is_empty() { String::new() } else { format!("{program}, ") };
    let _ = write!(who, "thread {}", refusal.thread);
    if !site.is_empty() {
        let _ = write!(who, ", in {site}");
    }
    let what = match refusal.answer {
        refusal::Answer::Killed => "killed".to_owned(),
        refusal::Answer::Failed(errno) => named_errno(errno),
        refusal::Answer::Likely(errno) => {
            format!("by its path, so {} most likely", named_errno(errno))
        }
    };
    let times = match refusal.times {
        1 => String::new(),
        times => format!(", {times} times by now"),
    };
    let (call, way) = if refusal.arch == Arch::NATIVE.audit() {
        (named(&said(&refusal.call)), way_out(refusal, layer, orders))
    } else {
        let call = format!("{} of another architecture ({:#x})", refusal.number, refusal.arch);
        (call, "no policy grants it".to_owned())
    };
    let line = format!(
        "{instance} made the system call {call} and was refused ({what}; {who}{times}): {way}"
    );
    let is_native = refusal.arch == Arch::NATIVE.audit();
    let asked = if is_native { said(&Asked::of(refusal).to_string()) } else { String::new() };
    let thread = refusal.thread;
    Told { line, record: format!("{call}\0{program}\0{thread}\0{site}\0{way}\0{asked}") }
}

fn named_errno(errno: u16) -> String {
    errno_name(errno).map_or_else(|| format!("errno {errno}"), str::to_owned)
}

/// A call whose number has no name reads as that number.
fn named(call: &str) -> String {
    call.strip_prefix("system call ").unwrap_or(call).to_owned()
}

/// That refusals are missing.
pub(super) fn lost(instance: &Instance, count: u64) -> String {
    let were = if count == 1 { "refusal was" } else { "refusals were" };
    format!("{count} more {were} only counted: {instance} was refused too much at a time")
}

/// What the layer has of the call, and what would allow it.
fn way_out(refusal: &Refusal, layer: &Name, orders: &Orders) -> String {
    match &refusal.lacks {
        Lacks::Call => {}
        Lacks::Listen(address) => return declares(layer, "listen", address),
        Lacks::Connect(address) => return declares(layer, "connect", address),
        Lacks::Path { path, rights, is_seen } => {
            return grants(layer, path, rights, *is_seen, orders.files(layer));
        }
    }
    let nothing = Grant { calls: &[], implied: Implied::Exec, appends: false };
    let grant = orders.grant(layer).unwrap_or(nothing);
    let made = Made { number: refusal.number, arguments: refusal.arguments };
    let kills = refusal.answer == refusal::Answer::Killed;
    match advise(&made, &grant) {
        Way::Advice(advice) => allows(refusal.number, &advice, layer, &grant, kills),
        Way::Granted => format!("[layer.{layer}] has it: not its filter has refused it"),
        Way::Never(why) => format!("no policy grants it: {why}"),
    }
}

fn declares(layer: &Name, key: &str, address: &str) -> String {
    let address = neutralise(address.as_bytes());
    format!("`{key} = {{ NAME = \"{address}\" }}` in [layer.{layer}] would allow it")
}

/// What would grant rights at a path: more of a grant that is there, or a grant of its own.
fn grants(layer: &Name, path: &str, rights: &[String], is_seen: bool, files: &[Granted]) -> String {
    let words = |rights: &[FileRight]| {
        let words: Vec<String> = rights.iter().map(|it| format!("\"{}\"", it.name())).collect();
        words.join(", ")
    };
    let known = |word: &String| FileRight::ALL.into_iter().find(|right| right.name() == word);
    let mut all: Vec<FileRight> = rights.iter().filter_map(known).collect();
    if all.is_empty() {
        all.push(FileRight::List);
    }
    let path = neutralise(path.as_bytes());
    if let Some(granted) = files.iter().find(|it| it.path == path) {
        all.extend(granted.rights.iter().copied().filter(|right| rights_lack(rights, *right)));
        all.sort_unstable();
        all.dedup();
        return format!(
            "`{layer} = [{}]` in the `grant` of [file.{}] would allow it",
            words(&all),
            granted.name
        );
    }
    let runs_what_it_writes = all.contains(&FileRight::Execute)
        && (all.contains(&FileRight::Write) || all.contains(&FileRight::Create));
    let needs_reason = runs_what_it_writes || reaches(&path).is_some();
    let because = if needs_reason { ", because = \"it needs this\"" } else { "" };
    let where_there = if is_seen { "" } else { ", if it is there on the host" };
    format!(
        "`file.NAME = {{ path = \"{path}\", grant = {{ {layer} = [{}] }}{because} }}` at the \
         policy's beginning would allow it{where_there}",
        words(&all)
    )
}

fn rights_lack(rights: &[String], right: FileRight) -> bool {
    !rights.iter().any(|it| it == right.name())
}

/// Which call an instance was killed for as the kernel's log tells it, what the layer has of it, and
/// what would allow it.
pub(super) fn sentence(instance: &Instance, call: Call, orders: &Orders) -> String {
    let number = match call {
        Call::Foreign { arch, number } => {
            return format!(
                "{instance} made system call {number} of another architecture ({arch:#x}), which \
                 no policy grants"
            );
        }
        Call::Native(number) => number,
    };
    let Some(name) = name_of(number) else {
        return format!("{instance} made a system call of the unknown number {number}");
    };
    let what = format!("{instance} made the system call {name}");
    let layer = &instance.layer;
    if layer.as_str().starts_with(LayerPlan::RESERVED) {
        return format!("{what}, which its part in the framework doesn't take");
    }
    let nothing = Grant { calls: &[], implied: Implied::Run, appends: false };
    let grant = orders.grant(layer).unwrap_or(nothing);
    match advise_some(number, &grant) {
        Way::Advice(advice) => {
            let allows = allows(number, &advice, layer, &grant, true);
            format!("{what} in a way that isn't granted: {allows}")
        }
        Way::Granted => {
            format!("{what}, which [layer.{layer}] has: its policy isn't what ended it")
        }
        Way::Never(why) => format!("{what}, which no policy grants: {why}"),
    }
}

/// What the layer has of the call, the texts of which each would allow it, and, where it `kills`, how
/// to refuse it without.
fn allows(number: u32, advice: &Advice, layer: &Name, grant: &Grant<'_>, kills: bool) -> String {
    let has = granted(number, grant.calls);
    let has = if has.is_empty() {
        String::new()
    } else {
        format!("[layer.{layer}] has {}; ", has.join(", "))
    };
    let reason = advice.because().map(|line| format!(" (with a reason, such as `{line}`)"));
    let groups = advice.groups.iter().map(|group| format!(" or \"@{}\"", group.name));
    let refuse = match name_of(number).filter(|_| kills) {
        Some(name) => format!(
            ", `refuse = {{ {name} = \"{}\" }}` would refuse it without killing",
            answer(number)
        ),
        None => String::new(),
    };
    format!(
        "{has}\"{}\" in `syscalls` of [layer.{layer}]{}{} would allow it{refuse}",
        advice.item,
        reason.unwrap_or_default(),
        groups.collect::<String>()
    )
}
