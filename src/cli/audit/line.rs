//! A record as one line of text.

use std::fmt::Write;

use super::names::Said;
use crate::audit::entry::{Facility, Kind, Record, Verdict};
use crate::wire::report::acts;

const DIM: &str = "\x1b[2m";
const BOLD: &str = "\x1b[1m";
const RED: &str = "\x1b[31m";
const YELLOW: &str = "\x1b[33m";
const PLAIN: &str = "\x1b[0m";

/// The longest detail that a line shows, in characters.
const DETAIL: usize = 160;
/// How many digits of a trace's id it shows: as `--trace` takes them.
const TRACE: usize = 16;

/// The record as a line, with colours; for [`anstream`] to print, which takes them out where they
/// are not wanted.
pub(in crate::cli) fn line(record: &Record, said: &Said<'_>) -> String {
    let entry = &record.entry;
    let mut out = String::with_capacity(200);
    let _ = write!(out, "{DIM}{} {:>8}{PLAIN} ", said.time, said.index);
    let colour = match (entry.kind, entry.verdict) {
        (Kind::Alarm | Kind::Loss, _) | (_, Verdict::Killed) => RED,
        (Kind::Denial, _) | (_, Verdict::Refused | Verdict::Failed) => YELLOW,
        _ => "",
    };
    let _ = write!(out, "{colour}{:8}{PLAIN}", said.kind);
    if let Some(edge) = &said.edge {
        let _ = write!(out, " {BOLD}{edge}{PLAIN}");
    } else if let Some(facility) = said.facility {
        let _ = write!(out, " {facility}");
    }
    let (reporter, peer) = (&said.reporter, &said.peer);
    match (said.side, reporter, peer) {
        // Who told it says nothing of it.
        (_, _, Some(denied)) if entry.kind == Kind::Denial => {
            let _ = write!(out, " {denied}");
        }
        (Some("receiver"), Some(to), Some(from)) => {
            let _ = write!(out, " {from} => {to}");
        }
        (_, Some(from), Some(to)) if said.side == Some("sender") => {
            let _ = write!(out, " {from} -> {to}");
        }
        (Some("witness"), Some(by), Some(from)) => {
            let _ = write!(out, " {from} => ... seen by {by}");
        }
        (_, Some(by), Some(of)) => {
            let _ = write!(out, " {by}: {of}");
        }
        (_, Some(one), None) | (_, None, Some(one)) => {
            let _ = write!(out, " {one}");
        }
        (_, None, None) => {}
    }
    for word in [said.form, said.method.as_deref()].into_iter().flatten() {
        let _ = write!(out, " {word}");
    }
    numbers(record, said, &mut out);
    if let Some(meaning) = &said.meaning {
        let _ = write!(out, " ({meaning})");
    }
    if let Some(verdict) = said.verdict {
        let _ = write!(out, " {colour}{verdict}{PLAIN}");
    }
    if let Some(rule) = &said.rule {
        let _ = write!(out, " {DIM}by {rule}{PLAIN}");
    }
    if let Some(trace) = &said.trace {
        let _ = write!(out, " {DIM}trace {}{PLAIN}", &trace[..TRACE]);
    }
    if let Some(detail) = &said.detail {
        let _ = write!(out, " {}", short(detail, DETAIL));
    }
    out
}

fn numbers(record: &Record, said: &Said<'_>, out: &mut String) {
    let entry = &record.entry;
    match entry.kind {
        Kind::Use => {
            match (entry.facility, entry.method) {
                (Facility::None, _) if said.trace.is_some() => return,
                (Facility::File | Facility::Listen, _) => {}
                (Facility::Signal, _) => drop(write!(out, " {} times", entry.length)),
                (Facility::Region, acts::RING) => {
                    let _ = write!(out, " {} messages", entry.length);
                }
                _ => drop(write!(out, " {} B", entry.length)),
            }
            if said.side.is_some() {
                let _ = write!(out, " #{}", entry.sequence);
            }
            if !said.batch.is_empty() {
                let messages: u64 = said.batch.iter().map(|part| u64::from(part.messages)).sum();
                let _ = write!(out, " {messages} messages");
            } else if entry.value > 0 && entry.facility == Facility::Channel {
                let _ = write!(out, " call {}", entry.value);
            }
            if entry.descriptors > 0 {
                let _ = write!(out, " {} descriptors", entry.descriptors);
            }
            if let Some(payload) = &said.payload {
                let _ = write!(out, " payload {} B", payload.length);
            }
        }
        Kind::Start if entry.length > 0 => {
            let _ = write!(out, " {} bytes were cut from a torn end", entry.length);
        }
        Kind::Loss => {
            let _ = write!(out, " {} reports", entry.length);
        }
        Kind::Held => {
            let _ = write!(out, " for {} ms", entry.length / 1_000_000);
        }
        Kind::ClockJump => {
            let _ = write!(out, " by {} ns", entry.length);
        }
        Kind::Retained => {
            let (segment, first) = (entry.value, entry.sequence);
            let _ = write!(
                out,
                " segments before {segment}, records before {first}, {} bytes",
                entry.length
            );
        }
        Kind::Redacted => {
            let _ = write!(
                out,
                " record {}, {} B, for user {}:",
                entry.sequence, entry.length, entry.value
            );
            if entry.detail.is_empty() {
                out.push_str(" no reason given");
            }
        }
        Kind::Progress => {
            let _ = write!(out, " {} reports", entry.sequence);
        }
        Kind::Broker if entry.facility == Facility::Queue && entry.length > 0 => {
            let _ = write!(out, " {} B #{}", entry.length, entry.sequence);
        }
        Kind::Broker if entry.sequence > 0 => {
            let _ = write!(out, " fence {}", entry.sequence);
        }
        _ => {}
    }
}

/// The first characters of a text.
pub(in crate::cli) fn short(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}
