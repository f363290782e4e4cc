//! What the supervisor takes from itself once every socket is bound.
//!
//! Its layers inherit all of this, so nothing here may be less than what the most privileged of
//! them is granted.

use std::io;

use caps::Capability;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustix::process::DumpableBehavior;

use super::image::Image;
use crate::confine::filter::Filter;
use crate::confine::identity;

/// What starting, confining and killing layers takes of root's capabilities (capabilities(7)).
pub(crate) const NEEDED: [Capability; 9] = [
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

/// Raises the limit of open descriptors to the hard limit, and as root to `needed` if that is more.
/// What all processes of a user have in flight is held against it too (unix(7), `ETOOMANYREFS`),
/// another daemon's among them.
pub fn raise_descriptors(needed: u64) -> io::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    // Root alone may, and not beyond fs.nr_open.
    if needed > hard && setrlimit(Resource::RLIMIT_NOFILE, needed, needed).is_ok() {
        return Ok(());
    }
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
}

/// Drops what isn't needed and loads the supervisor's own filter.
pub fn lock(filter: &Filter, images: &[Image]) -> io::Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    if rustix::process::geteuid().is_root() {
        drop_capabilities(images)?;
    }
    rustix::thread::set_no_new_privs(true)?;
    filter.load().map_err(io::Error::other)
}

/// The capabilities that this process has, as bits.
pub fn held() -> u64 {
    let held = caps::read(None, caps::CapSet::Effective).unwrap_or_default();
    held.iter().fold(0, |bits, capability| bits | capability.bitmask())
}

fn drop_capabilities(images: &[Image]) -> io::Result<()> {
    let granted = images.iter().flat_map(|image| &image.data.plan.capabilities).copied();
    let granted: Vec<u8> = granted.collect();
    let kept = identity::capability_set(&granted);
    identity::keep_at_most(&kept.into_iter().chain(NEEDED).collect())
}
