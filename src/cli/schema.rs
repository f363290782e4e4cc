//! `cofferdam schema`: the policy language for editors.

use std::io::{self, Write};
use std::process::ExitCode;

use crate::review;

/// Arguments of `cofferdam schema`: none.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Writes the schema to standard output. Exit code 0, or 3 if that can't be written.
pub fn run(_: &Args) -> ExitCode {
    match writeln!(io::stdout().lock(), "{:#}", review::schema()) {
        // Whoever closed the pipe has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let _ = writeln!(anstream::stderr(), "error: can't write the schema: {error}");
            ExitCode::from(3)
        }
        _ => ExitCode::SUCCESS,
    }
}
