//! Checking `after` and `ready`: in which order layers start.

use std::collections::{BTreeMap, BTreeSet};

use super::Layers;
use crate::ident::Name;
use crate::policy::code::Code;
use crate::policy::diagnostic::Diagnostics;
use crate::policy::document::{At, Document, LayerText};
use crate::policy::plan::{Health, OnReload, Ready, RestartOn};

/// The layers that must be ready before this one starts, sorted.
pub(super) fn after(layer: &LayerText, document: &Document, out: &mut Diagnostics) -> Vec<Name> {
    let layers = Layers::new(document);
    let mut names = BTreeSet::new();
    for text in firsts(layer) {
        if text.value == layer.name.value {
            out.error(Code::StartCycle, &text.span, "a layer that starts after itself")
                .label("it would never start")
                .help("take it out");
        } else if layers.find(text, out).is_some()
            && let Ok(name) = Name::new(&text.value)
        {
            names.insert(name);
        }
    }
    names.into_iter().collect()
}

/// From when on it is ready.
pub(super) fn ready(layer: &LayerText, out: &mut Diagnostics) -> Ready {
    let Some(text) = &layer.ready else { return layer.ready() };
    match (text.value, &layer.exec, &layer.restart.on) {
        (Ready::Told, Some(exec), _) => {
            out.error(Code::Contradiction, &text.span, "a foreign program can't tell")
                .label("only a `run` layer's function says that it is ready")
                .also(&exec.span, "this layer runs a foreign program")
                .help("write `ready = \"confined\"`, or `ready = \"finished\"` for one that ends");
        }
        (Ready::Finished, _, Some(on)) if on.value == RestartOn::Always => {
            out.error(Code::Contradiction, &text.span, "a layer that never finishes")
                .label("it is ready once it has finished")
                .also(&on.span, "and each end of it is followed by a new start")
                .help("write `restart = { on = \"failure\" }`");
        }
        _ => {}
    }
    text.value
}

/// What it does when the program's settings are others.
pub(super) fn reload(layer: &LayerText, out: &mut Diagnostics) -> OnReload {
    if let (Some(text), Some(exec)) = (&layer.reload, &layer.exec) {
        out.error(Code::Contradiction, &text.span, "`reload` of a foreign program")
            .label("it has none of the program's settings")
            .also(&exec.span, "this layer runs a foreign program")
            .help("take out `reload`");
    }
    layer.reload()
}

/// How it is asked whether it is well.
pub(super) fn health(layer: &LayerText, out: &mut Diagnostics) -> Option<Health> {
    let text = layer.health.as_ref()?;
    if let Some(exec) = &layer.exec {
        out.error(Code::NotBuiltYet, &exec.span, "`health` of a foreign program is not built yet")
            .label("this program has no part in the library that would answer")
            .help("take out `health`; it is for `run` layers");
        return None;
    }
    Some(Health { every: text.every(), within: text.within() })
}

/// Layers that wait for each other, none of which would ever start: each circle is told once.
pub(super) fn circles(layers: &[LayerText], out: &mut Diagnostics) {
    let firsts_of: BTreeMap<&str, &LayerText> =
        layers.iter().map(|layer| (layer.name.value.as_str(), layer)).collect();
    let mut told = BTreeSet::new();
    for layer in layers {
        let own = layer.name.value.as_str();
        for text in firsts(layer).filter(|text| text.value != own) {
            let Some(way) = way(&text.value, own, &firsts_of) else { continue };
            if way.iter().any(|name| !told.insert(*name)) {
                continue;
            }
            let names: Vec<_> = way.iter().map(|it| it.escape_debug().to_string()).collect();
            let message = format!(
                "layers that start after each other: {} -> {}",
                own.escape_debug(),
                names.join(" -> ")
            );
            out.error(Code::StartCycle, &text.span, message)
                .label("none of them would ever start")
                .help("one of them must come first: take it out of the `after` of that one");
        }
    }
}

/// The way from one layer to another along `after`, the last one being that.
fn way<'d>(
    from: &'d str,
    to: &str,
    layers: &BTreeMap<&str, &'d LayerText>,
) -> Option<Vec<&'d str>> {
    let (mut seen, mut next) = (BTreeSet::from([from]), vec![vec![from]]);
    while let Some(way) = next.pop() {
        let at = *way.last()?;
        if at == to {
            return Some(way);
        }
        let firsts = layers.get(at).into_iter().flat_map(|layer| firsts(layer));
        for first in firsts.map(|text| text.value.as_str()) {
            if seen.insert(first) {
                next.push([way.as_slice(), &[first]].concat());
            }
        }
    }
    None
}

fn firsts(layer: &LayerText) -> impl Iterator<Item = &At<String>> {
    layer.after.iter()
}
