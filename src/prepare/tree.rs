//! A walk through all that is in a directory, however deep, without following anything out of it.

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, FileType, Mode, OFlags, Stat, fstat, openat};

/// Something in the tree.
pub(super) struct Entry<'w> {
    /// Itself (`O_PATH`), not what it may lead to.
    pub(super) handle: OwnedFd,
    /// What it is.
    pub(super) stat: Stat,
    name: CString,
    levels: &'w [Level],
}

impl Entry<'_> {
    pub(super) fn is_directory(&self) -> bool {
        FileType::from_raw_mode(self.stat.st_mode) == FileType::Directory
    }

    /// Whether it has several names; a directory has one for each that lies in it.
    pub(super) fn has_names(&self) -> bool {
        !self.is_directory() && self.stat.st_nlink > 1
    }

    /// What it is called, for people.
    pub(super) fn path(&self) -> PathBuf {
        let mut path = PathBuf::new();
        path.extend(self.levels.iter().map(|level| &level.name));
        path.join(std::ffi::OsStr::from_bytes(self.name.to_bytes()))
    }
}

/// A directory that is being walked through.
struct Level {
    name: PathBuf,
    /// Device and inode: to know it again when the walk comes back.
    identity: (u64, u64),
    /// What is in it and hasn't been looked at.
    ahead: Vec<CString>,
}

impl Level {
    fn of(directory: &OwnedFd, name: PathBuf) -> io::Result<Self> {
        let mut ahead = Vec::new();
        for entry in Dir::read_from(directory)? {
            let name = entry?.file_name().to_owned();
            if !matches!(name.as_bytes(), b"." | b"..") {
                ahead.push(name);
            }
        }
        Ok(Self { name, identity: identity(directory)?, ahead })
    }
}

/// Shows each entry beneath `top`, which is called `path`, to `visit`, a directory before what is
/// in it. Stops at the first error. `failed` makes one of what the system says, and where.
///
/// One directory is open at a time, so no depth uses the descriptors up.
pub(super) fn walk<E>(
    top: &OwnedFd,
    path: &Path,
    failed: impl Fn(PathBuf, io::Error) -> E,
    mut visit: impl FnMut(&Entry<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let at_top = |error: io::Error| failed(path.to_owned(), error);
    let mut here = open(top, c".").map_err(at_top)?;
    let mut levels = vec![Level::of(&here, path.to_owned()).map_err(at_top)?];
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.ahead.pop() else {
            levels.pop();
            let Some(above) = levels.last() else { break };
            here = back(&here, above).map_err(at_top)?;
            continue;
        };
        let (entry, inner) = {
            let found = look(&here, &name);
            let (handle, stat) = found.map_err(at_top)?;
            let entry = Entry { handle, stat, name, levels: &levels };
            visit(&entry)?;
            if !entry.is_directory() {
                continue;
            }
            let inner = open(&entry.handle, c".").map_err(|error| failed(entry.path(), error))?;
            (entry.name, inner)
        };
        let name = PathBuf::from(std::ffi::OsStr::from_bytes(entry.to_bytes()));
        levels.push(Level::of(&inner, name).map_err(at_top)?);
        here = inner;
    }
    Ok(())
}

fn look(directory: &OwnedFd, name: &CString) -> io::Result<(OwnedFd, Stat)> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle = openat(directory, name, flags, Mode::empty())?;
    let stat = fstat(&handle)?;
    Ok((handle, stat))
}

fn open(directory: &OwnedFd, name: &std::ffi::CStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(directory, name, flags, Mode::empty())?)
}

/// The directory above, if it is still the one that the walk came from.
fn back(here: &OwnedFd, above: &Level) -> io::Result<OwnedFd> {
    let directory = open(here, c"..")?;
    if identity(&directory)? == above.identity {
        Ok(directory)
    } else {
        Err(io::Error::other("somebody moves directories in it at this moment"))
    }
}

fn identity(directory: &OwnedFd) -> io::Result<(u64, u64)> {
    let stat = fstat(directory)?;
    Ok((stat.st_dev, stat.st_ino))
}
