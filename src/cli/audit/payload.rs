//! `cofferdam audit payload DIR RECORD`: what a message said, for whoever has the key.

use std::path::PathBuf;
use std::process::ExitCode;

use zeroize::Zeroizing;

use super::{Dir, Failure, save};
use crate::audit::payload::open;
use crate::audit::query::{Filter, query_with_payloads};
use crate::text::neutralise;

/// Arguments of `cofferdam audit payload`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The bytes are the body of the channel's record as it was before it was sealed:
call u32, [total u32 if more pieces follow,] [within u32 if it is a request,]
[the trace, 32, if the record names one,] the descriptions of descriptors,
the message.

Exit code 0: it was written; 1: the record has no payload, it was removed, or it
was sealed to another key; 2: there is no such record.")]
pub struct Args {
    #[command(flatten)]
    dir: Dir,
    /// The record's number
    record: u64,
    /// The private key, as `cofferdam audit key` made it
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Write it to this file, made for its owner alone, in place of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Opens it.
pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let private = read_key(&args.key)?;
    let store = args.dir.open()?;
    let number = args.record;
    let filter = Filter { first: number, end: Some(number + 1), ..Filter::default() };
    let mut found = None;
    query_with_payloads(&store, &filter, |record, payload| {
        found = Some((record, payload.to_vec()));
        false
    })?;
    let Some((record, payload)) = found else {
        return Err(Failure::usage(format!("there is no record {number} in this log")));
    };
    if payload.iter().all(|byte| *byte == 0) {
        let why = if record.payload.is_some() { "its payload was removed" } else { "it has none" };
        return Err(Failure::finding(format!("record {number}: {why}")));
    }
    let opened = open(&private, &record.entry, &payload).map_err(|error| {
        Failure::finding(format!(
            "record {number}: the payload doesn't open with this key: {error}"
        ))
    })?;
    save(args.output.as_deref(), |out| out.write_all(&opened))?;
    Ok(ExitCode::SUCCESS)
}

/// Reads a private key: 64 hexadecimal digits.
fn read_key(path: &std::path::Path) -> Result<Zeroizing<[u8; 32]>, Failure> {
    let shown = neutralise(path.display().to_string().as_bytes());
    let text = std::fs::read_to_string(path)
        .map(Zeroizing::new)
        .map_err(|error| Failure::system(format!("can't read {shown}: {error}")))?;
    let digits = text.trim().as_bytes();
    let mut key = Zeroizing::new([0; 32]);
    let pairs = digits.chunks_exact(2);
    let sound = digits.len() == 64
        && key.iter_mut().zip(pairs).all(|(byte, pair)| {
            let value =
                std::str::from_utf8(pair).ok().and_then(|it| u8::from_str_radix(it, 16).ok());
            *byte = value.unwrap_or(0);
            value.is_some()
        });
    if sound {
        Ok(key)
    } else {
        Err(Failure::usage(format!("{shown} holds no key: 64 hexadecimal digits are one")))
    }
}
