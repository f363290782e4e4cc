//! Confining a helper of the supervisor that looks up one name and ends: it reads replies from the
//! network with the C library's parser, so it is given next to nothing.

use std::io;

use caps::CapsHashSet;
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, NetPort, PathBeneath, Ruleset,
    RulesetAttr, RulesetCreatedAttr, Scope,
};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::{DumpableBehavior, Resource, Rlimit, Signal, setrlimit};

use super::filter::{Action, Arch, compile_with};
use super::{domain, identity};
use crate::policy::syscall::{Implied, assemble, parse_item};
use crate::sys::process::landlock_abi;

/// Where resolvers keep their libraries, settings and sockets.
const READ: [&str; 6] = ["/etc", "/lib", "/lib64", "/usr", "/run", "/var/run"];

/// DNS over TCP, for answers that don't fit a datagram.
const DNS: u16 = 53;

const EPERM: u16 = 1;

/// All that looking up a name takes. Files may be opened in any way: Landlock lets it read alone.
const CALLS: [&str; 14] = [
    "@core",
    "@file-read",
    "@net-connect",
    "@net-datagram",
    "openat",
    "mmap",
    "mprotect",
    "socket(AF_UNIX)",
    "socket(AF_NETLINK)",
    "bind",
    "uname",
    "ioctl(_, FIONREAD)",
    "set_tid_address",
    "prctl(PR_SET_NAME)",
];

/// Takes everything from this process but reading settings, asking name servers, and writing to
/// descriptors that it holds. As root it becomes the user `uid`.
pub fn confine_resolver(uid: Option<u32>) -> io::Result<()> {
    for (resource, limit) in [
        (Resource::Core, 0),
        (Resource::Cpu, 5),
        (Resource::Fsize, 0),
        (Resource::Nofile, 64),
        (Resource::Data, 64 << 20),
    ] {
        setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })?;
    }
    let held = rustix::thread::capabilities(None)?.permitted;
    if uid.is_some() || !held.is_empty() {
        let none = CapsHashSet::new();
        identity::empty_bounding_set(&none)?;
        identity::set_ambient(&none)?;
        identity::lock_securebits()?;
        if let Some(uid) = uid {
            identity::become_user(uid, uid)?;
        }
        identity::drop_capabilities(&none)?;
        identity::holds_only(&none)?;
    }
    // Changing the user has cleared it.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    rustix::thread::set_no_new_privs(true)?;
    read_only()?;
    let items: Vec<_> = CALLS.iter().filter_map(|text| parse_item(text).ok()).collect();
    let plans = assemble(&items, &[], Implied::Run);
    // An error and not the end, for the C library goes on without what is refused.
    let filter = compile_with(&plans, Arch::NATIVE, Action::Errno(EPERM));
    filter.map_err(io::Error::other)?.load().map_err(io::Error::other)
}

/// As far as the running kernel goes: a helper is no layer, whose policy would demand it.
fn read_only() -> io::Result<()> {
    let Ok(abi) = landlock_abi().map(domain::handled) else { return Ok(()) };
    let known = ABI::from(i32::try_from(abi).unwrap_or(i32::MAX));
    let restrict = || {
        let mut ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(AccessFs::from_all(known))?;
        if abi >= domain::NET_ABI {
            ruleset = ruleset.handle_access(AccessNet::from_all(known))?;
        }
        if abi >= domain::SCOPE_ABI {
            ruleset = ruleset.scope(Scope::Signal)?;
        }
        let mut ruleset = ruleset.create()?;
        for path in READ {
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            if let Ok(fd) = rustix::fs::openat(CWD, path, flags, Mode::empty()) {
                ruleset = ruleset.add_rule(PathBeneath::new(fd, AccessFs::from_read(known)))?;
            }
        }
        if abi >= domain::NET_ABI {
            ruleset = ruleset.add_rule(NetPort::new(DNS, AccessNet::ConnectTcp))?;
        }
        ruleset.restrict_self()
    };
    restrict().map(drop).map_err(domain::into_io)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_is_known() {
        for text in CALLS {
            parse_item(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        }
    }
}
