//! Checking who is at the ends of a facility.

use super::Layers;
use crate::ident::Name;
use crate::policy::code::Code;
use crate::policy::diagnostic::{Diagnostics, Span};
use crate::policy::document::At;

/// A layer at an end, whatever runs in it.
pub(super) fn one(text: &At<String>, layers: &Layers<'_>, out: &mut Diagnostics) -> Option<Name> {
    layers.find(text, out)?;
    // A bad name is told where the layer is defined.
    Name::new(&text.value).ok()
}

/// A layer at an end that only this library can use.
pub(super) fn own(
    text: &At<String>,
    what: &str,
    layers: &Layers<'_>,
    out: &mut Diagnostics,
) -> Option<Name> {
    let layer = layers.find(text, out)?;
    if let (Some(exec), None) = (&layer.exec, &layer.run) {
        foreign(&text.span, &exec.span, what, PIPE, out);
    }
    Name::new(&text.value).ok()
}

/// What reaches a foreign program instead of objects that take cofferdam's library.
const PIPE: &str = "give it a pipe with `raw = true`, or files";

/// Tells a foreign program where it can't be, and what it can have instead.
pub(super) fn foreign(at: &Span, exec: &Span, what: &str, help: &str, out: &mut Diagnostics) {
    out.error(Code::ForeignEnd, at, format!("a foreign program can't use {what}"))
        .label("this layer knows nothing of cofferdam")
        .also(exec, "it runs a foreign program")
        .help(help);
}

/// A list of layers, sorted, none empty.
pub(super) fn many(
    list: Option<&At<Vec<At<String>>>>,
    key: &str,
    what: &str,
    layers: &Layers<'_>,
    out: &mut Diagnostics,
) -> Vec<Name> {
    let Some(list) = list else { return Vec::new() };
    if list.value.is_empty() {
        out.error(Code::Empty, &list.span, format!("`{key}` names no layer"))
            .label("nobody could use it")
            .help("name the layers, or take the table out");
    }
    let mut found: Vec<_> =
        list.value.iter().filter_map(|text| own(text, what, layers, out)).collect();
    found.sort();
    found.dedup();
    found
}

/// What goes from a layer to itself needs no grant and gives none.
pub(super) fn two_layers(
    from: Option<&At<String>>,
    to: Option<&At<String>>,
    what: &str,
    out: &mut Diagnostics,
) {
    if let (Some(from), Some(to)) = (from, to)
        && from.value == to.value
    {
        let message = format!("{what} from `{}` to itself", from.value.escape_debug());
        out.error(Code::ToItself, &to.span, message)
            .label("the same layer")
            .also(&from.span, "it begins here")
            .help("name two layers, or take it out");
    }
}
