//! `cofferdam run POLICY`: ordinary programs as confined layers. `cofferdam run -- PROGRAM ARG...`: one
//! program, without a policy's file.

mod alone;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use super::learn::Refusal;
use crate::daemon::flags::variable;
use crate::text::neutralise;
use crate::{Daemon, Flags};

/// What `cofferdam run` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A program without a policy sees the system's programs and libraries, the current
directory unless it is somebody's home or the like, and a /tmp of its own. It
writes nothing of yours, has no network, and of your environment what it needs to
find programs and to speak your language. Its standard input, output and error are
yours.

Exit code of such a run: the program's own, or 128 and the signal that killed it; 0
if it was asked to stop; 2: wrong usage; 3: the program can't be run.")]
pub struct Args {
    /// The policy; its layers are `exec = ["/path/of/program", ...]`
    #[arg(
        required_unless_present_any = ["policy-file", "command"],
        conflicts_with_all = ["policy-file", "command"]
    )]
    policy: Option<PathBuf>,
    /// A program to run without a policy's file, and its arguments
    #[arg(last = true, conflicts_with = "policy-file")]
    command: Vec<OsString>,
    /// Write the policy that the program would have, and run nothing
    #[arg(long, requires = "command")]
    print: bool,
    /// Give the program a variable of its environment, which has few without
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = variable, requires = "command")]
    env: Vec<(String, String)>,
    #[command(flatten)]
    flags: Flags,
}

/// Runs the daemon until it ends.
pub fn run(args: &Args) -> ExitCode {
    if !args.command.is_empty() {
        return alone::run(args).unwrap_or_else(|Refusal(code, words)| {
            let _ = writeln!(anstream::stderr(), "error: {}", neutralise(words.as_bytes()));
            ExitCode::from(code)
        });
    }
    let policy = args.policy.clone().unwrap_or_default();
    Daemon::new(policy).flags(args.flags.clone()).main()
}
