//! Landlock: the second guard of the file system, and the only one of ports and signals.
//!
//! Every right is handled that both the running kernel and this program know, so what no rule
//! allows is refused. A kernel may be newer than the program ([`handled`]): a right that this has
//! no name for isn't handled, since it may be what an allowed call takes, and the receipt names
//! both versions. The crate's best-effort mode is never used: it can end in no enforcement at all,
//! without an error.

use std::io;
use std::os::fd::OwnedFd;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath,
    RestrictionStatus, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError,
    RulesetStatus, Scope,
};
use rustix::fs::{CWD, FileType, Mode, OFlags};

use super::order::Order;
use super::paths::{Kind, ViewEntry};
use crate::policy::plan::FileRight;
use crate::sys::process::landlock_abi;

/// The first versions that know what a protection stands for.
pub(super) const FILE_ABI: u32 = 1;
pub(super) const NET_ABI: u32 = 4;
pub(super) const IOCTL_ABI: u32 = 5;
pub(super) const SCOPE_ABI: u32 = 6;
/// Lets a file get from one directory into another; before, nobody under Landlock may.
const REFER_ABI: u32 = 2;
/// Lets the kernel log what a program that is executed within is refused.
const LOG_ABI: u32 = 7;
/// The newest version whose rights this program knows.
const NEWEST: u32 = 10;

/// The version up to which rights are handled on a kernel of version `kernel`.
pub(super) fn handled(kernel: u32) -> u32 {
    kernel.min(NEWEST)
}

/// Whether version `abi` can give every right on `places` that is granted.
pub(super) fn can_give(abi: u32, places: &[ViewEntry]) -> io::Result<()> {
    match places.iter().find(|place| place.rights.contains(&FileRight::Move)) {
        Some(place) if abi < REFER_ABI => Err(io::Error::other(format!(
            "{}: the right to `move` takes Landlock of version {REFER_ABI} (Linux 5.19), and this \
             kernel's is of version {abi}; take it out",
            place.path
        ))),
        _ => Ok(()),
    }
}

/// Confines this thread to `places` and to the ports of `order`, with no signal or abstract socket
/// out of the domain, as far as version `abi` goes, which the running kernel has or exceeds.
pub(super) fn restrict(abi: u32, places: &[ViewEntry], order: &Order) -> io::Result<()> {
    let known = ABI::from(i32::try_from(abi).unwrap_or(i32::MAX));
    let mut ruleset = begin(abi, known, order).map_err(into_io)?;
    for place in places {
        let Some((fd, directory)) = open(place)? else { continue };
        let access = place.access(known, directory);
        if !access.is_empty() {
            // The descriptor is closed with the rule: there may be more places than a layer may
            // have files.
            ruleset = ruleset.add_rule(PathBeneath::new(fd, access)).map_err(into_io)?;
        }
    }
    let status = enforce(ruleset, abi, known, order).map_err(into_io)?;
    // Its word for "nothing is enforced" is no error.
    if status.ruleset == RulesetStatus::FullyEnforced && status.no_new_privs {
        Ok(())
    } else {
        Err(rustix::io::Errno::OPNOTSUPP.into())
    }
}

/// Keeps this thread, and what it starts, from abstract Unix sockets that others have made, and from
/// nothing else; `false` if the kernel can't. After `no_new_privs`.
pub(crate) fn scope_abstract_sockets() -> io::Result<bool> {
    if landlock_abi().is_ok_and(|abi| abi >= SCOPE_ABI) {
        let restrict = || {
            Ruleset::default()
                .set_compatibility(CompatLevel::HardRequirement)
                .scope(Scope::AbstractUnixSocket)?
                .create()?
                .restrict_self()
        };
        let status = restrict().map_err(into_io)?;
        return Ok(status.ruleset == RulesetStatus::FullyEnforced);
    }
    Ok(false)
}

/// Rules that refuse everything.
fn begin(abi: u32, known: ABI, order: &Order) -> Result<RulesetCreated, RulesetError> {
    // Sockets of the host lie in no place of its own, so no rule could name them.
    let sockets = if order.sockets { AccessFs::ResolveUnix.into() } else { BitFlags::empty() };
    let handled = AccessFs::from_all(known) & !sockets;
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(handled)?;
    if abi >= NET_ABI {
        ruleset = ruleset.handle_access(AccessNet::from_all(known))?;
    }
    if abi >= SCOPE_ABI {
        ruleset = ruleset.scope(Scope::from_all(known))?;
    }
    ruleset.create()
}

fn enforce(
    mut ruleset: RulesetCreated,
    abi: u32,
    known: ABI,
    order: &Order,
) -> Result<RestrictionStatus, RulesetError> {
    let by_net = AccessNet::from_all(known);
    for port in order.ports.iter().filter(|_| abi >= NET_ABI) {
        let connect = AccessNet::ConnectTcp | AccessNet::ConnectSendUdp;
        ruleset = ruleset.add_rule(NetPort::new(*port, connect & by_net))?;
    }
    if !order.ports.is_empty() && by_net.contains(AccessNet::BindUdp) {
        // Who sends gets a port from the kernel.
        ruleset = ruleset.add_rule(NetPort::new(0, AccessNet::BindUdp))?;
    }
    if abi >= LOG_ABI {
        // What an `exec` layer's program is refused is told too, not our own code's denials alone.
        ruleset = ruleset.log_new_exec(true)?;
    }
    ruleset.restrict_self()
}

/// The place as it is in the root of this process; `None` where there is nothing.
fn open(place: &ViewEntry) -> io::Result<Option<(OwnedFd, bool)>> {
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let fd = match rustix::fs::openat(CWD, &place.path, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(rustix::io::Errno::NOENT) if !matches!(place.kind, Kind::Granted(_) | Kind::Owned) => {
            return Ok(None);
        }
        Err(errno) => return Err(errno.into()),
    };
    match FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) {
        // What a system link leads to has a place of its own.
        FileType::Symlink => Ok(None),
        FileType::Directory => Ok(Some((fd, true))),
        _ => Ok(Some((fd, false))),
    }
}

pub(super) fn into_io(error: RulesetError) -> io::Error {
    io::Error::from_raw_os_error(*landlock::Errno::from(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moving_takes_a_version_that_knows_it() {
        let place = |right| ViewEntry {
            path: "/srv/a".to_owned(),
            kind: Kind::Granted("/srv/a".to_owned()),
            rights: vec![FileRight::Create, right],
            no_links: false,
        };
        let said = can_give(1, &[place(FileRight::Read), place(FileRight::Move)]).unwrap_err();
        assert!(said.to_string().contains("/srv/a: the right to `move` takes Landlock of version"));
        can_give(2, &[place(FileRight::Move)]).unwrap();
        can_give(1, &[place(FileRight::Remove)]).unwrap();
    }

    #[test]
    fn no_version_is_claimed_that_is_not_known() {
        assert_eq!((handled(7), handled(NEWEST + 1)), (7, NEWEST));
        let abi = |version| ABI::from(i32::try_from(version).unwrap());
        assert_eq!(abi(NEWEST), ABI::from(i32::MAX), "the crate knows more by now");
        assert_ne!(abi(NEWEST), abi(NEWEST - 1));
    }
}
