//! Checking `[signal.NAME]` and `[semaphore.NAME]`: what the supervisor does for layers.

use std::collections::BTreeMap;

use super::{Layers, danger, ends, name, rate};
use crate::policy::code::Code;
use crate::policy::diagnostic::Diagnostics;
use crate::policy::document::{At, SemaphoreText, SignalText, level};
use crate::policy::nearest::nearest;
use crate::policy::plan::{SemaphorePlan, SignalPlan};
use crate::policy::signal::{SIGNALS, signal_number};

/// Signals that no process catches, and why they need a reason.
const UNCAUGHT: [(&str, &str); 2] = [
    ("KILL", "it ends the other layer, whatever that is doing"),
    ("STOP", "it halts the other layer, and the watch over it sees nothing wrong"),
];

/// Signals by which the kernel tells a process of its own doing. Sent by another, they could not be
/// told apart, or would end it as a crash does.
const ITS_OWN: [(&str, &str); 7] = [
    ("ILL", "faults"),
    ("TRAP", "faults"),
    ("BUS", "faults"),
    ("FPE", "faults"),
    ("SEGV", "faults"),
    ("CHLD", "children"),
    ("SYS", "refused system calls"),
];

pub(super) fn signals(
    signals: &[SignalText],
    layers: &Layers<'_>,
    out: &mut Diagnostics,
) -> Vec<SignalPlan> {
    granted_once(signals, out);
    signals.iter().filter_map(|signal| self::signal(signal, layers, out)).collect()
}

fn signal(text: &SignalText, layers: &Layers<'_>, out: &mut Diagnostics) -> Option<SignalPlan> {
    let own_name = name(&text.name, "a signal grant", out);
    danger::because_has_words(text.because.as_ref(), out);
    let from = text.from.as_ref().and_then(|end| ends::one(end, layers, out));
    let to = text.to.as_ref().and_then(|end| ends::one(end, layers, out));
    ends::two_layers(text.from.as_ref(), text.to.as_ref(), "a signal", out);
    let mut send = Vec::new();
    for word in text.send.iter().flat_map(|list| &list.value) {
        let Some(number) = signal_number(&word.value) else {
            let bare = word.value.to_ascii_uppercase();
            let bare = bare.strip_prefix("SIG").unwrap_or(&bare);
            let names = || SIGNALS.into_iter();
            let near = names().find(|name| *name == bare).or_else(|| nearest(bare, names()));
            let message = format!("there is no signal `{}`", word.value.escape_debug());
            out.error(Code::UnknownSignal, &word.span, message)
                .label("see signal(7); written without `SIG`")
                .did_you_mean(near);
            continue;
        };
        if let Some((name, what)) = ITS_OWN.iter().find(|(name, _)| *name == word.value) {
            let message = format!("`{name}` is no signal for others to send");
            out.error(Code::UnknownSignal, &word.span, message)
                .label(format!("by it the kernel tells a process of its own {what}"))
                .help("`USR1` and `USR2` mean what a program wants them to");
            continue;
        }
        let uncaught = UNCAUGHT.iter().find(|(name, _)| *name == word.value);
        if let (None, Some((name, why))) = (&text.because, uncaught) {
            danger::needs_reason(&word.span, &format!("the signal `{name}`"), why, out);
        }
        send.push(number);
    }
    if let Some(list) = text.send.as_ref().filter(|list| list.value.is_empty()) {
        out.error(Code::Empty, &list.span, "no signal is granted")
            .label("nothing could ever be sent")
            .help("name the signals, as in `[\"HUP\"]`");
    }
    send.sort_unstable();
    send.dedup();
    let rate = rate::messages(text.rate.as_ref(), out);
    let audit = level(text.audit.as_ref());
    Some(SignalPlan { name: own_name?, from: from?, to: to?, send, rate, audit })
}

/// Two grants of one signal would have two rates.
fn granted_once(signals: &[SignalText], out: &mut Diagnostics) {
    let mut seen: BTreeMap<(&str, &str, &str), &At<String>> = BTreeMap::new();
    for signal in signals {
        let (Some(from), Some(to)) = (&signal.from, &signal.to) else { continue };
        for word in signal.send.iter().flat_map(|list| &list.value) {
            let key = (from.value.as_str(), to.value.as_str(), word.value.as_str());
            let Some(first) = seen.insert(key, word).filter(|first| {
                // Twice in one list is told already.
                !signal
                    .send
                    .iter()
                    .flat_map(|list| &list.value)
                    .any(|own| std::ptr::eq(own, *first))
            }) else {
                continue;
            };
            let message = format!("`{}` is granted in two places", word.value.escape_debug());
            out.error(Code::GrantTwice, &word.span, message)
                .label("here again")
                .also(&first.span, "the same sender and receiver, first here")
                .help("put both into one table");
        }
    }
}

pub(super) fn semaphores(
    semaphores: &[SemaphoreText],
    layers: &Layers<'_>,
    out: &mut Diagnostics,
) -> Vec<SemaphorePlan> {
    one_order(semaphores, out);
    semaphores.iter().filter_map(|semaphore| self::semaphore(semaphore, layers, out)).collect()
}

fn semaphore(
    text: &SemaphoreText,
    layers: &Layers<'_>,
    out: &mut Diagnostics,
) -> Option<SemaphorePlan> {
    let own_name = name(&text.name, "a semaphore", out);
    danger::because_has_words(text.because.as_ref(), out);
    let holders = ends::many(text.holders.as_ref(), "holders", "a semaphore", layers, out);
    Some(SemaphorePlan {
        name: own_name?,
        permits: text.permits.as_ref()?.value,
        holders,
        lease: text.lease.as_ref().map(|lease| lease.value),
        order: text.order.as_ref().map(|order| order.value),
        audit: level(text.audit.as_ref()),
    })
}

/// A layer that may hold two needs to know which one it takes first, and all layers alike.
fn one_order(semaphores: &[SemaphoreText], out: &mut Diagnostics) {
    let holders = |text: &SemaphoreText| -> Vec<String> {
        text.holders.iter().flat_map(|list| &list.value).map(|one| one.value.clone()).collect()
    };
    for (index, later) in semaphores.iter().enumerate() {
        for first in &semaphores[..index] {
            let (Some(one), Some(two)) = (&first.order, &later.order) else { continue };
            let known = holders(first);
            let both = holders(later).into_iter().find(|layer| known.contains(layer));
            let Some(layer) = both.filter(|_| one.value == two.value) else { continue };
            let message = "two semaphores have the same place in the order";
            out.error(Code::LockOrder, &two.span, message)
                .label(format!("`{}` may hold both: which one first?", layer.escape_debug()))
                .also(&one.span, "the same place")
                .help("give each its own number; a layer takes them from low to high");
        }
    }
}
