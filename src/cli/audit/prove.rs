//! `cofferdam audit prove DIR RECORD`: that a record is in the log, for somebody who doesn't have
//! the log; and `cofferdam audit prove --check FILE`, which that somebody runs.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::checkpoints::newest;
use super::line::line;
use super::names::{Names, say};
use super::verify::{checkpoints, digest};
use super::{Failure, Format, open, save, written};
use crate::audit::entry::Kind;
use crate::audit::hash::Hash;
use crate::audit::keys::EPOCHS;
use crate::audit::log::{notes_name, segment_number};
use crate::audit::note::{Checkpoint, Notes, Signed};
use crate::audit::prove::{Proof, ProofError, prove, prove_extension};
use crate::audit::query::{Filter, query};
use crate::audit::store::Store;
use crate::audit::tables::Tables;
use crate::audit::tree::extends;
use crate::ident::hex;
use crate::text::neutralise;

/// What a proof's file says it is.
const FORMAT: &str = "cofferdam-audit-proof 1";
/// The longest proof that is read, in bytes: a record's detail twice, in base64.
const MAX: u64 = 16 << 20;

/// Arguments of `cofferdam audit prove`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A proof holds the record, the way from it to the root of the log's tree, and a
signed checkpoint of that root. Who checks it needs nothing else, but should
know the checkpoint, its key or at least the log's id from elsewhere.

Exit code 0: proved; 1: the proof is false, or nothing signs the record yet; 2:
there is no such record; 3: the log or the proof can't be read.")]
pub struct Args {
    /// The directory of the log
    #[arg(value_name = "DIR", required_unless_present = "check")]
    dir: Option<PathBuf>,
    /// The record's number
    #[arg(required_unless_present = "check")]
    record: Option<u64>,
    /// Check the proof in this file; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["dir", "record", "output"])]
    check: Option<PathBuf>,
    /// Prove under, or trust, a checkpoint in this file, and no other
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Let the proof hold under the checkpoints in this file too, besides the log's newest one; may be
    /// given several times
    #[arg(long, value_name = "FILE", conflicts_with = "check")]
    also: Vec<PathBuf>,
    /// With --check: the public key that must have signed, in base64 as checkpoints have it
    #[arg(long, value_name = "BASE64", requires = "check", value_parser = key)]
    key: Option<Hash>,
    /// With --check: the log's id
    #[arg(long, value_name = "HEX", requires = "check", value_parser = digest)]
    id: Option<Hash>,
    /// Write the proof into this file
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// With --check: how to report
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

fn key(text: &str) -> Result<Hash, String> {
    let bytes = STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| "write the line `key` of a checkpoint".to_owned())
}

/// A proof as a file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    format: String,
    checkpoint: String,
    /// Later checkpoints of the same log, and that each of them goes on from that one.
    #[serde(default)]
    later: Vec<Later>,
    record: Member,
    /// The policy record whose tables name the record's numbers.
    names: Option<Member>,
}

/// A later checkpoint.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Later {
    checkpoint: String,
    /// The nodes of a consistency proof (RFC 9162, 2.1.4).
    path: Vec<String>,
}

impl Later {
    /// Whether the log that this signs begins with what the checkpoint `from` signs.
    fn extends(&self, from: &Checkpoint) -> bool {
        let node = |text: &String| STANDARD.decode(text).ok()?.try_into().ok();
        let path: Option<Vec<Hash>> = self.path.iter().map(node).collect();
        let to = Signed::parse(&self.checkpoint).map(|signed| signed.checkpoint);
        path.zip(to.ok()).is_some_and(|(path, to)| {
            let (old, new) = ((from.size, &from.root), (to.size, &to.root));
            from.log == to.log && extends(old, new, &path)
        })
    }
}

/// A record of the tree.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Member {
    index: u64,
    body: String,
    path: Vec<String>,
}

impl Member {
    fn of(proof: &Proof) -> Self {
        Self {
            index: proof.index,
            body: STANDARD.encode(&proof.body),
            path: proof.path.iter().map(|node| STANDARD.encode(node)).collect(),
        }
    }

    fn proof(&self, checkpoint: &str) -> Option<Proof> {
        let node = |text: &String| STANDARD.decode(text).ok()?.try_into().ok();
        Some(Proof {
            body: STANDARD.decode(&self.body).ok()?,
            index: self.index,
            path: self.path.iter().map(node).collect::<Option<_>>()?,
            checkpoint: checkpoint.to_owned(),
        })
    }
}

impl From<ProofError> for Failure {
    fn from(error: ProofError) -> Self {
        match error {
            ProofError::Store(error) => error.into(),
            error => Self::finding(error.to_string()),
        }
    }
}

/// Proves, or checks.
pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    match (&args.check, &args.dir, args.record) {
        (Some(file), _, _) => check(file, args),
        (None, Some(dir), Some(record)) => make(dir, record, args),
        _ => Err(Failure::usage("give a directory and a record, or --check and a file")),
    }
}

fn make(dir: &Path, index: u64, args: &Args) -> Result<ExitCode, Failure> {
    let store = open(dir)?;
    let checkpoint = match &args.checkpoint {
        Some(path) => {
            let all = checkpoints(path)?;
            all.into_iter()
                .find(|note| Signed::parse(note).is_ok_and(|signed| signed.checkpoint.size > index))
        }
        None => covering(&store, index)?,
    };
    let Some(checkpoint) = checkpoint else {
        let mut there = false;
        let exactly = Filter { first: index, end: index.checked_add(1), ..Filter::default() };
        query(&store, &exactly, |_| {
            there = true;
            false
        })?;
        if !there {
            return Err(Failure::usage(format!("there is no record {index} in this log")));
        }
        return Err(Failure::finding(format!(
            "no checkpoint signs record {index} yet: wait for the next one"
        )));
    };
    let record = prove(&store, index, &checkpoint)?;
    let names = Names::read(&store)?;
    let era = names.eras().map(|(range, _)| range).filter(|range| range.contains(&index)).last();
    let policy = era.filter(|range| range.start > 0).map(|range| range.start);
    let policy = policy.map(|policy| prove(&store, policy, &checkpoint)).transpose()?;
    let mut later = Vec::new();
    for note in also(&store, args)? {
        let size = |note: &str| Signed::parse(note).map_or(0, |it| it.checkpoint.size);
        if size(&note) > size(&checkpoint) && later.iter().all(|it: &Later| it.checkpoint != note) {
            let path = prove_extension(&store, &checkpoint, &note)?;
            let path = path.iter().map(|node| STANDARD.encode(node)).collect();
            later.push(Later { checkpoint: note, path });
        }
    }
    let written = Written {
        format: FORMAT.to_owned(),
        checkpoint,
        later,
        record: Member::of(&record),
        names: policy.as_ref().map(Member::of),
    };
    let text = format!("{:#}\n", json!(written));
    save(args.output.as_deref(), |out| out.write_all(text.as_bytes()))?;
    Ok(ExitCode::SUCCESS)
}

/// The checkpoints that the proof is to hold under besides: the log's newest one, and those asked for.
fn also(store: &Store, args: &Args) -> Result<Vec<String>, Failure> {
    let mut all = Vec::new();
    for path in &args.also {
        all.extend(checkpoints(path)?);
    }
    all.extend(newest(store)?.map(|signed| signed.encode()));
    Ok(all)
}

/// The first checkpoint that signs a record. What is signed early is signed with a key that is
/// gone early, too.
fn covering(store: &Store, index: u64) -> Result<Option<String>, Failure> {
    let mut numbers: Vec<u64> =
        store.names()?.iter().filter_map(|name| segment_number(name)).collect();
    numbers.sort_unstable();
    let files = numbers.into_iter().map(notes_name).chain([EPOCHS.to_owned()]);
    let mut best: Option<Signed> = None;
    for name in files {
        let bytes = store.read(&name, u64::MAX)?.unwrap_or_default();
        let notes = Notes::read(&bytes).notes.into_iter().filter_map(|(_, note)| note.ok());
        let size = |signed: &Signed| signed.checkpoint.size;
        let first = notes.filter(|signed| size(signed) > index).min_by_key(size);
        best = best.into_iter().chain(first).min_by_key(size);
    }
    Ok(best.map(|signed| signed.encode()))
}

fn check(file: &Path, args: &Args) -> Result<ExitCode, Failure> {
    let shown = neutralise(file.display().to_string().as_bytes());
    let no_proof = || Failure::finding(format!("{shown} holds no proof of this form"));
    let mut text = String::new();
    let read = match file.to_str() {
        Some("-") => std::io::stdin().take(MAX).read_to_string(&mut text),
        _ => std::fs::File::open(file).and_then(|file| file.take(MAX).read_to_string(&mut text)),
    };
    match read {
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => return Err(no_proof()),
        Err(error) => return Err(Failure::system(format!("can't read {shown}: {error}"))),
        Ok(_) => {}
    }
    let written_proof: Written = serde_json::from_str(&text).map_err(|_| no_proof())?;
    if written_proof.format != FORMAT {
        return Err(no_proof());
    }
    let note = &written_proof.checkpoint;
    let proof = written_proof.record.proof(note).ok_or_else(no_proof)?;
    let record = proof.check(args.key)?;
    let signed = Signed::parse(note).map_err(ProofError::from)?;
    if !written_proof.later.iter().all(|it| it.extends(&signed.checkpoint)) {
        return Err(ProofError::False.into());
    }
    let trusted = trust(args, &signed, &written_proof.later)?;
    // The names are proved to be of the same log. That they are the ones in force at the record
    // is what the prover says.
    let tables = match &written_proof.names {
        None => None,
        Some(member) => {
            let proof = member.proof(note).ok_or_else(no_proof)?;
            let policy = proof.check(args.key)?;
            if policy.entry.kind != Kind::Policy || policy.index > record.index {
                return Err(ProofError::False.into());
            }
            let mut names = Names::default();
            names.learn(&policy);
            Some(names.at(policy.index).clone())
        }
    };
    let tables = tables.unwrap_or_else(Tables::default);
    let said = say(&tables, &record);
    let Checkpoint { log, size, epoch, key, .. } = signed.checkpoint;
    let (log, key) = (hex(&log), STANDARD.encode(key));
    let text = match args.format {
        Format::Text => format!(
            "proved: record {} is among the first {size} records of log {log},\nsigned with the \
             key {key} of epoch {epoch}{}\n{}\n",
            record.index,
            if trusted {
                ""
            } else {
                ", which you should know from elsewhere: --checkpoint, --key"
            },
            line(&record, &said)
        ),
        Format::Json => format!(
            "{:#}\n",
            json!({
                "proved": true,
                "trusted": trusted,
                "log": log,
                "size": size,
                "epoch": epoch,
                "key": key,
                "record": said,
            })
        ),
    };
    written(anstream::stdout().write_all(text.as_bytes()))?;
    Ok(ExitCode::SUCCESS)
}

/// Compares the checkpoint, or a later one that goes on from it, with what the one who checks knows.
/// Whether that is enough to know who signed.
fn trust(args: &Args, signed: &Signed, later: &[Later]) -> Result<bool, Failure> {
    if args.id.is_some_and(|id| id != signed.checkpoint.log) {
        return Err(Failure::finding("this is a proof about another log"));
    }
    if let Some(path) = &args.checkpoint {
        let known = checkpoints(path)?;
        let goes_on = |it: &Later| known.contains(&it.checkpoint);
        if !known.contains(&signed.encode()) && !later.iter().any(goes_on) {
            return Err(Failure::finding(
                "neither the proof's checkpoint nor a later one in it is among those you trust: ask \
                 for a proof with --also and yours",
            ));
        }
        return Ok(true);
    }
    Ok(args.key.is_some())
}
