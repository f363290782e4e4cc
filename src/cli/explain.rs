//! `cofferdam explain POLICY [LAYER]`: what a layer may do if it is wholly compromised, and how
//! exposed that makes it. `cofferdam explain E0107`: what a mistake means.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::read::{self, Format, Sound, wrap};
use crate::policy::code::Code;
use crate::policy::plan::{CallRule, Compare, LayerPlan, Width};
use crate::policy::syscall::{UNFILTERED, all, name_of};
use crate::policy::ways::Ways;
use crate::review::calls::{Verdict, entry, expressions, verdict};
use crate::review::explain::powers;
use crate::review::{Account, Explanation, Exposure, explain, explanation};
use crate::text::neutralise;

/// Arguments of `cofferdam explain`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
It is taken to run whatever code an attacker brings. Ways through others are the
shortest ones; a layer on the way does for the one before it whatever it may.

Exposure goes from 0.0 to 10.0, low is good, in the ranges of `systemd-analyze
security`: OK below 5.0, MEDIUM below 7.5, EXPOSED below 9.0, then UNSAFE.")]
pub struct Args {
    /// The policy to explain, or the code of a mistake, such as E0107
    #[arg(value_name = "POLICY|CODE")]
    policy: PathBuf,
    /// One layer, in more detail
    layer: Option<String>,
    /// How to report
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    outside: read::Outside,
}

/// Every number below this is in the JSON, and all that have names.
const NUMBERS: u32 = 600;

/// Explains. Exit code 0: done; 1: the policy has mistakes; 2: there is no such layer or code; 3:
/// the policy can't be read.
pub fn run(args: &Args) -> ExitCode {
    if let Some(number) = code(&args.policy) {
        return mistake(number, args);
    }
    let policy = match read::sound(&args.policy, &args.outside) {
        Ok(policy) => policy,
        Err(code) => return code,
    };
    let chosen = |layer: &&LayerPlan| args.layer.as_ref().is_none_or(|it| layer.name == **it);
    let layers: Vec<&LayerPlan> = policy.plan.layers.iter().filter(chosen).collect();
    if layers.is_empty() {
        let asked = args.layer.as_deref().unwrap_or_default();
        let names: Vec<&str> = policy.plan.layers.iter().map(|it| it.name.as_str()).collect();
        let asked = neutralise(asked.as_bytes());
        let list = names.join(", ");
        let _ =
            writeln!(anstream::stderr(), "error: there is no layer `{asked}`; layers are {list}");
        return ExitCode::from(2);
    }
    let ways = Ways::of(&policy.plan);
    let told = layers.iter().map(|layer| (*layer, explain(&policy.plan, layer, &ways)));
    let told: Vec<(&LayerPlan, Account)> = told.collect();
    let text = match (args.format, &args.layer) {
        (Format::Json, _) => format!("{:#}\n", json(&policy, &told)),
        (Format::Text, None) => overview(&policy, &told),
        (Format::Text, Some(_)) => {
            told.iter().map(|(layer, account)| detail(&policy, layer, account)).collect()
        }
    };
    read::give(&text, 0)
}

/// The number of a code such as `E0107`, where that is what the argument is.
fn code(argument: &std::path::Path) -> Option<u16> {
    let digits = argument.to_str()?.strip_prefix(['E', 'e'])?;
    let whole = digits.len() == 4 && digits.bytes().all(|byte| byte.is_ascii_digit());
    whole.then(|| digits.parse().ok()).flatten()
}

fn mistake(number: u16, args: &Args) -> ExitCode {
    let Some(code) = Code::ALL.iter().find(|code| code.number() == number) else {
        let _ = writeln!(anstream::stderr(), "error: there is no mistake E{number:04}");
        return ExitCode::from(2);
    };
    let text = match args.format {
        Format::Text => format!("{code}: {}\n\n{}\n", code.title(), explanation(*code)),
        Format::Json => {
            let Explanation { why, way_out, example } = explanation(*code);
            let told = json!({ "code": code.to_string(), "title": code.title(), "why": why,
                "way_out": way_out, "example": example });
            format!("{told:#}\n")
        }
    };
    read::give(&text, 0)
}

fn overview(policy: &Sound, told: &[(&LayerPlan, Account)]) -> String {
    let wide = told.iter().map(|(_, it)| it.layer.as_str().len()).max().unwrap_or(0);
    let layers = if told.len() == 1 { "layer" } else { "layers" };
    let mut out = format!("{}: {} {layers}\n\n", policy.plan.name, told.len());
    for (_, account) in told {
        let (layer, exposure) = (&account.layer, &account.exposure);
        let _ = writeln!(out, "  {layer:wide$}  {}", score(exposure));
    }
    for (_, account) in told {
        out.push('\n');
        out.push_str(&itself(account));
        if account.through.is_empty() {
            continue;
        }
        out.push_str("  and through others:\n");
        for through in &account.through {
            let by: Vec<String> = between(account, through).map(ToString::to_string).collect();
            let what = neutralise(through.what.as_bytes());
            let line = format!("{}{what} through {}", through.object, by.join(", "));
            out.push_str(&wrap("    - ", &line));
        }
    }
    let _ = writeln!(out, "\n`cofferdam explain {} LAYER` tells more of one.", policy.name);
    out
}

/// The layers of a way besides the one that is explained.
fn between<'a>(
    account: &'a Account,
    through: &'a crate::review::explain::Through,
) -> impl Iterator<Item = &'a crate::ident::Name> {
    let mut last = None;
    through.way.iter().map(|step| &step.layer).filter(move |layer| {
        let fresh = last != Some(*layer) && **layer != account.layer;
        last = Some(*layer);
        fresh
    })
}

/// What a layer may do by itself.
fn itself(account: &Account) -> String {
    let mut out = format!("\x1b[1m{}\x1b[0m runs ", account.layer);
    out.push_str(&neutralise(account.program.as_bytes()));
    out.push_str(".\n  If it is wholly compromised, it may itself use:\n");
    for (subject, lines) in &account.subjects {
        for (at, line) in lines.iter().enumerate() {
            let head = if at == 0 { *subject } else { "" };
            out.push_str(&wrap(&format!("    {head:14}  "), &neutralise(line.as_bytes())));
        }
    }
    out
}

fn score(exposure: &Exposure) -> String {
    let colour = match exposure.word() {
        "OK" => 32,
        "MEDIUM" => 33,
        _ => 31,
    };
    format!("\x1b[{colour}m{:.1} {}\x1b[0m", exposure.score, exposure.word())
}

fn detail(policy: &Sound, layer: &LayerPlan, account: &Account) -> String {
    let mut out = itself(account);
    let powers = powers(layer);
    if !powers.is_empty() {
        out.push_str("\n  Of its system calls these have power:\n");
        for (call, note) in powers {
            let _ = writeln!(out, "    {call}");
            out.push_str(&wrap("      ", note));
        }
    }
    if !UNFILTERED.is_empty() {
        let calls: Vec<String> =
            UNFILTERED.iter().map(|(number, name, _)| format!("{name} ({number})")).collect();
        let text = format!(
            "Newer kernels answer {} before any filter: they do nothing for a layer.",
            calls.join(" and ")
        );
        out.push('\n');
        out.push_str(&wrap("  ", &text));
    }
    if !account.through.is_empty() {
        out.push_str("\n  Through others it reaches:\n");
        for through in &account.through {
            let what = neutralise(through.what.as_bytes());
            let _ = writeln!(out, "    {}{what}", through.object);
            out.push_str(&policy.steps(&through.way, "      "));
        }
    }
    let exposure = &account.exposure;
    let _ = writeln!(out, "\n  Exposure {}", score(exposure));
    for item in &exposure.items {
        // Without the sign of -0.0.
        let share = exposure.share(item) + 0.0;
        let line = format!("{}: {}", item.name, neutralise(item.found.as_bytes()));
        out.push_str(&wrap(&format!("    {share:4.2}  "), &line));
    }
    out
}

fn json(policy: &Sound, told: &[(&LayerPlan, Account)]) -> Value {
    let layers: Map<String, Value> = told
        .iter()
        .map(|(layer, account)| (account.layer.to_string(), layer_json(policy, layer, account)))
        .collect();
    json!({
        "policy": policy.name,
        "name": policy.plan.name.as_str(),
        "id": policy.plan.id().ok().map(|id| id.to_string()),
        "layers": layers,
    })
}

fn layer_json(policy: &Sound, layer: &LayerPlan, account: &Account) -> Value {
    let exposure = &account.exposure;
    let items = exposure.items.iter().map(|item| {
        json!({
            "name": item.name,
            "weight": item.weight,
            "badness": item.badness,
            "share": exposure.share(item) + 0.0,
            "found": item.found,
        })
    });
    let through = account
        .through
        .iter()
        .map(|through| json!({ "object": through.object, "way": policy.steps_json(&through.way) }));
    let subjects: Map<String, Value> = account
        .subjects
        .iter()
        .map(|(subject, lines)| ((*subject).to_owned(), json!(lines)))
        .collect();
    let last = all().map(|(number, _)| number + 1).max().unwrap_or(0);
    json!({
        "program": account.program,
        "exposure": {
            "score": exposure.score,
            "word": exposure.word(),
            "items": items.collect::<Vec<_>>(),
        },
        "may": subjects,
        "through": through.collect::<Vec<_>>(),
        "syscalls": (0..last.max(NUMBERS)).map(|it| call_json(layer, it)).collect::<Vec<_>>(),
        "unlisted": verdict(layer, last.max(NUMBERS)).to_string(),
    })
}

/// What the filter answers to one call: `verdict` is `allow`, `conditional`, `errno:NAME` or
/// `kill`; where it is `conditional`, any of `conditions` makes it allowed, each of which is a list
/// that must hold as a whole, and `otherwise` is the answer where none does.
fn call_json(layer: &LayerPlan, number: u32) -> Value {
    let verdict = verdict(layer, number);
    let mut call = json!({
        "number": number,
        "name": name_of(number),
        "verdict": verdict.to_string(),
    });
    if let (Verdict::Conditional(refusal), Some(entry)) = (verdict, entry(layer, number)) {
        call["otherwise"] = json!(refusal.to_string());
        call["expressions"] = json!(expressions(number, &entry.allow));
        call["conditions"] = entry.allow.iter().map(rule_json).collect();
    }
    if let Some((_, _, answer)) = UNFILTERED.iter().find(|it| it.0 == number) {
        call["before_filter"] = json!(answer);
    }
    call
}

fn rule_json(rule: &CallRule) -> Value {
    let condition = |condition: &crate::policy::plan::Condition| {
        let (compare, value, mask) = match condition.compare {
            Compare::Eq(value) => ("==", value, None),
            Compare::Ne(value) => ("!=", value, None),
            Compare::Lt(value) => ("<", value, None),
            Compare::Le(value) => ("<=", value, None),
            Compare::Gt(value) => (">", value, None),
            Compare::Ge(value) => (">=", value, None),
            Compare::Masked { mask, value } => ("&", value, Some(mask)),
        };
        let bits = if condition.width == Width::Dword { 32 } else { 64 };
        json!({
            "argument": condition.argument,
            "bits": bits,
            "compare": compare,
            "value": value,
            "mask": mask,
        })
    };
    rule.0.iter().map(condition).collect()
}
