//! The empty root directory, and what is put in it.
//!
//! A small tmpfs becomes the root; every place is made in it or bound into it, with flags that hold
//! for all mounts beneath; the old root goes; the new one becomes read-only.
//!
//! `point` makes the places of mounts, `bind` puts what the host has there, `made` what it hasn't.

mod bind;
mod made;
mod point;

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{CWD, Mode};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags,
};

use self::point::Root;
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
        /// Its path, as the layer would see it.
        path: String,
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// A step that failed, and why.
type Failed = (&'static str, io::Error);

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
    let options = [("size", "1m"), ("nr_inodes", "2048"), ("mode", "0755")];
    let root = in_memory(&options).map_err(at_root("making the tmpfs of the root"))?;
    let onto = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(&root, "", CWD, "/", onto)
        .map_err(at_root("mounting the tmpfs of the root"))?;

    let mut root = Root::new(root).map_err(at_root("looking at the tmpfs of the root"))?;
    for place in places {
        put(&mut root, place, account).map_err(|(what, source)| RootError::ViewEntry {
            path: place.path.clone(),
            what,
            source,
        })?;
    }

    // The new root is where the old one was, and the old one on top of it: pivot_root(2), "." and
    // ".". Then it goes, with all that hangs on it.
    rustix::process::fchdir(root.fd()).map_err(at_root("entering the new root"))?;
    rustix::process::pivot_root(".", ".").map_err(at_root("pivot_root"))?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).map_err(at_root("leaving the old root"))?;
    rustix::process::chdir("/").map_err(at_root("changing to the new root"))?;

    // Its directories exist now. One mount alone: what is bound into it has flags of its own.
    let sealed =
        MountFlags { read_only: true, no_devices: true, no_exec: true, ..MountFlags::default() };
    restrict(root.fd(), Reach::Mount, sealed).map_err(at_root("making the root read-only"))
}

fn put(root: &mut Root, place: &ViewEntry, account: &Account<'_>) -> Result<(), Failed> {
    match &place.kind {
        Kind::Generated(content, mode) => {
            made::file(root, &place.path, &content.text(account), *mode)
        }
        Kind::Link(target) => {
            root.link(&place.path, target).map_err(|error| ("making the link", error))
        }
        Kind::InMemory(size) => made::tmpfs(root, &place.path, *size, None),
        Kind::Private(size) => made::tmpfs(root, &place.path, *size, Some(account)),
        Kind::Proc => made::proc(root, &place.path),
        Kind::Granted(_)
        | Kind::Optional(_)
        | Kind::Served(_)
        | Kind::System
        | Kind::Followed
        | Kind::Device
        | Kind::Owned => bind::put(root, place),
    }
}

/// A file system in memory, mounted nowhere yet, on which no device is one, nothing is executed and
/// nobody gets another's rights.
fn in_memory(options: &[(&str, &str)]) -> rustix::io::Result<OwnedFd> {
    let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        rustix::mount::fsconfig_set_string(&context, *key, *value)?;
    }
    rustix::mount::fsconfig_create(&context)?;
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, RESTRICTED)
}

/// What holds for each mount of a file system of the layer's own.
const RESTRICTED: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID
    .union(MountAttrFlags::MOUNT_ATTR_NODEV)
    .union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

fn at_root<E: Into<io::Error>>(what: &'static str) -> impl Fn(E) -> RootError {
    move |cause| RootError::Root(what, cause.into())
}
