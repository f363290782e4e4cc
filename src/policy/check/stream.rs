//! Checking `[queue.NAME]`, `[pipe.NAME]` and `[fifo.NAME]`: what carries bytes one way.

use super::{Layers, danger, ends, name, rate};
use crate::ident::Name;
use crate::policy::code::Code;
use crate::policy::diagnostic::Diagnostics;
use crate::policy::document::{At, FifoText, PipeText, QueueText, level};
use crate::policy::language::SEALING;
use crate::policy::plan::{FifoPlan, Full, OnFull, PipePlan, QueuePlan};
use crate::policy::value::show_size;

/// `msg_max`, `msgsize_max` and `RLIMIT_MSGQUEUE` as they are by default.
const USUAL_DEPTH: u32 = 10;
const USUAL_MESSAGE: u64 = 8 << 10;
const USUAL_BYTES: u64 = 819_200;
/// What the kernel counts for each message besides its bytes, `msg_msg` and a node of its tree.
const PER_MESSAGE: u64 = 96;

/// Its owner writes, nobody else.
const MODE: u16 = 0o600;

pub(super) fn queue(
    text: &QueueText,
    layers: &Layers<'_>,
    out: &mut Diagnostics,
) -> Option<QueuePlan> {
    let own_name = name(&text.name, "a queue", out);
    danger::because_has_words(text.because.as_ref(), out);
    let send = ends::many(text.send.as_ref(), "send", "a queue", layers, out);
    let receive = ends::many(text.receive.as_ref(), "receive", "a queue", layers, out);
    let plan = QueuePlan {
        name: own_name?,
        send,
        receive,
        depth: text.depth(),
        max: text.max(),
        priorities: text.priorities(),
        on_full: on_full(text, out),
        audit: level(text.audit.as_ref()),
    };
    needs_settings(text, &plan, out);
    Some(plan)
}

/// Tells a queue that an ordinary user's supervisor can't make on an ordinary machine.
fn needs_settings(text: &QueueText, plan: &QueuePlan, out: &mut Diagnostics) {
    let depth = plan.depth;
    let size = u64::from(plan.max) + SEALING;
    let bytes = u64::from(depth) * u64::from(plan.lanes()) * (size + PER_MESSAGE);
    let written = text.depth.as_ref().map(|depth| &depth.span);
    let written = written.or(text.max.as_ref().map(|max| &max.span)).unwrap_or(&text.name.span);
    let why = if depth > USUAL_DEPTH {
        format!("more than {USUAL_DEPTH} messages need /proc/sys/fs/mqueue/msg_max raised")
    } else if size > USUAL_MESSAGE {
        format!("sealed messages of {size} bytes need /proc/sys/fs/mqueue/msgsize_max raised")
    } else if bytes > USUAL_BYTES {
        format!("its {bytes} bytes are more than RLIMIT_MSGQUEUE gives")
    } else {
        return;
    };
    out.warning(Code::KernelSetting, written, "not every kernel gives a queue of this size")
        .label(why)
        .help("root can make it anywhere; an ordinary user only where the setting is raised");
}

fn on_full(text: &QueueText, out: &mut Diagnostics) -> OnFull {
    let full = text.on_full();
    if let (Some(wait), Some(word), true) = (&text.wait, &text.on_full, full != Full::Block) {
        out.error(Code::Contradiction, &wait.span, "`wait` of a queue that never blocks")
            .label("this has no effect")
            .also(&word.span, "a full queue does this")
            .help("take out `wait`, or write `on-full = \"block\"`");
    }
    match full {
        Full::Block => OnFull::Block(text.wait()),
        Full::Reject => OnFull::Reject,
        Full::DropOldest => OnFull::DropOldest,
    }
}

pub(super) fn pipe(
    text: &PipeText,
    layers: &Layers<'_>,
    out: &mut Diagnostics,
) -> Option<PipePlan> {
    let own_name = name(&text.name, "a pipe", out);
    danger::because_has_words(text.because.as_ref(), out);
    let raw = text.raw();
    let mut end = |end: Option<&At<String>>| -> Option<Name> {
        if raw {
            ends::one(end?, layers, out)
        } else {
            ends::own(end?, "a sealed pipe", layers, out)
        }
    };
    let (from, to) = (end(text.from.as_ref()), end(text.to.as_ref()));
    ends::two_layers(text.from.as_ref(), text.to.as_ref(), "a pipe", out);
    programs_in_pairs(text, layers, out);
    if let Some(odd) = text.capacity.as_ref().filter(|size| !size.value.is_power_of_two()) {
        let near = show_size(odd.value.next_power_of_two().into());
        out.error(Code::KernelRefuses, &odd.span, "a pipe holds a power of two of bytes")
            .label("the kernel would make it larger")
            .did_you_mean(Some(&near));
    }
    let rate = rate::bytes(text.rate.as_ref(), out);
    let (capacity, audit) = (text.capacity(), level(text.audit.as_ref()));
    Some(PipePlan { name: own_name?, from: from?, to: to?, raw, capacity, rate, audit })
}

/// Each copy of a program has one standard input and output: so two programs are joined copy by
/// copy.
fn programs_in_pairs(text: &PipeText, layers: &Layers<'_>, out: &mut Diagnostics) {
    let copies = |end: Option<&At<String>>| {
        let layer = layers.find(end?, &mut Diagnostics::default())?;
        layer.exec.as_ref()?;
        Some(layer.instances().most)
    };
    let (Some(from), Some(to)) = (&text.from, &text.to) else { return };
    if let (Some(writers), Some(readers)) = (copies(Some(from)), copies(Some(to)))
        && writers != readers
    {
        out.error(Code::Contradiction, &to.span, "a pipe between programs with other copies")
            .label(format!("{readers} of this one"))
            .also(&from.span, "and another number of this one")
            .help("give both layers the same `instances`: each copy is joined to one");
    }
}

/// Lines would go to whichever copy reads first, in pieces.
fn one_reader(to: &At<String>, layers: &Layers<'_>, out: &mut Diagnostics) {
    let layer = layers.find(to, &mut Diagnostics::default());
    let copies = layer.and_then(|layer| layer.instances.as_ref());
    if let Some(copies) = copies.filter(|copies| copies.value.most > 1) {
        out.error(Code::Contradiction, &to.span, "a fifo is read by one copy of a layer")
            .label("the copies would take pieces of each other's lines")
            .also(&copies.span, "there are several")
            .help("let a layer of one copy read it, and pass the lines on");
    }
}

pub(super) fn fifo(
    text: &FifoText,
    layers: &Layers<'_>,
    out: &mut Diagnostics,
) -> Option<FifoPlan> {
    let own_name = name(&text.name, "a fifo", out);
    danger::because_has_words(text.because.as_ref(), out);
    let to = text.to.as_ref().and_then(|end| ends::own(end, "a fifo", layers, out));
    if let Some(to) = &text.to {
        one_reader(to, layers, out);
    }
    if let Some(path) = &text.path {
        super::file::plain_path(path, out);
    }
    Some(FifoPlan {
        name: own_name?,
        path: text.path.as_ref()?.value.clone(),
        to: to?,
        owner: text.owner.as_ref().map(|owner| owner.value),
        mode: text.mode.as_ref().map_or(MODE, |mode| self::mode(mode, out)),
        max: text.max(),
        rate: rate::messages(text.rate.as_ref(), out),
        audit: level(text.audit.as_ref()),
    })
}

/// `"0622"`: who may write.
fn mode(text: &At<String>, out: &mut Diagnostics) -> u16 {
    let octal = text.value.bytes().all(|c| c.is_ascii_digit()) && text.value.len() <= 4;
    let bits = u16::from_str_radix(&text.value, 8).ok().filter(|_| octal);
    let why = match bits {
        None => "it is written in octal digits, as in `\"0622\"`",
        Some(bits) if bits & !0o666 != 0 => "a fifo is neither run nor has it special bits",
        Some(bits) if bits & 0o044 != 0 => "who reads it would take lines away from the layer",
        Some(bits) if bits & 0o222 == 0 => "nobody could write into it",
        Some(bits) => return bits,
    };
    let message = format!("`{}` can't be the mode of a fifo", text.value.escape_debug());
    out.error(Code::BadMode, &text.span, message)
        .label(why)
        .help("`\"0600\"` lets its owner write, `\"0620\"` its group, `\"0622\"` everybody");
    MODE
}
