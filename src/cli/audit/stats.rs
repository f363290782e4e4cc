//! `cofferdam audit stats DIR`: how much went over each edge, how fast calls were answered, and
//! what became of each layer.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::calls::Calls;
use super::filter::{Wanted, Window, search};
use super::histogram::Histogram;
use super::names::{Names, edge, layer};
use super::time::rfc3339;
use super::{Dir, Failure, Format, damaged, written};
use crate::audit::entry::{Entry, Facility, Form, Kind, Record, Side, Verdict, Who};
use crate::audit::runs;

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
    let mut stats = Stats::default();
    let wanted = (&args.wanted, &args.window);
    let effort = search(&store, &names, wanted, (0..u64::MAX, true), |record| {
        stats.push(names.era(record.index), &record);
        true
    })?;
    let (edges, layers) = stats.named(&names);
    let text = match args.format {
        Format::Text => text(&stats, &edges, &layers),
        Format::Json => format!("{:#}\n", json(&stats, &edges, &layers)),
    };
    written(anstream::stdout().write_all(text.as_bytes()))?;
    if effort.damaged > 0 { Err(damaged(effort.damaged)) } else { Ok(ExitCode::SUCCESS) }
}

/// What went over an edge.
#[derive(Clone, Debug, Default)]
struct OfEdge {
    /// Messages and bytes, as senders and as receivers report them.
    sent: (u64, u64),
    received: (u64, u64),
    /// What the broker did.
    acts: u64,
    refused: u64,
    failed: u64,
    /// Reports that were lost.
    lost: u64,
    latency: Histogram,
    declined: u64,
}

/// What became of a layer.
#[derive(Clone, Debug, Default)]
struct OfLayer {
    lives: u64,
    exits: u64,
    failures: u64,
    denials: u64,
    refused: u64,
    lost: u64,
}

type Edges = BTreeMap<String, OfEdge>;
type Layers = BTreeMap<String, OfLayer>;

/// Counters by number, under each of the log's tables.
#[derive(Debug, Default)]
struct Stats {
    records: u64,
    alarms: u64,
    /// The earliest and the latest moment of the real clock.
    real: Option<(u64, u64)>,
    edges: BTreeMap<(usize, Facility, u16), (u64, OfEdge)>,
    layers: BTreeMap<(usize, u16), (u64, OfLayer)>,
    calls: Calls,
}

impl Stats {
    fn push(&mut self, era: usize, record: &Record) {
        let entry = &record.entry;
        self.records += 1;
        let real = record.at.real;
        let (from, to) = self.real.unwrap_or((real, real));
        self.real = Some((from.min(real), to.max(real)));
        let refused = matches!(entry.verdict, Verdict::Refused | Verdict::Killed);
        let index = record.index;
        match entry.kind {
            Kind::Use | Kind::Broker => {
                let edge = self.edge(era, entry, index);
                edge.refused += u64::from(refused);
                edge.failed += u64::from(entry.verdict == Verdict::Failed);
                let went = !refused && entry.verdict != Verdict::Failed;
                let messages = if went { messages(entry) } else { 0 };
                match (entry.kind, entry.side) {
                    (Kind::Broker, _) => edge.acts += 1,
                    (_, Side::Witness) => {}
                    (_, Side::Sender) => count(&mut edge.sent, messages, entry.length, went),
                    _ => count(&mut edge.received, messages, entry.length, went),
                }
                if refused {
                    self.layer(era, entry.reporter, index).refused += 1;
                }
            }
            Kind::Spawn => self.layer(era, entry.peer, index).lives += 1,
            Kind::Exit => {
                let layer = self.layer(era, entry.peer, index);
                layer.exits += 1;
                layer.failures += u64::from(entry.value != 0);
            }
            Kind::Denial => self.layer(era, entry.peer, index).denials += 1,
            Kind::Loss => {
                let layer = self.layer(era, entry.reporter, index);
                layer.lost = layer.lost.saturating_add(entry.length);
                if entry.facility != Facility::None {
                    let edge = self.edge(era, entry, index);
                    edge.lost = edge.lost.saturating_add(entry.length);
                }
            }
            Kind::Alarm => self.alarms += 1,
            _ => {}
        }
        let edges = &mut self.edges;
        self.calls.push(entry, |call| {
            let (_, edge) = edges.entry((era, Facility::Channel, call.edge)).or_default();
            edge.latency.add(call.to - call.from);
            edge.declined += u64::from(call.refused);
        });
    }

    fn edge(&mut self, era: usize, entry: &Entry, index: u64) -> &mut OfEdge {
        let (last, edge) = self.edges.entry((era, entry.facility, entry.edge)).or_default();
        *last = index;
        edge
    }

    fn layer(&mut self, era: usize, who: Who, index: u64) -> &mut OfLayer {
        let (last, layer) = self.layers.entry((era, who.layer)).or_default();
        *last = index;
        layer
    }

    /// The counters by name, of all tables together.
    fn named(&self, names: &Names) -> (Edges, Layers) {
        let (mut edges, mut layers) = (Edges::new(), Layers::new());
        for ((_, facility, number), (index, more)) in &self.edges {
            let tables = names.at(*index);
            let Some(name) = edge(tables, *facility, *number) else { continue };
            let all = edges.entry(name).or_default();
            all.sent = (all.sent.0 + more.sent.0, all.sent.1.saturating_add(more.sent.1));
            all.received =
                (all.received.0 + more.received.0, all.received.1.saturating_add(more.received.1));
            all.acts += more.acts;
            all.refused += more.refused;
            all.failed += more.failed;
            all.lost = all.lost.saturating_add(more.lost);
            all.latency.join(&more.latency);
            all.declined += more.declined;
        }
        for ((_, number), (index, more)) in &self.layers {
            let all = layers.entry(layer(names.at(*index), *number).into_owned()).or_default();
            all.lives += more.lives;
            all.exits += more.exits;
            all.failures += more.failures;
            all.denials += more.denials;
            all.refused += more.refused;
            all.lost = all.lost.saturating_add(more.lost);
        }
        (edges, layers)
    }

    /// How long that was, in seconds.
    #[expect(clippy::cast_precision_loss, reason = "a figure to read")]
    fn seconds(&self) -> f64 {
        self.real.map_or(0.0, |(from, to)| (to - from) as f64 / 1e9)
    }
}

/// How many messages a report is about.
fn messages(entry: &Entry) -> u64 {
    if entry.facility != Facility::Channel {
        return 1;
    }
    match entry.form {
        Form::None => 1,
        Form::Batch => u64::from(entry.value),
        _ => runs::of(entry).iter().map(|run| u64::from(run.messages)).sum(),
    }
}

fn count(into: &mut (u64, u64), messages: u64, bytes: u64, went: bool) {
    into.0 = into.0.saturating_add(messages);
    into.1 = into.1.saturating_add(if went { bytes } else { 0 });
}

impl OfEdge {
    /// Messages and bytes by the end that reports: the sender's word where there is one.
    fn traffic(&self) -> (u64, u64) {
        if self.sent.0 > 0 { self.sent } else { self.received }
    }
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

fn text(stats: &Stats, edges: &Edges, layers: &Layers) -> String {
    let mut out = String::new();
    let seconds = stats.seconds();
    let _ = write!(out, "{} records", stats.records);
    if let Some((from, to)) = stats.real {
        let _ = write!(out, " in {seconds:.3} s, {} to {}", rfc3339(from), rfc3339(to));
    }
    let _ = writeln!(out, "; {} alarms\n", stats.alarms);
    let wide = |names: &mut dyn Iterator<Item = &String>| {
        names.map(|name| name.chars().count()).max().unwrap_or(0).max(8)
    };
    let first = wide(&mut edges.keys());
    let _ = writeln!(
        out,
        "{:first$} {:>10} {:>10} {:>12} {:>10} {:>8} {:>9} {:>9} {:>9} {:>7} {:>7}",
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
        "lost"
    );
    for (name, edge) in edges {
        let (messages, bytes) = edge.traffic();
        let per = rate(messages, seconds).map_or_else(|| "-".to_owned(), |r| format!("{r:.1}"));
        let latency = &edge.latency;
        let max = (latency.total > 0).then_some(latency.max);
        let _ = writeln!(
            out,
            "{name:first$} {:>10} {:>10} {bytes:>12} {per:>10} {:>8} {:>9} {:>9} {:>9} {:>7} {:>7}",
            edge.sent.0,
            edge.received.0,
            edge.acts,
            duration(latency.quantile(500)),
            duration(latency.quantile(990)),
            duration(max),
            edge.refused,
            edge.lost
        );
    }
    let first = wide(&mut layers.keys());
    let _ = writeln!(
        out,
        "\n{:first$} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "layer", "lives", "exits", "failures", "denials", "refused", "lost"
    );
    for (name, layer) in layers {
        let OfLayer { lives, exits, failures, denials, refused, lost } = layer;
        let _ = writeln!(
            out,
            "{name:first$} {lives:>8} {exits:>8} {failures:>8} {denials:>8} {refused:>8} {lost:>8}"
        );
    }
    if stats.calls.unmeasured > 0 {
        let _ = writeln!(
            out,
            "\n{} calls were not measured: too many were open at once",
            stats.calls.unmeasured
        );
    }
    out
}

fn json(stats: &Stats, edges: &Edges, layers: &Layers) -> Value {
    let seconds = stats.seconds();
    let edges = edges.iter().map(|(name, edge)| {
        let (messages, bytes) = edge.traffic();
        let latency = &edge.latency;
        json!({
            "edge": name,
            "sent": { "messages": edge.sent.0, "bytes": edge.sent.1 },
            "received": { "messages": edge.received.0, "bytes": edge.received.1 },
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
            "lost": edge.lost,
        })
    });
    let layers = layers.iter().map(|(name, layer)| {
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
        "records": stats.records,
        "alarms": stats.alarms,
        "from": stats.real.map(|(from, _)| rfc3339(from)),
        "to": stats.real.map(|(_, to)| rfc3339(to)),
        "seconds": seconds,
        "unmeasured_calls": stats.calls.unmeasured,
        "edges": edges.collect::<Vec<_>>(),
        "layers": layers.collect::<Vec<_>>(),
    })
}
