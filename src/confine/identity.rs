//! Who a process is: user, groups, the five capability sets, securebits.
//!
//! Every call here is the kernel's own, for the calling thread alone: the recipe runs before a
//! second one exists.
//!
//! Capabilities are changed by crate `caps`. It knows them by name, and a kernel may have more: of
//! those, and to look at what is in force afterwards, `rustix` is asked.

use std::io;

use caps::errors::CapsError;
use caps::{CapSet, Capability, CapsHashSet};
use rustix::process::{Gid, Uid, getegid, geteuid, getgid, getgroups, getuid};
use rustix::thread::{self, CapabilitiesSecureBits, CapabilitySet, CapabilitySets};

/// Capabilities by number, as the plan has them, as a set. A plan has no number without a name.
pub(crate) fn capability_set(numbers: &[u8]) -> CapsHashSet {
    let named = |number: &u8| caps::all().into_iter().find(|one| one.index() == *number);
    numbers.iter().filter_map(named).collect()
}

/// Takes everything but `kept` out of the bounding set, whatever the kernel's last capability is
/// (threat F3). Needs `CAP_SETPCAP`, so it comes before the capabilities go.
pub(crate) fn empty_bounding_set(kept: &CapsHashSet) -> io::Result<()> {
    for capability in caps::read(None, CapSet::Bounding).map_err(failed)? {
        if !kept.contains(&capability) {
            caps::drop(None, CapSet::Bounding, capability).map_err(failed)?;
        }
    }
    for nameless in known().filter(|one| !named().contains(*one)) {
        if thread::capability_is_in_bounding_set(nameless)? {
            thread::remove_capability_from_bounding_set(nameless)?;
        }
    }
    Ok(())
}

/// Raises `kept` into the ambient set, from where a program that is executed gets it, and drops
/// all others. Before the securebits, which forbid it for ever after.
pub(super) fn set_ambient(kept: &CapsHashSet) -> io::Result<()> {
    caps::clear(None, CapSet::Ambient).map_err(failed)?;
    if kept.is_empty() {
        return Ok(());
    }
    caps::set(None, CapSet::Inheritable, kept).map_err(failed)?;
    caps::set(None, CapSet::Ambient, kept).map_err(failed)
}

/// Being user 0 gives no capability any more, and that is locked: neither an exec nor a change of
/// user gives or takes a capability.
pub(super) fn lock_securebits() -> io::Result<()> {
    let bits = CapabilitiesSecureBits::NO_ROOT
        | CapabilitiesSecureBits::NO_ROOT_LOCKED
        | CapabilitiesSecureBits::NO_SETUID_FIXUP
        | CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED
        | CapabilitiesSecureBits::KEEP_CAPS_LOCKED
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED;
    thread::set_capabilities_secure_bits(bits)?;
    demand(thread::capabilities_secure_bits()? == bits)
}

/// Becomes `uid` and `gid`, all of real, effective, saved and file system, without supplementary
/// groups. Groups first: the user who may change them goes last.
pub(super) fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    thread::set_thread_groups(&[])?;
    thread::set_thread_res_gid(gid, gid, gid)?;
    thread::set_thread_res_uid(uid, uid, uid)?;
    demand(getuid() == uid && geteuid() == uid && getgid() == gid && getegid() == gid)?;
    demand(getgroups()?.is_empty())
}

/// Leaves `kept` in the permitted, effective and inheritable sets and nothing else.
pub(super) fn drop_capabilities(kept: &CapsHashSet) -> io::Result<()> {
    // Permitted last: the others are bounded by it.
    for set in [CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        caps::set(None, set, kept).map_err(failed)?;
    }
    Ok(())
}

/// Leaves of what this process holds `kept` at most, in all five sets. For a process of the
/// framework's own that goes on as the user that it is.
pub(crate) fn keep_at_most(kept: &CapsHashSet) -> io::Result<()> {
    empty_bounding_set(kept)?;
    set_ambient(&CapsHashSet::new())?;
    caps::clear(None, CapSet::Inheritable).map_err(failed)?;
    for set in [CapSet::Effective, CapSet::Permitted] {
        let held = caps::read(None, set).map_err(failed)?;
        caps::set(None, set, &(&held & kept)).map_err(failed)?;
    }
    Ok(())
}

/// Looks whether all five sets hold `kept` at most, in the kernel's own words: all 64 bits.
pub(super) fn holds_only(kept: &CapsHashSet) -> io::Result<()> {
    let kept = bits(kept);
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: kept };
    demand(thread::capabilities(None)? == sets)?;
    for capability in known().filter(|capability| !kept.contains(*capability)) {
        demand(!thread::capability_is_in_bounding_set(capability)?)?;
        demand(!thread::capability_is_in_ambient_set(capability)?)?;
    }
    Ok(())
}

/// Tries to become another user, which must fail: root again (threat F2), or, where the policy
/// grants root's number, anybody else.
pub(super) fn cannot_change_user() -> io::Result<()> {
    let other = Uid::from_raw(u32::from(geteuid().is_root()));
    demand(thread::set_thread_res_uid(other, other, other).is_err())
}

/// Looks whether the user namespace shows the numbers that were asked for.
pub(super) fn is_user(uid: u32, gid: u32) -> bool {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    getuid() == uid && geteuid() == uid && getgid() == gid && getegid() == gid
}

/// All that have a name.
fn named() -> CapabilitySet {
    bits(&caps::all())
}

fn bits(set: &CapsHashSet) -> CapabilitySet {
    let bits = set.iter().fold(0, |all, one| all | Capability::bitmask(one));
    CapabilitySet::from_bits_retain(bits)
}

/// The capabilities that the running kernel has.
fn known() -> impl Iterator<Item = CapabilitySet> {
    (0..64)
        .map(|number| CapabilitySet::from_bits_retain(1 << number))
        .take_while(|capability| thread::capability_is_in_bounding_set(*capability).is_ok())
}

fn failed(error: CapsError) -> io::Error {
    io::Error::other(error)
}

/// An error where the kernel said yes and what it shows afterwards says no.
fn demand(holds: bool) -> io::Result<()> {
    if holds {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(rustix::io::Errno::PROTO.raw_os_error()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_names() {
        let set = capability_set(&[13, 0]);
        assert_eq!(set, CapsHashSet::from([Capability::CAP_NET_RAW, Capability::CAP_CHOWN]));
        assert_eq!(bits(&set), CapabilitySet::NET_RAW | CapabilitySet::CHOWN);
        assert!(capability_set(&[]).is_empty());
        assert!(capability_set(&[64, 255]).is_empty());
    }
}
