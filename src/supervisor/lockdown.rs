//! What the supervisor takes from itself once every socket is bound and every filter compiled.
//!
//! Its layers inherit all of this, so nothing here may be less than what the most privileged of
//! them is granted.

use std::io;

use caps::Capability;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustix::process::DumpableBehavior;

use super::image::Image;
use crate::confine::filter::supervisor::{own_calls, supervisor_filter};
use crate::confine::identity;
use crate::ident::Name;
use crate::policy::plan::Plan;

/// What starting, confining and killing layers takes of root's capabilities (capabilities(7)).
const NEEDED: [Capability; 9] = [
    // Namespaces, mounts, the new root.
    Capability::CAP_SYS_ADMIN,
    // A layer's own user and group.
    Capability::CAP_SETUID,
    Capability::CAP_SETGID,
    // Its bounding set and securebits.
    Capability::CAP_SETPCAP,
    // The end of a process of another user.
    Capability::CAP_KILL,
    // The way to a granted path through directories that are closed to others.
    Capability::CAP_DAC_READ_SEARCH,
    // cgroup files that belong to another user than root.
    Capability::CAP_DAC_OVERRIDE,
    // Limits above the supervisor's own hard ones.
    Capability::CAP_SYS_RESOURCE,
    // The ordinary nice value for a layer of a supervisor that has a higher one.
    Capability::CAP_SYS_NICE,
];

/// Descriptors of the supervisor itself: policy, log, rings, listeners, objects.
const OWN_DESCRIPTORS: u64 = 512;

/// Descriptors that it holds for each running instance, in the worst case: its process, its sockets
/// and pipes, its groups, its ring, and what waits in its [`Outbox`](super::outbox).
const EACH: u64 = 16 + super::outbox::MOST_DESCRIPTORS;

/// Raises the limit of open descriptors to what the plan may need, as far as the hard limit goes,
/// and as root the hard limit too. It is also the limit of what a user may have in flight in
/// sockets (unix(7)), where no layer should come first: so it is above theirs.
pub fn raise_descriptors(plan: &Plan) -> io::Result<()> {
    let copies = |name: &Name| {
        let found = plan.layers.iter().find(|layer| layer.name == *name);
        found.map_or(0, |layer| u64::from(layer.instances))
    };
    let instances: u64 = plan.layers.iter().map(|layer| u64::from(layer.instances)).sum();
    let links = plan.channels.iter().map(|it| copies(&it.from) * copies(&it.to)).sum::<u64>();
    let largest = plan.layers.iter().map(|layer| layer.limits.files).max().unwrap_or(0);
    // A message carries 253 descriptors (SCM_MAX_FD), and what is one of them too many is counted
    // only once it is in flight.
    let needed = OWN_DESCRIPTORS + instances * EACH + 2 * links + largest + 253;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if needed <= soft {
        return Ok(());
    }
    // Root alone may, and not beyond fs.nr_open.
    if needed > hard && setrlimit(Resource::RLIMIT_NOFILE, needed, needed).is_ok() {
        return Ok(());
    }
    Ok(setrlimit(Resource::RLIMIT_NOFILE, needed.min(hard), hard)?)
}

/// Drops what isn't needed and loads the supervisor's own filter.
pub fn lock(images: &[Image]) -> io::Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    if rustix::process::geteuid().is_root() {
        drop_capabilities(images)?;
    }
    rustix::thread::set_no_new_privs(true)?;
    let layers = images.iter().map(|image| image.plan.syscalls.as_slice());
    let filter = supervisor_filter(layers, &own_calls()).map_err(io::Error::other)?;
    filter.load().map_err(io::Error::other)
}

fn drop_capabilities(images: &[Image]) -> io::Result<()> {
    let granted = images.iter().flat_map(|image| &image.plan.capabilities).copied();
    let granted: Vec<u8> = granted.collect();
    let kept = identity::capability_set(&granted);
    identity::keep_at_most(&kept.into_iter().chain(NEEDED).collect())
}
