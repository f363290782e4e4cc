//! `cofferdam run POLICY`: ordinary programs as confined layers.

use std::path::PathBuf;
use std::process::ExitCode;

use super::check::Outside;
use crate::Daemon;

/// What `cofferdam run` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The policy; its layers are `exec = ["/path/of/program", ...]`
    policy: PathBuf,
    #[command(flatten)]
    outside: Outside,
}

/// Runs the daemon until it ends.
pub fn run(args: &Args) -> ExitCode {
    let mut daemon = Daemon::new(&args.policy);
    for (name, value) in &args.outside.vars {
        daemon = daemon.var(name, value);
    }
    if let Some(ceiling) = &args.outside.ceiling {
        daemon = daemon.ceiling(ceiling);
    }
    daemon.main()
}
