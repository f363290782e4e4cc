//! `cofferdam can POLICY LAYER ACT OBJECT`: may it, by which rule, or through whom?

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};

use super::audit::time::rfc3339;
use super::audit::{Failure, damaged, open};
use super::read::{self, Format, Sound, at, wrap};
use crate::audit::done::{Deed, Done, Time};
use crate::audit::query::{Filter, query};
use crate::audit::usage::{Blind, why_blind};
use crate::ident::Name;
use crate::policy::plan::Plan;
use crate::policy::ways::{Act, Fact};
use crate::review::calls::{Refusal, Verdict};
use crate::review::can::{Answer, Change, REACH, can};
use crate::review::explain::words;
use crate::text::neutralise;

/// Arguments of `cofferdam can`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Objects: file.NAME channel.NAME channel.NAME.METHOD signal.NAME queue.NAME
  pipe.NAME fifo.NAME semaphore.NAME region.NAME mapped-file.NAME
  listen.LAYER.NAME connect.LAYER.NAME state.LAYER cache.LAYER logs.LAYER
  runtime-directory.LAYER syscall.NAME capability.NAME layer.NAME
  or an absolute path of the host: what is granted there
Acts: open (any right on a file) read write truncate create remove list execute,
  own (a directory of its own: all of these but execute),
  call answer send receive pass, map, signal, lease, accept, connect,
  make (a system call), use (a capability), reach (anything, in any number of
  steps)

Exit code 0: yes; 1: no; 2: there is no such layer, act or object.")]
pub struct Args {
    /// The policy to ask about
    policy: PathBuf,
    /// Who
    layer: String,
    /// Does what
    act: String,
    /// To what
    object: String,
    /// How to report
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Tell also whether it did, how often and when, by the audit log in this directory
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
    #[command(flatten)]
    outside: read::Outside,
}

/// Answers. Exit code 0: yes; 1: no, or the policy has mistakes; 2: nothing of that name; 3: the
/// policy can't be read.
pub fn run(args: &Args) -> ExitCode {
    let policy = match read::sound(&args.policy, &args.outside) {
        Ok(policy) => policy,
        Err(code) => return code,
    };
    let answer = match can(&policy.plan, &args.layer, &args.act, &args.object) {
        Ok(answer) => answer,
        Err(error) => {
            let text = neutralise(error.to_string().as_bytes());
            let _ = writeln!(anstream::stderr(), "error: {text}");
            return ExitCode::from(2);
        }
    };
    let did = match args.log.as_deref().map(|dir| Did::read(dir, &policy.plan, &answer)) {
        None => None,
        Some(Ok(did)) => Some(did),
        Some(Err(failure)) => return failure.tell(),
    };
    let text = match args.format {
        Format::Text => {
            text(&policy, &answer) + &did.map_or_else(String::new, |it| it.text(&answer))
        }
        Format::Json => {
            let mut told = json(&policy, &answer);
            told["log"] = did.map_or(Value::Null, |it| it.json());
            format!("{told:#}\n")
        }
    };
    read::give(&text, u8::from(!answer.yes))
}

/// What an audit log says of it.
struct Did {
    done: Done,
    /// Why it can't tell, if it can't.
    blind: Option<Blind>,
}

impl Did {
    /// Reads the log. One that is damaged is an error: it may hold more.
    fn read(dir: &Path, plan: &Plan, answer: &Answer) -> Result<Self, Failure> {
        let store = open(dir)?;
        // Of a file a rule is a layer's grant, and the rights stand beneath it.
        let rule = |fact: &Fact| match &*fact.rule {
            rule if rule.starts_with("file.") => format!("{rule}.{}", fact.act.name()),
            rule => rule.to_owned(),
        };
        let rules: Vec<String> = answer.facts.iter().map(rule).collect();
        let receives = |fact: &Fact| matches!(fact.act, Act::Answer | Act::Receive | Act::Accept);
        let receives = answer.facts.first().is_some_and(receives);
        let blind = why_blind(plan, &rules);
        let layer = answer.layer.to_string();
        let mut done = Done::new(Deed { layer, rules, receives });
        let effort = query(&store, &Filter { full: true, ..Filter::default() }, |record| {
            done.take(&record);
            true
        })?;
        if effort.damaged > 0 {
            return Err(damaged(effort.damaged));
        }
        Ok(Self { done, blind })
    }

    fn text(&self, answer: &Answer) -> String {
        let Answer { layer, act, object, .. } = answer;
        if answer.facts.is_empty() {
            return String::new();
        }
        let Done { count, times, refused, lives, .. } = &self.done;
        let mut out = match (times, self.blind) {
            (Some((first, last)), _) => format!(
                "it did, {count} times: first at {} (record {}), last at {} (record {})\n",
                rfc3339(first.at),
                first.record,
                rfc3339(last.at),
                last.record
            ),
            (None, Some(blind)) => {
                format!("whether it did, the log can't tell: {}\n", blind.why())
            }
            (None, None) => match lives {
                0 => format!("it never did: no life of {layer} is in the log\n"),
                1 => format!(
                    "it never did: {layer} has 1 life in the log, and {act} {object} not in it\n"
                ),
                lives => format!(
                    "it never did: {layer} has {lives} lives in the log, and {act} {object} in none\n"
                ),
            },
        };
        if *refused > 0 {
            let _ = writeln!(out, "it was refused {refused} times besides");
        }
        out
    }

    fn json(&self) -> Value {
        let Done { count, times, refused, lives, .. } = &self.done;
        let time = |it: &Time| json!({ "time": rfc3339(it.at), "record": it.record });
        json!({
            "count": count,
            "first": times.as_ref().map(|(first, _)| time(first)),
            "last": times.as_ref().map(|(_, last)| time(last)),
            "refused": refused,
            "lives": lives,
            "blind": self.blind.filter(|_| *count == 0).map(Blind::why),
        })
    }
}

fn text(policy: &Sound, answer: &Answer) -> String {
    let Answer { layer, act, object, .. } = answer;
    let mut out = match (answer.yes, answer.facts.is_empty()) {
        (true, false) => format!("\x1b[32myes\x1b[0m: {layer} may {act} {object}\n"),
        (true, true) => format!("\x1b[33myes\x1b[0m: {layer} may {act} {object} through others\n"),
        (false, _) => format!("\x1b[31mno\x1b[0m: {layer} may not {act} {object} itself\n"),
    };
    for fact in &answer.facts {
        out.push_str(&wrap("  ", &format!("{fact}{}", neutralise(words(&fact.bounds).as_bytes()))));
        if let Some(place) = policy.place_of(fact) {
            let _ = writeln!(out, "    {}: {}", at(&place), place.text);
        }
        conditions(policy, fact, answer.verdict, &mut out);
    }
    if let (false, Some(Verdict::Refused(refusal))) = (answer.yes, answer.verdict) {
        let _ = writeln!(out, "  the call {}", instead(refusal));
        if answer.change.is_none() && answer.hint.is_none() {
            out.push_str("  and no policy changes that\n");
        }
    }
    if let Some(way) = &answer.way {
        match (answer.through.as_slice(), act == REACH) {
            ([], _) => out.push_str("but through others:\n"),
            (names, false) => {
                let _ = writeln!(out, "but through {}:", list(names));
            }
            (names, true) => {
                let _ = writeln!(out, "every way passes {}; the shortest:", list(names));
            }
        }
        out.push_str(&policy.steps(way, "  "));
        if act != REACH && answer.through.is_empty() {
            out.push_str("  (the shortest way; there is another that avoids each layer on it)\n");
        }
    } else if !answer.yes {
        out.push_str("and not through others\n");
    }
    if let Some(change) = &answer.change {
        out.push_str(&self::change(policy, change));
    }
    if let Some(hint) = &answer.hint {
        out.push_str("no change of one line allows it:\n");
        out.push_str(&wrap("  ", &neutralise(hint.as_bytes())));
    }
    out
}

/// `keeper`, `opener and keeper`.
fn list(names: &[Name]) -> String {
    let names: Vec<&str> = names.iter().map(Name::as_str).collect();
    match names.as_slice() {
        [most @ .., last] if !most.is_empty() => format!("{} and {last}", most.join(", ")),
        names => names.concat(),
    }
}

fn conditions(policy: &Sound, fact: &Fact, verdict: Option<Verdict>, out: &mut String) {
    let (Some((_, forms)), Some(Verdict::Conditional(refusal))) = (policy.forms(fact), verdict)
    else {
        return;
    };
    out.push_str("  only as one of\n");
    for expression in forms {
        let _ = writeln!(out, "    {expression}");
    }
    let _ = writeln!(out, "  otherwise the call {}", instead(refusal));
}

fn instead(refusal: Refusal) -> String {
    match refusal {
        Refusal::Kill => "ends the process".to_owned(),
        Refusal::Errno(_) => {
            format!("returns {}", refusal.to_string().trim_start_matches("errno:"))
        }
    }
}

fn change(policy: &Sound, change: &Change) -> String {
    let Change { table, key, line, replaces, note } = change;
    let rule = format!("{table}.{key}");
    let place = policy.place(&rule).map_or_else(String::new, |place| format!(" ({})", at(&place)));
    let mut out = match (*replaces, *key) {
        (true, _) => format!("to allow it, change in [{table}]{place}:\n    {line}\n"),
        (false, "syscalls") => {
            format!("to allow it, add to `{key}` of [{table}]{place}:\n    {line}\n")
        }
        (false, _) => format!("to allow it, write in [{table}]{place}:\n    {line}\n"),
    };
    if !note.is_empty() {
        out.push_str(&wrap("  ", &neutralise(note.as_bytes())));
    }
    out
}

fn json(policy: &Sound, answer: &Answer) -> Value {
    let rule = |fact: &Fact| {
        json!({
            "act": fact.act.name(),
            "object": &*fact.object,
            "rule": &*fact.rule,
            "place": Sound::place_json(policy.place_of(fact)),
            "bounds": fact.bounds.iter().map(|it| (it.name, &it.text)).collect::<Vec<_>>(),
            "conditions": policy.forms(fact).map(|(_, forms)| forms),
        })
    };
    let change = answer.change.as_ref().map(|change| {
        json!({
            "table": change.table,
            "key": change.key,
            "line": change.line,
            "replaces": change.replaces,
            "note": change.note,
            "place": Sound::place_json(policy.place(&format!("{}.{}", change.table, change.key))),
        })
    });
    json!({
        "policy": policy.name,
        "layer": answer.layer.as_str(),
        "act": answer.act,
        "object": answer.object,
        "yes": answer.yes,
        "itself": !answer.facts.is_empty(),
        "rules": answer.facts.iter().map(rule).collect::<Vec<_>>(),
        "verdict": answer.verdict.map(|verdict| verdict.to_string()),
        "way": answer.way.as_ref().map(|way| policy.steps_json(way)),
        "through": answer.through.iter().map(Name::as_str).collect::<Vec<_>>(),
        "change": change,
        "hint": answer.hint,
    })
}
