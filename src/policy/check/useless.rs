//! Grants that give nothing: warnings, for a policy may well be half written.

use std::collections::BTreeSet;

use crate::policy::code::Code;
use crate::policy::diagnostic::Diagnostics;
use crate::policy::document::{At, Document, FileText, LayerText, MapText};
use crate::policy::plan::FileRight;
use crate::policy::syscall::{self, Implied, Item};

/// Calls that open a path; one of them is needed for a directory's grant.
const OPEN: [&str; 2] = ["openat", "openat2"];
const WRITE: [&str; 4] = ["write", "pwrite64", "writev", "pwritev2"];
const REMOVE: [&str; 3] = ["unlinkat", "unlink", "rmdir"];

/// Tells what is useless, in a policy without mistakes: one with mistakes may lack what they hide.
pub(super) fn all(document: &Document, out: &mut Diagnostics) {
    for layer in &document.layers {
        // A foreign program brings its own calls, and half of the policy of what it does.
        if layer.run.is_none() || layer.exec.is_some() {
            continue;
        }
        // A lone layer has nobody to talk with, and may well be there for its own sake.
        if document.layers.len() > 1 {
            idle(layer, document, out);
        }
        let calls = calls(layer);
        let mut files = false;
        for file in &document.files {
            files |= unusable(layer, file, &calls, out);
        }
        if !files {
            no_file(layer, out);
        }
    }
}

/// The names of the calls that a layer may make in some way.
fn calls(layer: &LayerText) -> BTreeSet<&'static str> {
    let items: Vec<Item> =
        layer.syscalls.iter().filter_map(|text| syscall::parse_item(&text.value).ok()).collect();
    syscall::assemble(&items, &[], Implied::Run)
        .iter()
        .filter(|plan| !plan.allow.is_empty())
        .filter_map(|plan| syscall::name_of(plan.number))
        .collect()
}

/// A layer that nothing can be said to and that can say nothing.
fn idle(layer: &LayerText, document: &Document, out: &mut Diagnostics) {
    let me = layer.name.value.as_str();
    let is = |end: &Option<At<String>>| end.as_ref().is_some_and(|end| end.value == me);
    let among = |list: &Option<At<Vec<At<String>>>>| {
        list.iter().flat_map(|list| &list.value).any(|one| one.value == me)
    };
    let maps = |grant: &MapText| {
        grant.grant.iter().flat_map(|grant| &grant.value).any(|(layer, _)| layer.value == me)
    };
    let busy = !layer.listen.is_empty()
        || !layer.connect.is_empty()
        || document.channels.iter().any(|channel| is(&channel.from) || is(&channel.to))
        || document.files.iter().any(|file| {
            file.grant.iter().flat_map(|grant| &grant.value).any(|(layer, _)| layer.value == me)
        })
        || document.signals.iter().any(|signal| is(&signal.from) || is(&signal.to))
        || document.queues.iter().any(|queue| among(&queue.send) || among(&queue.receive))
        || document.pipes.iter().any(|pipe| is(&pipe.from) || is(&pipe.to))
        || document.fifos.iter().any(|fifo| is(&fifo.to))
        || document.semaphores.iter().any(|semaphore| among(&semaphore.holders))
        || document.regions.iter().chain(&document.mapped_files).any(maps)
        || layer.syscalls.iter().any(|item| item.value != "@core")
        || !layer.capabilities.is_empty();
    if !busy {
        let message = format!("layer `{}` can do nothing", me.escape_debug());
        out.warning(Code::Idle, &layer.name.span, message)
            .label("it has no channel, file, socket or other facility")
            .help("grant it something, or take it out");
    }
}

/// Tells a file grant that the layer's calls can't use; gives whether there is one at all.
fn unusable(
    layer: &LayerText,
    file: &FileText,
    calls: &BTreeSet<&str>,
    out: &mut Diagnostics,
) -> bool {
    let granted = file.grant.iter().flat_map(|grant| &grant.value);
    let Some((at, rights)) = granted.into_iter().find(|(one, _)| one.value == layer.name.value)
    else {
        return false;
    };
    let appends = rights.value.iter().any(|held| held.value == FileRight::Append);
    if appends || !file.deny.is_empty() || file.max_open.is_some() {
        // The supervisor opens it, and that takes none of the layer's calls.
        return true;
    }
    let needs = |right: FileRight, some: &[&str], out: &mut Diagnostics| {
        let held = rights.value.iter().find(|held| held.value == right);
        let Some(held) = held.filter(|_| !some.iter().any(|call| calls.contains(call))) else {
            return;
        };
        let words: Vec<_> = some.iter().map(|call| format!("`{call}`")).collect();
        let message = format!("layer `{}` can't use this right", at.value.escape_debug());
        out.warning(Code::UnusableFile, &held.span, message)
            .label(format!("it takes one of {}", words.join(", ")))
            .also(&layer.name.span, "this layer has none of them")
            .help("grant the call, or take the right out");
    };
    needs(FileRight::Write, &WRITE, out);
    // These are rights on directories, which a layer opens itself; to open one takes `list` even
    // if its entries are never read.
    needs(FileRight::List, &OPEN, out);
    needs(FileRight::Create, &OPEN, out);
    needs(FileRight::Remove, &REMOVE, out);
    true
}

/// Tells calls that open paths, in a layer that has no path to open.
fn no_file(layer: &LayerText, out: &mut Diagnostics) {
    let opening = layer.syscalls.iter().find(|text| {
        let name = text.value.split('(').next().unwrap_or_default().trim();
        OPEN.contains(&name)
    });
    let refused = |name: &str| layer.refuse.iter().any(|(call, _)| call.value == name);
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
        let ends = [(&pipe.from, "stdout", "from"), (&pipe.to, "stdin", "to")];
        for (end, key, word) in ends {
            let Some(end) = end else { continue };
            let layer = document.layers.iter().find(|layer| layer.name.value == end.value);
            let Some(layer) = layer.filter(|layer| layer.exec.is_some()) else { continue };
            let stream = if key == "stdin" { &layer.stdin } else { &layer.stdout };
            if stream.as_ref().is_none_or(|stream| stream.value != id) {
                let message = format!("nobody opens the `{word}` end of this pipe");
                out.error(Code::NobodyOpens, &end.span, message)
                    .label("a foreign program has only its standard streams")
                    .also(&layer.name.span, format!("this layer does not name it as `{key}`"))
                    .help(format!("add `{key} = \"{}\"` to the layer", id.escape_debug()));
            }
        }
    }
}
