//! The command line's entry.
use clap::Parser;

#[derive(Parser)]
enum Cli {
    Check(cofferdam::cli::check::Args),
}

fn main() -> std::process::ExitCode {
    match Cli::parse() {
        Cli::Check(args) => cofferdam::cli::check::run(&args),
    }
}
