//! Checking a policy against a ceiling: what a site lets any layer have at most.
//!
//! A ceiling denies by default: a kind of grant that it does not name is granted to nobody. Only
//! numbers (`instances`, `limits`) are without bound where it names none, and what must be recorded
//! (`audit`). In `paths`, `exec`,
//! `listen` and `connect` a `*` stands for any text.

use super::{audit, directory};
use crate::policy::code::Code;
use crate::policy::diagnostic::{Diagnostics, Span};
use crate::policy::document::{At, CeilingText, Document, LayerText};
use crate::policy::plan::{Amount, Audit, CallRule, Limits, SyscallPlan};
use crate::policy::syscall::meaning::implies;
use crate::policy::syscall::{self, Implied, Item};
use crate::policy::value::show_size;

/// Tells every grant of the policy that is above the ceiling.
pub(super) fn hold(document: &Document, ceiling: &CeilingText, out: &mut Diagnostics) {
    let calls = calls(ceiling, out);
    for layer in &document.layers {
        self::layer(layer, ceiling, &calls, out);
    }
    let files = document.files.iter().filter_map(|file| file.path.as_ref());
    let fifos = document.fifos.iter().filter_map(|fifo| fifo.path.as_ref());
    let mapped = document.mapped_files.iter().filter_map(|file| file.path.as_ref());
    for path in files.chain(fifos).chain(mapped).chain(directory::kept(document)) {
        matches(&path.value, &path.span, &ceiling.paths, out);
    }
    for address in document.metrics.iter().flat_map(|metrics| &metrics.listen) {
        matches(&address.value.to_string(), &address.span, &ceiling.listen, out);
    }
    recorded(document, ceiling, out);
    for signal in
        document.signals.iter().flat_map(|grant| grant.send.iter().flat_map(|it| &it.value))
    {
        listed(signal, &ceiling.signals, out);
    }
}

/// What is recorded is bounded from below: a log there must be, and no facility is left out.
fn recorded(document: &Document, ceiling: &CeilingText, out: &mut Diagnostics) {
    let Some(least) = ceiling.audit.as_ref().filter(|it| it.value != Audit::None) else { return };
    let daemon = document.name.as_ref();
    if let (false, Some(daemon)) = (audit::is_demanded(document), daemon) {
        out.error(Code::AboveCeiling, &daemon.span, "the ceiling demands an audit log")
            .label("this daemon would run without one")
            .also(&least.span, "the ceiling")
            .help("add `[audit]`");
    }
    for level in audit::levels(document).filter(|level| level.value < least.value) {
        out.error(Code::AboveCeiling, &level.span, "what is done here must be recorded")
            .label("this leaves it out of the audit log")
            .also(&least.span, "the ceiling")
            .help("take out `audit = \"none\"`");
    }
}

fn layer(layer: &LayerText, ceiling: &CeilingText, calls: &[SyscallPlan], out: &mut Diagnostics) {
    for text in &layer.syscalls {
        let Ok(item) = syscall::parse_item(&text.value) else { continue };
        let wanted = syscall::assemble(&[item], &[], Implied::Run);
        let above = wanted.iter().find(|plan| {
            let bound = calls.iter().find(|bound| bound.number == plan.number);
            let bound = bound.map(|bound| bound.allow.as_slice()).unwrap_or_default();
            let within = |rule: &CallRule| bound.iter().any(|wider| implies(rule, wider));
            !plan.allow.iter().all(within)
        });
        if let Some(plan) = above {
            let name = syscall::name_of(plan.number).unwrap_or("a call");
            let what = format!("it grants more of `{name}` than the ceiling");
            tell(&text.value, &text.span, &ceiling.syscalls.span, &what, out);
        }
    }
    layer.capabilities.iter().for_each(|text| listed(text, &ceiling.capabilities, out));
    for text in &layer.optional {
        let family = text.value.split_once('.').map(|(family, _)| family);
        let known = |one: &At<String>| one.value == text.value || Some(&*one.value) == family;
        if !ceiling.optional.value.iter().any(known) {
            tell(&text.value, &text.span, &ceiling.optional.span, "the ceiling demands it", out);
        }
    }
    if let Some(program) = layer.exec.as_ref().and_then(|words| words.value.first()) {
        matches(&program.value, &program.span, &ceiling.exec, out);
    }
    for socket in &layer.listen {
        if let Some(address) = &socket.address {
            matches(&address.value.to_string(), &address.span, &ceiling.listen, out);
        }
    }
    for address in layer.connect.iter().flat_map(|it| &it.address) {
        matches(&address.value.to_string(), &address.span, &ceiling.connect, out);
    }
    let execmem = layer.execmem.as_ref().filter(|yes| yes.value).map(|yes| &yes.span);
    granted("executable memory", execmem, &ceiling.execmem, out);
    let root = layer.uid.as_ref().filter(|uid| uid.value == 0).map(|uid| &uid.span);
    granted("user 0", root, &ceiling.root, out);
    numbers(layer, ceiling, out);
}

fn numbers(layer: &LayerText, ceiling: &CeilingText, out: &mut Diagnostics) {
    if let Some(most) = &ceiling.instances {
        let copies = Amount::Count(layer.instances().most.into());
        let own = (layer.instances.as_ref().map(|it| &it.span), Some(copies));
        at_most("instances", layer, own, (&most.span, Amount::Count(most.value.into())), out);
    }
    let (own, most) = (Limits::from(&layer.limits).each(), Limits::from(&ceiling.limits).each());
    let places = layer.limits.written().into_iter().zip(ceiling.limits.written());
    for (((key, own), (_, most)), (span, bound)) in own.into_iter().zip(most).zip(places) {
        if let (Some(bound), Some(most)) = (bound, most) {
            at_most(key, layer, (span, own), (bound, most), out);
        }
    }
}

/// Tells a number above the ceiling; without a limit a layer has all that there is.
fn at_most(
    key: &str,
    layer: &LayerText,
    (span, own): (Option<&Span>, Option<Amount>),
    (bound, most): (&Span, Amount),
    out: &mut Diagnostics,
) {
    if own.is_some_and(|own| own.number() <= most.number()) {
        return;
    }
    let show = match most {
        Amount::Bytes(bytes) => show_size(bytes),
        other => other.number().to_string(),
    };
    let message = format!("`{key}` is above the ceiling");
    let mistake = out.error(Code::AboveCeiling, span.unwrap_or(&layer.name.span), message);
    mistake.label(if span.is_some() { "too much" } else { "not set, and the default is too much" });
    mistake.also(bound, "the ceiling");
    mistake.help(format!("set `{key}` to at most {show}"));
}

/// The calls that the ceiling grants. Its own mistakes are told as a policy's are.
fn calls(ceiling: &CeilingText, out: &mut Diagnostics) -> Vec<SyscallPlan> {
    let mut items: Vec<Item> = Vec::new();
    for text in &ceiling.syscalls.value {
        match syscall::parse_item(&text.value) {
            Ok(item) => items.push(item),
            Err(error) => {
                out.error(Code::UnknownCall, &text.span, error.to_string())
                    .did_you_mean(error.nearest().as_deref());
            }
        }
    }
    syscall::assemble(&items, &[], Implied::Run)
}

fn granted(what: &str, own: Option<&Span>, bound: &At<bool>, out: &mut Diagnostics) {
    if let (Some(span), false) = (own, bound.value) {
        tell(what, span, &bound.span, "the ceiling gives it to nobody", out);
    }
}

fn listed(text: &At<String>, bound: &At<Vec<At<String>>>, out: &mut Diagnostics) {
    if !bound.value.iter().any(|one| one.value == text.value) {
        tell(&text.value, &text.span, &bound.span, "the ceiling does not list it", out);
    }
}

fn matches(text: &str, span: &Span, bound: &At<Vec<At<String>>>, out: &mut Diagnostics) {
    if !bound.value.iter().any(|pattern| fits(&pattern.value, text)) {
        tell(text, span, &bound.span, "no pattern of the ceiling fits it", out);
    }
}

fn tell(what: &str, span: &Span, bound: &Span, why: &str, out: &mut Diagnostics) {
    let message = format!("`{}` is above the ceiling", what.escape_debug());
    out.error(Code::AboveCeiling, span, message)
        .label(why)
        .also(bound, "the ceiling")
        .help("grant less, or ask whoever keeps the ceiling");
}

/// Whether a text fits a pattern in which `*` is any text. In the time of the product of their
/// lengths at worst.
fn fits(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut here) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while here < text.len() {
        if pattern.get(at) == Some(&b'*') {
            star = Some((at, here));
            at += 1;
        } else if pattern.get(at) == text.get(here) {
            at += 1;
            here += 1;
        } else if let Some((star_at, from)) = star {
            // The last star takes one byte more.
            star = Some((star_at, from + 1));
            at = star_at + 1;
            here = from + 1;
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn stars_are_any_text() {
        for (pattern, text) in [
            ("/var/lib/*", "/var/lib/a/b"),
            ("*", ""),
            ("a*b*c", "axxbyyc"),
            ("a", "a"),
            ("*a", "ba"),
        ] {
            assert!(fits(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("/var/lib/*", "/var/library"),
            ("a", ""),
            ("a*b", "ac"),
            ("", "a"),
            ("tcp:127.0.0.1:*", "tcp:127.0.0.11:1"),
        ] {
            assert!(!fits(pattern, text), "{pattern} {text}");
        }
    }
}
