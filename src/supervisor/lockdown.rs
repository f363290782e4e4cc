//! What the supervisor takes from itself once every socket is bound and every filter compiled.
//!
//! Its layers inherit all of this, so nothing here may be less than what the most privileged of
//! them is granted.

use std::io;

use caps::Capability;
use rustix::process::DumpableBehavior;

use super::image::Image;
use crate::confine::filter::supervisor::{own_calls, supervisor_filter};
use crate::confine::identity;

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
