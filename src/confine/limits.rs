//! Resource limits of the process itself: `setrlimit(2)`, soft and hard alike.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::cgroup::Grouped;
use super::receipt::Got;
use crate::policy::plan::Limits;

/// Pages that may be locked: the secret page and its fallback need a few.
const LOCKED: u64 = 256 << 10;
/// Pending signals that were queued; a layer has no use for many.
const QUEUED_SIGNALS: u64 = 64;
/// The stack's size, as distributions have it.
const STACK: u64 = 8 << 20;
/// Not 0 but 1: it stops dumps into files as 0 does, and dumps into a program too, which ignore 0
/// (core(5), threat E16).
const CORE: u64 = 1;

/// Every limit that is set, in the kernel's units.
///
/// Where no cgroup limits memory, `RLIMIT_DATA` does: private writable memory of one process. It
/// isn't set beside a cgroup, since it counts what is mapped, not what is used. `RLIMIT_NPROC`
/// counts all tasks of the layer's user, and is set in any case: beside a cgroup for two lives, which
/// are there at a time in an upgrade.
pub fn rlimits(limits: &Limits, grouped: &Grouped) -> Vec<(Resource, u64)> {
    let lives = if grouped.tasks == Got::Enforced { 2 } else { 1 };
    // The processor is a cgroup's only.
    let &Limits { memory, files, tasks, cpu: _, file_size } = limits;
    let mut list = vec![
        (Resource::RLIMIT_CORE, CORE),
        (Resource::RLIMIT_NOFILE, files),
        (Resource::RLIMIT_FSIZE, file_size),
        (Resource::RLIMIT_NPROC, tasks.saturating_mul(lives)),
        (Resource::RLIMIT_STACK, STACK),
        (Resource::RLIMIT_MEMLOCK, LOCKED),
        (Resource::RLIMIT_SIGPENDING, QUEUED_SIGNALS),
        (Resource::RLIMIT_MSGQUEUE, 0),
        (Resource::RLIMIT_RTPRIO, 0),
        (Resource::RLIMIT_NICE, 0),
    ];
    if grouped.memory != Got::Enforced {
        list.push((Resource::RLIMIT_DATA, memory));
    }
    list
}

/// Sets every limit, or as low as a hard limit in force is already: raising one needs
/// `CAP_SYS_RESOURCE`, and less is never a weaker sandbox.
pub(super) fn apply(limits: &Limits, grouped: &Grouped) -> io::Result<()> {
    for (resource, value) in rlimits(limits, grouped) {
        let (_, hard) = getrlimit(resource)?;
        let value = value.min(hard);
        setrlimit(resource, value, value)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(list: &[(Resource, u64)], resource: Resource) -> Option<u64> {
        list.iter().find(|(other, _)| *other == resource).map(|(_, value)| *value)
    }

    #[test]
    fn memory_is_limited_once() {
        let limits = Limits::default();
        let mut grouped = Grouped::none(13);
        let alone = rlimits(&limits, &grouped);
        assert_eq!(has(&alone, Resource::RLIMIT_DATA), Some(limits.memory));
        grouped.memory = Got::Enforced;
        let beside = rlimits(&limits, &grouped);
        assert_eq!(has(&beside, Resource::RLIMIT_DATA), None);
    }

    #[test]
    fn no_resource_is_named_twice() {
        let list = rlimits(&Limits::default(), &Grouped::none(0));
        for (resource, _) in &list {
            let times = list.iter().filter(|(other, _)| other == resource).count();
            assert_eq!(times, 1, "{resource:?}");
        }
    }
}
