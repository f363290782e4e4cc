//! Section E: files outside the grants, and mounts.

use nix::errno::Errno::{EACCES, EEXIST, EINVAL, ENOENT, EPERM, EROFS};

use super::{Attack, Facts, Outcome, at, fact, into, path, raw, row};

/// Every attack here.
pub(super) const ROWS: &[Attack] = &[
    row("open", open).killed_at("open").says(&[ENOENT, EACCES]),
    row("openat", openat).killed_at("openat").says(&[ENOENT, EACCES]),
    row("openat2", openat2).killed_at("openat2").says(&[ENOENT, EACCES]),
    row("open-up", open_up).killed_at("openat").says(&[ENOENT, EACCES]),
    row("open-device", open_device).killed_at("openat").says(&[ENOENT, EACCES]),
    row("stat", stat).killed_at("newfstatat").says(&[ENOENT, EACCES]),
    row("write-outside", write_outside).killed_at("openat").says(&[ENOENT, EACCES, EROFS]),
    row("truncate", truncate).killed_at("truncate").says(&[ENOENT, EACCES, EROFS]),
    row("make-file", make_file).ruler().killed_at("openat").says(&[EACCES, EROFS, EPERM]),
    row("make-directory", make_directory)
        .ruler()
        .killed_at("mkdirat")
        .says(&[EACCES, EROFS, EPERM]),
    row("make-device", make_device)
        .without("no namespace allows it")
        .killed_at("mknodat")
        .says(&[EACCES, EROFS, EPERM]),
    row("symlink", symlink).ruler().killed_at("symlinkat").says(&[EACCES, EROFS, EPERM, EEXIST]),
    row("chmod-root", chmod_root)
        .without("it would change the machine")
        .killed_at("fchmodat")
        .says(&[EROFS, EPERM, EACCES]),
    row("mount", mount).ruler().killed_at("mount").says(&[EPERM, EACCES]),
    row("umount", umount)
        .without("the row `mount` shows it")
        .killed_at("umount2")
        .says(&[EPERM, EACCES, EINVAL]),
    row("remount", remount).ruler().killed_at("mount").says(&[EPERM, EACCES]),
    row("fsopen", fsopen).ruler().killed_at("fsopen").says(&[EPERM, EACCES]),
    row("open-tree", open_tree).ruler().killed_at("open_tree").says(&[EPERM, EACCES]),
    row("mount-setattr", mount_setattr).ruler().killed_at("mount_setattr").says(&[EPERM, EACCES]),
    row("pivot-root", pivot_root)
        .without("the row `mount` shows it")
        .killed_at("pivot_root")
        .says(&[EPERM, EACCES]),
    row("chroot", chroot).ruler().killed_at("chroot").says(&[EPERM, EACCES]),
];

const HERE: i64 = libc::AT_FDCWD as i64;

fn secret(facts: &Facts) -> Result<i64, nix::errno::Errno> {
    Ok(path(facts, "secret")?.cast::<u8>() as i64)
}

fn opened(fd: i64) -> String {
    format!("descriptor {fd}")
}

#[cfg(target_arch = "x86_64")]
pub(super) fn open(facts: &Facts) -> Outcome {
    raw(libc::SYS_open, [secret(facts)?, 0, 0, 0, 0, 0]).map(opened)
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) fn open(facts: &Facts) -> Outcome {
    openat(facts)
}

pub(super) fn openat(facts: &Facts) -> Outcome {
    raw(libc::SYS_openat, [HERE, secret(facts)?, 0, 0, 0, 0]).map(opened)
}

pub(super) fn openat2(facts: &Facts) -> Outcome {
    let how = [0_u64; 3];
    raw(libc::SYS_openat2, [HERE, secret(facts)?, at(&how), 24, 0, 0]).map(opened)
}

/// Out of the root, by as many `..` as it takes.
pub(super) fn open_up(facts: &Facts) -> Outcome {
    let path = format!("{}{}\0", "../".repeat(16), fact(facts, "secret")?.trim_start_matches('/'));
    raw(libc::SYS_openat, [HERE, at(path.as_bytes()), 0, 0, 0, 0]).map(opened)
}

/// The terminal's multiplexer: a device that anybody may open.
pub(super) fn open_device(_: &Facts) -> Outcome {
    let mode = i64::from(libc::O_RDWR | libc::O_NOCTTY);
    raw(libc::SYS_openat, [HERE, at(c"/dev/ptmx"), mode, 0, 0, 0]).map(opened)
}

/// Landlock doesn't cover it (E7): only the root does.
pub(super) fn stat(facts: &Facts) -> Outcome {
    // SAFETY: all bits zero are a `stat`.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    raw(libc::SYS_newfstatat, [HERE, secret(facts)?, into(&mut stat), 0, 0, 0])?;
    Ok(format!("{} bytes", stat.st_size))
}

/// A file that anybody may write to.
pub(super) fn write_outside(facts: &Facts) -> Outcome {
    let fd = raw(libc::SYS_openat, [HERE, secret(facts)?, libc::O_WRONLY.into(), 0, 0, 0])?;
    raw(libc::SYS_write, [fd, at(b"x"), 1, 0, 0, 0]).map(|_| "written".to_owned())
}

pub(super) fn truncate(facts: &Facts) -> Outcome {
    raw(libc::SYS_truncate, [secret(facts)?, 1, 0, 0, 0, 0]).map(|_| "cut".to_owned())
}

/// In the root of whoever runs this: the control has one of its own.
pub(super) fn make_file(_: &Facts) -> Outcome {
    let mode = i64::from(libc::O_CREAT | libc::O_WRONLY);
    raw(libc::SYS_openat, [HERE, at(c"/tmp-cofferdam-probe"), mode, 0o600, 0, 0]).map(opened)
}

pub(super) fn make_directory(_: &Facts) -> Outcome {
    raw(libc::SYS_mkdirat, [HERE, at(c"/tmp-cofferdam-probe"), 0o700, 0, 0, 0])
        .map(|_| "made".to_owned())
}

pub(super) fn make_device(_: &Facts) -> Outcome {
    let mode = i64::from(libc::S_IFCHR | 0o600);
    // /dev/mem
    raw(libc::SYS_mknodat, [HERE, at(c"/mem"), mode, 0x101, 0, 0]).map(|_| "made".to_owned())
}

pub(super) fn symlink(_: &Facts) -> Outcome {
    raw(libc::SYS_symlinkat, [at(c"/etc"), HERE, at(c"/tmp-cofferdam-probe"), 0, 0, 0])
        .map(|_| "made".to_owned())
}

pub(super) fn chmod_root(_: &Facts) -> Outcome {
    raw(libc::SYS_fchmodat, [HERE, at(c"/"), 0o777, 0, 0, 0]).map(|_| "changed".to_owned())
}

pub(super) fn mount(_: &Facts) -> Outcome {
    raw(libc::SYS_mount, [at(c"none"), at(c"/"), at(c"tmpfs"), 0, 0, 0])
        .map(|_| "mounted".to_owned())
}

pub(super) fn umount(_: &Facts) -> Outcome {
    raw(libc::SYS_umount2, [at(c"/"), libc::MNT_DETACH.into(), 0, 0, 0, 0])
        .map(|_| "unmounted".to_owned())
}

/// Makes the root writable again.
pub(super) fn remount(_: &Facts) -> Outcome {
    let flags = i64::try_from(libc::MS_REMOUNT | libc::MS_BIND).unwrap_or(0);
    raw(libc::SYS_mount, [0, at(c"/"), 0, flags, 0, 0]).map(|_| "remounted".to_owned())
}

pub(super) fn fsopen(_: &Facts) -> Outcome {
    raw(libc::SYS_fsopen, [at(c"tmpfs"), 0, 0, 0, 0, 0]).map(opened)
}

/// OPEN_TREE_CLONE
pub(super) fn open_tree(_: &Facts) -> Outcome {
    raw(libc::SYS_open_tree, [HERE, at(c"/"), 1, 0, 0, 0]).map(opened)
}

/// Clears MOUNT_ATTR_RDONLY.
pub(super) fn mount_setattr(_: &Facts) -> Outcome {
    let attributes = [0_u64, 1, 0, 0];
    raw(libc::SYS_mount_setattr, [HERE, at(c"/"), 0, at(&attributes), 32, 0])
        .map(|_| "changed".to_owned())
}

pub(super) fn pivot_root(_: &Facts) -> Outcome {
    raw(libc::SYS_pivot_root, [at(c"."), at(c"."), 0, 0, 0, 0]).map(|_| "pivoted".to_owned())
}

pub(super) fn chroot(_: &Facts) -> Outcome {
    raw(libc::SYS_chroot, [at(c"/"), 0, 0, 0, 0, 0]).map(|_| "changed".to_owned())
}
