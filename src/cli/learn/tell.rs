//! What is said of what was learned: the policy goes to standard output, everything else beside it.

use std::fmt::Write as _;
use std::io::Write as _;

use serde_json::{Value, json};

use super::again::Tried;
use super::denied::Denials;
use super::launch::End;
use super::policy::{Learned, Old};
use super::watch::Outcome;
use crate::cli::read::{Format, wrap};
use crate::cli::unified::unified;
use crate::policy::ways::Ways;
use crate::review::explain;
use crate::review::learn::{Proposal, Seen};
use crate::text::neutralise;

/// Says in a few lines what was learned.
pub(super) fn learned(learned: &Learned, seen: &Seen, outcome: &Outcome) {
    let mut text = String::new();
    let grants = learned.proposals.iter().filter(|it| it.is_grant()).count();
    let _ = writeln!(
        text,
        "learned: {grants} grants, {} questions; the program {}",
        learned.questions(),
        ended(outcome)
    );
    text.push_str(&asked(&learned.proposals));
    if seen.lost > 0 {
        let _ = writeln!(text, "  {} more things were done than could be noted", seen.lost);
    }
    let _ = anstream::stderr().write_all(text.as_bytes());
}

/// Says what could not be kept from the program.
pub(super) fn loose() {
    let words = "warning: this kernel can't keep the program from the host's abstract Unix sockets \
                 (Landlock of version 6, Linux 6.12)\n";
    let _ = anstream::stderr().write_all(words.as_bytes());
}

/// Says what a policy lacks: the difference, and each proposal with its number.
pub(super) fn lacking(
    learned: &Learned,
    seen: &Seen,
    outcome: &Outcome,
    old: &Old,
    format: Format,
) {
    if format == Format::Json {
        return json(learned, outcome, None);
    }
    self::learned(learned, seen, outcome);
    difference(learned, old, false);
}

/// Says what a policy lacks for what its layers were refused.
pub(super) fn denied(learned: &Learned, denials: &Denials, old: &Old, format: Format) {
    if format == Format::Json {
        let report = json!({
            "layer": null,
            "policy": learned.text,
            "proposals": proposals(learned),
            "ended": null,
            "stopped": false,
            "again": null,
            "unnamed": denials.nameless,
        });
        let _ = writeln!(anstream::stdout().lock(), "{report:#}");
        return;
    }
    let grants = learned.proposals.iter().filter(|it| it.is_grant()).count();
    let mut text = format!("of the log: {grants} grants, {} questions\n", learned.questions());
    text.push_str(&asked(&learned.proposals));
    let strangers = denials.layers.keys().filter(|name| old.has_no(name));
    for name in strangers {
        let name = neutralise(name.as_bytes());
        let _ = writeln!(text, "  layer `{name}` was refused something and isn't in the policy");
    }
    if denials.nameless > 0 {
        let _ = writeln!(
            text,
            "  {} records name nothing to grant: `--tell-paths` has paths told, with their rights",
            denials.nameless
        );
    }
    let _ = anstream::stderr().write_all(text.as_bytes());
    difference(learned, old, true);
}

/// The numbered proposals, with their layers where those are several, and the difference.
fn difference(learned: &Learned, old: &Old, names: bool) {
    let mut text = String::new();
    let all = learned.proposals.iter().zip(&learned.owners);
    for (at, (proposal, owner)) in all.enumerate() {
        let owner = if names { format!("[layer.{owner}] ") } else { String::new() };
        let line = format!("{owner}{proposal}  # {}", proposal.comment());
        let _ = writeln!(text, "# {}. {}", at + 1, neutralise(line.as_bytes()));
    }
    text.push_str(&unified(old.name(), &old.text, &learned.text));
    let _ = anstream::stdout().write_all(text.as_bytes());
}

/// Says what the policy grants, in one screen.
pub(super) fn explained(learned: &Learned) {
    let Some(layer) = learned.plan.layer(&learned.layer) else { return };
    let account = explain(&learned.plan, layer, &Ways::of(&learned.plan));
    let (score, word) = (account.exposure.score, account.exposure.word());
    let mut text = format!(
        "what layer `{}` may do (exposure {score:.1} {word}):
",
        layer.name
    );
    for (subject, sentences) in &account.subjects {
        let first = format!("  {subject}: ");
        let words = neutralise(sentences.join("; ").as_bytes());
        // One screen is enough; `cofferdam explain` says the rest.
        let lines = wrap(&first, &words);
        let shown: Vec<&str> = lines.lines().take(LINES).collect();
        text.push_str(&shown.join("\n"));
        text.push_str(if lines.lines().count() > LINES { " ...\n" } else { "\n" });
    }
    let _ = anstream::stderr().write_all(text.as_bytes());
}

/// The most lines of one subject.
const LINES: usize = 3;

/// Everything, for programs.
pub(super) fn json(learned: &Learned, outcome: &Outcome, tried: Option<&Tried>) {
    let report = json!({
        "layer": learned.layer,
        "policy": learned.text,
        "proposals": proposals(learned),
        "ended": ended(outcome),
        "stopped": outcome.is_stopped,
        "again": tried.map(|tried| json!({ "code": tried.code, "alike": tried.is_alike })),
        "unnamed": null,
    });
    let _ = writeln!(anstream::stdout().lock(), "{report:#}");
}

fn proposals(learned: &Learned) -> Vec<Value> {
    let all = learned.proposals.iter().zip(&learned.owners);
    let one = |(proposal, owner): (&Proposal, &String)| {
        json!({
            "layer": owner,
            "kind": proposal.kind(),
            "text": proposal.to_string(),
            "evidence": proposal.comment(),
        })
    };
    all.map(one).collect()
}

fn asked(proposals: &[Proposal]) -> String {
    let questions = proposals.iter().filter(|it| !it.is_grant());
    questions.fold(String::new(), |mut text, proposal| {
        let line = format!("{proposal}: {}", proposal.comment());
        let word = proposal.kind();
        let _ = writeln!(text, "  {word}: {}", neutralise(line.as_bytes()));
        text
    })
}

fn ended(outcome: &Outcome) -> String {
    match outcome.end {
        _ if outcome.is_stopped => "was stopped".to_owned(),
        Some(End::Exited(code)) => format!("exited with code {code}"),
        Some(End::Killed(signal)) => format!("was killed by signal {signal}"),
        None => "was lost".to_owned(),
    }
}
