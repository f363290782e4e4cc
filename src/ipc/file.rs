//! Files: opening what lies beneath a granted directory.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// A directory that the policy grants to this layer.
///
/// Everything is opened beneath it: a path that leads out of it, through a symbolic link or
/// through a magic link is refused by the kernel (openat2(2)), whoever renames what meanwhile.
#[derive(Debug)]
pub struct Directory(OwnedFd);

impl Directory {
    /// Opens the directory at `path`, an absolute path in this layer's own root. It and all that
    /// is opened beneath it take the system calls `openat2` and `statx`, nothing else.
    pub fn open(path: &str) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        Ok(Self(rustix::fs::openat2(rustix::fs::CWD, path, flags, Mode::empty(), resolve)?))
    }

    /// Opens a regular file for reading; `relative` has no leading slash.
    ///
    /// Anything else there (a directory, a device, a FIFO, a socket) is
    /// [`io::ErrorKind::InvalidInput`] or [`io::ErrorKind::IsADirectory`], without waiting for
    /// anybody: the open is non-blocking.
    pub fn open_read(&self, relative: &str) -> io::Result<(File, Metadata)> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let open = |flags| rustix::fs::openat2(&self.0, relative, flags, Mode::empty(), resolve);
        let file = match open(flags) {
            // To open a directory for reading takes the right to list it; to see that it is one
            // does not.
            Err(Errno::ACCESS)
                if open(OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC).is_ok() =>
            {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            opened => File::from(opened?),
        };
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
        }
        Ok((file, metadata))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn opens_what_is_beneath_and_nothing_else() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "s").unwrap();
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("d")).unwrap();
        std::fs::write(root.path().join("d/page"), "p").unwrap();
        symlink(outside.path().join("secret"), root.path().join("link")).unwrap();
        symlink(outside.path(), root.path().join("away")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            root.path().join("fifo"),
            rustix::fs::FileType::Fifo,
            Mode::RUSR | Mode::WUSR,
            0,
        )
        .unwrap();

        let directory = Directory::open(root.path().to_str().unwrap()).unwrap();
        assert_eq!(directory.open_read("d/page").unwrap().1.len(), 1);
        let absolute = outside.path().join("secret");
        let up = format!("../{}/secret", outside.path().file_name().unwrap().to_str().unwrap());
        for refused in
            ["link", "away/secret", "fifo", "d", "missing", "", &up, absolute.to_str().unwrap()]
        {
            directory.open_read(refused).expect_err(refused);
        }
        // Also where it may not be listed: root lists it all the same, others don't.
        std::fs::set_permissions(root.path().join("d"), Permissions::from_mode(0o111)).unwrap();
        assert_eq!(directory.open_read("d").unwrap_err().kind(), io::ErrorKind::IsADirectory);
    }
}
