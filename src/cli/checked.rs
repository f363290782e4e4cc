//! A policy read and checked for a verb that needs its plan.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use crate::policy::{self, plan::Plan};
use crate::supervisor::policy_file::{self, PolicyFileError};

/// The plan of a policy. Otherwise its mistakes are on standard error, and the answer is the exit
/// code: 1 for mistakes, 3 for a file that can't be read.
///
/// Who may write to the file is not looked at: nothing is run.
pub(super) fn plan(path: &Path) -> Result<Plan, ExitCode> {
    let mut stderr = anstream::stderr().lock();
    let file = policy_file::inspect(path).map_err(|error: PolicyFileError| {
        let _ = writeln!(stderr, "error: {error}");
        ExitCode::from(if error.is_finding() { 1 } else { 3 })
    })?;
    let checked = policy::check(&path.display().to_string(), &file.bytes);
    checked.plan.clone().ok_or_else(|| {
        let _ = write!(stderr, "{}", checked.render(true));
        ExitCode::from(1)
    })
}
