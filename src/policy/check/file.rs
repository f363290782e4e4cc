//! Checking `[file.NAME]`.

use std::collections::BTreeMap;

use super::{Layers, danger, name};
use crate::ident::Name;
use crate::policy::code::Code;
use crate::policy::diagnostic::Diagnostics;
use crate::policy::document::{At, Document, FileText};
use crate::policy::plan::{FilePlan, FileRight};
use crate::policy::value;

pub(super) fn all(
    document: &Document,
    layers: &Layers<'_>,
    out: &mut Diagnostics,
) -> Vec<FilePlan> {
    one_grant_a_path(&document.files, out);
    document.files.iter().filter_map(|file| one(file, layers, out)).collect()
}

fn one(file: &FileText, layers: &Layers<'_>, out: &mut Diagnostics) -> Option<FilePlan> {
    let own_name = name(&file.name, "a file", out);
    if let Some(path) = &file.path
        && let Err(why) = value::path(&path.value)
    {
        let message = format!("`{}` can't be granted", path.value.escape_debug());
        let mistake = out.error(Code::BadPath, &path.span, message);
        mistake.label(why);
        let better = plain(&path.value);
        if path.value.starts_with('/') && better != path.value && value::path(&better).is_ok() {
            mistake.did_you_mean(Some(&better));
        }
    }
    danger::because_has_words(file.because.as_ref(), out);
    danger::file(file, out);
    let grant = grants(file, layers, out);
    Some(FilePlan {
        name: own_name?,
        path: file.path.as_ref()?.value.clone(),
        grant,
        deny: Vec::new(),
        max_open: None,
    })
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
        held.sort_unstable();
        held.dedup();
        if let Ok(layer) = Name::new(&layer.value) {
            plan.insert(layer, held);
        }
    }
    plan
}

/// Two grants on one path: whoever reads one believes to know who may do what.
fn one_grant_a_path(files: &[FileText], out: &mut Diagnostics) {
    let mut seen: BTreeMap<&str, &At<String>> = BTreeMap::new();
    for path in files.iter().filter_map(|file| file.path.as_ref()) {
        if let Some(first) = seen.insert(&path.value, path) {
            let message = format!("`{}` is granted in two places", path.value.escape_debug());
            out.error(Code::PathTwice, &path.span, message)
                .label("here again")
                .also(&first.span, "first here")
                .help("put both grants into one table");
        }
    }
}

/// The path without doubled, leading-dot and trailing parts.
fn plain(path: &str) -> String {
    let parts: Vec<_> =
        path.trim().split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    format!("/{}", parts.join("/"))
}
