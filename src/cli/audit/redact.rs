//! `cofferdam audit redact DIR RECORD`: a payload is removed, the record stays.

use std::io::Write as _;
use std::process::ExitCode;

use serde_json::json;

use super::names::Names;
use super::{Dir, Failure, Format, written};
use crate::audit::redact::{Redaction, redact};

/// Arguments of `cofferdam audit redact`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The record keeps the payload's length and digest, so the log still verifies. That
the payload is gone is seen, who removed it is not. Copies in backups, and on
disks that write elsewhere instead of in place, stay.

Exit code 0: it is gone, now or before; 1: the record has none, or is damaged;
2: there is no such record.")]
pub struct Args {
    #[command(flatten)]
    dir: Dir,
    /// The record's number
    record: u64,
    /// How to report
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Removes it.
pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let store = args.dir.open()?;
    let names = Names::read(&store)?;
    let number = args.record;
    let (word, bytes, text, code) = match redact(&store, number)? {
        Redaction::Done(record) => {
            let length = record.payload.map_or(0, |mark| mark.length);
            let said = names.say(&record);
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
        Redaction::Damaged => {
            let text = format!(
                "record {number}, or one before it in its segment, is damaged, and nothing was \
                 changed: run `cofferdam audit verify`"
            );
            ("damaged", 0, text, 1)
        }
        Redaction::NotThere => {
            return Err(Failure::usage(format!("there is no record {number} in this log")));
        }
    };
    let text = match args.format {
        Format::Text => format!("{text}\n"),
        Format::Json => {
            format!("{:#}\n", json!({ "record": number, "payload": word, "bytes": bytes }))
        }
    };
    written(anstream::stdout().write_all(text.as_bytes()))?;
    Ok(ExitCode::from(code))
}
