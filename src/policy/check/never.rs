//! Checking `[[never]]`: what it names exists, and it holds.

use super::{Layers, directory};
use crate::ident::Name;
use crate::policy::capability::CAPABILITIES;
use crate::policy::code::Code;
use crate::policy::diagnostic::Diagnostics;
use crate::policy::document::{At, Document, NeverText};
use crate::policy::nearest::{nearest, one_of};
use crate::policy::plan::{Never, Plan};
use crate::policy::source_map;
use crate::policy::syscall;
use crate::policy::tree::Table;
use crate::policy::ways::{Act, Ways};

/// The kinds of objects, as they are written.
const KINDS: [&str; 18] = [
    "file.NAME",
    "channel.NAME",
    "layer.NAME",
    "signal.NAME",
    "queue.NAME",
    "pipe.NAME",
    "fifo.NAME",
    "semaphore.NAME",
    "region.NAME",
    "mapped-file.NAME",
    "listen.LAYER.NAME",
    "connect.LAYER.NAME",
    "state.LAYER",
    "cache.LAYER",
    "logs.LAYER",
    "runtime-directory.LAYER",
    "syscall.NAME",
    "capability.NAME",
];

pub(super) fn all(document: &Document, layers: &Layers<'_>, out: &mut Diagnostics) -> Vec<Never> {
    document.never.iter().filter_map(|text| one(text, document, layers, out)).collect()
}

fn one(
    text: &NeverText,
    document: &Document,
    layers: &Layers<'_>,
    out: &mut Diagnostics,
) -> Option<Never> {
    let layer = text.layer.as_ref().filter(|layer| layers.find(layer, out).is_some());
    let mut through_except: Vec<Name> = Vec::new();
    for through in &text.through_except {
        if layers.find(through, out).is_none() {
            continue;
        }
        if let Some(layer) = layer.filter(|layer| layer.value == through.value) {
            out.error(Code::Contradiction, &through.span, "a way always passes where it begins")
                .label("this exception excepts everything")
                .also(&layer.span, "the way begins here")
                .help("name the layers that may stand between");
        }
        through_except.extend(Name::new(&through.value).ok());
    }
    through_except.sort();
    through_except.dedup();
    let reach = text.reach.as_ref()?;
    let known = objects(document);
    let made = reach
        .value
        .strip_prefix("syscall.")
        .is_some_and(|call| syscall::by_name(call).is_some())
        || reach.value.strip_prefix("capability.").is_some_and(|name| CAPABILITIES.contains(&name));
    if !made && !known.contains(&reach.value) {
        unknown(reach, &known, out);
        return None;
    }
    let layer = Name::new(&layer?.value).ok()?;
    Some(Never { layer, reach: reach.value.clone(), through_except })
}

fn unknown(reach: &At<String>, known: &[String], out: &mut Diagnostics) {
    let message = format!("there is no object `{}`", reach.value.escape_debug());
    let mistake = out.error(Code::UnknownObject, &reach.span, message);
    mistake.label("nothing of that name could be reached");
    let bare = known.iter().find(|id| id.split_once('.').is_some_and(|(_, it)| it == reach.value));
    let near = bare.map(String::as_str);
    match near.or_else(|| nearest(&reach.value, known.iter().map(String::as_str))) {
        Some(near) => mistake.did_you_mean(Some(near)),
        None => mistake.help(format!("an object is {}", one_of(KINDS))),
    };
}

/// Everything that the policy defines and that can be reached.
fn objects(document: &Document) -> Vec<String> {
    let layers = &document.layers;
    let mut all: Vec<String> =
        layers.iter().map(|layer| format!("layer.{}", layer.name.value)).collect();
    let facilities = document.facilities().into_iter();
    all.extend(facilities.map(|it| format!("{}.{}", it.kind, it.name.value)));
    for layer in layers {
        let own = |kind, name: &At<String>| format!("{kind}.{}.{}", layer.name.value, name.value);
        all.extend(layer.listen.iter().map(|socket| own("listen", &socket.name)));
        all.extend(layer.connect.iter().map(|socket| own("connect", &socket.name)));
        let directories = directory::of(layer).into_iter();
        all.extend(directories.map(|(kind, _)| format!("{}.{}", kind.name(), layer.name.value)));
    }
    all
}

/// Tells each `never` that the plan breaks, with the way, step by step, and where each stands.
pub(super) fn hold(document: &Document, plan: &Plan, tree: &Table, out: &mut Diagnostics) {
    if document.never.is_empty() {
        return;
    }
    let ways = Ways::of(plan);
    for text in &document.never {
        let (Some(layer), Some(reach)) = (&text.layer, &text.reach) else { continue };
        let except: Vec<Name> =
            text.through_except.iter().filter_map(|name| Name::new(&name.value).ok()).collect();
        let Some(way) = ways.reach(&layer.value, &reach.value, &Act::ALL, &except) else {
            continue;
        };
        let message = format!("layer `{}` can reach `{}`", layer.value, reach.value);
        let mistake = out.error(Code::NeverBroken, &reach.span, message);
        mistake.label("this must never be possible");
        let count = way.len();
        for (number, step) in way.iter().enumerate() {
            let told = format!("step {} of {count}: {step}", number + 1);
            match source_map::span(tree, &step.rule) {
                Some(span) => mistake.also(&span, told),
                None => mistake.help(format!("{told}  ({})", step.rule)),
            };
        }
        if let Some(why) = &text.why {
            mistake.help(format!("the policy says why: {}", why.value.trim()));
        }
        mistake.help(if count > 1 {
            "take one of the steps out, or name a layer on the way in `through-except`"
        } else {
            "take the step out"
        });
    }
}
