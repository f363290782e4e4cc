//! Grants that give nothing: warnings, for a policy may well be half written.

use super::{directory, rights, standard};
use crate::policy::code::Code;
use crate::policy::diagnostic::Diagnostics;
use crate::policy::document::{Document, LayerText};
use crate::policy::plan::{Part, Plan, SyscallPlan};
use crate::policy::syscall::{self, Implied, Item};

/// Calls that open a path.
const OPEN: [&str; 3] = ["openat", "openat2", "open"];

/// Tells what is useless, in a policy without mistakes: one with mistakes may lack what they hide.
pub(super) fn all(document: &Document, plan: &Plan, out: &mut Diagnostics) {
    let parts = plan.parts();
    for layer in &document.layers {
        // A foreign program brings its own calls, and half of the policy of what it does.
        if layer.run.is_none() || layer.exec.is_some() {
            continue;
        }
        // A lone layer has nobody to talk with, and may well be there for its own sake.
        if document.layers.len() > 1 {
            idle(layer, &parts, out);
        }
        let calls = calls(layer);
        for file in &document.files {
            rights::unusable(layer, &calls, file, out);
        }
        if !document.files.iter().any(|file| file.is_granted_to(&layer.name.value))
            && !directory::has_any(layer)
        {
            no_file(layer, out);
        }
    }
}

/// The calls that a layer may make in some way.
fn calls(layer: &LayerText) -> Vec<SyscallPlan> {
    let items: Vec<Item> =
        layer.syscalls.iter().filter_map(|text| syscall::parse_item(&text.value).ok()).collect();
    let mut calls = syscall::assemble(&items, &[], Implied::Run);
    calls.retain(|call| !call.allow.is_empty());
    calls
}

/// A layer that nothing can be said to and that can say nothing.
fn idle(layer: &LayerText, parts: &[Part<'_>], out: &mut Diagnostics) {
    let me = layer.name.value.as_str();
    let busy = !layer.listen.is_empty()
        || !layer.connect.is_empty()
        || parts.iter().any(|part| part.layer.as_str() == me)
        || layer.syscalls.iter().any(|item| item.value != "@core")
        || !layer.capabilities.is_empty()
        || directory::has_any(layer);
    if !busy {
        let message = format!("layer `{}` can do nothing", me.escape_debug());
        out.warning(Code::Idle, &layer.name.span, message)
            .label("it has no channel, file, socket or other facility")
            .help("grant it something, or take it out");
    }
}

/// Tells calls that open paths, in a layer that has no path to open.
fn no_file(layer: &LayerText, out: &mut Diagnostics) {
    let opening = layer.syscalls.iter().find(|text| {
        let name = text.value.split('(').next().unwrap_or_default().trim();
        OPEN.contains(&name)
    });
    let mut refusals = layer.refuse.iter().flat_map(|list| &list.value);
    let mut refused = |name: &str| refusals.any(|(call, _)| call.value == name);
    if let Some(text) = opening.filter(|text| !refused(&text.value)) {
        out.warning(Code::UnusableCalls, &text.span, "this call has nothing to open")
            .label("the layer has no file, and its root is empty")
            .help("grant a file, or take the call out; `refuse` gives an errno instead");
    }
}

/// A pipe's end at a foreign program must be one of its standard streams, or nobody opens it.
pub(super) fn nobody_opens(document: &Document, out: &mut Diagnostics) {
    for pipe in &document.pipes {
        let id = format!("pipe.{}", pipe.name.value);
        let ends = [(&pipe.from, 1..3, "stdout", "from"), (&pipe.to, 0..1, "stdin", "to")];
        for (end, streams, key, word) in ends {
            let Some(end) = end else { continue };
            let layer = document.layers.iter().find(|layer| layer.name.value == end.value);
            let Some(layer) = layer.filter(|layer| layer.exec.is_some()) else { continue };
            let written = standard::written(layer);
            if !written[streams].iter().flatten().any(|stream| stream.value == id) {
                let message = format!("nobody opens the `{word}` end of this pipe");
                out.error(Code::NobodyOpens, &end.span, message)
                    .label("a foreign program has only its standard streams")
                    .also(&layer.name.span, format!("this layer does not name it as `{key}`"))
                    .help(format!("add `{key} = \"{}\"` to the layer", id.escape_debug()));
            }
        }
    }
}
