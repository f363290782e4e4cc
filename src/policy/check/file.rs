//! Checking `[file.NAME]`.

use std::collections::BTreeMap;

use super::{Layers, danger, ends, name};
use crate::ident::Name;
use crate::policy::code::Code;
use crate::policy::diagnostic::Diagnostics;
use crate::policy::document::{At, Document, FileText, level};
use crate::policy::plan::{FilePlan, FileRight};
use crate::policy::value;

pub(super) fn all(
    document: &Document,
    layers: &Layers<'_>,
    out: &mut Diagnostics,
) -> Vec<FilePlan> {
    document.files.iter().filter_map(|file| one(file, layers, out)).collect()
}

fn one(file: &FileText, layers: &Layers<'_>, out: &mut Diagnostics) -> Option<FilePlan> {
    let own_name = name(&file.name, "a file", out);
    if let Some(path) = &file.path {
        plain_path(path, out);
        host_proc(path, out);
        no_pattern(path, out);
    }
    seen_at(file, out);
    danger::because_has_words(file.because.as_ref(), out);
    danger::file(file, out);
    let grant = grants(file, layers, out);
    Some(FilePlan {
        name: own_name?,
        path: file.path.as_ref()?.value.clone(),
        at: file.at.as_ref().map(|at| at.value.clone()).filter(|at| !file.is_at(at)),
        grant,
        deny: deny(file, layers, out),
        max_open: file.max_open.as_ref().map(|most| most.value),
        optional: file.optional(),
        follow: follow(file, layers, out),
        audit: level(file.audit.as_ref()),
    })
}

/// Tells a grant of the host's `/proc`, which is rarely what was meant.
fn host_proc(path: &At<String>, out: &mut Diagnostics) {
    if path.value == "/proc" || path.value.starts_with("/proc/") {
        let message = format!("`{}` shows the host's processes", path.value.escape_debug());
        out.warning(Code::HostProc, &path.span, message).label("not the layer's own").help(
            "take the grant out, and add `proc` to the view: `view = [\"system\", \"proc\"]`",
        );
    }
}

/// Tells what looks like a pattern. No key of the language takes any for a path.
fn no_pattern(path: &At<String>, out: &mut Diagnostics) {
    if let Some(found) = path.value.chars().find(|one| matches!(one, '*' | '?' | '[')) {
        let message = format!("`{found}` in a path is a character like any other");
        out.warning(Code::BadPath, &path.span, message)
            .label("this is one file, whose name has it")
            .help("grant the directory, which grants what lies beneath it; `deny` takes some out");
    }
}

/// Tells a place where it can't be seen.
fn seen_at(file: &FileText, out: &mut Diagnostics) {
    let Some(at) = &file.at else { return };
    plain_path(at, out);
    if at.value == "/" {
        out.error(Code::BadPath, &at.span, "nothing can be seen in place of the root")
            .label("the root is the layer's own")
            .help("name a directory in it, as in `at = \"/data\"`");
    }
    let rights = file.grant.iter().flat_map(|grant| &grant.value).flat_map(|(_, it)| &it.value);
    let append = rights.into_iter().find(|right| right.value == FileRight::Append);
    let brokered = file.deny.first().map(|first| &first.span);
    let brokered = brokered.or(file.max_open.as_ref().map(|max| &max.span));
    let follow = file.follow.as_ref().filter(|yes| yes.value).map(|yes| &yes.span);
    if let Some(brokered) = brokered.or(append.map(|right| &right.span)).or(follow) {
        out.error(Code::Contradiction, &at.span, "a place for what no layer sees")
            .label("this has no effect")
            .also(brokered, "with this the supervisor opens what lies beneath")
            .help("take `at` out");
    }
}

/// Tells a path that is not absolute and plain.
pub(super) fn plain_path(path: &At<String>, out: &mut Diagnostics) {
    let Err(why) = value::path(&path.value) else { return };
    let message = format!("`{}` can't be granted", path.value.escape_debug());
    let mistake = out.error(Code::BadPath, &path.span, message);
    mistake.label(why);
    let better = plain(&path.value);
    if path.value.starts_with('/') && better != path.value && value::path(&better).is_ok() {
        mistake.did_you_mean(Some(&better));
    }
}

/// Names that nobody opens: what the broker refuses. A foreign program opens without asking it.
fn deny(file: &FileText, layers: &Layers<'_>, out: &mut Diagnostics) -> Vec<String> {
    for pattern in &file.deny {
        let why = match pattern.value.as_str() {
            "" => "an empty pattern is the name of nothing",
            text if text.contains('/') => "a pattern is for one name, and names have no `/`",
            text if text.chars().any(char::is_control) => "a pattern has no control characters",
            _ => continue,
        };
        let message = format!("`{}` can't be denied", pattern.value.escape_debug());
        out.error(Code::BadPath, &pattern.span, message)
            .label(why)
            .help("write names, with `*` for any part, as in `\"*.key\"`");
    }
    let brokered = file.deny.first().map(|first| &first.span);
    let brokered = brokered.or(file.max_open.as_ref().map(|max| &max.span));
    for (layer, rights) in file.grant.iter().flat_map(|grant| &grant.value) {
        let append = rights.value.iter().find(|right| right.value == FileRight::Append);
        let Some(text) = layers.0.get(layer.value.as_str()) else { continue };
        let (Some(exec), None) = (&text.exec, &text.run) else { continue };
        if let Some(at) = brokered {
            let help =
                "it opens files by itself: grant it directories without what it may not have";
            ends::foreign(at, &exec.span, "files through the broker", help, out);
        } else if let Some(right) = append {
            let help = "it opens files by itself, where the kernel doesn't tell appending from writing: have \
                        it write on its standard output, or into a directory of its own (`logs`)";
            ends::foreign(&right.span, &exec.span, "a right to append alone", help, out);
        }
    }
    let mut deny: Vec<_> = file.deny.iter().map(|pattern| pattern.value.clone()).collect();
    deny.sort();
    deny.dedup();
    deny
}

/// A file that is opened anew whenever it is asked for: a foreign program asks nobody.
fn follow(file: &FileText, layers: &Layers<'_>, out: &mut Diagnostics) -> bool {
    let Some(follow) = file.follow.as_ref().filter(|yes| yes.value) else { return false };
    for (layer, _) in file.grant.iter().flat_map(|grant| &grant.value) {
        let Some(text) = layers.0.get(layer.value.as_str()) else { continue };
        if let (Some(exec), None) = (&text.exec, &text.run) {
            let message = "a foreign program can't follow a single file";
            out.error(Code::ForeignEnd, &follow.span, message)
                .label("it opens a path, where its view has the file of its start")
                .also(&exec.span, "it runs a foreign program")
                .help(
                    "grant the directory that the file lies in, which shows what is renamed there",
                );
        }
    }
    true
}

fn grants(
    file: &FileText,
    layers: &Layers<'_>,
    out: &mut Diagnostics,
) -> BTreeMap<Name, Vec<FileRight>> {
    let mut plan = BTreeMap::new();
    let Some(grant) = &file.grant else { return plan };
    if grant.value.is_empty() {
        let message = format!("file `{}` is granted to nobody", file.name.value.escape_debug());
        out.error(Code::Empty, &grant.span, message)
            .label("no layer")
            .help("name the layers, as in `{ keeper = [\"read\"] }`, or take the file out");
    }
    for (layer, rights) in &grant.value {
        if layers.find(layer, out).is_none() {
            continue;
        }
        let mut held: Vec<_> = rights.value.iter().map(|right| right.value).collect();
        if file.is_brokered(&layer.value) {
            // Told where the layer's calls are looked at; of `owner` it is understood.
            held.retain(|right| !right.is_direct_only());
        }
        held.sort_unstable();
        held.dedup();
        if let Ok(layer) = Name::new(&layer.value) {
            plan.insert(layer, held);
        }
    }
    plan
}

/// The path without doubled, leading-dot and trailing parts.
fn plain(path: &str) -> String {
    let parts: Vec<_> =
        path.trim().split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    format!("/{}", parts.join("/"))
}
