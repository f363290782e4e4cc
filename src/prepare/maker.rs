//! The child that makes the objects.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use caps::Capability;

use super::child::{self, PrepareError, confine};
use super::{FifoAtPath, mapped_file, queue, region};
use crate::ident::Name;
use crate::policy::plan::{FifoPlan, Plan};

/// What root's child keeps (capabilities(7)).
const CAPABILITIES: [Capability; 6] = [
    // The way to a plan's path, and files and directories of other users there.
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_DAC_READ_SEARCH,
    // A FIFO's owner and mode.
    Capability::CAP_CHOWN,
    Capability::CAP_FOWNER,
    // A namespace for message queues, and more bytes in them than an ordinary user has.
    Capability::CAP_SYS_ADMIN,
    Capability::CAP_SYS_RESOURCE,
];

/// What the child calls.
const CALLS: &[&str] = &[
    "@core",
    // Files at the plan's paths.
    "@file-read",
    "@file-write",
    "mknod",
    "mknodat",
    "fchmod",
    "fchown",
    // Memory files and queues.
    "@shared-memory",
    "mq_open",
    "mq_unlink",
    "mq_getsetattr",
    "unshare(CLONE_NEWIPC)",
    "prlimit64",
    "getrlimit",
    "setrlimit",
    // The thread in whose domain a file is opened that can't be truncated.
    "@thread",
    "landlock_create_ruleset",
    "landlock_restrict_self",
    "prctl(PR_SET_NO_NEW_PRIVS)",
];

/// The descriptors that were made, in the order that [`make`] states.
pub(crate) type Descriptors = std::vec::IntoIter<OwnedFd>;

/// Makes every object of `plan`: of each queue the ends of its lanes, of each mapped file what
/// [`mapped_file::make`] says, of each region the memory for writing and for reading, of each FIFO
/// itself and its directory.
///
/// # Errors
/// Nothing is left behind at the plan's paths, except where the child was killed: what it leaves
/// then is cleared away by the daemon's next start.
pub(crate) fn make(plan: &Plan) -> Result<Descriptors, PrepareError> {
    let expected = expected(plan);
    if expected == 0 {
        return Ok(Vec::new().into_iter());
    }
    let ((), made) = child::run("makes the daemon's objects", expected, |handover| {
        confine(&CAPABILITIES, CALLS)
            .map_err(|error| format!("objects can't be made: confining: {error}"))?;
        let (fds, mut fifos) = all(plan)?;
        let fifos = fifos.iter_mut().flat_map(FifoAtPath::give_away);
        let mut fds = fds.iter().map(AsFd::as_fd).chain(fifos);
        fds.try_for_each(|fd| handover.give(fd)).map_err(|error| error.to_string())
    })?;
    Ok(made.into_iter())
}

/// How many descriptors a plan needs.
fn expected(plan: &Plan) -> usize {
    let all = &plan.facilities;
    let queues: usize = all.queues.iter().map(|plan| 2 * usize::from(plan.lanes())).sum();
    let mapped_files: usize = all.mapped_files.iter().map(mapped_file::descriptors).sum();
    queues + mapped_files + 2 * all.regions.len() + 2 * all.fifos.len()
}

/// Makes everything; a failure names its place in the policy. FIFOs come apart, for somebody else
/// sees them: dropped, they are removed again.
fn all(plan: &Plan) -> Result<(Vec<OwnedFd>, Vec<FifoAtPath>), String> {
    let all = &plan.facilities;
    let mut fds = Vec::new();
    let lifted = queue::lift_limits(&all.queues);
    for plan in &all.queues {
        fds.extend(queue::make(plan).map_err(|error| blame("queue", &plan.name, &error))?);
    }
    drop(lifted);
    for plan in &all.mapped_files {
        let made = mapped_file::make(plan);
        fds.extend(made.map_err(|error| blame("mapped-file", &plan.name, &error))?);
    }
    for plan in &all.regions {
        fds.extend(region::make(plan).map_err(|error| blame("region", &plan.name, &error))?);
    }
    let make =
        |plan: &FifoPlan| FifoAtPath::make(plan).map_err(|error| blame("fifo", &plan.name, &error));
    let fifos = all.fifos.iter().map(make).collect::<Result<Vec<_>, _>>()?;
    Ok((fds, fifos))
}

fn blame(kind: &str, name: &Name, error: &io::Error) -> String {
    format!("[{kind}.{name}] {error}")
}
