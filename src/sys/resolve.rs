//! `openat2(2)`, also where a system-call filter beneath this process answers it with `ENOSYS`.
//!
//! Filters can't see the flags of this call, which are in memory, so some refuse it as a whole:
//! systemd does for each unit with `RestrictSUIDSGID=` (`seccomp_restrict_sxid` in its
//! `src/shared/seccomp-util.c`). There the path is walked one component at a time, each opened
//! beneath the one before and without following links, which comes to the same: what is looked at is
//! what is used, whoever renames what meanwhile.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, StatxFlags, fstat, fstatfs, openat,
    readlinkat, statx,
};
use rustix::io::Errno;

/// As many symbolic links as the kernel itself follows (`path_resolution(7)`).
const MAX_LINKS: usize = 40;

/// linux/magic.h: links in it may lead where no path does.
const PROC_SUPER_MAGIC: u64 = 0x9fa0;

/// Opens `path` as openat2(2) does with these `resolve` flags.
///
/// Where it must walk, `..` is refused with `EXDEV` under `BENEATH` and `IN_ROOT`, of which the
/// first also refuses every symbolic link, as this crate has it follow none.
///
/// # Errors
/// What `openat2` says, from either way: `ELOOP` for a link that isn't followed, `EXDEV` for what
/// lies elsewhere.
pub fn openat2(
    directory: impl AsFd,
    path: impl AsRef<OsStr>,
    flags: OFlags,
    mode: Mode,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let path = path.as_ref();
    match rustix::fs::openat2(&directory, path, flags, mode, resolve) {
        Err(Errno::NOSYS) => walk(directory.as_fd(), path, flags, mode, resolve),
        opened => opened,
    }
}

/// What is still to be walked.
enum Part {
    Root,
    Here,
    Up,
    Name(OsString),
}

fn parts(path: &OsStr) -> impl DoubleEndedIterator<Item = Part> {
    let parts = Path::new(path).components().map(|part| match part {
        Component::RootDir | Component::Prefix(_) => Part::Root,
        Component::CurDir => Part::Here,
        Component::ParentDir => Part::Up,
        Component::Normal(name) => Part::Name(name.to_owned()),
    });
    parts.collect::<Vec<_>>().into_iter()
}

fn walk(
    directory: BorrowedFd<'_>,
    path: &OsStr,
    flags: OFlags,
    mode: Mode,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let has = |flag| resolve.contains(flag);
    let confined = has(ResolveFlags::BENEATH) || has(ResolveFlags::IN_ROOT);
    let handle = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    if path.is_empty() {
        return Err(Errno::NOENT);
    }
    let is_directory = path.as_bytes().ends_with(b"/");
    let device = if has(ResolveFlags::NO_XDEV) { Some(mount(directory)?) } else { None };
    let mut ahead: VecDeque<Part> = parts(path).collect();
    let mut here: Option<OwnedFd> = None;
    let mut links = 0;
    while let Some(part) = ahead.pop_front() {
        let at = here.as_ref().map_or(directory, AsFd::as_fd);
        let is_last = ahead.is_empty();
        let name: &OsStr = match &part {
            Part::Root if has(ResolveFlags::BENEATH) => return Err(Errno::XDEV),
            Part::Root if has(ResolveFlags::IN_ROOT) => OsStr::new("."),
            Part::Root => OsStr::new("/"),
            Part::Up if confined => return Err(Errno::XDEV),
            Part::Up => OsStr::new(".."),
            Part::Here => OsStr::new("."),
            Part::Name(name) => name,
        };
        // What is asked for is opened as it is asked for, unless that could follow a link.
        let follows = !flags.contains(OFlags::NOFOLLOW) && !has(ResolveFlags::NO_SYMLINKS);
        let ends = is_last && !(follows && matches!(part, Part::Name(_)));
        let asked = if is_directory { flags | OFlags::DIRECTORY } else { flags };
        let (how, mode_of) =
            if ends { (asked | OFlags::NOFOLLOW, mode) } else { (handle, Mode::empty()) };
        let opened = match openat(at, name, how, mode_of) {
            // A link is no directory either, and is told as a link.
            Err(Errno::NOTDIR) if ends && !flags.contains(OFlags::NOFOLLOW) => {
                let found = fstat(openat(at, name, handle, Mode::empty())?)?;
                let is_link = FileType::from_raw_mode(found.st_mode) == FileType::Symlink;
                return Err(if is_link { Errno::LOOP } else { Errno::NOTDIR });
            }
            opened => opened?,
        };
        if device.is_some_and(|device| mount(opened.as_fd()) != Ok(device)) {
            return Err(Errno::XDEV);
        }
        let is_link = FileType::from_raw_mode(fstat(&opened)?.st_mode) == FileType::Symlink;
        if !is_link {
            if ends {
                return Ok(opened);
            }
            if is_last {
                // No link any more, and if it has become one meanwhile, that isn't followed.
                return openat(at, name, asked | OFlags::NOFOLLOW, mode);
            }
            here = Some(opened);
            continue;
        }
        if ends && flags.contains(OFlags::NOFOLLOW) && flags.contains(OFlags::PATH) {
            return Ok(opened);
        }
        let magic = has(ResolveFlags::NO_MAGICLINKS)
            && u64::try_from(fstatfs(&opened)?.f_type) == Ok(PROC_SUPER_MAGIC);
        links += 1;
        if has(ResolveFlags::NO_SYMLINKS) || confined || magic || ends || links > MAX_LINKS {
            return Err(Errno::LOOP);
        }
        let target = OsString::from_vec(readlinkat(&opened, "", Vec::new())?.into_bytes());
        for part in parts(&target).rev() {
            ahead.push_front(part);
        }
    }
    // Nothing was left but the place that was reached.
    openat(here.as_ref().map_or(directory, AsFd::as_fd), ".", flags, mode)
}

/// Which mount of which file system: `NO_XDEV` is about both.
fn mount(fd: BorrowedFd<'_>) -> Result<(u32, u32, u64), Errno> {
    let stat = statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
    Ok((stat.stx_dev_major, stat.stx_dev_minor, stat.stx_mnt_id))
}

/// Whether the kernel's own call is to be had here. `None`: a filter answers that it isn't.
pub fn is_there() -> bool {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let opened = rustix::fs::openat2(CWD, "/", flags, Mode::empty(), ResolveFlags::empty());
    !matches!(opened, Err(Errno::NOSYS))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    const PLAIN: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);
    const NO_LINKS: ResolveFlags = ResolveFlags::NO_SYMLINKS.union(ResolveFlags::NO_MAGICLINKS);
    const BENEATH: ResolveFlags =
        NO_LINKS.union(ResolveFlags::BENEATH).union(ResolveFlags::NO_XDEV);

    /// The walk finds what the call finds, and refuses it with the same errno.
    #[test]
    fn a_walk_comes_to_the_same_as_the_call() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        fs::create_dir_all(at("d/e")).unwrap();
        fs::write(at("d/f"), "x").unwrap();
        symlink("d", at("l")).unwrap();
        symlink("f", at("d/l")).unwrap();
        symlink("round", at("round")).unwrap();
        symlink(at("d"), at("whole")).unwrap();
        let root = rustix::fs::open(place.path(), PLAIN, Mode::empty()).unwrap();
        let absolute = at("d/f").into_os_string().into_string().unwrap();
        let linked = at("l/f").into_os_string().into_string().unwrap();
        let paths = [
            "d",
            "d/",
            "d/f",
            "d/f/",
            "d/e",
            "d/./e",
            ".",
            "",
            "l",
            "l/f",
            "d/l",
            "d/none",
            "none/f",
            "d/f/g",
            "round",
            "whole/f",
            "d/../d/f",
            "/",
            "/dev/null",
            "..",
        ];
        let paths = paths.into_iter().chain([&*absolute, &*linked]);
        let flags = [
            PLAIN,
            PLAIN | OFlags::NOFOLLOW,
            PLAIN | OFlags::DIRECTORY,
            OFlags::RDONLY | OFlags::CLOEXEC,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        ];
        let resolves =
            [NO_LINKS, BENEATH, ResolveFlags::NO_MAGICLINKS, NO_LINKS | ResolveFlags::IN_ROOT];
        let which = |opened: Result<OwnedFd, Errno>| {
            opened.map(|fd| fstat(fd).map(|stat| (stat.st_dev, stat.st_ino)).unwrap())
        };
        for path in paths {
            for (flags, resolve) in flags.iter().flat_map(|it| resolves.map(|one| (*it, one))) {
                let confined = resolve.intersects(ResolveFlags::BENEATH | ResolveFlags::IN_ROOT);
                let call = rustix::fs::openat2(&root, path, flags, Mode::empty(), resolve);
                let walk = walk(root.as_fd(), OsStr::new(path), flags, Mode::empty(), resolve);
                let (call, walk) = (which(call), which(walk));
                if confined && path.contains("..") {
                    assert_eq!(walk, Err(Errno::XDEV), "{path}");
                } else {
                    assert_eq!(walk, call, "{path} {flags:?} {resolve:?}");
                }
            }
        }
    }

    /// Any link of procfs is refused, where the call refuses those alone that no path leads along.
    #[test]
    fn a_walk_follows_no_link_of_procfs() {
        for path in ["/proc/self/exe", "/proc/self/ns/net", "/proc/self/cwd/proc"] {
            let resolve = ResolveFlags::NO_MAGICLINKS;
            let walked = walk(CWD, OsStr::new(path), PLAIN, Mode::empty(), resolve);
            assert_eq!(walked.unwrap_err(), Errno::LOOP, "{path}");
        }
    }

    #[test]
    fn a_walk_makes_files_too() {
        let place = tempfile::tempdir().unwrap();
        let root = rustix::fs::open(place.path(), PLAIN, Mode::empty()).unwrap();
        let make = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let new = |name: &str, flags| {
            walk(root.as_fd(), OsStr::new(name), flags, Mode::RUSR | Mode::WUSR, BENEATH)
        };
        new("a", make).unwrap();
        assert_eq!(new("a", make).unwrap_err(), Errno::EXIST);
        symlink("b", place.path().join("l")).unwrap();
        assert_eq!(new("l", make).unwrap_err(), Errno::EXIST);
        assert_eq!(new("l", make - OFlags::EXCL).unwrap_err(), Errno::LOOP);
        assert!(!place.path().join("b").exists());
        assert_eq!(new("/proc/self/status", OFlags::RDONLY).unwrap_err(), Errno::XDEV);
        new(".", OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC).unwrap();
    }
}
