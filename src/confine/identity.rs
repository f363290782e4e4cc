//! Who a layer is: user, groups, the five capability sets, securebits.
//!
//! Every call here is the kernel's own, for the calling thread alone: the recipe runs before a
//! second one exists.

use std::io;

use caps::{CapSet, CapsHashSet};
use rustix::process::{Gid, Uid, getegid, geteuid, getgid, getgroups, getuid};
use rustix::thread::{self, CapabilitiesSecureBits, CapabilitySet, CapabilitySets};

/// Capabilities by number, as the plan has them, as a set.
pub(super) fn capability_set(numbers: &[u8]) -> CapabilitySet {
    let bits = numbers.iter().filter_map(|number| 1_u64.checked_shl(u32::from(*number)));
    CapabilitySet::from_bits_retain(bits.fold(0, |all, bit| all | bit))
}

/// Takes everything but `kept` out of the bounding set, whatever the kernel's last capability is
/// (threat F3). Needs `CAP_SETPCAP`, so it comes before the capabilities go.
pub(super) fn empty_bounding_set(kept: CapabilitySet) -> io::Result<()> {
    let named = named(kept);
    for capability in caps::read(None, CapSet::Bounding).map_err(io::Error::other)? {
        if !named.contains(&capability) {
            caps::drop(None, CapSet::Bounding, capability).map_err(io::Error::other)?;
        }
    }
    // What is newer than the crate's names.
    for capability in known().filter(|capability| !kept.contains(*capability)) {
        if thread::capability_is_in_bounding_set(capability)? {
            thread::remove_capability_from_bounding_set(capability)?;
        }
    }
    Ok(())
}

/// Raises `kept` into the ambient set, from where a program that is executed gets it, and drops
/// all others. Before the securebits, which forbid it for ever after.
pub(super) fn set_ambient(kept: CapabilitySet) -> io::Result<()> {
    caps::clear(None, CapSet::Ambient).map_err(io::Error::other)?;
    if kept.is_empty() {
        return Ok(());
    }
    caps::set(None, CapSet::Inheritable, &named(kept)).map_err(io::Error::other)?;
    caps::set(None, CapSet::Ambient, &named(kept)).map_err(io::Error::other)
}

/// Being user 0 gives no capability any more, and that is locked: neither an exec nor a change of user
/// gives or takes a capability.
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

/// Leaves `kept` in the permitted, effective and inheritable sets and nothing else, and looks.
pub(super) fn drop_capabilities(kept: CapabilitySet) -> io::Result<()> {
    // Permitted last: the others are bounded by it.
    for set in [CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        caps::set(None, set, &named(kept)).map_err(io::Error::other)?;
    }
    // The kernel's own words, all 64 bits of them.
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

/// The same set by the names of crate `caps`. A plan has no number that it has no name for.
fn named(set: CapabilitySet) -> CapsHashSet {
    caps::all().into_iter().filter(|one| set.bits() & one.bitmask() != 0).collect()
}

/// The capabilities that the running kernel has.
fn known() -> impl Iterator<Item = CapabilitySet> {
    (0..64)
        .map(|number| CapabilitySet::from_bits_retain(1 << number))
        .take_while(|capability| thread::capability_is_in_bounding_set(*capability).is_ok())
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
    fn numbers_become_bits() {
        let set = capability_set(&[13, 0]);
        assert_eq!(set, CapabilitySet::NET_RAW | CapabilitySet::CHOWN);
        assert!(capability_set(&[]).is_empty());
        assert!(capability_set(&[64, 255]).is_empty());
    }
}
