//! What a layer reports of its files: what it opens itself, and what it doesn't even ask for
//! because the policy refuses it. What it asks the supervisor for, the supervisor reports.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::direct::DirectError;
use super::error::FileError;
use crate::report::{Facts, Side, Tap, Verdict};
use crate::wire::broker::{MAX_PATH, Refusal, open};

/// What changes something as soon as it is done, and so is reported before.
const CHANGES: u16 =
    open::CREATE | open::TRUNCATE | open::REMOVE | open::MKDIR | open::RMDIR | open::RENAME;

/// Does what the kernel allows or refuses, and reports it; `how` has bits of [`open`].
pub(super) fn directly<T>(
    tap: Option<&Tap>,
    (path, how): (&Path, u16),
    act: impl FnOnce() -> Result<T, DirectError>,
) -> Result<T, DirectError> {
    let Some(tap) = tap else { return act() };
    let report = |verdict, value| report(tap, (path, how), verdict, value);
    let before = how & CHANGES != 0;
    if before {
        report(Verdict::Allowed, 0);
    }
    let done = act();
    match &done {
        Ok(_) if before => {}
        Ok(_) => report(Verdict::Allowed, 0),
        Err(DirectError::NotRegular) => report(Verdict::Refused, Refusal::NotRegular.code()),
        Err(DirectError::System(_)) => report(Verdict::Failed, Refusal::System(0).code()),
    }
    done
}

/// Reports what the policy refuses.
pub(super) fn refused(tap: &Tap, act: (&Path, u16), error: &FileError) {
    let refusal = match error {
        FileError::NotGranted { .. } => Refusal::NotGranted,
        FileError::Denied { .. } => Refusal::Denied,
        _ => Refusal::Malformed,
    };
    report(tap, act, Verdict::Refused, refusal.code());
}

fn report(tap: &Tap, (path, how): (&Path, u16), verdict: Verdict, value: u32) {
    let path = path.as_os_str().as_bytes();
    let facts = Facts { verdict, method: how.into(), value, ..tap.facts(Side::None) };
    tap.report(&facts, &[], &path[..path.len().min(MAX_PATH)]);
}
