//! `cofferdam audit VERB DIR`: questions to an audit log. One file a verb.
//!
//! Exit codes: 0 fine; 1 a finding: the log is broken, or somebody is under suspicion; 2 wrong
//! usage; 3 the system refused. All verbs but `redact` only read, take no lock, and may be used
//! while a daemon writes.

pub(super) mod account;
mod between;
pub(super) mod calls;
mod checkpoints;
mod export;
pub(super) mod filter;
pub(super) mod histogram;
mod key;
pub(super) mod line;
pub(super) mod names;
mod payload;
mod policy;
mod prove;
mod query;
mod reconcile;
mod redact;
pub(super) mod report;
mod ship;
mod stats;
pub(super) mod tail;
pub(super) mod time;
pub(super) mod traffic;
mod unused;
mod verify;
mod watch;

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;

use crate::audit::keys::EPOCHS;
use crate::audit::log::segment_number;
use crate::audit::store::{Store, StoreError, Trouble};
use crate::text::neutralise;

/// Arguments of `cofferdam audit`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show the last records, and new ones as they come
    Tail(tail::Args),
    /// List the records that are asked for, out of gigabytes by the index
    Query(query::Args),
    /// Count: traffic, latency and refusals of each edge, lives and denials of each layer
    Stats(stats::Args),
    /// Tell whether somebody altered the log, and what can't be known
    Verify(verify::Args),
    /// Verify and reconcile as the log grows, and raise alarms
    Watch(watch::Args),
    /// Tell whether the ends of every edge report the same
    Reconcile(reconcile::Args),
    /// Copy the log to another place, and verify it there
    Ship(ship::Args),
    /// Prove to somebody without the log that a record is in it, or check such a proof
    Prove(prove::Args),
    /// Write what a message said, for whoever has the key of payloads
    Payload(payload::Args),
    /// Make a key pair for payloads
    Key(key::Args),
    /// Remove a record's payload; the log still verifies
    Redact(redact::Args),
    /// Write one page of HTML that tells the whole log
    Report(report::Args),
    /// Print the policy under which records were made, or its difference from a file
    Policy(policy::Args),
    /// List grants of a policy that no record ever used, and print the policy without them
    Unused(unused::Args),
    /// Write the records for other programs: JSON Lines, Wireshark, Chrome's tracing
    Export(export::Args),
}

/// Runs the verb.
pub fn run(args: &Args) -> ExitCode {
    let done = match &args.verb {
        Verb::Tail(args) => tail::run(args),
        Verb::Query(args) => query::run(args),
        Verb::Stats(args) => stats::run(args),
        Verb::Verify(args) => verify::run(args),
        Verb::Watch(args) => watch::run(args),
        Verb::Reconcile(args) => reconcile::run(args),
        Verb::Ship(args) => ship::run(args),
        Verb::Prove(args) => prove::run(args),
        Verb::Payload(args) => payload::run(args),
        Verb::Key(args) => key::run(args),
        Verb::Redact(args) => redact::run(args),
        Verb::Report(args) => report::run(args),
        Verb::Policy(args) => policy::run(args),
        Verb::Unused(args) => unused::run(args),
        Verb::Export(args) => export::run(args),
    };
    match done {
        Ok(code) => code,
        Err(failure) => failure.tell(),
    }
}

/// How a verb reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(in crate::cli) enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}

/// Why a verb didn't do what it was asked, in words with a way out, and its exit code.
#[derive(Debug)]
pub(in crate::cli) struct Failure {
    code: u8,
    text: String,
}

impl Failure {
    /// Says it on standard error; gives the exit code.
    pub(in crate::cli) fn tell(&self) -> ExitCode {
        let _ = writeln!(anstream::stderr(), "error: {}", self.text);
        ExitCode::from(self.code)
    }

    /// The caller asked for what makes no sense.
    pub(in crate::cli) fn usage(text: impl Into<String>) -> Self {
        Self { code: 2, text: text.into() }
    }

    /// The log is broken.
    pub(in crate::cli) fn finding(text: impl Into<String>) -> Self {
        Self { code: 1, text: text.into() }
    }

    /// The system refused.
    pub(in crate::cli) fn system(text: impl Into<String>) -> Self {
        Self { code: 3, text: text.into() }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let way = match error.trouble() {
            Trouble::Forbidden => {
                "; a log is its owner's alone: run this as root or as the user that the daemon's \
                 supervisor runs as"
            }
            Trouble::Missing => "; is this the directory that the policy's `audit` names?",
            Trouble::Full | Trouble::Held | Trouble::Broken => "",
        };
        Self::system(format!("{}{way}", neutralise(error.to_string().as_bytes())))
    }
}

/// A log that a verb is asked about.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Dir {
    /// The directory of the log
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

impl Dir {
    /// Opens it. A directory without a log is wrong usage.
    pub(in crate::cli) fn open(&self) -> Result<Store, Failure> {
        open(&self.dir)
    }
}

/// Opens the directory of a log. One without a log is wrong usage.
pub(in crate::cli) fn open(dir: &Path) -> Result<Store, Failure> {
    let store = Store::open(dir)?;
    let names = store.names()?;
    if names.iter().any(|name| name == EPOCHS || segment_number(name).is_some()) {
        return Ok(store);
    }
    let dir = neutralise(dir.display().to_string().as_bytes());
    Err(Failure::usage(format!("there is no audit log in {dir}: no segment, no checkpoint")))
}

/// Says on standard error that a part of the log can't be read. What was asked for may be there.
pub(in crate::cli) fn damaged(segments: u64) -> Failure {
    let what = match segments {
        1 => "a part of a segment can't be read or is missing".to_owned(),
        more => format!("parts of {more} segments can't be read or are missing"),
    };
    Failure::finding(format!("{what}, so this may be incomplete: run `cofferdam audit verify`"))
}

/// Whether writing went wrong for another reason than that nobody reads any more.
pub(in crate::cli) fn written(result: std::io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::system(format!("can't write: {error}")))
        }
        _ => Ok(()),
    }
}

/// Writes a result into a file that its owner alone may read, or to standard output.
pub(in crate::cli) fn save(
    path: Option<&Path>,
    write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<(), Failure> {
    let Some(path) = path else {
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        return written(write(&mut out).and_then(|()| out.flush()));
    };
    let mut options = std::fs::OpenOptions::new();
    let result =
        options.write(true).create(true).truncate(true).mode(0o600).open(path).and_then(|file| {
            let mut out = std::io::BufWriter::new(file);
            write(&mut out)?;
            out.flush()
        });
    result.map_err(|error| {
        let path = neutralise(path.display().to_string().as_bytes());
        Failure::system(format!("can't write {path}: {error}"))
    })
}
