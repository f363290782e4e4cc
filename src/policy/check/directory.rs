//! Checking the directories of layers' own, and where a layer works.

use std::collections::BTreeMap;

use super::danger;
use super::file::plain_path;
use crate::policy::code::Code;
use crate::policy::diagnostic::{Diagnostics, Span};
use crate::policy::document::{At, DirectoryText, Document, FileText, LayerText};
use crate::policy::plan::{DirectoryKind, DirectoryPlan, LayerPlan};
use crate::policy::value;

/// What a directory in memory may hold where the policy says nothing of it.
const IN_MEMORY: u64 = 16 << 20;

/// The directories of a layer, sorted by kind.
pub(super) fn all(layer: &LayerText, out: &mut Diagnostics) -> Vec<DirectoryPlan> {
    let texts = of(layer);
    if let (Some(copies), Some((_, first))) = (&layer.instances, texts.first())
        && copies.value.most > 1
        && let Some(path) = &first.path
    {
        out.error(Code::Contradiction, &path.span, "a directory of several copies")
            .label("each copy is a user of its own, and only one of them could own it")
            .also(&copies.span, "the layer has several")
            .help("split the layer into layers of one copy, each with a directory");
    }
    texts.into_iter().filter_map(|(kind, text)| one(kind, text, layer, out)).collect()
}

fn one(
    kind: DirectoryKind,
    text: &DirectoryText,
    layer: &LayerText,
    out: &mut Diagnostics,
) -> Option<DirectoryPlan> {
    let path = text.path.as_ref()?;
    plain_path(path, out);
    if path.value == "/" {
        out.error(Code::BadPath, &path.span, "`/` can't belong to a layer")
            .label("it is the whole file system")
            .help("name a directory in it, as in `\"/var/lib/name\"`");
    } else if kind.is_kept() {
        danger::path(path, layer.because.as_ref(), out);
    }
    let size = match (kind.is_kept(), &text.size) {
        (false, size) => Some(size.as_ref().map_or(IN_MEMORY, |size| size.value)),
        (true, None) => None,
        (true, Some(size)) => {
            let message = format!("nothing holds `{}` to a size", kind.name());
            out.error(Code::Contradiction, &size.span, message)
                .label("on a disk the directory shares a file system with others")
                .help("give it a file system of that size by `mount`, and take `size` out")
                .help("`limits.file-size` bounds each file, a `runtime-directory` is in memory");
            None
        }
    };
    Some(DirectoryPlan { kind, path: path.value.clone(), size })
}

/// What a layer says of directories, by kind.
pub(super) fn of(layer: &LayerText) -> Vec<(DirectoryKind, &DirectoryText)> {
    let texts = [
        (DirectoryKind::State, &layer.state),
        (DirectoryKind::Cache, &layer.cache),
        (DirectoryKind::Logs, &layer.logs),
        (DirectoryKind::Runtime, &layer.runtime_directory),
    ];
    texts.into_iter().filter_map(|(kind, text)| Some((kind, text.as_ref()?))).collect()
}

/// Where a layer begins.
pub(super) fn begin(layer: &LayerText, out: &mut Diagnostics) -> String {
    let Some(path) = &layer.cwd else { return "/".to_owned() };
    if let Err(why) = value::path(&path.value) {
        let message = format!("no layer begins in `{}`", path.value.escape_debug());
        out.error(Code::BadPath, &path.span, message).label(why);
    }
    path.value.clone()
}

/// What its files' permissions lack.
pub(super) fn umask(layer: &LayerText, out: &mut Diagnostics) -> u16 {
    let Some(text) = &layer.umask else { return LayerPlan::DEFAULT_UMASK };
    let is_octal = (1..=4).contains(&text.value.len())
        && text.value.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
    match u16::from_str_radix(&text.value, 8) {
        Ok(umask @ 0..=0o777) if is_octal => umask,
        _ => {
            let message = format!("`{}` can't be a umask", text.value.escape_debug());
            out.error(Code::BadMode, &text.span, message)
                .label("it is of three octal digits: owner, group, others")
                .help("`\"077\"` keeps files private, `\"027\"` lets the group read them");
            LayerPlan::DEFAULT_UMASK
        }
    }
}

/// Whether a layer has a directory of its own.
pub(super) fn has_any(layer: &LayerText) -> bool {
    !of(layer).is_empty()
}

/// The paths of the host that belong to layers.
pub(super) fn kept(document: &Document) -> impl Iterator<Item = &At<String>> {
    owned_by(document).map(|(_, path)| path)
}

/// What belongs to one layer lies neither in what belongs to another one nor around it, nor is it
/// granted besides.
pub(super) fn apart(document: &Document, out: &mut Diagnostics) {
    let mut owned: BTreeMap<&str, &Span> = BTreeMap::new();
    for path in kept(document) {
        let twin = owned
            .iter()
            .find(|(other, _)| is_within(other, &path.value) || is_within(&path.value, other));
        if let Some((other, first)) = twin {
            let message = if **other == path.value {
                format!("`{}` belongs to two", path.value.escape_debug())
            } else {
                format!(
                    "`{}` and `{}` lie in each other",
                    path.value.escape_debug(),
                    other.escape_debug()
                )
            };
            out.error(Code::PathTwice, &path.span, message)
                .label("here again")
                .also(first, "first here")
                .help("give each a directory of its own, beside the other");
        }
        owned.insert(&path.value, &path.span);
    }
    for file in &document.files {
        for (layer, own) in owned_by(document) {
            granted_besides(file, &layer.name.value, own, out);
        }
    }
}

/// The paths of the host that belong to layers, with whom they belong to.
pub(super) fn owned_by(document: &Document) -> impl Iterator<Item = (&LayerText, &At<String>)> {
    document.layers.iter().flat_map(|layer| {
        let kept = of(layer).into_iter().filter(|(kind, _)| kind.is_kept());
        kept.filter_map(move |(_, text)| Some((layer, text.path.as_ref()?)))
    })
}

fn is_within(outer: &str, inner: &str) -> bool {
    let rest = inner.strip_prefix(outer.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A grant at, in or around a directory that belongs to `owner`. Around it others may read, so far
/// as its mode lets them; what they may change there they could put in its place.
fn granted_besides(file: &FileText, owner: &str, own: &At<String>, out: &mut Diagnostics) {
    let Some(path) = &file.path else { return };
    let (inside, around) = (is_within(&own.value, &path.value), is_within(&path.value, &own.value));
    let grants = file.grant.iter().flat_map(|grant| &grant.value);
    let others: Vec<_> = grants.filter(|(layer, _)| layer.value != owner).collect();
    let shown = path.value.escape_debug();
    if path.value == own.value {
        out.error(Code::PathTwice, &path.span, format!("`{shown}` is granted in two places"))
            .label("here again")
            .also(&own.span, "it belongs to a layer")
            .help("what belongs to a layer is private to it: take this grant out");
    } else if inside && let Some((other, _)) = others.first() {
        let message = format!("`{shown}` lies in what belongs to another layer");
        out.error(Code::PathTwice, &path.span, message)
            .label(format!("granted to `{}`", other.value.escape_debug()))
            .also(&own.span, format!("this is `{}`'s own", owner.escape_debug()))
            .help("what belongs to a layer is private to it: share a directory beside it");
    } else if around && let Some((other, _)) = others.first() {
        let changer = others
            .iter()
            .find(|(_, rights)| rights.value.iter().any(|right| right.value.changes()));
        let message = format!("`{shown}` lies around what belongs to another layer");
        let also = format!("this is `{}`'s own", owner.escape_debug());
        if let Some((other, _)) = changer {
            out.error(Code::PathTwice, &path.span, message)
                .label(format!("`{}` may change what is there", other.value.escape_debug()))
                .also(&own.span, also)
                .help("grant only directories that are not above it");
        } else {
            out.warning(Code::Overlap, &path.span, message)
                .label(format!("`{}` may look into it", other.value.escape_debug()))
                .also(&own.span, also)
                .help(
                    "as root its mode keeps others out, for an ordinary user nothing does: grant \
                       the parts one by one",
                );
        }
    }
}
