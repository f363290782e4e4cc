//! The learned policy run by itself, enforced, in a view like the one that was learned in.

use std::fs;
use std::os::unix::fs::DirBuilderExt;

use nix::sys::signalfd::SignalFd;

use super::launch::{self, End, LaunchError, Order};
use super::note::Notes;
use super::paths::Resolver;
use super::peaks::Watch;
use super::policy::Learned;
use super::program::Chosen;
use super::streams::Prints;
use super::watch::{self, Outcome};
use super::{Args, Refusal};
use crate::policy::plan::Stream;

/// How the policy did.
pub(super) struct Tried {
    /// The exit code of `cofferdam run`; `None`: it was ended by a signal.
    pub code: Option<u8>,
    /// Whether the program ended as well as before.
    pub is_alike: bool,
}

/// Runs it.
pub(super) fn run(
    args: &Args,
    chosen: &Chosen,
    learned: &Learned,
    signals: &SignalFd,
    before: &Outcome,
) -> Result<Tried, Refusal> {
    let failed = |error: std::io::Error| Refusal(3, format!("running the policy: {error}"));
    let own = std::env::current_exe().map_err(failed)?;
    let folder = std::env::temp_dir().join(format!("cofferdam-learn-{}", std::process::id()));
    fs::DirBuilder::new().mode(0o700).create(&folder).map_err(failed)?;
    let file = folder.join("learned.toml");
    // What it prints then is what it printed before.
    let layer = learned.plan.layer(&learned.layer);
    let inherits = layer.is_some_and(|layer| layer.stdout == Some(Stream::Inherited));
    let tried = fs::write(&file, &learned.text).map_err(failed).and_then(|()| {
        let order = Order {
            argv: vec![own.clone().into(), "run".into(), file.clone().into()],
            program: own,
            env: chosen.env.clone(),
            user: None,
            cwd: chosen.cwd.clone(),
            writes_through: args.write_through,
            offline: args.offline,
            prints: if inherits { Prints::Nowhere } else { Prints::Apart },
            filter: None,
        };
        let mut started = launch::start(&order).map_err(LaunchError::into_refusal)?;
        let again = |fd: &std::os::fd::OwnedFd| fd.try_clone().map_err(failed);
        let watch = Watch::new(again(&started.proc)?, again(&started.root)?);
        let resolver = Resolver::new(again(&started.root)?);
        let mut notes = Notes::new(resolver, watch, &chosen.cwd, false);
        watch::watch(&mut started, signals, &mut notes).map_err(|words| Refusal(3, words))
    });
    let _ = fs::remove_dir_all(&folder);
    let outcome = tried?;
    let code = match outcome.end {
        Some(End::Exited(code)) => Some(code),
        _ => None,
    };
    // The daemon says 1 for a layer that ended otherwise than well.
    let was_well = before.is_stopped || before.end == Some(End::Exited(0));
    Ok(Tried { code, is_alike: (code == Some(0)) == was_well })
}
