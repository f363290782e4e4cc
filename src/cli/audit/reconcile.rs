//! `cofferdam audit reconcile DIR`: whether the ends of every edge report the same.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::between::compare;
use super::names::{Names, edge, instance};
use super::{Dir, Failure, Format, damaged, written};
use crate::audit::entry::Side;
use crate::audit::reconcile::{Bounds, Counts, Disagreement, Outcome, reconcile};
use crate::audit::store::Store;
use crate::cli::audit::traffic::EdgeId;

/// Arguments of `cofferdam audit reconcile`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
No fault: in-flight (one of the two ended, it waits in a queue, or the log begins
or ends there), lost (and its reporter said so), dropped (out of a full queue).
Suspicious: forged (only its receiver reports it), altered (both do,
differently), gap (the receiver passed it over, or nobody reports it), overdue,
repeated, flood; with a witness hidden (an end is silent) and unwitnessed. Two
ends that lie together are noticed by a witness alone.

Of a channel to another host each log has what its own end reports: name both logs.

Exit code 0: nobody is under suspicion; 1: somebody is, or the log is broken.")]
pub struct Args {
    #[command(flatten)]
    dir: Dir,
    /// The log of another host: compare what the two say of the channels between them
    #[arg(value_name = "OTHER")]
    other: Option<PathBuf>,
    /// List no more disagreements than this; all are counted
    #[arg(long, value_name = "COUNT", default_value_t = 1_000)]
    limit: usize,
    /// How to report
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Reconciles.
pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let store = args.dir.open()?;
    if let Some(other) = &args.other {
        return between(args, [&store, &super::open(other)?]);
    }
    let names = Names::read(&store)?;
    let live = store.is_held();
    let (mut told, mut more) = (Vec::new(), 0_u64);
    let (counts, effort) = reconcile(&store, Bounds::default(), |disagreement| {
        if told.len() < args.limit {
            told.push(disagreement);
        } else {
            more += 1;
        }
    })?;
    let text = match args.format {
        Format::Text => text(&names, &counts, &told, more, live),
        Format::Json => format!("{:#}\n", json(&names, &counts, &told, (more, live))),
    };
    written(anstream::stdout().write_all(text.as_bytes()))?;
    if effort.damaged > 0 {
        return Err(damaged(effort.damaged));
    }
    Ok(ExitCode::from(u8::from(!counts.honest())))
}

/// Compares two hosts' logs.
fn between(args: &Args, stores: [&Store; 2]) -> Result<ExitCode, Failure> {
    let compared = compare(stores)?;
    let text = match args.format {
        Format::Text => compared.text(args.limit),
        Format::Json => format!("{:#}\n", compared.json(args.limit)),
    };
    written(anstream::stdout().write_all(text.as_bytes()))?;
    Ok(ExitCode::from(u8::from(!compared.honest())))
}

/// A disagreement in words.
struct Words {
    edge: Option<String>,
    sender: Option<String>,
    receiver: Option<String>,
    against: Option<String>,
}

impl Words {
    fn of(names: &Names, told: &Disagreement) -> Self {
        // Where nobody reported it, the tables of the log's end are as good as any.
        let tables = names.at(told.record.unwrap_or(u64::MAX));
        let stream = &told.stream;
        let name = |who| instance(tables, who).map(|it| it.to_string());
        let (sender, receiver) = (name(stream.sender), name(stream.receiver));
        let against = match told.against {
            Some(Side::Sender) => sender.clone(),
            Some(Side::Receiver) => receiver.clone(),
            _ => None,
        };
        Self {
            edge: edge(tables, EdgeId::both(stream.facility, stream.edge)),
            sender,
            receiver,
            against,
        }
    }
}

fn text(names: &Names, counts: &Counts, told: &[Disagreement], more: u64, live: bool) -> String {
    let mut out = String::new();
    for told in told {
        let Words { edge, sender, receiver, against } = Words::of(names, told);
        let colour = if told.outcome.suspicious() { "\x1b[31m" } else { "" };
        let [edge, sender, receiver] =
            [edge, sender, receiver].map(|name| name.unwrap_or_else(|| "?".to_owned()));
        let _ =
            write!(out, "{colour}{}\x1b[0m: {edge} {sender} -> {receiver}", told.outcome.name());
        let _ = match told.to.saturating_sub(told.from) {
            0 | 1 => write!(out, ", message {}", told.from),
            _ => write!(out, ", messages {} to {} (the last not counted)", told.from, told.to),
        };
        if let Some(record) = told.record {
            let _ = write!(out, ", record {record}");
        }
        if let Some(against) = against {
            let _ = write!(out, "; the others contradict {against}");
        }
        out.push('\n');
    }
    if more > 0 {
        let _ = writeln!(out, "and {more} more: raise --limit");
    }
    let _ = write!(out, "{} matched", counts.matched);
    if counts.refused > 0 {
        let _ = write!(out, ", {} matched and refused by a rule", counts.refused);
    }
    for (outcome, count) in &counts.others {
        let _ = write!(out, ", {count} {}", outcome.name());
    }
    out.push_str(if live { "; the log is being written\n" } else { "\n" });
    out.push_str(if counts.honest() {
        "\x1b[32mnobody is under suspicion\x1b[0m\n"
    } else {
        "\x1b[31msomebody is under suspicion\x1b[0m\n"
    });
    out
}

fn json(names: &Names, counts: &Counts, told: &[Disagreement], (more, live): (u64, bool)) -> Value {
    let told = told.iter().map(|told| {
        let Words { edge, sender, receiver, against } = Words::of(names, told);
        json!({
            "outcome": told.outcome.name(),
            "suspicious": told.outcome.suspicious(),
            "edge": edge,
            "sender": sender,
            "receiver": receiver,
            "from": told.from,
            "to": told.to,
            "record": told.record,
            "against": against,
        })
    });
    let others = Outcome::ALL.map(|outcome| (outcome.name().to_owned(), counts.of(outcome)));
    json!({
        "honest": counts.honest(),
        "live": live,
        "matched": counts.matched,
        "refused": counts.refused,
        "outcomes": Value::Object(others.map(|(name, n)| (name, n.into())).into_iter().collect()),
        "disagreements": told.collect::<Vec<_>>(),
        "more": more,
    })
}
