//! `cofferdam audit policy DIR`: the policy under which records were made, as the log holds it.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use super::{Dir, Failure, Format, written};
use crate::audit::entry::Kind;
use crate::audit::query::{Filter, query};
use crate::audit::store::Store;
use crate::audit::tables::Tables;
use crate::cli::read::{self, Outside};
use crate::cli::unified::unified;
use crate::policy::print;
use crate::text::neutralise;

/// Arguments of `cofferdam audit policy`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The log holds the policy as the daemon had it: with what was included, variables,
and what the program changed before it started; in canonical form, so without
comments and in a fixed order. Without --record it is the last one.

Exit code 0: printed, or the same as POLICY; 1: POLICY is another one.")]
pub struct Args {
    #[command(flatten)]
    dir: Dir,
    /// Print the difference to this policy instead, as `patch` reads it
    #[arg(value_name = "POLICY")]
    against: Option<PathBuf>,
    /// The policy under which this record was made
    #[arg(long, value_name = "NUMBER")]
    record: Option<u64>,
    /// How to report
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    outside: Outside,
}

/// Prints it.
pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let store = args.dir.open()?;
    let tables = policy_at(&store, args.record)?;
    let text = neutralise_lines(&tables.text);
    let other = match &args.against {
        None => None,
        Some(path) => match read::sound(path, &args.outside) {
            Ok(policy) => Some((print(&policy.plan), policy.name)),
            Err(code) => return Ok(code),
        },
    };
    let difference = other.as_ref().map(|(other, name)| unified(name, &text, other));
    let differs = difference.as_ref().is_some_and(|it| !it.is_empty());
    let text = match args.format {
        Format::Json => {
            let id = neutralise(tables.policy.as_bytes());
            let daemon = neutralise(tables.daemon.as_bytes());
            let told = json!({ "id": id, "name": daemon, "text": text, "difference": difference });
            format!("{told:#}\n")
        }
        Format::Text => difference.unwrap_or(text),
    };
    written(anstream::stdout().write_all(text.as_bytes()))?;
    Ok(ExitCode::from(u8::from(differs)))
}

/// The policy under which a record was made, or the last one.
pub(super) fn policy_at(store: &Store, record: Option<u64>) -> Result<Tables, Failure> {
    let end = record.map(|record| record.saturating_add(1));
    let mut found = None;
    query(store, &Filter { kinds: vec![Kind::Policy], end, ..Filter::default() }, |record| {
        found = Tables::parse(&record.entry.detail).or(found.take());
        true
    })?;
    found.ok_or_else(|| Failure::finding("the log has no policy that can be read up to there"))
}

/// A text without what could steer a terminal.
pub(super) fn neutralise_lines(text: &str) -> String {
    let lines = text.split_inclusive('\n').map(|line| match line.strip_suffix('\n') {
        Some(line) => neutralise(line.as_bytes()) + "\n",
        None => neutralise(line.as_bytes()),
    });
    lines.collect()
}
