//! `cofferdam run POLICY`: ordinary programs as confined layers.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::Daemon;

/// What `cofferdam run` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The policy; its layers are `exec = ["/path/of/program", ...]`
    policy: PathBuf,
}

/// Runs the daemon until it ends.
pub fn run(args: &Args) -> ExitCode {
    Daemon::new(&args.policy).main()
}
