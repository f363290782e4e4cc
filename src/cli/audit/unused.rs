//! `cofferdam audit unused POLICY DIR`: grants that no record ever used, and the policy without
//! them.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use super::policy::{neutralise_lines, policy_at};
use super::time::rfc3339;
use super::{Dir, Failure, Format, damaged, written};
use crate::audit::query::{Filter, query};
use crate::audit::usage::{Evidence, Usage};
use crate::cli::read::{self, Outside, Sound, wrap};
use crate::cli::unified::unified;
use crate::review::tighten::Tightened;
use crate::text::neutralise;

/// Arguments of `cofferdam audit unused`.
#[derive(Debug, clap::Args)]
#[command(
    allow_missing_positional = true,
    after_help = "\
Without POLICY it goes by the one that the log holds: as the daemon had it, in
canonical form.

What it prints behind the list is a difference that `patch` reads. A grant may be
there for a bad day that the log has not seen: read it before you apply it."
)]
pub struct Args {
    /// The policy, as the daemon of the log has it
    #[arg(value_name = "POLICY")]
    policy: Option<PathBuf>,
    #[command(flatten)]
    dir: Dir,
    /// Go by records under another policy too, by the names of rules
    #[arg(long)]
    anyway: bool,
    /// How to report
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    outside: Outside,
}

/// What no record can tell of, besides grants that are foreign or not audited.
const NEVER_JUDGED: &str = "system calls, limits, capabilities and the environment: no record says \
                            which of them were needed";
const DIRECT: &str = "A file that a layer opens by its path itself, and not through this library, \
                      leaves no record.";

/// Lists them. Exit code 0: every grant that can be judged was used; 1: one was not, or the log is
/// not of this policy.
pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let (store, policy) = if let Some(path) = &args.policy {
        let policy = read::sound(path, &args.outside);
        (args.dir.open(), policy)
    } else {
        let store = args.dir.open()?;
        let text = neutralise_lines(&policy_at(&store, None)?.text);
        (Ok(store), read::sound_text("policy-of-the-log.toml", text.as_bytes()))
    };
    let policy = match policy {
        Ok(policy) => policy,
        Err(code) => return Ok(code),
    };
    let store = store?;
    let mut usage = Usage::of(&policy.plan, args.anyway);
    let effort = query(&store, &Filter { full: true, ..Filter::default() }, |record| {
        usage.take(&record);
        true
    })?;
    if usage.evidence().records == 0 {
        return Err(none(&policy, &usage));
    }
    let tightened = policy.tightened(&usage.cuts());
    let text = match args.format {
        Format::Text => text(&policy, &usage, &tightened),
        Format::Json => json(&policy, &usage, &tightened),
    };
    written(anstream::stdout().write_all(text.as_bytes()))?;
    if effort.damaged > 0 {
        return Err(damaged(effort.damaged));
    }
    Ok(ExitCode::from(u8::from(usage.unused().next().is_some())))
}

/// There is no record to go by.
fn none(policy: &Sound, usage: &Usage) -> Failure {
    let others: Vec<String> = usage.evidence().others.keys().map(|id| short(id)).collect();
    Failure::finding(if others.is_empty() {
        format!("the log has no record under {} (id {})", policy.name, short(usage.id()))
    } else {
        format!(
            "the log is not of {} (id {}) but of another policy (id {}): give that one, or \
             `--anyway` to go by the names of its rules",
            policy.name,
            short(usage.id()),
            others.join(", "),
        )
    })
}

fn short(id: &str) -> String {
    neutralise(id.get(..12).unwrap_or(id).as_bytes())
}

fn text(policy: &Sound, usage: &Usage, tightened: &Tightened) -> String {
    let mut out = String::new();
    let evidence = usage.evidence();
    let _ = writeln!(out, "{}, id {}: {}", policy.name, short(usage.id()), period(evidence));
    let others: u64 = evidence.others.values().sum();
    for (count, what) in [
        (others, "records are of other policies and don't count"),
        (evidence.unread, "records are of a policy that can't be read"),
        (evidence.lost, "reports were lost; what they said is not known"),
    ] {
        if count > 0 {
            let _ = writeln!(out, "{count} {what}");
        }
    }
    let (unused, judged) = (usage.unused().count(), usage.judged().count());
    if unused == 0 {
        let _ = writeln!(out, "all {judged} grants that a log can judge were used");
    } else {
        let _ = writeln!(out, "{unused} of {judged} grants that a log can judge were never used:");
        let places: Vec<_> =
            usage.unused().map(|grant| (policy.line(&grant.rule), &grant.rule)).collect();
        let wide = places.iter().map(|(place, _)| place.chars().count()).max().unwrap_or(0);
        for (place, rule) in &places {
            let _ = writeln!(out, "  {place:wide$}  {rule}");
        }
    }
    if !tightened.kept.is_empty() {
        out.push_str("of these the policy needs:\n");
        for (rule, why) in &tightened.kept {
            out.push_str(&wrap("  - ", &format!("{rule}: {}", neutralise(why.as_bytes()))));
        }
    }
    out.push_str("not judged:\n");
    for (grant, blind) in usage.blind() {
        out.push_str(&wrap("  - ", &format!("{}: {}", grant.rule, blind.why())));
    }
    out.push_str(&wrap("  - ", NEVER_JUDGED));
    if usage.unused().any(|grant| grant.rule.starts_with("file.")) {
        out.push_str(&wrap("", DIRECT));
    }
    if !tightened.files.is_empty() {
        out.push('\n');
        out.push_str(&difference(tightened));
    }
    out
}

/// `3,210 records and 12 lives from ... to ... (2d 3h)`, without the commas.
fn period(evidence: &Evidence) -> String {
    let (first, last) = evidence.period.unwrap_or_default();
    format!(
        "{} records and {} lives from {} to {} ({})",
        evidence.records,
        evidence.lives,
        rfc3339(first),
        rfc3339(last),
        long(last.saturating_sub(first) / 1_000_000_000),
    )
}

/// A duration in its two largest units.
fn long(seconds: u64) -> String {
    let units = [("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)];
    let mut rest = seconds;
    let mut parts = Vec::new();
    for (unit, size) in units {
        if rest >= size || (unit == "s" && parts.is_empty()) {
            parts.push(format!("{}{unit}", rest / size));
        }
        rest %= size;
    }
    parts.truncate(2);
    parts.join(" ")
}

fn difference(tightened: &Tightened) -> String {
    let files = tightened.files.iter();
    files.map(|file| unified(&neutralise(file.name.as_bytes()), &file.old, &file.new)).collect()
}

fn json(policy: &Sound, usage: &Usage, tightened: &Tightened) -> String {
    let evidence = usage.evidence();
    let (first, last) = evidence.period.unwrap_or_default();
    let unused = usage.unused().map(|grant| {
        json!({ "rule": grant.rule, "place": Sound::place_json(policy.place(&grant.rule)) })
    });
    let kept = tightened.kept.iter().map(|(rule, why)| json!({ "rule": rule, "why": why }));
    let blind = usage.blind().map(|(grant, it)| json!({ "rule": grant.rule, "why": it.why() }));
    let told = json!({
        "policy": policy.name,
        "id": usage.id(),
        "records": evidence.records,
        "lives": evidence.lives,
        "lost": evidence.lost,
        "other_policies": evidence.others,
        "unread": evidence.unread,
        "from": rfc3339(first),
        "to": rfc3339(last),
        "judged": usage.judged().count(),
        "unused": unused.collect::<Vec<_>>(),
        "kept": kept.collect::<Vec<_>>(),
        "not_judged": blind.collect::<Vec<_>>(),
        "diff": difference(tightened),
    });
    format!("{told:#}\n")
}

#[cfg(test)]
mod tests {
    use super::long;

    #[test]
    fn durations_have_two_units() {
        let all = [0, 59, 61, 3_600, 7_384, 200_000].map(long);
        assert_eq!(all, ["0s", "59s", "1min 1s", "1h", "2h 3min", "2d 7h"]);
    }
}
