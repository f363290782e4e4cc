//! `cofferdam run POLICY`: ordinary programs as confined layers.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::{Daemon, Flags};

/// What `cofferdam run` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The policy; its layers are `exec = ["/path/of/program", ...]`
    #[arg(required_unless_present = "policy-file", conflicts_with = "policy-file")]
    policy: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
}

/// Runs the daemon until it ends.
pub fn run(args: &Args) -> ExitCode {
    let policy = args.policy.clone().unwrap_or_default();
    Daemon::new(policy).flags(args.flags.clone()).main()
}
