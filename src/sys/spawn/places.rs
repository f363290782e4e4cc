//! Where a child finds its descriptors.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::io::fcntl_dupfd_cloexec;

use super::Spawn;

/// A descriptor, and its number in the child.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) source: RawFd,
    pub(super) at: RawFd,
}

/// The places of a child, by rising number.
pub(super) struct Places(pub(super) Vec<Place>, RawFd);

/// This process's own standard streams, while a child that shares the table has others there.
pub(super) struct Lent([OwnedFd; 3]);

impl Places {
    pub(super) fn of(order: &Spawn<'_>) -> Self {
        let first = (0..).zip(order.fds).map(|(at, fd)| Place { source: fd.as_raw_fd(), at });
        let others = order.others.iter();
        let others = others.map(|(at, fd)| Place { source: fd.as_raw_fd(), at: *at });
        let mut places: Vec<_> = first.chain(others).collect();
        places.sort_by_key(|place| place.at);
        let free = places.last().map_or(0, |place| place.at + 1);
        Self(places, order.program_at.unwrap_or(free).max(free))
    }

    /// Makes this process's table one that a child may arrange: all but the standard streams, which
    /// are kept aside, lies above. An error (`EBUSY`) where something is in the way.
    pub(super) fn lend(&self) -> io::Result<Lent> {
        let Self(_, program_at) = self;
        if (3..=*program_at).any(is_open) {
            return Err(io::Error::from_raw_os_error(libc::EBUSY));
        }
        let aside = |fd: &dyn AsFd| fcntl_dupfd_cloexec(fd, program_at + 1);
        Ok(Lent([aside(&io::stdin())?, aside(&io::stdout())?, aside(&io::stderr())?]))
    }
}

impl Lent {
    /// Closes what the child has put into the table, and puts the standard streams back.
    pub(super) fn take_back(self, places: &Places, program: Option<RawFd>) -> io::Result<()> {
        let Places(all, program_at) = places;
        // A child that failed before has moved none: then nothing is there to be closed.
        let Some(program) = program else { return Ok(()) };
        let put = all.iter().map(|place| place.at).filter(|at| *at > 2).chain([*program_at]);
        for fd in all.iter().map(|place| place.source).chain([program]).chain(put) {
            if is_open(fd) {
                // SAFETY: the child has made it in the table that we shared, above or among numbers
                // that were free before, and has left that table: nobody owns it.
                drop(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
        let Self([stdin, stdout, stderr]) = self;
        dup2_stdin(stdin)?;
        dup2_stdout(stdout)?;
        Ok(dup2_stderr(stderr)?)
    }
}

fn is_open(fd: RawFd) -> bool {
    // SAFETY: F_GETFD on a number touches no memory, and fails if the number isn't open.
    unsafe { libc::fcntl(fd, libc::F_GETFD) >= 0 }
}
