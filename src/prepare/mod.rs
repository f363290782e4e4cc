//! What is done by a process that ends before a layer can speak to it.
//!
//! Whatever is made by name is looked at first: a path is walked, a file that is there already is
//! looked into, a FIFO or a socket that a killed daemon left is cleared away, a record of users is
//! read and written. None of that belongs into the process that lives as long as the daemon. So
//! children do it, hand over descriptors, say what each is, and exit. They read nothing but the
//! plan and what lies at the plan's own paths.
//!
//! Reading order: `child` is how such a process is confined, works and hands over; `planner`
//! makes the plan, `log_directory` looks where the audit log will be, `assembler` works out of
//! both how every layer is started, with `own` and `image`, and `maker` makes what layers hold
//! from their start: `listener` and `inherited` are its sockets, `directory` what belongs to layers,
//! `objects` what is behind facilities, one file a facility.

mod arrange;
pub(crate) mod assembler;
pub(crate) mod assembly;
mod change;
pub mod child;
mod directory;
mod fifo;
pub(crate) mod image;
mod inherited;
pub(crate) mod listener;
mod log_directory;
mod maker;
mod mapped_file;
mod objects;
pub(crate) mod own;
pub(crate) mod planner;
pub mod policy_file;
mod queue;
mod region;
pub(crate) mod relations;
pub(crate) mod steward;
mod tree;
pub(crate) mod upgrade;
pub(crate) mod walk;

pub(crate) use child::PrepareError;
pub(crate) use fifo::FifoAtPath;
pub(crate) use inherited::{InheritedError, MOST_PASSED, Passed, kept_name};
pub(crate) use log_directory::LogDirectory;
pub(crate) use maker::{Made, Wanted, make};
pub(crate) use objects::Use;

/// Every kind of child that prepares something.
pub const KINDS: [&child::Kind; 5] =
    [&planner::KIND, &log_directory::KIND, &assembler::KIND, &maker::KIND, &listener::KIND];

#[cfg(test)]
mod tests {
    use super::KINDS;
    use crate::policy::syscall::parse_item;

    /// x86-64 has every call that is listed.
    #[test]
    #[cfg(target_arch = "x86_64")]
    fn whatever_a_child_may_call_is_a_call() {
        for call in KINDS.iter().flat_map(|kind| kind.calls) {
            parse_item(call).unwrap_or_else(|error| panic!("{call}: {error}"));
        }
    }
}
