//! Places in the new root: directories, and empty files for mounts.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::sys::resolve::openat2;

/// The root that is being made.
pub(super) struct Root {
    fd: OwnedFd,
    /// File systems that are the layer's own, by their devices. On others nothing is made: they
    /// are the host's.
    own: Vec<u64>,
}

impl Root {
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        let mut root = Self { fd, own: Vec::new() };
        root.own.push(rustix::fs::fstat(&root.fd)?.st_dev);
        Ok(root)
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Notes that what is mounted is the layer's own file system.
    pub(super) fn owns(&mut self, mounted: &OwnedFd) -> io::Result<()> {
        self.own.push(rustix::fs::fstat(mounted)?.st_dev);
        Ok(())
    }

    /// Makes the directories above `path` and an empty directory or file at it, as far as they
    /// don't exist, and opens it. No step follows a symbolic link or leaves the root.
    pub(super) fn point(&self, path: &str, directory: bool) -> io::Result<OwnedFd> {
        let (above, last) = self.above(path)?;
        self.step(above.as_ref().map_or(self.fd(), AsFd::as_fd), last, directory)
    }

    /// The directory that the last part of `path` is to be made in, and that part. `None` is the
    /// root itself.
    pub(super) fn place<'p>(&self, path: &'p str) -> io::Result<(Option<OwnedFd>, &'p Path)> {
        let (above, last) = self.above(path)?;
        self.is_own(above.as_ref().map_or(self.fd(), AsFd::as_fd))?;
        Ok((above, last))
    }

    /// Makes a symbolic link.
    pub(super) fn link(&self, path: &str, target: &str) -> io::Result<()> {
        let (above, name) = self.place(path)?;
        let above = above.as_ref().map_or(self.fd(), AsFd::as_fd);
        Ok(rustix::fs::symlinkat(target, above, name)?)
    }

    fn above<'p>(&self, path: &'p str) -> io::Result<(Option<OwnedFd>, &'p Path)> {
        let names: Vec<&Path> = Path::new(path)
            .components()
            .filter_map(|part| match part {
                Component::Normal(name) => Some(Path::new(name)),
                _ => None,
            })
            .collect();
        let Some((last, above)) = names.split_last() else {
            return Err(io::Error::other("the root itself can't be granted, name what is in it"));
        };
        let mut at: Option<OwnedFd> = None;
        for name in above {
            at = Some(self.step(at.as_ref().map_or(self.fd(), AsFd::as_fd), name, true)?);
        }
        Ok((at, last))
    }

    fn step(&self, parent: BorrowedFd<'_>, name: &Path, directory: bool) -> io::Result<OwnedFd> {
        match open(parent, name) {
            Err(Errno::NOENT) => {}
            found => return Ok(found?),
        }
        self.is_own(parent)?;
        if directory {
            rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755))?;
        } else {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o444))?;
        }
        Ok(open(parent, name)?)
    }

    fn is_own(&self, directory: BorrowedFd<'_>) -> io::Result<()> {
        if self.own.contains(&rustix::fs::fstat(directory)?.st_dev) {
            return Ok(());
        }
        let what = "it would have to be made in a directory of the host that is granted";
        Err(io::Error::other(what))
    }
}

fn open(parent: BorrowedFd<'_>, name: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    openat2(parent, name, flags, Mode::empty(), resolve)
}
