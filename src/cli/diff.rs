//! `cofferdam diff OLD NEW`: authority gained and lost, layer by layer.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::read::{self, Format, Sound, at, wrap};
use crate::ident::Name;
use crate::policy::plan::Never;
use crate::policy::source_map::Location;
use crate::policy::ways::Act;
use crate::review::diff::{Bypass, Change, ChangeKind, Diff, Gain, LogChange, Reached, diff};
use crate::text::neutralise;

/// Arguments of `cofferdam diff`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit code 0: nothing was gained; 1: something was. A change that is neither more
nor less, such as another path, counts as gained; so does a way past a layer that
every way passed before, and less evidence in the audit log.")]
pub struct Args {
    /// The policy before
    old: PathBuf,
    /// The policy after
    new: PathBuf,
    /// How to report
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    outside: read::Outside,
}

/// So many ways through others are shown in the text; the JSON has all.
const WAYS: usize = 20;

/// Compares. Exit code 0: nothing was gained; 1: something was, or a policy has mistakes; 3: a
/// policy can't be read.
pub fn run(args: &Args) -> ExitCode {
    let (old, new) =
        match (read::sound(&args.old, &args.outside), read::sound(&args.new, &args.outside)) {
            (Ok(old), Ok(new)) => (old, new),
            (old, new) => {
                // Of two exit codes the graver one.
                let system = [old.err(), new.err()].contains(&Some(ExitCode::from(3)));
                return ExitCode::from(if system { 3 } else { 1 });
            }
        };
    let found = diff(&old.plan, &new.plan);
    let same = old.plan == new.plan;
    let text = match args.format {
        Format::Text => text(&old, &new, &found, same),
        Format::Json => format!("{:#}\n", json(&old, &new, &found, same)),
    };
    read::give(&text, u8::from(found.gained()))
}

fn text(old: &Sound, new: &Sound, diff: &Diff, same: bool) -> String {
    let mut out = String::new();
    let mut changes = diff.changes.as_slice();
    while let Some(first) = changes.first() {
        let (of_layer, rest) =
            changes.split_at(changes.partition_point(|it| it.layer == first.layer));
        changes = rest;
        let note = match &first.layer {
            layer if diff.new_layers.contains(layer) => " (a new layer)",
            layer if diff.old_layers.contains(layer) => " (no layer any more)",
            _ => "",
        };
        let _ = writeln!(out, "\x1b[1m{}\x1b[0m{note}", first.layer);
        for gain in [Gain::Gained, Gain::Changed, Gain::Lost] {
            let alike: Vec<&Change> = of_layer.iter().filter(|it| it.gain == gain).collect();
            calls(&alike, &mut out);
            for change in alike.iter().filter(|it| !is_call(it)) {
                one(old, new, change, &mut out);
            }
        }
    }
    let told = |layer: &&Name| !diff.changes.iter().any(|change| change.layer == **layer);
    for layer in diff.new_layers.iter().filter(told) {
        let _ = writeln!(out, "{layer} (a new layer), which may do nothing");
    }
    for layer in diff.old_layers.iter().filter(told) {
        let _ = writeln!(out, "{layer} (no layer any more), which could do nothing");
    }
    log(old, new, "the audit log", &diff.log, &mut out);
    log(old, new, "the daemon", &diff.daemon, &mut out);
    ways(new, "through others it gains", &diff.reach_gained, &mut out);
    ways(old, "through others it loses", &diff.reach_lost, &mut out);
    let past = [shown(&diff.bypass_gained), shown(&diff.bypass_lost)];
    bypasses(new, "now reaches", &past[0], &mut out);
    bypasses(old, "no longer reaches", &past[1], &mut out);
    for (guards, word) in [(&diff.guards_lost, "no longer"), (&diff.guards_gained, "from now on")] {
        for Never { layer, reach, .. } in guards {
            let _ = writeln!(out, "{word} refused: that {layer} reaches {reach}");
        }
    }
    let of_all = || diff.log.iter().chain(&diff.daemon).map(|it| it.gain);
    let gains = || diff.changes.iter().map(|it| it.gain).chain(of_all());
    let gained = gains().filter(|gain| *gain != Gain::Lost).count();
    let lost = gains().filter(|gain| *gain != Gain::Gained).count();
    let reach = (diff.reach_gained.len(), diff.reach_lost.len());
    if !diff.is_empty() {
        let _ = writeln!(
            out,
            "gained {gained}, lost {lost} (through others: gained {}, lost {})",
            reach.0, reach.1
        );
        let past = past.map(|list| list.len());
        if past != [0, 0] {
            let _ = writeln!(
                out,
                "past layers that stood between: gained {}, lost {}",
                past[0], past[1]
            );
        }
    } else if same {
        out.push_str("the policies grant the same\n");
    } else {
        out.push_str("no authority differs; restarts, names or environments do\n");
    }
    out
}

/// A whole system call, which is told in one line with the others.
fn is_call(change: &Change) -> bool {
    matches!(&change.kind, ChangeKind::Act(Act::Make, _))
}

fn mark(gain: Gain) -> &'static str {
    match gain {
        Gain::Gained => "\x1b[31m+\x1b[0m",
        Gain::Changed => "\x1b[33m~\x1b[0m",
        Gain::Lost => "\x1b[32m-\x1b[0m",
    }
}

fn calls(changes: &[&Change], out: &mut String) {
    let calls: Vec<&str> = changes
        .iter()
        .filter_map(|change| match &change.kind {
            ChangeKind::Act(Act::Make, object) => object.strip_prefix("syscall."),
            _ => None,
        })
        .collect();
    if let Some(first) = changes.first().filter(|_| !calls.is_empty()) {
        let (sign, plural) = (sign(first.gain), if calls.len() == 1 { "" } else { "s" });
        let text = format!("makes {} system call{plural}: {}", calls.len(), calls.join(", "));
        let lines = wrap(&format!("  {sign} "), &text);
        out.push_str(&lines.replacen(sign, mark(first.gain), 1));
    }
}

fn sign(gain: Gain) -> &'static str {
    match gain {
        Gain::Gained => "+",
        Gain::Changed => "~",
        Gain::Lost => "-",
    }
}

fn one(old: &Sound, new: &Sound, change: &Change, out: &mut String) {
    let only_old = change.gain == Gain::Lost && matches!(change.kind, ChangeKind::Act(..));
    let place = if only_old { old.place(&change.rule) } else { new.place(&change.rule) };
    let place = place.map_or_else(String::new, |place| format!(" ({})", at(&place)));
    let text = match &change.kind {
        ChangeKind::Act(act, object) => format!("{} {object}", act.verb()),
        ChangeKind::Bound(act, object, name, was, is) => {
            format!("{} {object}: {name} from {was} to {is}", act.verb())
        }
        ChangeKind::Setting(name, was, is) => format!("{name} from {was} to {is}"),
        ChangeKind::Forms(object, lost, gained) => {
            let mut parts = Vec::new();
            if !gained.is_empty() {
                parts.push(format!("also as {}", gained.join(" or ")));
            }
            if !lost.is_empty() {
                parts.push(format!("no longer as {}", lost.join(" or ")));
            }
            format!("makes {object} {}", parts.join(", "))
        }
    };
    let sign = sign(change.gain);
    let text = format!("{}{place}", neutralise(text.as_bytes()));
    out.push_str(&wrap(&format!("  {sign} "), &text).replacen(sign, mark(change.gain), 1));
}

/// The rule's place in the new policy or, where it is only there, in the old one.
fn log_place(old: &Sound, new: &Sound, change: &LogChange) -> Option<Location> {
    new.place(&change.rule).or_else(|| old.place(&change.rule))
}

fn log(old: &Sound, new: &Sound, what: &str, changes: &[LogChange], out: &mut String) {
    if !changes.is_empty() {
        let _ = writeln!(out, "\x1b[1m{what}\x1b[0m");
    }
    for change in changes {
        let place = log_place(old, new, change);
        let place = place.map_or_else(String::new, |place| format!(" ({})", at(&place)));
        let text = format!("{} from {} to {}", change.name, change.old, change.new);
        let text = format!("{}{place}", neutralise(text.as_bytes()));
        let sign = sign(change.gain);
        out.push_str(&wrap(&format!("  {sign} "), &text).replacen(sign, mark(change.gain), 1));
    }
}

fn ways(policy: &Sound, title: &str, reached: &[Reached], out: &mut String) {
    for Reached { layer, object, way } in reached.iter().take(WAYS) {
        let _ = writeln!(out, "\x1b[1m{layer}\x1b[0m: {title} {object}");
        out.push_str(&policy.steps(way, "    "));
    }
    if let Some(more) = reached.len().checked_sub(WAYS).filter(|more| *more > 0) {
        let _ = writeln!(out, "{title}: {more} more (--format json has all)");
    }
}

/// What is outside first. That a layer is reached follows from a way that leads on from it.
fn shown(bypasses: &[Bypass]) -> Vec<&Bypass> {
    let (layers, mut shown): (Vec<&Bypass>, Vec<&Bypass>) =
        bypasses.iter().partition(|it| it.object.starts_with("layer."));
    let passes = |it: &Bypass, object: &str| {
        let layers = it.way.iter().filter_map(|step| step.to.as_ref());
        layers.into_iter().any(|layer| object.strip_prefix("layer.") == Some(layer.as_str()))
    };
    let follows = |it: &&Bypass| {
        !shown.iter().any(|other| {
            other.layer == it.layer && other.without == it.without && passes(other, &it.object)
        })
    };
    let layers: Vec<&Bypass> = layers.into_iter().filter(follows).collect();
    shown.extend(layers);
    shown.sort_by(|a, b| a.layer.cmp(&b.layer));
    shown
}

fn bypasses(policy: &Sound, title: &str, list: &[&Bypass], out: &mut String) {
    for Bypass { layer, object, without, way } in list.iter().take(WAYS) {
        let without: Vec<&str> = without.iter().map(Name::as_str).collect();
        let without = without.join(" or ");
        let _ = writeln!(out, "\x1b[1m{layer}\x1b[0m {title} {object} without passing {without}");
        out.push_str(&policy.steps(way, "    "));
    }
    if let Some(more) = list.len().checked_sub(WAYS).filter(|more| *more > 0) {
        let _ = writeln!(out, "{title} past others: {more} more (--format json has all)");
    }
}

fn word(gain: Gain) -> &'static str {
    match gain {
        Gain::Gained => "gained",
        Gain::Lost => "lost",
        Gain::Changed => "changed",
    }
}

fn json(old: &Sound, new: &Sound, diff: &Diff, same: bool) -> Value {
    let change = |change: &Change| {
        let only_old = change.gain == Gain::Lost && matches!(change.kind, ChangeKind::Act(..));
        let place = if only_old { old.place(&change.rule) } else { new.place(&change.rule) };
        let mut value = json!({
            "layer": change.layer.as_str(),
            "change": word(change.gain),
            "rule": change.rule,
            "place": Sound::place_json(place),
        });
        let more = match &change.kind {
            ChangeKind::Act(act, object) => json!({ "act": act.name(), "object": object }),
            ChangeKind::Bound(act, object, name, was, is) => json!({
                "act": act.name(), "object": object, "bound": name, "old": was, "new": is,
            }),
            ChangeKind::Forms(object, lost, gained) => json!({
                "act": "make", "object": object, "forms_lost": lost, "forms_gained": gained,
            }),
            ChangeKind::Setting(name, was, is) => {
                json!({ "setting": name, "old": was, "new": is })
            }
        };
        if let (Some(value), Value::Object(more)) = (value.as_object_mut(), more) {
            value.extend(more);
        }
        value
    };
    let ways = |policy: &Sound, list: &[Reached]| -> Value {
        let one = |it: &Reached| {
            json!({
                "layer": it.layer.as_str(),
                "object": it.object,
                "way": policy.steps_json(&it.way),
            })
        };
        list.iter().map(one).collect()
    };
    let past = |policy: &Sound, list: &[Bypass]| -> Value {
        let one = |it: &Bypass| {
            json!({
                "layer": it.layer.as_str(),
                "object": it.object,
                "without": it.without.iter().map(Name::as_str).collect::<Vec<_>>(),
                "way": policy.steps_json(&it.way),
            })
        };
        list.iter().map(one).collect()
    };
    let log = |change: &LogChange| {
        json!({
            "setting": change.name,
            "change": word(change.gain),
            "old": change.old,
            "new": change.new,
            "rule": change.rule,
            "place": Sound::place_json(log_place(old, new, change)),
        })
    };
    let guards = |list: &[Never]| -> Value {
        list.iter().map(|it| json!({ "layer": it.layer.as_str(), "reach": it.reach })).collect()
    };
    json!({
        "old": old.name,
        "new": new.name,
        "same": same,
        "gained": diff.gained(),
        "new_layers": diff.new_layers.iter().map(Name::as_str).collect::<Vec<_>>(),
        "old_layers": diff.old_layers.iter().map(Name::as_str).collect::<Vec<_>>(),
        "changes": diff.changes.iter().map(change).collect::<Vec<_>>(),
        "log": diff.log.iter().map(log).collect::<Vec<_>>(),
        "daemon": diff.daemon.iter().map(log).collect::<Vec<_>>(),
        "reach_gained": ways(new, &diff.reach_gained),
        "reach_lost": ways(old, &diff.reach_lost),
        "bypass_gained": past(new, &diff.bypass_gained),
        "bypass_lost": past(old, &diff.bypass_lost),
        "guards_gained": guards(&diff.guards_gained),
        "guards_lost": guards(&diff.guards_lost),
    })
}
