//! `cofferdam audit redact DIR RECORD`: a message's payload is removed, its records stay.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use serde_json::json;

use super::names::Names;
use super::{Dir, Failure, Format, written};
use crate::audit::redact::{Redaction, copies, redact};

/// Arguments of `cofferdam audit redact`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Both ends of a channel keep what a message said, so all records of the same
message lose it, whichever of them is named. They keep the payload's length and
digest, so the log still verifies. That the payload is gone is seen, who removed
it is not. Copies in backups, and on disks that write elsewhere instead of in
place, stay.

Exit code 0: it is gone, now or before; 1: the record has none, or one is
damaged; 2: there is no such record.")]
pub struct Args {
    #[command(flatten)]
    dir: Dir,
    /// The number of a record of the message
    record: u64,
    /// Remove it from every record of the message; that is done anyway, unless --one is given
    #[arg(long, conflicts_with = "one")]
    message: bool,
    /// Remove it from this record alone: the other end's copy can still be read
    #[arg(long)]
    one: bool,
    /// How to report
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Removes it.
pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let store = args.dir.open()?;
    let names = Names::read(&store)?;
    let all = copies(&store, args.record)?;
    let (mut out, mut told, mut code) = (String::new(), Vec::new(), 0);
    let wanted = if args.one { 1 } else { all.len() };
    for &number in &all[..wanted] {
        let done = redact(&store, number)?;
        if done == Redaction::NotThere && number == args.record {
            return Err(Failure::usage(format!("there is no record {number} in this log")));
        }
        let (word, bytes, text, exit) = one(&done, number, &names);
        let _ = writeln!(out, "{text}");
        told.push(json!({ "record": number, "payload": word, "bytes": bytes }));
        code = code.max(exit);
    }
    let left = &all[wanted..];
    for number in left {
        let _ = writeln!(out, "record {number} keeps the same message: it can still be read");
    }
    if args.format == Format::Json {
        let mut first = told.swap_remove(0);
        first["copies"] = told.into();
        first["left"] = json!(left);
        out = format!("{first:#}\n");
    }
    written(anstream::stdout().write_all(out.as_bytes()))?;
    Ok(ExitCode::from(code))
}

/// What was done to a record: a word, bytes, a sentence, an exit code.
fn one(done: &Redaction, number: u64, names: &Names) -> (&'static str, u32, String, u8) {
    match done {
        Redaction::Done(record) => {
            let length = record.payload.map_or(0, |mark| mark.length);
            let said = names.say(record);
            let of = said.edge.map_or_else(String::new, |edge| format!(" of {edge}"));
            let time = said.time;
            let text = format!(
                "record {number}{of} at {time}: its payload of {length} bytes is overwritten with \
                 zeros; the log still verifies"
            );
            ("removed", length, text, 0)
        }
        Redaction::Already => {
            ("already", 0, format!("record {number}: its payload was removed before"), 0)
        }
        Redaction::NoPayload => ("none", 0, format!("record {number} has no payload"), 1),
        Redaction::NotThere => ("gone", 0, format!("record {number} was dropped meanwhile"), 0),
        Redaction::Damaged => {
            let text = format!(
                "record {number}, or one before it in its segment, is damaged, and nothing was \
                 changed: run `cofferdam audit verify`"
            );
            ("damaged", 0, text, 1)
        }
    }
}
