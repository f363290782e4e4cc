//! Checking `[region.NAME]` and `[mapped-file.NAME]`: memory that layers share.

use std::collections::BTreeMap;

use super::{Layers, danger, ends, name};
use crate::ident::Name;
use crate::policy::code::Code;
use crate::policy::diagnostic::Diagnostics;
use crate::policy::document::{At, MapGrant, MappedFileText, RegionText, level};
use crate::policy::plan::{MapRight, MappedFilePlan, RegionPlan};
use crate::policy::value::show_size;

/// Memory is mapped in pages; 4 KiB is the smallest on every architecture that is built for.
const PAGE: u64 = 4 << 10;

pub(super) fn region(
    text: &RegionText,
    layers: &Layers<'_>,
    out: &mut Diagnostics,
) -> Option<RegionPlan> {
    let own_name = name(&text.name, "a region", out);
    danger::because_has_words(text.because.as_ref(), out);
    let size = size(text.size.as_ref(), out);
    let rights = text.grant.as_ref();
    let grant = grant(&text.name, rights, "a region", layers, out);
    let one = grant.len() == 1;
    // One that is left when another was told is not alone.
    if let (true, Some(written)) = (one && !out.has_errors(), rights) {
        out.warning(Code::OneSided, &written.span, "a region that one layer has alone")
            .label("shared with nobody")
            .help("a layer's own memory needs no grant");
    }
    let written = grant.values().any(|right| *right == MapRight::ReadWrite);
    if let (false, false, Some(list)) = (written, grant.is_empty(), rights) {
        out.error(Code::OneSided, &list.span, "a region that nobody writes")
            .label("it would hold zeros for ever")
            .help("give one layer `\"rw\"`");
    }
    let audit = level(text.audit.as_ref());
    Some(RegionPlan { name: own_name?, size, grant, audit })
}

pub(super) fn mapped_file(
    text: &MappedFileText,
    layers: &Layers<'_>,
    out: &mut Diagnostics,
) -> Option<MappedFilePlan> {
    let own_name = name(&text.name, "a mapped file", out);
    danger::because_has_words(text.because.as_ref(), out);
    if let Some(path) = &text.path {
        super::file::plain_path(path, out);
        danger::path(path, text.because.as_ref(), out);
    }
    let durable = text.durable();
    let grant = grant(&text.name, text.grant.as_ref(), "a mapped file", layers, out);
    let written = grant.values().any(|right| *right == MapRight::ReadWrite);
    if let (true, false, Some(word)) = (durable, written, &text.durable) {
        let mistake =
            out.error(Code::Contradiction, &word.span, "a durable file that nobody writes");
        mistake.label("there is nothing to keep");
        if let Some(list) = &text.grant {
            mistake.also(&list.span, "nobody has `\"rw\"`");
        }
        mistake.help("take out `durable`, or give one layer `\"rw\"`");
    }
    Some(MappedFilePlan {
        name: own_name?,
        path: text.path.as_ref()?.value.clone(),
        size: size(text.size.as_ref(), out),
        durable,
        grant,
        audit: level(text.audit.as_ref()),
    })
}

/// The size, in whole pages.
fn size(size: Option<&At<u64>>, out: &mut Diagnostics) -> u64 {
    let Some(size) = size else { return 0 };
    let whole = size.value.next_multiple_of(PAGE);
    if whole != size.value {
        out.warning(Code::KernelRefuses, &size.span, "memory is shared in whole pages")
            .label(format!("{} are made of it", show_size(whole)))
            .help(format!("write a multiple of {}", show_size(PAGE)));
    }
    whole
}

fn grant(
    owner: &At<String>,
    text: Option<&At<Vec<MapGrant>>>,
    what: &str,
    layers: &Layers<'_>,
    out: &mut Diagnostics,
) -> BTreeMap<Name, MapRight> {
    let Some(grant) = text else { return BTreeMap::new() };
    if grant.value.is_empty() {
        let message = format!("`{}` is granted to nobody", owner.value.escape_debug());
        out.error(Code::Empty, &grant.span, message)
            .label("no layer")
            .help("name the layers, as in `{ a = \"rw\", b = \"r\" }`, or take the table out");
    }
    let granted = grant
        .value
        .iter()
        .filter_map(|(layer, right)| Some((ends::own(layer, what, layers, out)?, right.value)));
    granted.collect()
}
