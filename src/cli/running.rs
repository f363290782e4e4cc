//! Finding a daemon that runs, by its name.

use std::path::PathBuf;

use super::audit::Failure;
use crate::registry::{Registry, Running};
use crate::text::neutralise;

/// The daemon of that name, or the only one.
pub(super) fn find(name: Option<&str>) -> Result<Running, Failure> {
    let nowhere = "there is no runtime directory ($XDG_RUNTIME_DIR) to look for daemons in: give the \
                   log's directory with --audit";
    let registry = Registry::of_user().ok_or_else(|| Failure::finding(nowhere))?;
    let running = registry.running();
    let names: Vec<String> = running.iter().map(|it| neutralise(it.name.as_bytes())).collect();
    let names = names.join(", ");
    let chosen: Option<&Running> = match (name, running.as_slice()) {
        (_, []) => {
            let text = "no daemon of this user runs; --audit DIR shows a log without one";
            return Err(Failure::finding(text));
        }
        (None, [one]) => Some(one),
        (None, _) => {
            return Err(Failure::usage(format!("several daemons run, name one of them: {names}")));
        }
        (Some(name), all) => all.iter().find(|it| it.name == name),
    };
    chosen.cloned().ok_or_else(|| {
        let name = neutralise(name.unwrap_or_default().as_bytes());
        Failure::usage(format!("no daemon `{name}` runs; these do: {names}"))
    })
}

/// Where a daemon keeps its audit log.
pub(super) fn log_of(daemon: &Running) -> Result<PathBuf, Failure> {
    daemon.audit.clone().ok_or_else(|| {
        let name = neutralise(daemon.name.as_bytes());
        Failure::finding(format!("{name} keeps no audit log: start it with `--audit DIR`"))
    })
}
