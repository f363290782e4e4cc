//! Finding a daemon that runs, by its name.

use std::path::PathBuf;

use super::audit::Failure;
use crate::handle::{Handle, HandleError};
use crate::registry::Running;
use crate::text::neutralise;

/// The daemon of that name, or the only one; where none can be found, a log is shown all the same.
pub(super) fn find(name: Option<&str>) -> Result<Running, Failure> {
    match Handle::find(name) {
        Ok(handle) => Ok(handle.running().clone()),
        Err(HandleError::NoneRuns(text)) => {
            Err(Failure::finding(format!("{text}; --audit DIR shows a log without one")))
        }
        Err(error) => Err(error.into()),
    }
}

/// Where a daemon keeps its audit log.
pub(super) fn log_of(daemon: &Running) -> Result<PathBuf, Failure> {
    daemon.audit.clone().ok_or_else(|| {
        let name = neutralise(daemon.name.as_bytes());
        Failure::finding(format!("{name} keeps no audit log: start it with `--audit DIR`"))
    })
}
