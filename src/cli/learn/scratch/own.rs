//! The places of a view that have nothing of the host's directories: processes, devices, and the
//! kernel's settings, which can be looked at.
//!
//! A write to `/proc/sys` asks for no capability: the host's root is whoever has its number, also in a
//! user namespace. So what shows settings is mounted read-only, and the program can't mount.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::{ScratchError, View, at, attach_at, copy, mount_new, show, within};
use crate::sys::mount::{MountFlags, Reach, restrict};

/// Devices that hold nothing, and the terminal that a process has opened as its own.
const DEVICES: [&str; 6] =
    ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];

/// What programs expect in `/dev` (proc(5), pts(4)).
const LINKS: [(&str, &str); 5] = [
    ("dev/fd", "/proc/self/fd"),
    ("dev/stdin", "/proc/self/fd/0"),
    ("dev/stdout", "/proc/self/fd/1"),
    ("dev/stderr", "/proc/self/fd/2"),
    ("dev/ptmx", "pts/ptmx"),
];

/// Puts them beneath a root that has a directory for each.
pub(super) fn places(root: &OwnedFd, view: View) -> Result<(), ScratchError> {
    let mount = |kind, options: &[(&str, &str)], path: &str| {
        mount_new(kind, options)
            .and_then(|mount| {
                if kind == "proc" && !view.settable {
                    let flags = MountFlags { read_only: true, ..MountFlags::default() };
                    restrict(&mount, Reach::Mount, flags)?;
                }
                attach_at(&mount, root, within(Path::new(path)))
            })
            .map_err(at("mounting", path))
    };
    mount("proc", &[], "/proc")?;
    show(root, Path::new("/sys")).map_err(at("showing", "/sys"))?;

    // Copied before the host's are hidden.
    let devices = DEVICES.map(|path| (path, copy(Path::new(path))));
    mount("tmpfs", &[("mode", "0755")], "/dev")?;
    for path in ["/dev/pts", "/dev/shm"] {
        rustix::fs::mkdirat(root, within(Path::new(path)), Mode::from_raw_mode(0o755))
            .map_err(|errno| at("making", path)(errno.into()))?;
    }
    for (path, device) in devices {
        let show = |device: &OwnedFd| {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            let (mode, within) = (Mode::from_raw_mode(0o666), within(Path::new(path)));
            rustix::fs::openat(root, within, flags, mode)?;
            attach_at(device, root, within)
        };
        device.and_then(|device| show(&device)).map_err(at("showing", path))?;
    }
    // Terminals of its own: those of the host would be somebody's.
    mount("devpts", &[("ptmxmode", "0666"), ("mode", "0620")], "/dev/pts")?;
    mount("tmpfs", &[("mode", "1777")], "/dev/shm")?;
    for (name, target) in LINKS {
        rustix::fs::symlinkat(target, root, name)
            .map_err(|errno| at("making", name)(errno.into()))?;
    }
    Ok(())
}
