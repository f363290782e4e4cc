//! Checking `syscalls` and `refuse`.

use std::collections::{BTreeMap, BTreeSet};

use super::danger;
use crate::policy::code::Code;
use crate::policy::diagnostic::{Diagnostics, Span};
use crate::policy::document::{At, LayerText};
use crate::policy::nearest::nearest;
use crate::policy::plan::{CallRule, Program, SyscallPlan, Width};
use crate::policy::syscall::{self, Implied, Item};

/// The most items of `syscalls`, and of `refuse`. Linux has some 360 calls.
const MAX_ITEMS: usize = 1024;

/// Errnos that a policy may well want; to find the nearest one of a mistyped name.
const ERRNOS: [&str; 16] = [
    "EACCES",
    "EAFNOSUPPORT",
    "EAGAIN",
    "EBADF",
    "EEXIST",
    "EINVAL",
    "EIO",
    "EMFILE",
    "ENODEV",
    "ENOENT",
    "ENOMEM",
    "ENOSYS",
    "ENOTSUP",
    "EOPNOTSUPP",
    "EPERM",
    "EROFS",
];

/// What the layer's filter answers, call by call. Its facilities have `brought` some calls along;
/// one that only `appends` to some file has others narrowed.
pub(super) fn plan(
    layer: &LayerText,
    program: Option<&Program>,
    brought: &[Item],
    appends: bool,
    out: &mut Diagnostics,
) -> Vec<SyscallPlan> {
    let implied = match program {
        Some(Program::Exec(_)) => Implied::Exec,
        _ => Implied::Run,
    };
    let mut items = Vec::new();
    for text in layer.syscalls.iter().take(MAX_ITEMS) {
        if let Some(item) = item(text, out) {
            if let (None, Some(why)) = (&layer.because, syscall::is_dangerous(&item)) {
                let what = format!("`{}`", text.value.escape_debug());
                danger::needs_reason(&text.span, &what, why, out);
            }
            items.push((text, item));
        }
    }
    let refusals = refusals(layer, out);
    refused_and_granted(&items, &refusals, brought, implied, out);

    let own = items.iter().map(|(_, item)| item);
    let granted: Vec<Item> = own.chain(brought).cloned().collect();
    let refused: Vec<_> = refusals.iter().map(|refusal| (refusal.number, refusal.errno)).collect();
    let mut plans = syscall::assemble(&granted, &refused, implied);
    if appends {
        syscall::keep_append(&mut plans);
    }
    without_effect(&items, &refusals, &plans, implied, out);
    let plans = canonical(plans);
    fits(&items, &plans, out);
    plans
}

/// A filter that the kernel would not take. Counts what every part needs at most, so that
/// whatever passes here compiles; a little that would just fit is refused too.
fn fits(items: &[(&At<String>, Item)], plans: &[SyscallPlan], out: &mut Diagnostics) {
    let length = FRAME + plans.iter().map(|plan| CALL + longest(&plan.allow)).sum::<usize>();
    if length <= MAX_FILTER {
        return;
    }
    let alone = |item: &Item| match item {
        Item::Call(call) => longest(&call.rules),
        Item::Group(group) => group.members.iter().map(|it| longest(&it.call.rules)).sum(),
    };
    let Some((text, _)) = items.iter().max_by_key(|(_, item)| alone(item)) else { return };
    let message = format!("these conditions need up to {length} instructions of a filter");
    out.error(Code::FilterTooLong, &text.span, message)
        .label(format!("the largest part; the kernel takes {MAX_FILTER} in all"))
        .help("each value of `in { ... }` is a rule of its own, and several `in` multiply")
        .help("write a range (`<= 9`) or a mask (`subset of A|B`) instead");
}

/// The longest filter, in instructions: `BPF_MAXINSNS` of `linux/bpf_common.h`.
const MAX_FILTER: usize = 4096;
/// The most instructions before the first number is looked at, and after the last one.
const FRAME: usize = 16;
/// The most instructions to find a call, to answer it, and to answer the gap after it.
const CALL: usize = 8;

/// The most instructions that rules become: each ends with an answer, and a condition looks at
/// one word of its argument, or at both.
fn longest(rules: &[CallRule]) -> usize {
    let conditions = rules.iter().flat_map(|rule| &rule.0);
    let looks = conditions.map(|condition| if condition.width == Width::Dword { 3 } else { 6 });
    rules.len() + looks.sum::<usize>()
}

fn item(text: &At<String>, out: &mut Diagnostics) -> Option<Item> {
    match syscall::parse_item(&text.value) {
        Ok(item) => Some(item),
        Err(error) => {
            let span = inside(&text.span, error.span(), text.value.len());
            let mistake = out.error(Code::UnknownCall, &span, error.to_string());
            let near = error.nearest();
            mistake.did_you_mean(near.as_deref());
            if near.is_none() && text.value.starts_with('@') {
                let all = syscall::groups().iter().map(|group| format!("`@{}`", group.name));
                mistake.help(format!("groups are {}", all.collect::<Vec<_>>().join(", ")));
            }
            None
        }
    }
}

/// The place of a part of a string, if the string is written without escapes.
fn inside(string: &Span, part: Span, length: usize) -> Span {
    // One quote at each end: then what is written is what was read.
    let plain = string.end - string.start == length + 2;
    if plain && part.start <= part.end && part.end <= length {
        string.start + 1 + part.start..string.start + 1 + part.end
    } else {
        string.clone()
    }
}

/// A call that answers with an errno instead of ending the process.
struct Refusal<'d> {
    number: u32,
    errno: u16,
    text: &'d At<String>,
}

fn refusals<'d>(layer: &'d LayerText, out: &mut Diagnostics) -> Vec<Refusal<'d>> {
    let mut found = Vec::new();
    for (call, errno) in layer.refuse.iter().flat_map(|list| &list.value).take(MAX_ITEMS) {
        let number = syscall::by_name(&call.value);
        if number.is_none() {
            let message = format!("there is no system call `{}`", call.value.escape_debug());
            let mistake = out.error(Code::UnknownCall, &call.span, message);
            if call.value.starts_with('@') {
                mistake.help("`refuse` takes calls one by one, not groups");
            } else {
                let near = syscall::parse_item(&call.value).err().and_then(|error| error.nearest());
                mistake.did_you_mean(near.as_deref());
            }
        }
        let value = syscall::errno(&errno.value);
        if value.is_none() {
            let message = format!("there is no errno `{}`", errno.value.escape_debug());
            out.error(Code::UnknownErrno, &errno.span, message)
                .label("see errno(3)")
                .did_you_mean(nearest(&errno.value, ERRNOS));
        }
        if let (Some(number), Some(errno)) = (number, value) {
            found.push(Refusal { number, errno, text: call });
        }
    }
    found
}

/// A call that is granted without condition never gets to its refusal.
fn refused_and_granted(
    items: &[(&At<String>, Item)],
    refusals: &[Refusal<'_>],
    brought: &[Item],
    implied: Implied,
    out: &mut Diagnostics,
) {
    if refusals.is_empty() {
        return;
    }
    let always = always_granted(&syscall::assemble(brought, &[], implied));
    let granted: Vec<_> = items
        .iter()
        .map(|(text, item)| {
            let alone = syscall::assemble(std::slice::from_ref(item), &[], implied);
            (text, always_granted(&alone))
        })
        .collect();
    for refusal in refusals {
        let call = refusal.text.value.escape_debug();
        let message = format!("`{call}` is refused here and granted");
        if always.contains(&refusal.number) {
            out.error(Code::RefusedAndGranted, &refusal.text.span, message)
                .label("every layer of this kind, or with such a facility, needs this call")
                .help("take the refusal out");
        } else if let Some((text, _)) =
            granted.iter().find(|(_, calls)| calls.contains(&refusal.number))
        {
            out.error(Code::RefusedAndGranted, &refusal.text.span, message)
                .label("never reached")
                .also(&text.span, "granted without condition")
                .help("keep one of the two");
        }
    }
}

/// Tells the lines that the filter does not follow: `clone3` always answers `ENOSYS`, and a `run`
/// layer keeps its parent-death signal.
fn without_effect(
    items: &[(&At<String>, Item)],
    refusals: &[Refusal<'_>],
    plans: &[SyscallPlan],
    implied: Implied,
    out: &mut Diagnostics,
) {
    let by_number: BTreeMap<u32, &SyscallPlan> =
        plans.iter().map(|plan| (plan.number, plan)).collect();
    for (text, item) in items {
        let Item::Call(call) = item else { continue };
        let alone = syscall::assemble(std::slice::from_ref(item), &[], implied);
        let granted = alone.iter().find(|plan| plan.number == call.number);
        if granted.is_none_or(|plan| plan.allow.is_empty()) {
            let message = format!("`{}` can't be granted", text.value.escape_debug());
            out.error(Code::FixedAnswer, &text.span, message)
                .label("no layer gets this call, whatever its policy says")
                .help("take it out");
        }
    }
    let always = always_granted(plans);
    for refusal in refusals.iter().filter(|it| !always.contains(&it.number)) {
        let answer = by_number.get(&refusal.number).and_then(|plan| plan.otherwise);
        if answer != Some(refusal.errno) {
            let message = format!("the answer of `{}` is fixed", refusal.text.value.escape_debug());
            out.error(Code::FixedAnswer, &refusal.text.span, message)
                .label("this refusal would have no effect")
                .help("take it out");
        }
    }
}

fn always_granted(plans: &[SyscallPlan]) -> BTreeSet<u32> {
    plans
        .iter()
        .filter(|plan| plan.allow.iter().any(|rule| rule.0.is_empty()))
        .map(|plan| plan.number)
        .collect()
}

/// The one spelling of the same filter: everything sorted, nothing twice.
fn canonical(mut plans: Vec<SyscallPlan>) -> Vec<SyscallPlan> {
    for plan in &mut plans {
        for rule in &mut plan.allow {
            rule.0.sort_unstable();
            rule.0.dedup();
        }
        plan.allow.sort();
        plan.allow.dedup();
    }
    plans.sort_by_key(|plan| plan.number);
    plans
}
