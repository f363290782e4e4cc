//! What the supervisor takes from itself once every socket is bound and every filter compiled.
//!
//! Its layers inherit all of this, so nothing here may be less than what the most privileged of
//! them is granted.

use std::io;

use rustix::process::DumpableBehavior;
use rustix::thread::CapabilitySet;

use super::image::Image;
use crate::confine::filter::supervisor::{own_calls, supervisor_filter};

/// What starting, confining and killing layers takes of root's capabilities (capabilities(7)).
const NEEDED: [CapabilitySet; 9] = [
    // Namespaces, mounts, the new root.
    CapabilitySet::SYS_ADMIN,
    // A layer's own user and group.
    CapabilitySet::SETUID,
    CapabilitySet::SETGID,
    // Its bounding set and securebits.
    CapabilitySet::SETPCAP,
    // The end of a process of another user.
    CapabilitySet::KILL,
    // The way to a granted path through directories that are closed to others.
    CapabilitySet::DAC_READ_SEARCH,
    // cgroup files that belong to another user than root.
    CapabilitySet::DAC_OVERRIDE,
    // Limits above the supervisor's own hard ones.
    CapabilitySet::SYS_RESOURCE,
    // The ordinary nice value for a layer of a supervisor that has a higher one.
    CapabilitySet::SYS_NICE,
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
    let granted = images.iter().flat_map(|image| &image.plan.capabilities);
    let granted = granted.filter_map(|&number| CapabilitySet::from_bits(1 << number));
    let kept = NEEDED.into_iter().chain(granted).fold(CapabilitySet::empty(), |all, one| all | one);
    for number in 0..64 {
        let one = CapabilitySet::from_bits_retain(1 << number);
        if !kept.contains(one)
            && rustix::thread::capability_is_in_bounding_set(one).unwrap_or(false)
        {
            rustix::thread::remove_capability_from_bounding_set(one)?;
        }
    }
    let mut sets = rustix::thread::capabilities(None)?;
    sets.permitted &= kept;
    sets.effective &= kept;
    sets.inheritable = CapabilitySet::empty();
    rustix::thread::set_capabilities(None, sets)?;
    Ok(())
}
