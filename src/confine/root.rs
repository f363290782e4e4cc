//! The empty root directory, and what is mounted in it.
//!
//! A small tmpfs becomes the root; every place is bound into it at its own path, with flags that
//! hold for all mounts beneath; the old root goes; the new one becomes read-only.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags,
};

use super::generated::Account;
use super::paths::{Kind, ViewEntry};
use crate::sys::mount::{MountFlags, Reach, restrict};

/// Why the root could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// A mount of the root itself failed.
    #[error("{0}: {1}")]
    Root(&'static str, #[source] io::Error),
    /// A place could not be put into it.
    #[error("{path}: {what}: {source}")]
    ViewEntry {
        /// The path that the policy grants.
        path: String,
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Makes `places` the whole file system of this process, which is in a mount namespace of its own
/// and becomes `account`.
///
/// Afterwards the working directory is `/`.
pub(super) fn replace(places: &[ViewEntry], account: &Account<'_>) -> Result<(), RootError> {
    // What is made below is to have the modes that are said.
    let umask = rustix::process::umask(Mode::empty());
    let replaced = build_and_enter(places, account);
    rustix::process::umask(umask);
    replaced
}

fn build_and_enter(places: &[ViewEntry], account: &Account<'_>) -> Result<(), RootError> {
    // Before the first mount, or it would show on the host where mounts are shared (threat E10).
    let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    rustix::mount::mount_change("/", private).map_err(at_root("making mounts private"))?;

    // On top of the old root, where no directory has to exist for it. Paths still lead to the old
    // one: this process's root is the mount below.
    let root = tmpfs().map_err(at_root("making the tmpfs of the root"))?;
    let onto = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(&root, "", CWD, "/", onto)
        .map_err(at_root("mounting the tmpfs of the root"))?;

    for place in places {
        match &place.kind {
            Kind::Generated(content, mode) => write(&root, place, &content.text(account), *mode)?,
            _ => put(&root, place)?,
        }
    }

    // The new root is where the old one was, and the old one on top of it: pivot_root(2), "." and
    // ".". Then it goes, with all that hangs on it.
    rustix::process::fchdir(&root).map_err(at_root("entering the new root"))?;
    rustix::process::pivot_root(".", ".").map_err(at_root("pivot_root"))?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).map_err(at_root("leaving the old root"))?;
    rustix::process::chdir("/").map_err(at_root("changing to the new root"))?;

    // Its directories exist now. One mount alone: what is bound into it has flags of its own.
    let sealed =
        MountFlags { read_only: true, no_devices: true, no_exec: true, ..MountFlags::default() };
    restrict(&root, Reach::Mount, sealed).map_err(at_root("making the root read-only"))
}

/// Room for mount points, which have no pages, and for the files that are generated.
fn tmpfs() -> rustix::io::Result<OwnedFd> {
    let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in [("size", "1m"), ("nr_inodes", "2048"), ("mode", "0755")] {
        rustix::mount::fsconfig_set_string(&context, key, value)?;
    }
    rustix::mount::fsconfig_create(&context)?;
    rustix::mount::fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC,
    )
}

/// Binds one place into the new root.
fn put(root: &OwnedFd, place: &ViewEntry) -> Result<(), RootError> {
    let failed = |what| at_place(place, what);
    let source = match open_source(place).map_err(failed("opening it"))? {
        Source::Absent => return Ok(()),
        Source::Link(target) => {
            return link(root, place, &target).map_err(failed("copying the symbolic link"));
        }
        Source::Open(source) => source,
    };
    let directory = is_directory(&source, &place.kind).map_err(failed("looking at it"))?;
    let target = mount_point(root, Path::new(&place.path), directory)
        .map_err(failed("making a place for it in the layer's root"))?;

    // A copy of the tree, still mounted nowhere: it gets its flags before anybody sees it.
    let copy = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = rustix::mount::open_tree(&source, "", copy)
        .map_err(|errno| failed("copying its mounts")(errno.into()))?;
    restrict(&tree, Reach::Tree, place.mount_flags()).map_err(failed("restricting its mounts"))?;
    let here = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(&tree, "", &target, "", here)
        .map_err(|errno| failed("mounting it in the layer's root")(errno.into()))
}

/// Makes a file with this text. What is mounted already is left alone: a file in it would be one of
/// the host's.
fn write(root: &OwnedFd, place: &ViewEntry, text: &str, mode: u32) -> Result<(), RootError> {
    let failed = |what| at_place(place, what);
    let path = Path::new(&place.path);
    let directory = path.parent().unwrap_or(path);
    let create = |directory: BorrowedFd<'_>| -> io::Result<File> {
        let how = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let within =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let name = path.file_name().ok_or(Errno::ISDIR)?;
        let mode = Mode::from_raw_mode(mode);
        Ok(rustix::fs::openat2(directory, name, how, mode, within)?.into())
    };
    let created = match directory.parent() {
        None => create(root.as_fd()),
        Some(_) => mount_point(root, directory, true).and_then(|created| {
            if rustix::fs::fstat(&created)?.st_dev != rustix::fs::fstat(root)?.st_dev {
                return Err(Errno::XDEV.into());
            }
            create(created.as_fd())
        }),
    };
    let mut file = created.map_err(failed("making it in the layer's root"))?;
    file.write_all(text.as_bytes()).map_err(failed("writing it"))
}

enum Source {
    Open(OwnedFd),
    Link(String),
    Absent,
}

/// Opens what is to be bound, pinned. A granted path has no symbolic link in it: whoever may
/// change one of its directories could otherwise choose what the layer gets.
fn open_source(place: &ViewEntry) -> io::Result<Source> {
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let resolve = match place.kind {
        Kind::Granted | Kind::Optional | Kind::Served => {
            ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS
        }
        Kind::System | Kind::Device | Kind::Generated(..) => ResolveFlags::NO_MAGICLINKS,
    };
    let fd = match rustix::fs::openat2(CWD, &place.path, flags, Mode::empty(), resolve) {
        Ok(fd) => fd,
        Err(Errno::NOENT) if place.kind != Kind::Granted => return Ok(Source::Absent),
        Err(Errno::LOOP | Errno::NOTDIR) if place.kind == Kind::Served => {
            return Ok(Source::Absent);
        }
        Err(errno) => return Err(errno.into()),
    };
    if FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) == FileType::Symlink {
        match place.kind {
            // `NO_SYMLINKS` lets a handle on the link itself be opened.
            Kind::Granted | Kind::Optional => return Err(Errno::LOOP.into()),
            Kind::Served => return Ok(Source::Absent),
            Kind::System | Kind::Device | Kind::Generated(..) => {}
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

fn link(root: &OwnedFd, place: &ViewEntry, target: &str) -> io::Result<()> {
    // All of them lie in the root itself.
    let name = place.path.trim_start_matches('/');
    Ok(rustix::fs::symlinkat(target, root, name)?)
}

/// Makes the directories above `path` and an empty directory or file at it, as far as they don't
/// exist, and opens it. No step follows a symbolic link or leaves `root`.
fn mount_point(root: &OwnedFd, path: &Path, directory: bool) -> io::Result<OwnedFd> {
    let names: Vec<&Path> = path
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
        at = Some(step_into(at.as_ref().unwrap_or(root).as_fd(), name, true)?);
    }
    step_into(at.as_ref().unwrap_or(root).as_fd(), last, directory)
}

fn step_into(parent: BorrowedFd<'_>, name: &Path, directory: bool) -> io::Result<OwnedFd> {
    let made = if directory {
        rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755))
    } else {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o444)).map(drop)
    };
    if let Err(errno) = made
        && errno != Errno::EXIST
    {
        return Err(errno.into());
    }
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(rustix::fs::openat2(parent, name, flags, Mode::empty(), resolve)?)
}

fn at_place(place: &ViewEntry, what: &'static str) -> impl Fn(io::Error) -> RootError {
    move |source| RootError::ViewEntry { path: place.path.clone(), what, source }
}

fn at_root<E: Into<io::Error>>(what: &'static str) -> impl Fn(E) -> RootError {
    move |cause| RootError::Root(what, cause.into())
}
