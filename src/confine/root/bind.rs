//! What the host has: bound into the new root.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags};

use super::Failed;
use super::point::Root;
use crate::confine::paths::{Kind, ViewEntry};
use crate::sys::mount::{MountFlags, Reach, restrict};
use crate::sys::resolve::openat2;

/// Binds one place into the new root.
pub(super) fn put(root: &Root, place: &ViewEntry) -> Result<(), Failed> {
    let source = match open_source(place).map_err(|error| ("opening it", error))? {
        Source::Absent => return Ok(()),
        Source::Link(target) => {
            return root
                .link(&place.path, &target)
                .map_err(|error| ("copying the symbolic link", error));
        }
        Source::Open(source) => source,
    };
    let directory = is_directory(&source, &place.kind).map_err(|error| ("looking at it", error))?;
    let target = root
        .point(&place.path, directory)
        .map_err(|error| ("making a place for it in the layer's root", error))?;
    bind(&source, &target, place.mount_flags())
}

/// Mounts what `source` is at `target`, with all that is mounted beneath.
pub(super) fn bind(source: impl AsFd, target: impl AsFd, flags: MountFlags) -> Result<(), Failed> {
    // A copy of the tree, still mounted nowhere: it gets its flags before anybody sees it.
    let copy = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = rustix::mount::open_tree(source, "", copy)
        .map_err(|errno| ("copying its mounts", errno.into()))?;
    restrict(&tree, Reach::Tree, flags).map_err(|error| ("restricting its mounts", error))?;
    mount(&tree, target)
}

/// Mounts what is mounted nowhere yet.
pub(super) fn mount(tree: &OwnedFd, target: impl AsFd) -> Result<(), Failed> {
    let here = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(tree, "", target, "", here)
        .map_err(|errno| ("mounting it in the layer's root", errno.into()))
}

enum Source {
    Open(OwnedFd),
    Link(String),
    Absent,
}

/// Opens what is to be bound, pinned. A granted path has no symbolic link in it: whoever may
/// change one of its directories could otherwise choose what the layer gets.
fn open_source(place: &ViewEntry) -> io::Result<Source> {
    let (path, links) = match &place.kind {
        Kind::Granted(source) | Kind::Optional(source) | Kind::Served(source) => {
            (source, ResolveFlags::NO_SYMLINKS)
        }
        Kind::Owned => (&place.path, ResolveFlags::NO_SYMLINKS),
        _ => (&place.path, ResolveFlags::empty()),
    };
    let last = if place.kind == Kind::Followed { OFlags::empty() } else { OFlags::NOFOLLOW };
    let flags = OFlags::PATH | OFlags::CLOEXEC | last;
    let resolve = ResolveFlags::NO_MAGICLINKS | links;
    let must_be = matches!(place.kind, Kind::Granted(_) | Kind::Owned);
    let is_served = matches!(place.kind, Kind::Served(_));
    let fd = match openat2(CWD, path, flags, Mode::empty(), resolve) {
        Ok(fd) => fd,
        Err(Errno::NOENT) if !must_be => return Ok(Source::Absent),
        Err(Errno::LOOP | Errno::NOTDIR) if is_served || links.is_empty() => {
            return Ok(Source::Absent);
        }
        Err(errno) => return Err(errno.into()),
    };
    if FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) == FileType::Symlink {
        // `NO_SYMLINKS` lets a handle on the link itself be opened.
        if is_served {
            return Ok(Source::Absent);
        }
        if !links.is_empty() {
            return Err(Errno::LOOP.into());
        }
        let target = rustix::fs::readlinkat(&fd, "", Vec::new())?;
        let target = target.into_string().map_err(|_| io::Error::from(Errno::ILSEQ))?;
        return Ok(Source::Link(target));
    }
    Ok(Source::Open(fd))
}

/// Whether it is a directory; an error if it is something that can't be granted.
fn is_directory(source: &OwnedFd, kind: &Kind) -> io::Result<bool> {
    let found = FileType::from_raw_mode(rustix::fs::fstat(source)?.st_mode);
    match (found, kind) {
        (FileType::Directory, _) => Ok(true),
        (FileType::RegularFile, _) | (FileType::CharacterDevice, Kind::Device) => Ok(false),
        // Devices, FIFOs and sockets reach past the file system.
        _ => Err(io::Error::other("neither a regular file nor a directory")),
    }
}
