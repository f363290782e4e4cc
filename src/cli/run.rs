//! `cofferdam run POLICY`: ordinary programs as confined layers.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::Daemon;

/// What `cofferdam run` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The policy; its layers are `exec = ["/path/of/program", ...]`
    policy: PathBuf,
    /// Show for every layer and protection what was asked beside what the kernel enforces
    #[arg(long)]
    receipts: bool,
}

/// Runs the daemon until it ends.
pub fn run(args: &Args) -> ExitCode {
    Daemon::new(&args.policy).receipts(args.receipts).main()
}
