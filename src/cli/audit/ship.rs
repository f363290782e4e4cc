//! `cofferdam audit ship DIR DEST`: a log's copy in another place, which goes on where it was and is
//! verified there.

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use super::checkpoints::newest;
use super::{Dir, Failure, Format, written};
use crate::audit::entry::Kind;
use crate::audit::keys::EPOCHS;
use crate::audit::log::{notes_name, segment_name, segment_number};
use crate::audit::note::{Notes, Signed};
use crate::audit::query::{Filter, query};
use crate::audit::reader::Reader;
use crate::audit::redact::{Redaction, redact};
use crate::audit::store::{Store, StoreError, length, read_at, sync_data, write_at};
use crate::audit::verify::{Finding, Options, verify};
use crate::text::neutralise;

/// How many bytes are copied at once.
const CHUNK: usize = 1 << 20;

/// Arguments of `cofferdam audit ship`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Copies what a checkpoint signs: segments and checkpoints, no keys. What is there
already is not copied again, so it may be run as often as one likes, and goes on
after it was interrupted. Before that the log must be sound and go on from what
the copy holds; afterwards the copy must be. A log whose tail was cut since is
found so, and the copy stays as it is. Payloads that were removed here are
removed there.

Exit code 0: the copy is sound and has all that is signed; 1: a finding; 2: wrong
usage; 3: the system refused.")]
pub struct Args {
    #[command(flatten)]
    dir: Dir,
    /// The directory of the copy, which is made if it isn't there
    #[arg(value_name = "DEST")]
    dest: PathBuf,
    /// How to report
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Ships. The exit code is 1 if either log has a finding.
pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let from = args.dir.open()?;
    let shown = neutralise(args.dest.display().to_string().as_bytes());
    let made = std::fs::DirBuilder::new().mode(0o700).recursive(true).create(&args.dest);
    made.map_err(|error| Failure::system(format!("can't make {shown}: {error}")))?;
    let to = Store::open(&args.dest)?;
    if to.identity()? == from.identity()? {
        return Err(Failure::usage("a log can't be shipped to where it is"));
    }
    let strange = |name: &String| {
        let of_a_log = [".log", ".note", ".idx"].iter().any(|end| name.ends_with(end));
        !of_a_log
    };
    let names = to.names()?;
    if let Some(name) = names.iter().find(|name| strange(name)) {
        let name = neutralise(name.as_bytes());
        return Err(Failure::usage(format!("{shown} holds {name}, which is no part of a copy")));
    }
    let (here, held) = (newest(&from)?, newest(&to)?);
    let Some(here) = here else {
        return Err(Failure::finding("no checkpoint of the log can be read: run `verify`"));
    };
    let outside = held.iter().map(Signed::encode).collect();
    let live = from.is_held();
    let told = verify(&from, &Options { outside, live, ..Options::default() })?;
    if !told.sound() {
        return Err(broken("the log is broken, or isn't the one that was shipped", &told.findings));
    }
    let signed = here.checkpoint.size;
    let bytes = copy(&from, &to, signed)?;
    let removed = removed(&to)?;
    let outside = vec![here.encode()];
    let told = verify(&to, &Options { outside, ..Options::default() })?;
    if !told.sound() {
        return Err(broken("the copy is broken", &told.findings));
    }
    let mut out = format!(
        "{bytes} bytes shipped to {shown}: {signed} records there, all of them signed, and verified\n"
    );
    if removed > 0 {
        let _ = writeln!(out, "payloads removed there too: {removed}");
    }
    if args.format == Format::Json {
        let told = json!({ "records": signed, "bytes": bytes, "removed": removed });
        out = format!("{told:#}\n");
    }
    written(anstream::stdout().write_all(out.as_bytes()))?;
    Ok(ExitCode::SUCCESS)
}

fn broken(what: &str, findings: &[Finding]) -> Failure {
    let mut text = what.to_owned();
    for finding in findings.iter().take(20) {
        let _ = write!(text, "\n{}", neutralise(finding.to_string().as_bytes()));
    }
    Failure::finding(text)
}

/// Copies what is not there yet of the first `signed` records; how many bytes that was.
fn copy(from: &Store, to: &Store, signed: u64) -> Result<u64, StoreError> {
    let mut numbers: Vec<u64> =
        from.names()?.iter().filter_map(|name| segment_number(name)).collect();
    numbers.sort_unstable();
    // Checkpoints are read before the records that they sign, and written after them.
    let mut notes = vec![(EPOCHS.to_owned(), whole_notes(from, EPOCHS, signed)?)];
    for number in &numbers {
        let name = notes_name(*number);
        notes.push((name.clone(), whole_notes(from, &name, signed)?));
    }
    let mut copied = 0;
    for number in numbers {
        let name = segment_name(number);
        let Some(end) = end_of(from, &name, signed)? else { break };
        copied += append(from, to, &name, end)?;
    }
    for (name, bytes) in notes.iter().filter(|(_, bytes)| !bytes.is_empty()) {
        let known = to.read(name, u64::MAX)?.unwrap_or_default();
        if known.len() < bytes.len() {
            to.write(name, bytes)?;
            copied += (bytes.len() - known.len()) as u64;
        }
    }
    Ok(copied)
}

/// A file's checkpoints of at most `signed` records.
fn whole_notes(from: &Store, name: &str, signed: u64) -> Result<Vec<u8>, StoreError> {
    let mut bytes = from.read(name, u64::MAX)?.unwrap_or_default();
    let notes = Notes::read(&bytes);
    let over = |note: &&(usize, Result<Signed, _>)| {
        note.1.as_ref().is_ok_and(|it| it.checkpoint.size > signed)
    };
    let end = notes.notes.iter().find(over).map_or(notes.end, |note| note.0);
    bytes.truncate(end);
    Ok(bytes)
}

/// Where in a segment the first `signed` records end; `None` if it begins behind them.
fn end_of(from: &Store, name: &str, signed: u64) -> Result<Option<u64>, StoreError> {
    let mut reader = Reader::new(from.reader(name)?, name, 0);
    let Ok(header) = reader.header()? else { return Ok(None) };
    let mut next = header.before.size();
    if next > signed {
        return Ok(None);
    }
    while next < signed
        && let Some((_, Ok(_))) = reader.frame()?
    {
        next += 1;
    }
    Ok(Some(reader.offset()))
}

/// Appends what a file has more than its copy, up to `end`.
fn append(from: &Store, to: &Store, name: &str, end: u64) -> Result<u64, StoreError> {
    let (source, copy) = (from.reader(name)?, to.writer(name)?);
    let begin = length(&copy, name)?;
    let mut at = begin;
    let mut bytes = vec![0; CHUNK];
    while at < end {
        let most = usize::try_from(end - at).map_or(CHUNK, |left| left.min(CHUNK));
        let read = read_at(&source, name, &mut bytes[..most], at)?;
        if read == 0 {
            break;
        }
        write_at(&copy, name, &bytes[..read], at)?;
        at += read as u64;
    }
    sync_data(&copy, name)?;
    Ok(at.saturating_sub(begin))
}

/// Removes the payloads of which the copy says that they are; how many that were.
fn removed(to: &Store) -> Result<u64, StoreError> {
    let mut records = Vec::new();
    let said = Filter { kinds: vec![Kind::Redacted], full: true, ..Filter::default() };
    query(to, &said, |record| {
        records.push(record.entry.sequence);
        true
    })?;
    let mut removed = 0;
    for record in records {
        removed += u64::from(matches!(redact(to, record)?, Redaction::Done(_)));
    }
    Ok(removed)
}
