//! The command line `cofferdam`.

use std::process::ExitCode;

use clap::Parser;
use cofferdam::cli::doctor;

/// Linux daemons out of privilege-separated, sandboxed layers.
#[derive(Debug, Parser)]
enum Verb {
    /// Tell what this kernel and user can enforce
    Doctor(doctor::Args),
}

fn main() -> ExitCode {
    match Verb::parse() {
        Verb::Doctor(args) => doctor::run(&args),
    }
}
