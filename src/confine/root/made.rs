//! What no host has: generated files, links, and file systems of the layer's own.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::bind::{bind, mount};
use super::point::Root;
use super::{Failed, RESTRICTED, in_memory};
use crate::confine::generated::Account;
use crate::policy::plan::ViewPart;
use crate::sys::mount::MountFlags;
use crate::sys::resolve::openat2;

/// Makes a file with this text.
pub(super) fn file(root: &Root, path: &str, text: &str, mode: u32) -> Result<(), Failed> {
    let create = || -> io::Result<File> {
        let (above, name) = root.place(path)?;
        let above = above.as_ref().map_or(root.fd(), AsFd::as_fd);
        let how = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(above, name, how, Mode::from_raw_mode(mode))?.into())
    };
    let mut file = create().map_err(|error| ("making it in the layer's root", error))?;
    file.write_all(text.as_bytes()).map_err(|error| ("writing it", error))
}

/// Mounts an empty file system of at most so many bytes: `owner`'s alone, or one in which everybody
/// may make files and nobody may remove another's.
pub(super) fn tmpfs(
    root: &mut Root,
    path: &str,
    size: u64,
    owner: Option<&Account<'_>>,
) -> Result<(), Failed> {
    // A file takes memory of the kernel besides its pages: some kilobyte each.
    let (bytes, files) = (size.to_string(), (size / 1024).clamp(64, 1 << 20).to_string());
    let (uid, gid) = owner.map_or((0, 0), |owner| (owner.uid, owner.gid));
    let (uid, gid) = (uid.to_string(), gid.to_string());
    let mut options = vec![("size", &*bytes), ("nr_inodes", &*files)];
    match owner {
        Some(_) => options.extend([("mode", "0700"), ("uid", &*uid), ("gid", &*gid)]),
        None => options.push(("mode", "1777")),
    }
    let made = in_memory(&options).map_err(|errno| ("making a tmpfs", errno.into()))?;
    let target = root.point(path, true).map_err(|error| ("making a place for it", error))?;
    mount(&made, &target)?;
    root.owns(&made).map_err(|error| ("looking at it", error))
}

/// Mounts the processes of this process's pid namespace. What else is in a `/proc` is of the whole
/// machine: of that only what programs commonly read.
pub(super) fn proc(root: &Root, path: &str) -> Result<(), Failed> {
    let made = processes().map_err(|errno| (MOUNTING, errno.into()))?;
    let target = root.point(path, true).map_err(|error| ("making a place for it", error))?;
    mount(&made, &target)?;
    hide(root, &made).map_err(|error| ("hiding what is of the whole machine", error))
}

/// An ordinary user may mount one where it shows no more than the one that he sees already
/// (`mount_too_revealing` in fs/namespace.c): in a container that hides a part of its `/proc`, not.
const MOUNTING: &str = "mounting its own processes, which a user other than root may where \
                        nothing in the host's /proc is hidden by a mount";

fn processes() -> rustix::io::Result<OwnedFd> {
    let context = rustix::mount::fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(&context)?;
    let flags = RESTRICTED | MountAttrFlags::MOUNT_ATTR_RDONLY;
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags)
}

/// Puts an empty file or directory over everything in `proc` that is neither a process nor
/// [of the machine](ViewPart::OF_MACHINE): a newer kernel may have more.
fn hide(root: &Root, proc: &OwnedFd) -> io::Result<()> {
    let nothing = Nothing::new(root)?;
    let flags =
        MountFlags { read_only: true, no_devices: true, no_exec: true, ..MountFlags::default() };
    // The mount's own descriptor is a handle, by which nothing is listed.
    let list = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    for entry in Dir::new(rustix::fs::openat(proc, ".", list, Mode::empty())?)? {
        let entry = entry?;
        let name = entry.file_name();
        let text = name.to_string_lossy();
        let is_process = text.bytes().all(|byte| byte.is_ascii_digit());
        if is_process || ViewPart::OF_MACHINE.contains(&&*text) || matches!(&*text, "." | "..") {
            continue;
        }
        let handle = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let target =
            openat2(proc, OsStr::from_bytes(name.to_bytes()), handle, Mode::empty(), resolve)?;
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&target)?.st_mode);
        let source = if kind == FileType::Directory { &nothing.directory } else { &nothing.file };
        bind(source, &target, flags).map_err(|(_, error)| error)?;
    }
    nothing.remove(root)
}

/// An empty directory and an empty file, which are seen only where they are mounted.
struct Nothing {
    directory: OwnedFd,
    file: OwnedFd,
}

impl Nothing {
    const DIRECTORY: &str = ".nothing";
    const FILE: &str = "file";

    fn new(root: &Root) -> io::Result<Self> {
        let handle = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        rustix::fs::mkdirat(root.fd(), Self::DIRECTORY, Mode::from_raw_mode(0o555))?;
        let directory = rustix::fs::openat(root.fd(), Self::DIRECTORY, handle, Mode::empty())?;
        let create = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o444);
        rustix::fs::openat(&directory, Self::FILE, create, mode)?;
        let file = rustix::fs::openat(&directory, Self::FILE, handle, Mode::empty())?;
        Ok(Self { directory, file })
    }

    fn remove(self, root: &Root) -> io::Result<()> {
        rustix::fs::unlinkat(&self.directory, Self::FILE, AtFlags::empty())?;
        Ok(rustix::fs::unlinkat(root.fd(), Self::DIRECTORY, AtFlags::REMOVEDIR)?)
    }
}
