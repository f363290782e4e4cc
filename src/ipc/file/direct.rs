//! A directory in the layer's own root, where Landlock and the mount say what may be done.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::wire::broker::open;

const RESOLVE: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// Nothing waits, becomes a terminal, or is inherited.
const ALWAYS: OFlags = OFlags::NONBLOCK.union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// What it makes belongs to the layer's user, and to nobody else.
const OWN: Mode = Mode::RUSR.union(Mode::WUSR);

/// The directory; every call takes the system call that it is named after, and `openat2`.
#[derive(Debug)]
pub(super) struct Direct(OwnedFd);

/// What isn't a regular file.
#[derive(Debug)]
pub(super) enum DirectError {
    NotRegular,
    System(io::Error),
}

impl<E: Into<io::Error>> From<E> for DirectError {
    fn from(error: E) -> Self {
        Self::System(error.into())
    }
}

impl Direct {
    /// Opens the directory at an absolute path in this layer's own root.
    pub(super) fn open_root(path: &str) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        Ok(Self(rustix::fs::openat2(rustix::fs::CWD, path, flags, Mode::empty(), resolve)?))
    }

    /// Opens a regular file; `how` has bits of [`open`].
    pub(super) fn open(&self, path: &Path, how: u16) -> Result<File, DirectError> {
        let has = |bit| how & bit != 0;
        let mut flags = match (has(open::READ), has(open::WRITE | open::APPEND | open::TRUNCATE)) {
            (true, true) => OFlags::RDWR,
            (false, true) => OFlags::WRONLY,
            (_, false) => OFlags::RDONLY,
        };
        for (bit, flag) in [
            (open::APPEND, OFlags::APPEND),
            (open::TRUNCATE, OFlags::TRUNC),
            (open::CREATE, OFlags::CREATE),
            (open::EXCLUSIVE, OFlags::EXCL),
        ] {
            flags.set(flag, has(bit));
        }
        let mode = if has(open::CREATE) { OWN } else { Mode::empty() };
        let open = |flags, mode| rustix::fs::openat2(&self.0, path, flags, mode, RESOLVE);
        let file = match open(flags | ALWAYS, mode) {
            // To open a directory for reading takes the right to list it; to see that it is one
            // does not.
            Err(Errno::ACCESS)
                if open(OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                    .is_ok() =>
            {
                return Err(Errno::ISDIR.into());
            }
            opened => File::from(opened?),
        };
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(Errno::ISDIR.into());
        }
        if metadata.is_file() { Ok(file) } else { Err(DirectError::NotRegular) }
    }

    /// Removes a regular file.
    pub(super) fn remove(&self, path: &Path) -> Result<(), DirectError> {
        let (parent, name) = self.parent(path)?;
        Ok(rustix::fs::unlinkat(&parent, name, AtFlags::empty())?)
    }

    /// Makes a directory.
    pub(super) fn create_dir(&self, path: &Path) -> Result<(), DirectError> {
        let (parent, name) = self.parent(path)?;
        Ok(rustix::fs::mkdirat(&parent, name, Mode::RWXU)?)
    }

    /// Removes an empty directory.
    pub(super) fn remove_dir(&self, path: &Path) -> Result<(), DirectError> {
        let (parent, name) = self.parent(path)?;
        Ok(rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR)?)
    }

    /// Renames a directory, or what is none.
    pub(super) fn rename(
        &self,
        from: &Path,
        to: &Path,
        directory: bool,
    ) -> Result<(), DirectError> {
        let (old_parent, old) = self.parent(from)?;
        let (new_parent, new) = self.parent(to)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::openat2(&old_parent, old, flags, Mode::empty(), RESOLVE) {
            Ok(_) if !directory => Err(Errno::ISDIR.into()),
            Err(errno) if directory => Err(errno.into()),
            _ => Ok(rustix::fs::renameat(&old_parent, old, &new_parent, new)?),
        }
    }

    /// The directory in which `path` lies, and its last name.
    fn parent<'p>(&self, path: &'p Path) -> Result<(OwnedFd, &'p OsStr), DirectError> {
        let parent = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = rustix::fs::openat2(&self.0, parent, flags, Mode::empty(), RESOLVE)?;
        Ok((parent, path.file_name().ok_or(Errno::INVAL)?))
    }

    /// The names in a directory. Takes `getdents64` too.
    pub(super) fn list(&self, path: &Path) -> Result<Vec<OsString>, DirectError> {
        let path = if path == Path::new("") { Path::new(".") } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | ALWAYS;
        let directory = rustix::fs::openat2(&self.0, path, flags, Mode::empty(), RESOLVE)?;
        let mut names = Vec::new();
        let mut space = vec![std::mem::MaybeUninit::uninit(); 32 << 10];
        let mut entries = rustix::fs::RawDir::new(directory, &mut space);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                names.push(OsString::from_vec(name.to_vec()));
            }
        }
        Ok(names)
    }
}

/// The path as the supervisor takes it.
pub(super) fn bytes(path: &OsStr) -> &[u8] {
    std::os::unix::ffi::OsStrExt::as_bytes(path)
}
