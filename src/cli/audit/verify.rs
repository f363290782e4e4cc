//! `cofferdam audit verify DIR`: whether somebody altered the log.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};

use super::checkpoints::witnessed;
use super::{Dir, Failure, Format, written};
use crate::audit::hash::Hash;
use crate::audit::note::Notes;
use crate::audit::store::{Store, Trouble};
use crate::audit::verify::{Options, Verified, verify};
use crate::ident::{hex, unhex};
use crate::text::neutralise;

/// Arguments of `cofferdam audit verify`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A checkpoint is a signed note that says what the log held; the log keeps its own
in NNNNNNNN.note. One that was copied elsewhere in time shows what the
directory alone can't: that the tail wasn't cut off, and that all of it wasn't
replaced.

Exit code 0: sound; 1: a finding, each with its file, record and byte. What was
altered between two records that are as they were signed is one finding.")]
pub struct Args {
    #[command(flatten)]
    dir: Dir,
    /// A file of checkpoints of this log that was kept elsewhere; may be given several times
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,
    /// The file of a witness, to which `watch --witness` writes checkpoints; may be given several times
    #[arg(long, value_name = "FILE")]
    witness: Vec<PathBuf>,
    /// The log's id, as it was noted elsewhere
    #[arg(long, value_name = "HEX", value_parser = digest)]
    id: Option<Hash>,
    /// Take it for a finding that the log wasn't closed in order, or that records are not signed
    #[arg(long)]
    closed: bool,
    /// How to report
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Verifies.
pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let store = args.dir.open()?;
    let mut outside = Vec::new();
    for path in &args.checkpoint {
        outside.extend(checkpoints(path)?);
    }
    for path in &args.witness {
        outside.extend(witnessed(path)?);
    }
    let live = store.is_held();
    let options = Options { outside, id: args.id, live, threads: 0, closed: args.closed };
    let told = while_dropped(&store, &options)?;
    let text = match args.format {
        Format::Text => text(&told, live),
        Format::Json => format!("{:#}\n", json(&told, live)),
    };
    written(anstream::stdout().write_all(text.as_bytes()))?;
    Ok(ExitCode::from(u8::from(!told.sound())))
}

/// How often a log is verified anew because its oldest segment went. They are read first, so that
/// happens in the first moments only.
const TRIES: usize = 100;

/// Verifies again if a writer dropped a segment under it.
fn while_dropped(store: &Store, options: &Options) -> Result<Verified, Failure> {
    for _ in 0..TRIES {
        match verify(store, options) {
            Err(error) if error.trouble() == Trouble::Missing => {}
            told => return Ok(told?),
        }
    }
    Err(Failure::system("segments are dropped faster than they can be verified: try again later"))
}

/// 64 hexadecimal digits.
pub(super) fn digest(text: &str) -> Result<Hash, String> {
    unhex(text.as_bytes()).ok_or_else(|| "write 64 hexadecimal digits".to_owned())
}

/// The checkpoints in a file. What is none is given as it is, for the verifier to say so.
pub(super) fn checkpoints(path: &Path) -> Result<Vec<String>, Failure> {
    let bytes = std::fs::read(path).map_err(|error| {
        let path = neutralise(path.display().to_string().as_bytes());
        Failure::system(format!("can't read the checkpoint {path}: {error}"))
    })?;
    let notes = Notes::read(&bytes);
    let rest = String::from_utf8_lossy(&bytes[notes.end..]);
    let mut all: Vec<String> = notes
        .notes
        .into_iter()
        .map(|(at, note)| match note {
            Ok(signed) => signed.encode(),
            Err(_) => String::from_utf8_lossy(&bytes[at..notes.end]).into_owned(),
        })
        .collect();
    // A single one needs no empty line behind it.
    if all.is_empty() || !rest.is_empty() {
        all.push(rest.into_owned());
    }
    Ok(all)
}

fn text(told: &Verified, live: bool) -> String {
    let mut out = String::new();
    for finding in &told.findings {
        let _ = writeln!(out, "{}", neutralise(finding.to_string().as_bytes()));
    }
    let _ = match told.findings.len() {
        0 => write!(out, "\x1b[32msound\x1b[0m: "),
        1 => write!(out, "\x1b[31mbroken\x1b[0m, 1 finding: "),
        more => write!(out, "\x1b[31mbroken\x1b[0m, {more} findings: "),
    };
    let _ = writeln!(
        out,
        "records {} to {} (the last not counted), {} of them signed, in {} segments, {} bytes{}",
        told.first,
        told.size,
        told.signed.saturating_sub(told.first),
        told.segments,
        told.bytes,
        if live { ", being written" } else { "" }
    );
    let id = told.log.map_or_else(|| "not known".to_owned(), |id| hex(&id));
    let _ = writeln!(out, "log id {id}, {} epochs of keys", told.epochs);
    if told.redacted > 0 {
        let _ = writeln!(
            out,
            "payloads removed: {}; `cofferdam audit query DIR --kind redacted` says for whom and why",
            told.redacted
        );
    }
    for unknown in &told.unknown {
        let _ = writeln!(out, "not known: {}", neutralise(unknown.to_string().as_bytes()));
    }
    out
}

fn json(told: &Verified, live: bool) -> Value {
    let findings = told.findings.iter().map(|finding| {
        json!({
            "file": neutralise(finding.file.as_bytes()),
            "segment": finding.segment,
            "record": finding.record,
            "byte": finding.byte,
            "region": finding.region.map(|it| json!({ "after": it.after, "before": it.before })),
            "what": neutralise(finding.what.to_string().as_bytes()),
        })
    });
    let unknown = told.unknown.iter().map(|it| neutralise(it.to_string().as_bytes()));
    json!({
        "sound": told.sound(),
        "log": told.log.map(|id| hex(&id)),
        "first": told.first,
        "size": told.size,
        "signed": told.signed,
        "segments": told.segments,
        "bytes": told.bytes,
        "epochs": told.epochs,
        "redacted": told.redacted,
        "live": live,
        "findings": findings.collect::<Vec<_>>(),
        "unknown": unknown.collect::<Vec<_>>(),
    })
}
