//! `mount_setattr(2)`, Linux 5.12, which neither `nix` nor `rustix` has.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Attributes to set on mounts; what isn't set stays as it is, and nothing is ever cleared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is an attribute of the kernel's")]
pub struct MountFlags {
    /// Nothing can be written.
    pub read_only: bool,
    /// Device nodes can't be opened.
    pub no_devices: bool,
    /// Nothing can be executed.
    pub no_exec: bool,
    /// No symbolic link is followed. Linux 5.14.
    pub no_links: bool,
}

/// The kernel's `struct mount_attr`, first version.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

// From linux/mount.h; libc has not all of them for every target.
const MOUNT_ATTR_RDONLY: u64 = 0x1;
const MOUNT_ATTR_NOSUID: u64 = 0x2;
const MOUNT_ATTR_NODEV: u64 = 0x4;
const MOUNT_ATTR_NOEXEC: u64 = 0x8;
const MOUNT_ATTR_NOSYMFOLLOW: u64 = 0x20_0000;

/// How far [`restrict`] reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// One mount.
    Mount,
    /// It and every mount beneath it, so that no submount stays writable (threat E11).
    Tree,
}

/// Sets `flags`, and always `nosuid`, on the mount behind `mount`. All of `reach` changes or
/// nothing does.
pub fn restrict(mount: impl AsFd, reach: Reach, flags: MountFlags) -> io::Result<()> {
    let bit = |on: bool, bit: u64| if on { bit } else { 0 };
    let attr = MountAttr {
        set: MOUNT_ATTR_NOSUID
            | bit(flags.read_only, MOUNT_ATTR_RDONLY)
            | bit(flags.no_devices, MOUNT_ATTR_NODEV)
            | bit(flags.no_exec, MOUNT_ATTR_NOEXEC)
            | bit(flags.no_links, MOUNT_ATTR_NOSYMFOLLOW),
        clear: 0,
        propagation: 0,
        user_namespace: 0,
    };
    let recursive = match reach {
        Reach::Mount => 0,
        Reach::Tree => libc::AT_RECURSIVE,
    };
    // SAFETY: the path is an empty, terminated string, `attr` is a `struct mount_attr` of the size
    // that is passed, and the kernel only reads both.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | recursive,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
