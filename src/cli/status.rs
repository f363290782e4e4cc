//! `cofferdam status [NAME]`: how a running daemon and each of its layers is.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use super::audit::{Failure, written};
use super::read::Format;
use crate::handle::{Handle, InstanceStatus, Load, State, Status};
use crate::text::neutralise;

/// Arguments of `cofferdam status`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit code 0: every layer runs, or has finished as its policy says; 1: no daemon
runs, or a layer of it waits for its restart or is down after a failure.")]
pub struct Args {
    /// Which daemon, if several run
    name: Option<String>,
    /// How to print it
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Asks and prints.
pub(super) fn run(args: &Args) -> ExitCode {
    status(args).unwrap_or_else(|failure| failure.tell())
}

fn status(args: &Args) -> Result<ExitCode, Failure> {
    let status = Handle::find(args.name.as_deref())?.status()?;
    let text = match args.format {
        Format::Json => {
            let json = serde_json::to_string_pretty(&status);
            json.map_err(|error| Failure::system(error.to_string()))? + "\n"
        }
        Format::Text => text(&status),
    };
    written(anstream::stdout().write_all(text.as_bytes()))?;
    let well = status.instances.iter().all(is_well);
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether nothing is wrong with an instance, as far as its state tells.
fn is_well(instance: &InstanceStatus) -> bool {
    match instance.state {
        State::Running | State::Starting | State::Stopping => true,
        State::Waiting => instance.restarts == 0,
        State::Down => instance.finished,
    }
}

fn text(status: &Status) -> String {
    let mut out = String::new();
    let Status { name, pid, uptime, policy, .. } = status;
    let state = if status.stopping { "stopping" } else { "running" };
    let (name, file) = (neutralise(name.as_bytes()), status.file.display().to_string());
    let _ = writeln!(out, "{name}: {state} for {}, pid {pid}", span(uptime * 1000));
    let short: String = policy.chars().take(12).collect();
    let _ = writeln!(out, "policy {}, {short}", neutralise(file.as_bytes()));
    if let Some(log) = &status.audit {
        let _ = writeln!(out, "audit log {}", neutralise(log.display().to_string().as_bytes()));
    }
    let rows: Vec<[String; 8]> = std::iter::once(HEAD.map(str::to_owned))
        .chain(status.instances.iter().filter(|it| is_shown(it)).map(row))
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..HEAD.len()).map(|it| width(it).unwrap_or_default()).collect();
    out.push('\n');
    for row in &rows {
        let mut line = String::new();
        for (place, (cell, width)) in row.iter().zip(&widths).enumerate() {
            // Names to the left, numbers to the right.
            let _ = match place {
                0 | 1 => write!(line, "{cell:<width$}  "),
                _ => write!(line, "{cell:>width$}  "),
            };
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
    let ends = status.instances.iter().filter_map(|it| it.last.as_ref());
    let ends: Vec<_> = ends.collect();
    if !ends.is_empty() {
        out.push_str("\nlast ends:\n");
        for end in ends {
            let _ = writeln!(out, "  {}", neutralise(end.as_bytes()));
        }
    }
    out
}

const HEAD: [&str; 8] = ["LAYER", "STATE", "FOR", "LIFE", "RESTARTS", "PID", "MEMORY", "CPU"];

/// Our own helpers that are there only while they are needed aren't worth a line otherwise.
fn is_shown(instance: &InstanceStatus) -> bool {
    !(instance.own && instance.state == State::Down && instance.finished)
}

fn row(instance: &InstanceStatus) -> [String; 8] {
    let name = format!("{}/{}", neutralise(instance.layer.as_bytes()), instance.copy);
    let state = match instance.state {
        State::Down if instance.finished => "finished",
        state => state.word(),
    };
    // What runs and has something to do is told by that.
    let state = match instance.load.filter(|_| instance.state == State::Running) {
        None | Some(Load::Idle) => state,
        Some(load) => load.word(),
    };
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    [
        name,
        state.to_owned(),
        span(instance.since),
        instance.generation.to_string(),
        instance.restarts.to_string(),
        or_none(instance.pid.map(|pid| pid.to_string())),
        or_none(instance.usage.map(|it| mebibytes(it.memory))),
        or_none(instance.usage.map(|it| seconds(it.cpu))),
    ]
}

fn mebibytes(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) >> 20;
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

fn seconds(microseconds: u64) -> String {
    let hundredths = microseconds / 10_000;
    format!("{}.{:02} s", hundredths / 100, hundredths % 100)
}

/// A time in its two largest units.
fn span(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, 0) => format!("{milliseconds} ms"),
        (0, 0, 0, s) => format!("{s} s"),
        (0, 0, m, s) => format!("{m} min {s} s"),
        (0, h, m, _) => format!("{h} h {m} min"),
        (d, h, ..) => format!("{d} d {h} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_in_two_units() {
        let told = [0, 999, 1_000, 61_000, 3_600_000, 90_000_000].map(span);
        assert_eq!(told, ["0 ms", "999 ms", "1 s", "1 min 1 s", "1 h 0 min", "1 d 1 h"]);
    }
}
