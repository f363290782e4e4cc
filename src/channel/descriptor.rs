//! Descriptors are typed: what a message carries is looked at by both ends, and the receiver
//! compares what it got with what the sender sealed.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, OFlags, SealFlags, fcntl_get_seals, fcntl_getfl, fstat};
use rustix::net::{AddressFamily, SocketType, sockopt};

use super::fault::{DescriptorFault, PeerFault};
use crate::policy::plan::{DescriptorKind, DescriptorPlan};
use crate::wire::record::Descriptor;

/// The seals without which memory may change or vanish under its reader.
const SEALED: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::WRITE);

/// Looks at descriptors that are about to be sent. The error names the place of the first that
/// the plan does not allow.
pub fn describe_all(
    plan: &DescriptorPlan,
    fds: &[OwnedFd],
) -> Result<Vec<Descriptor>, (usize, DescriptorFault)> {
    fds.iter()
        .enumerate()
        .map(|(place, fd)| describe(plan, fd.as_fd()).map_err(|fault| (place, fault)))
        .collect()
}

/// Compares descriptors that came with what the sealed message says of them, and with what its
/// method may carry.
pub fn compare_all(
    plan: &DescriptorPlan,
    said: &[Descriptor],
    fds: &[OwnedFd],
) -> Result<(), PeerFault> {
    if fds.len() > usize::from(plan.max) {
        return Err(PeerFault::DescriptorsCut);
    }
    for (place, (said, fd)) in said.iter().zip(fds).enumerate() {
        let found =
            describe(plan, fd.as_fd()).map_err(|fault| PeerFault::Descriptor { place, fault })?;
        // Seals can only be added, so what came may have more of them than it had when sent.
        let kept = found.seals.get() & said.seals.get() == said.seals.get();
        if !kept || (Descriptor { seals: said.seals, ..found }) != *said {
            return Err(PeerFault::Descriptor { place, fault: DescriptorFault::Swapped });
        }
    }
    Ok(())
}

/// What one descriptor is, if the plan allows it.
fn describe(plan: &DescriptorPlan, fd: BorrowedFd<'_>) -> Result<Descriptor, DescriptorFault> {
    let flags = fcntl_getfl(fd)?;
    if flags.contains(OFlags::PATH) {
        return Err(DescriptorFault::Unfit("a path without rights (O_PATH)"));
    }
    let stat = fstat(fd)?;
    let (kind, seals) = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => file(fd, flags, u64::from(stat.st_nlink == 0))?,
        FileType::Socket => (socket(fd)?, SealFlags::empty()),
        FileType::Fifo => (pipe(flags)?, SealFlags::empty()),
        FileType::Directory => return Err(DescriptorFault::Unfit("a directory")),
        FileType::CharacterDevice | FileType::BlockDevice => {
            return Err(DescriptorFault::Unfit("a device"));
        }
        _ => return Err(DescriptorFault::Unfit("no file, pipe or socket")),
    };
    if !plan.kinds.contains(&kind) {
        return Err(DescriptorFault::Kind(kind));
    }
    Ok(Descriptor {
        device: stat.st_dev.into(),
        inode: stat.st_ino.into(),
        kind: kind as u8,
        access: access(flags),
        reserved: 0.into(),
        seals: seals.bits().into(),
    })
}

/// `O_RDONLY`, `O_WRONLY` or `O_RDWR`: 0, 1 or 2 (`open(2)`). 3 is Linux's ioctl-only mode.
fn access(flags: OFlags) -> u8 {
    (flags.bits() & 3) as u8
}

fn file(
    fd: BorrowedFd<'_>,
    flags: OFlags,
    unlinked: u64,
) -> Result<(DescriptorKind, SealFlags), DescriptorFault> {
    // Only memory-backed files have seals; the others answer EINVAL.
    if let Ok(seals) = fcntl_get_seals(fd) {
        if seals.contains(SEALED) {
            return Ok((DescriptorKind::SealedMemory, seals));
        }
        if unlinked != 0 {
            return Err(DescriptorFault::Unfit("memory that is not sealed"));
        }
    }
    match access(flags) {
        0 => Ok((DescriptorKind::FileRead, SealFlags::empty())),
        1 | 2 => Ok((DescriptorKind::FileWrite, SealFlags::empty())),
        _ => Err(DescriptorFault::Unfit("a file that is open for neither reading nor writing")),
    }
}

fn socket(fd: BorrowedFd<'_>) -> Result<DescriptorKind, DescriptorFault> {
    let family = sockopt::socket_domain(fd)?;
    if ![AddressFamily::INET, AddressFamily::INET6, AddressFamily::UNIX].contains(&family) {
        return Err(DescriptorFault::Unfit("a socket that is neither internet nor Unix"));
    }
    if sockopt::socket_acceptconn(fd)? {
        return Err(DescriptorFault::Unfit("a listening socket"));
    }
    match sockopt::socket_type(fd)? {
        SocketType::STREAM => Ok(DescriptorKind::Stream),
        SocketType::DGRAM => Ok(DescriptorKind::Datagram),
        _ => Err(DescriptorFault::Unfit("a socket that is neither stream nor datagram")),
    }
}

fn pipe(flags: OFlags) -> Result<DescriptorKind, DescriptorFault> {
    match access(flags) {
        0 => Ok(DescriptorKind::PipeRead),
        1 => Ok(DescriptorKind::PipeWrite),
        _ => Err(DescriptorFault::Unfit("a pipe that is open both ways")),
    }
}
