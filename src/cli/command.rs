//! `cofferdam restart [NAME] [LAYER]` and `cofferdam stop [NAME]`: what a running daemon is told to do.

use std::io::Write as _;
use std::process::ExitCode;

use super::audit::{Failure, written};
use crate::handle::{Handle, HandleError};
use crate::text::neutralise;

/// Arguments of `cofferdam restart`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each copy is asked to finish, within its `grace`, and begun anew before the next
one is asked. What the policy says of restarts doesn't matter: this is none of
them, and a layer that is down begins.")]
pub struct RestartArgs {
    /// Which daemon, if several run
    name: Option<String>,
    /// Which layer; without it every layer of the policy, by name
    layer: Option<String>,
}

/// Arguments of `cofferdam reload`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The policy is read anew and checked. What it changes is restarted in order, what
it doesn't change goes on with its connections. A policy with mistakes, or one that
takes a restart of the daemon, changes nothing. SIGHUP does the same.")]
pub struct ReloadArgs {
    /// Which daemon, if several run
    name: Option<String>,
    /// Refuse a policy that grants anything that the present one doesn't
    #[arg(long)]
    no_gain: bool,
}

/// Arguments of `cofferdam upgrade`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The program at the path by which the daemon was started is tried first, and takes
the daemon's place in the same process if it can: what the daemon listens on, and
what waits in queues and regions, stays. Then every layer ends in order and begins
anew. A program that can't take over changes nothing. SIGUSR2 does the same.")]
pub struct UpgradeArgs {
    /// Which daemon, if several run
    name: Option<String>,
    /// Refuse a policy that grants anything that the present one doesn't
    #[arg(long)]
    no_gain: bool,
}

/// Arguments of `cofferdam stop`.
#[derive(Debug, clap::Args)]
#[command(after_help = "It has stopped when this ends.")]
pub struct StopArgs {
    /// Which daemon, if several run
    name: Option<String>,
}

/// Restarts. Exit code 0: everybody runs anew; 1: no daemon runs, or somebody doesn't come up; 2: no
/// such daemon or layer.
pub(super) fn restart(args: &RestartArgs) -> ExitCode {
    let done = || -> Result<(), Failure> {
        let mut told = Ok(());
        Handle::find(args.name.as_deref())?.restart(args.layer.as_deref(), |line| {
            let line = neutralise(line.as_bytes());
            told = told.and_then(|()| writeln!(anstream::stdout(), "{line}").map_err(|e| e.kind()));
        })?;
        written(told.map_err(Into::into))
    };
    code(done())
}

/// Reloads. Exit code 0: the new policy is in force; 1: no daemon runs, or nothing has changed, and
/// why; 2: no such daemon.
pub(super) fn reload(args: &ReloadArgs) -> ExitCode {
    let done = || -> Result<(), Failure> {
        let mut told = Ok(());
        Handle::find(args.name.as_deref())?.reload(!args.no_gain, |line| {
            let line = neutralise(line.as_bytes());
            told = told.and_then(|()| writeln!(anstream::stdout(), "{line}").map_err(|e| e.kind()));
        })?;
        written(told.map_err(Into::into))
    };
    code(done())
}

/// Upgrades. Exit code 0: every layer runs the new program; 1: no daemon runs, or nothing has changed, and
/// why; 2: no such daemon.
pub(super) fn upgrade(args: &UpgradeArgs) -> ExitCode {
    let done = || -> Result<(), Failure> {
        let mut told = Ok(());
        Handle::find(args.name.as_deref())?.upgrade(!args.no_gain, |line| {
            let line = neutralise(line.as_bytes());
            told = told.and_then(|()| writeln!(anstream::stdout(), "{line}").map_err(|e| e.kind()));
        })?;
        written(told.map_err(Into::into))
    };
    code(done())
}

/// Stops. Exit code 0: it has ended; 1: no daemon runs; 2: none of that name.
pub(super) fn stop(args: &StopArgs) -> ExitCode {
    let done = || -> Result<(), Failure> { Ok(Handle::find(args.name.as_deref())?.stop()?) };
    code(done())
}

fn code(done: Result<(), Failure>) -> ExitCode {
    done.map_or_else(|failure| failure.tell(), |()| ExitCode::SUCCESS)
}

impl From<HandleError> for Failure {
    fn from(error: HandleError) -> Self {
        let text = neutralise(error.to_string().as_bytes());
        match error {
            HandleError::NoneRuns(_) | HandleError::Failed(_) => Self::finding(text),
            HandleError::Wrong(_) => Self::usage(text),
            HandleError::System { .. } => Self::system(text),
        }
    }
}
