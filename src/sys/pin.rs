//! A handle on what is at a path to which no symbolic link leads.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, fstat, openat};

/// A handle on what is at an absolute path (`O_PATH`), and what it is. It opens nothing yet: a FIFO
/// or a device notices nothing of it.
///
/// Each component is opened beneath the one before, so whoever may change a directory on the way
/// can't have a link followed.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] where a part of the path is a symbolic link; otherwise what
/// `openat(2)` says.
pub fn pin(path: &str) -> io::Result<(OwnedFd, Stat)> {
    let step = |at: Option<&OwnedFd>, name: &Path| {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match at {
            Some(at) => openat(at, name, flags, Mode::empty()),
            None => openat(CWD, name, flags, Mode::empty()),
        }?;
        let stat = fstat(&fd)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
            let what = "a part of this path is a symbolic link; write the path that it leads to";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        Ok((fd, stat))
    };
    let mut names = Path::new(path).components().map(|part| Path::new(part.as_os_str()));
    let mut here = step(None, names.next().unwrap_or(Path::new("")))?;
    for name in names {
        here = step(Some(&here.0), name)?;
    }
    Ok(here)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_not_followed_wherever_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        std::fs::create_dir(path("d")).unwrap();
        std::fs::write(path("d/f"), "x").unwrap();
        std::os::unix::fs::symlink("d", path("l")).unwrap();
        std::os::unix::fs::symlink("f", path("d/l")).unwrap();
        let (fd, stat) = pin(&path("d/f")).unwrap();
        assert_eq!(stat.st_size, 1);
        assert_eq!(rustix::io::read(fd, &mut [0]), Err(rustix::io::Errno::BADF));
        for name in ["l", "l/f", "d/l"] {
            assert_eq!(pin(&path(name)).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{name}");
        }
        assert_eq!(pin(&path("d/none")).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(pin(&path("d/f/g")).unwrap_err().kind(), io::ErrorKind::NotADirectory);
        assert!(pin("/").is_ok());
    }
}
