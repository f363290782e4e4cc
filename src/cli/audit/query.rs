//! `cofferdam audit query DIR`: the records that are asked for.

use std::io::{BufWriter, Write};
use std::process::ExitCode;

use super::filter::{Wanted, Window, search};
use super::line::line;
use super::names::Names;
use super::{Dir, Failure, Format, damaged, written};

/// Arguments of `cofferdam audit query`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The index beside each segment makes this fast and can hide records if somebody
altered it: `audit verify` tells.

Exit code 0: fine, found or not; 1: a part of the log can't be read.")]
pub struct Args {
    #[command(flatten)]
    dir: Dir,
    #[command(flatten)]
    wanted: Wanted,
    #[command(flatten)]
    window: Window,
    /// No more records than this
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
    /// Read every record, and trust no index
    #[arg(long)]
    full: bool,
    /// How to report; `json` is one object a line
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Lists them.
pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let store = args.dir.open()?;
    let names = Names::read(&store)?;
    args.wanted.check(&names).map_err(Failure::usage)?;
    if args.limit == Some(0) {
        return Ok(ExitCode::SUCCESS);
    }
    let mut out = BufWriter::new(anstream::stdout().lock());
    let mut result = Ok(());
    let mut left = args.limit.unwrap_or(u64::MAX);
    let wanted = (&args.wanted, &args.window);
    let effort = search(&store, &names, wanted, (0..u64::MAX, args.full), |record| {
        let said = names.say(&record);
        result = match args.format {
            Format::Text => writeln!(out, "{}", line(&record, &said)),
            Format::Json => serde_json::to_writer(&mut out, &said)
                .map_err(Into::into)
                .and_then(|()| out.write_all(b"\n")),
        };
        left -= 1;
        result.is_ok() && left > 0
    })?;
    written(result.and_then(|()| out.flush()))?;
    if effort.damaged > 0 { Err(damaged(effort.damaged)) } else { Ok(ExitCode::SUCCESS) }
}
