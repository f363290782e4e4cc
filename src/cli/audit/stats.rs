//! `cofferdam audit stats DIR`: how much went over each edge, how fast calls were answered, and
//! what became of each layer.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::account::{Account, OfEdge, OfLayer, Total};
use super::filter::{Wanted, Window, search};
use super::names::Names;
use super::time::rfc3339;
use super::{Dir, Failure, Format, damaged, written};
use crate::audit::entry::Kind;

/// Arguments of `cofferdam audit stats`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Latency is what the caller saw: from the report that its request went out to the
report that the answer came in. A quantile is at most 3.2 % too large, the
maximum is exact. Each message is counted as its sender reports it and as its
receiver does; bytes are those of the records on the wire.")]
pub struct Args {
    #[command(flatten)]
    dir: Dir,
    #[command(flatten)]
    wanted: Wanted,
    #[command(flatten)]
    window: Window,
    /// How to report
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Counts. Exit code 0: fine; 1: a part of the log can't be read.
pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let store = args.dir.open()?;
    let names = Names::read(&store)?;
    args.wanted.check(&names).map_err(Failure::usage)?;
    let mut account = Account::new(&names);
    let wanted = (&args.wanted, &args.window);
    let effort = search(&store, &names, wanted, (0..u64::MAX, true), |record| {
        account.take(&record);
        true
    })?;
    let total = account.finish();
    let text = match args.format {
        Format::Text => text(&total),
        Format::Json => format!("{:#}\n", json(&total)),
    };
    written(anstream::stdout().write_all(text.as_bytes()))?;
    if effort.damaged > 0 { Err(damaged(effort.damaged)) } else { Ok(ExitCode::SUCCESS) }
}

#[expect(clippy::cast_precision_loss, reason = "a figure to read")]
fn rate(count: u64, seconds: f64) -> Option<f64> {
    (seconds > 0.0).then(|| count as f64 / seconds)
}

#[expect(clippy::cast_precision_loss, reason = "a figure to read")]
fn duration(nanoseconds: Option<u64>) -> String {
    match nanoseconds {
        None => "-".to_owned(),
        Some(n @ ..1_000) => format!("{n} ns"),
        Some(n @ ..1_000_000) => format!("{:.1} us", n as f64 / 1e3),
        Some(n @ ..1_000_000_000) => format!("{:.1} ms", n as f64 / 1e6),
        Some(n) => format!("{:.2} s", n as f64 / 1e9),
    }
}

/// How long that was, in seconds.
#[expect(clippy::cast_precision_loss, reason = "a figure to read")]
fn seconds(total: &Total) -> f64 {
    total.span() as f64 / 1e9
}

fn text(total: &Total) -> String {
    let mut out = String::new();
    let seconds = seconds(total);
    let _ = write!(out, "{} records", total.records);
    if let Some((from, to)) = total.period {
        let _ = write!(out, " in {seconds:.3} s, {} to {}", rfc3339(from), rfc3339(to));
    }
    let _ = writeln!(out, "; {} alarms\n", total.of(Kind::Alarm));
    let wide = |names: &mut dyn Iterator<Item = &String>| {
        names.map(|name| name.chars().count()).max().unwrap_or(0).max(8)
    };
    let first = wide(&mut total.edges.keys());
    let _ = writeln!(
        out,
        "{:first$} {:>10} {:>10} {:>12} {:>10} {:>8} {:>9} {:>9} {:>9} {:>7} {:>7} {:>7}",
        "edge",
        "sent",
        "received",
        "bytes",
        "per s",
        "acts",
        "p50",
        "p99",
        "max",
        "refused",
        "failed",
        "lost"
    );
    for (name, OfEdge { all: edge, lost, .. }) in &total.edges {
        let (messages, bytes) = (edge.messages(), edge.bytes());
        let per = rate(messages, seconds).map_or_else(|| "-".to_owned(), |r| format!("{r:.1}"));
        let latency = &edge.latency;
        let max = (latency.total > 0).then_some(latency.max);
        let _ = writeln!(
            out,
            "{name:first$} {:>10} {:>10} {bytes:>12} {per:>10} {:>8} {:>9} {:>9} {:>9} {:>7} {:>7} {lost:>7}",
            edge.sent,
            edge.received,
            edge.acts,
            duration(latency.quantile(500)),
            duration(latency.quantile(990)),
            duration(max),
            edge.refused,
            edge.failed
        );
    }
    let first = wide(&mut total.layers.keys());
    let _ = writeln!(
        out,
        "\n{:first$} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "layer", "lives", "exits", "failures", "denials", "refused", "lost"
    );
    for (name, layer) in &total.layers {
        let OfLayer { lives, exits, failures, denials, refused, lost } = layer;
        let _ = writeln!(
            out,
            "{name:first$} {lives:>8} {exits:>8} {failures:>8} {denials:>8} {refused:>8} {lost:>8}"
        );
    }
    if total.unmeasured > 0 {
        let _ = writeln!(
            out,
            "\n{} calls were not measured: too many were open at once",
            total.unmeasured
        );
    }
    out
}

fn json(total: &Total) -> Value {
    let seconds = seconds(total);
    let edges = total.edges.iter().map(|(name, OfEdge { all: edge, lost, .. })| {
        let (messages, bytes) = (edge.messages(), edge.bytes());
        let latency = &edge.latency;
        json!({
            "edge": name,
            "records": edge.records,
            "messages": messages,
            "bytes": bytes,
            "sent": { "messages": edge.sent, "bytes": edge.bytes_sent },
            "received": { "messages": edge.received, "bytes": edge.bytes_received },
            "messages_per_second": rate(messages, seconds),
            "bytes_per_second": rate(bytes, seconds),
            "acts": edge.acts,
            "calls": {
                "answered": latency.total,
                "declined": edge.declined,
                "p50_ns": latency.quantile(500),
                "p99_ns": latency.quantile(990),
                "max_ns": (latency.total > 0).then_some(latency.max),
            },
            "refused": edge.refused,
            "failed": edge.failed,
            "lost": lost,
        })
    });
    let layers = total.layers.iter().map(|(name, layer)| {
        json!({
            "layer": name,
            "lives": layer.lives,
            "exits": layer.exits,
            "failures": layer.failures,
            "denials": layer.denials,
            "refused": layer.refused,
            "lost": layer.lost,
        })
    });
    json!({
        "records": total.records,
        "alarms": total.of(Kind::Alarm),
        "from": total.period.map(|(from, _)| rfc3339(from)),
        "to": total.period.map(|(_, to)| rfc3339(to)),
        "seconds": seconds,
        "unmeasured_calls": total.unmeasured,
        "edges": edges.collect::<Vec<_>>(),
        "layers": layers.collect::<Vec<_>>(),
    })
}
