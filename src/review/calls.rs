//! What a layer's filter answers to a system call, in words.
//!
//! The answers are those of [`permits`](crate::policy::syscall::meaning::permits), which compiled
//! filters are checked against.

use std::fmt;

use crate::policy::plan::{LayerPlan, SyscallPlan};
pub use crate::policy::syscall::refused::expressions;
use crate::policy::syscall::{errno_name, name_of};

/// What a filter answers to a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is carried out.
    Allow,
    /// It is carried out where one of its rules holds; elsewhere the other answer is given.
    Conditional(Refusal),
    /// It never is.
    Refused(Refusal),
}

/// What happens instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The call returns this error.
    Errno(u16),
    /// The process ends with `SIGSYS`.
    Kill,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill => f.write_str("kill"),
            Self::Errno(number) => match errno_name(*number) {
                Some(name) => write!(f, "errno:{name}"),
                None => write!(f, "errno:{number}"),
            },
        }
    }
}

impl fmt::Display for Verdict {
    /// `allow`, `conditional`, `errno:EPERM` or `kill`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allow => f.write_str("allow"),
            Self::Conditional(_) => f.write_str("conditional"),
            Self::Refused(refusal) => refusal.fmt(f),
        }
    }
}

/// What a layer's filter answers to the call of this number. What no rule names ends the process,
/// and a number without a name is no call.
pub fn verdict(layer: &LayerPlan, number: u32) -> Verdict {
    match entry(layer, number) {
        Some(entry) => entry_verdict(entry),
        None if name_of(number).is_none() => Verdict::Refused(Refusal::Errno(ENOSYS)),
        None => Verdict::Refused(Refusal::Kill),
    }
}

/// errno(3).
const ENOSYS: u16 = 38;

/// The rules on a call of this number.
pub fn entry(layer: &LayerPlan, number: u32) -> Option<&SyscallPlan> {
    let at = layer.syscalls.binary_search_by_key(&number, |entry| entry.number).ok()?;
    Some(&layer.syscalls[at])
}

fn entry_verdict(entry: &SyscallPlan) -> Verdict {
    let refusal = entry.otherwise.map_or(Refusal::Kill, Refusal::Errno);
    if entry.allow.iter().any(|rule| rule.0.is_empty()) {
        Verdict::Allow
    } else if entry.allow.is_empty() {
        Verdict::Refused(refusal)
    } else {
        Verdict::Conditional(refusal)
    }
}
