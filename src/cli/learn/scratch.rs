//! What a learned program sees of the host: everything, and nothing that it could change for good.
//!
//! Each directory of the root is the lower side of an overlay whose upper side is memory. A directory
//! in which something else is mounted can't be a lower side, so it is made anew and its entries are
//! taken one by one. `/proc`, `/sys` and `/dev` are the view's own.

mod own;

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Uid};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags,
};

use crate::sys::mount::{MountFlags, Reach, restrict};

/// Why the view could not be made.
#[derive(Debug, thiserror::Error)]
#[error("{what} `{path}`: {source}", path = path.escape_debug())]
pub(super) struct ScratchError {
    what: &'static str,
    path: String,
    source: io::Error,
}

/// The most overlays; every one takes the kernel some memory.
const MOST: usize = 512;

/// What is at the root's own places for these, whatever the host has there.
const OWN: [&str; 3] = ["/proc", "/sys", "/dev"];

/// What is seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    /// The host's files themselves, for good.
    pub host: bool,
    /// Settings of processes, such as user maps, can be written in `/proc`. Root could write the
    /// kernel's there as well.
    pub settable: bool,
}

/// Makes the view and enters it. This process is the first of its pid namespace, and has a mount
/// namespace and all capabilities over both.
pub(super) fn enter(view: View) -> Result<(), ScratchError> {
    let umask = rustix::process::umask(Mode::empty());
    let entered = if view.host { dress(view) } else { build(view) };
    rustix::process::umask(umask);
    entered
}

/// Leaves the host's file system as it is, but for the view's own places.
fn dress(view: View) -> Result<(), ScratchError> {
    make_private()?;
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| at("opening", "/")(errno.into()))?;
    own::places(&root, view)
}

fn make_private() -> Result<(), ScratchError> {
    let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    rustix::mount::mount_change("/", private)
        .map_err(|errno| at("making mounts private at", "/")(errno.into()))
}

fn build(seen: View) -> Result<(), ScratchError> {
    make_private()?;
    let memory = [("mode", "0755")];
    // Both on top of the old root, and so of nothing that has a path: paths lead past them.
    let upper = mount_new("tmpfs", &memory).map_err(at("making memory for", "/"))?;
    attach(&upper, Path::new("/")).map_err(at("mounting memory at", "/"))?;
    let root = mount_new("tmpfs", &memory).map_err(at("making memory for", "/"))?;
    attach(&root, Path::new("/")).map_err(at("mounting memory at", "/"))?;

    let mounted = fs::read_to_string("/proc/self/mountinfo")
        .map_err(at("reading", "/proc/self/mountinfo"))?;
    let mut view = Making { upper, root, mounted: mount_points(&mounted), overlays: 0 };
    view.entries(Path::new("/"))?;
    for path in OWN {
        rustix::fs::mkdirat(&view.root, within(Path::new(path)), Mode::from_raw_mode(0o755))
            .map_err(|errno| at("making", path)(errno.into()))?;
    }
    own::places(&view.root, seen)?;

    let enter = || -> io::Result<()> {
        rustix::process::fchdir(&view.root)?;
        rustix::process::pivot_root(".", ".")?;
        // On top of the new root is the old one, and on top of that the memory.
        rustix::mount::unmount(".", UnmountFlags::DETACH)?;
        rustix::mount::unmount(".", UnmountFlags::DETACH)?;
        Ok(rustix::process::chdir("/")?)
    };
    enter().map_err(at("entering", "/"))
}

/// A view being made.
struct Making {
    /// Where the upper sides lie.
    upper: OwnedFd,
    root: OwnedFd,
    /// Every place at which something is mounted.
    mounted: Vec<PathBuf>,
    overlays: usize,
}

impl Making {
    /// Puts whatever is in a directory of the host into the same directory of the view.
    fn entries(&mut self, directory: &Path) -> Result<(), ScratchError> {
        // What this user may not list, the program may not either.
        let Ok(entries) = fs::read_dir(directory) else { return Ok(()) };
        for entry in entries.flatten() {
            let path = entry.path();
            if OWN.iter().any(|own| path == Path::new(own)) {
                continue;
            }
            let Ok(found) = entry.metadata() else { continue };
            self.entry(&path, &found).map_err(|source| ScratchError {
                what: "showing",
                path: path.display().to_string(),
                source,
            })?;
            if found.is_dir() && self.is_split(&path) {
                self.entries(&path)?;
            }
        }
        Ok(())
    }

    /// Whether a directory can't be one overlay.
    fn is_split(&self, path: &Path) -> bool {
        // Of other owners, with a place for everybody in it: an upper side of one's own can't take
        // the directory between them over.
        let holds_shared = path == Path::new("/var");
        holds_shared || self.mounted.iter().any(|point| point != path && point.starts_with(path))
    }

    fn entry(&mut self, path: &Path, found: &fs::Metadata) -> io::Result<()> {
        let kind = found.file_type();
        if kind.is_symlink() {
            let target = fs::read_link(path)?;
            Ok(rustix::fs::symlinkat(target, &self.root, within(path))?)
        } else if kind.is_dir() {
            rustix::fs::mkdirat(&self.root, within(path), Mode::from_raw_mode(0o755))?;
            if self.is_split(path) {
                return alike(&self.root, within(path), found);
            }
            self.overlay(path, found)
        } else if kind.is_file() {
            self.bind(path)
        } else {
            Ok(())
        }
    }

    /// A directory of the host, and memory above it. What can't be a lower side is shown as it is,
    /// and can't be written.
    fn overlay(&mut self, path: &Path, found: &fs::Metadata) -> io::Result<()> {
        self.overlays += 1;
        if self.overlays > MOST {
            return Err(io::Error::other("too many directories have something mounted in them"));
        }
        let [up, work] = ["u", "w"].map(|side| format!("{side}{}", self.overlays));
        for side in [&up, &work] {
            rustix::fs::mkdirat(&self.upper, side.as_str(), Mode::from_raw_mode(0o755))?;
        }
        alike(&self.upper, Path::new(&up), found)?;
        let above = fd_path(&self.upper);
        let lower = path.to_str().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidFilename))?;
        // A colon would part two lower sides.
        let lower = lower.replace('\\', "\\\\").replace(':', "\\:");
        let (up, work) = (format!("{above}/{up}"), format!("{above}/{work}"));
        let options =
            [("lowerdir", &*lower), ("upperdir", &*up), ("workdir", &*work), ("userxattr", "")];
        match mount_new("overlay", &options) {
            Ok(mount) => attach_at(&mount, &self.root, within(path)),
            Err(_) => self.show(path),
        }
    }

    /// A single file, which can't be written.
    fn bind(&self, path: &Path) -> io::Result<()> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        rustix::fs::openat(&self.root, within(path), flags, Mode::from_raw_mode(0o444))?;
        self.show(path)
    }

    /// What is at a path, at the same path of the view; nothing of it can be written.
    fn show(&self, path: &Path) -> io::Result<()> {
        show(&self.root, path)
    }
}

/// What is at a path, at the same path of a root; nothing of it can be written.
fn show(root: &OwnedFd, path: &Path) -> io::Result<()> {
    let tree = copy(path)?;
    let flags = MountFlags { read_only: true, no_devices: true, ..MountFlags::default() };
    restrict(&tree, Reach::Tree, flags)?;
    attach_at(&tree, root, within(path))
}

/// Gives a directory of ours the mode of the host's, and its owner where that can be had.
fn alike(parent: &OwnedFd, name: &Path, found: &fs::Metadata) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(found.uid()), Gid::from_raw(found.gid()));
    // In an ordinary user's namespace there is nobody else.
    let _ = rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::empty());
    let mode = Mode::from_raw_mode(found.mode() & 0o7777);
    Ok(rustix::fs::chmodat(parent, name, mode, AtFlags::empty())?)
}

/// A new file system, mounted nowhere yet. An option without a value is a flag.
fn mount_new(kind: &str, options: &[(&str, &str)]) -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        if value.is_empty() {
            rustix::mount::fsconfig_set_flag(&context, *key)?;
        } else {
            rustix::mount::fsconfig_set_string(&context, *key, *value)?;
        }
    }
    rustix::mount::fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    Ok(rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// A copy of what is mounted at a path and beneath, mounted nowhere yet.
fn copy(path: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    Ok(rustix::mount::open_tree(CWD, path, flags)?)
}

fn attach(mount: &OwnedFd, path: &Path) -> io::Result<()> {
    let onto = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(rustix::mount::move_mount(mount, "", CWD, path, onto)?)
}

fn attach_at(mount: &OwnedFd, root: &OwnedFd, path: &Path) -> io::Result<()> {
    let onto = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(rustix::mount::move_mount(mount, "", root, path, onto)?)
}

/// A path as seen from the root.
fn within(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

/// The way to what a descriptor of this process is open on.
fn fd_path(fd: &OwnedFd) -> String {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

/// The fifth field of each line, in which white space is written in octal (`proc_pid_mountinfo(5)`).
fn mount_points(mountinfo: &str) -> Vec<PathBuf> {
    let fields = mountinfo.lines().filter_map(|line| line.split(' ').nth(4));
    let plain = |text: &str| {
        [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
            .into_iter()
            .fold(text.to_owned(), |text, (octal, plain)| text.replace(octal, plain))
    };
    fields.map(|field| PathBuf::from(plain(field))).collect()
}

fn at(what: &'static str, path: &str) -> impl FnOnce(io::Error) -> ScratchError {
    let path = path.to_owned();
    move |source| ScratchError { what, path, source }
}

#[cfg(test)]
mod tests {
    use super::mount_points;

    #[test]
    fn mount_points_are_read() {
        let line = "22 28 0:21 / /srv/a\\040b rw,nosuid shared:7 - ext4 /dev/vda rw\n";
        assert_eq!(mount_points(line), [std::path::PathBuf::from("/srv/a b")]);
    }
}
