//! The log's directory: every system call of this module. All by name within one descriptor, no
//! symbolic link followed, files for their owner alone.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{self, AtFlags, FlockOperation, Gid, Mode, OFlags, RenameFlags, Uid};
use rustix::io::Errno;

/// A directory that holds a log.
#[derive(Debug)]
pub struct Store {
    dir: OwnedFd,
}

/// Held by the one who writes; see [`Store::lock`].
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Drop for Lock {
    /// Unlocks by name: to close the file would leave the lock with a child that was forked a
    /// moment ago and holds a copy of the descriptor until it executes its program (flock(2)).
    fn drop(&mut self) {
        let _ = fs::flock(&self.file, FlockOperation::Unlock);
    }
}

/// A call that the system refused.
#[derive(Debug, thiserror::Error)]
#[error("can't {act} {name}: {source}")]
pub struct StoreError {
    /// What was tried.
    pub act: &'static str,
    /// On which file of the directory.
    pub name: String,
    /// What the system says.
    #[source]
    pub source: io::Error,
}

/// What a [`StoreError`] comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// No room: the disk, a quota or the file size limit. May pass.
    Full,
    /// The directory or file may not be written (permissions, read-only).
    Forbidden,
    /// It isn't there.
    Missing,
    /// Another process holds the lock.
    Held,
    /// Anything else: a failing disk.
    Broken,
}

impl StoreError {
    /// What kind of trouble it is.
    pub fn trouble(&self) -> Trouble {
        match self.source.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => Trouble::Full,
            Some(Errno::ACCESS | Errno::PERM | Errno::ROFS) => Trouble::Forbidden,
            Some(Errno::NOENT) => Trouble::Missing,
            Some(Errno::WOULDBLOCK) => Trouble::Held,
            _ => Trouble::Broken,
        }
    }
}

fn failed<E: Into<io::Error>>(act: &'static str, name: &str) -> impl FnOnce(E) -> StoreError {
    move |source| StoreError { act, name: name.to_owned(), source: source.into() }
}

/// The name of the lock file.
const LOCK: &str = "lock";

impl Store {
    /// Opens the directory at `path`, which must be there.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let dir = fs::open(path, flags, Mode::empty())
            .map_err(failed("open the directory", &path.display().to_string()))?;
        Ok(Self { dir })
    }

    /// Takes a directory that is open already.
    pub fn from_fd(dir: OwnedFd) -> Self {
        Self { dir }
    }

    /// What the directory is on this machine: device and inode.
    pub fn identity(&self) -> Result<(u64, u64), StoreError> {
        let about = fs::fstat(&self.dir).map_err(failed("look at", "the directory"))?;
        Ok((about.st_dev, about.st_ino))
    }

    /// Makes this process the only writer, until the lock is dropped or the process ends
    /// (`flock(2)`). [`Trouble::Held`] if another one is.
    pub fn lock(&self) -> Result<Lock, StoreError> {
        let file = self.openat(LOCK, OFlags::RDWR | OFlags::CREATE)?;
        fs::flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(failed("lock", LOCK))?;
        Ok(Lock { file })
    }

    /// Whether a writer holds the lock.
    pub fn is_held(&self) -> bool {
        self.openat(LOCK, OFlags::RDONLY).is_ok_and(|file| {
            fs::flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
        })
    }

    fn openat(&self, name: &str, flags: OFlags) -> Result<File, StoreError> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        fs::openat(&self.dir, name, flags, Mode::RUSR | Mode::WUSR)
            .map(File::from)
            .map_err(failed("open", name))
    }

    /// The names in the directory, sorted.
    pub fn names(&self) -> Result<Vec<String>, StoreError> {
        let mut names = Vec::new();
        for entry in fs::Dir::read_from(&self.dir).map_err(failed("list", "the directory"))? {
            let entry = entry.map_err(failed("list", "the directory"))?;
            if let Ok(name) = entry.file_name().to_str()
                && !matches!(name, "." | "..")
            {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// Opens a file to read.
    pub fn reader(&self, name: &str) -> Result<File, StoreError> {
        self.openat(name, OFlags::RDONLY)
    }

    /// Opens a file to write and read, made if it isn't there.
    pub fn writer(&self, name: &str) -> Result<File, StoreError> {
        self.openat(name, OFlags::RDWR | OFlags::CREATE)
    }

    /// A file's bytes, at most `limit` of them; `None` if it isn't there.
    pub fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
        use std::io::Read;
        let file = match self.reader(name) {
            Err(error) if error.trouble() == Trouble::Missing => return Ok(None),
            file => file?,
        };
        let mut bytes = Vec::new();
        file.take(limit).read_to_end(&mut bytes).map_err(failed("read", name))?;
        Ok(Some(bytes))
    }

    /// Replaces a file by one with these bytes, durably: after a crash it is the old or the new.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let draft = format!("{name}.draft");
        self.write(&draft, bytes)?;
        self.rename(&draft, name)
    }

    /// Writes a file anew, durably.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let file = self.writer(name)?;
        file.set_len(0).map_err(failed("empty", name))?;
        file.write_all_at(bytes, 0).map_err(failed("write", name))?;
        file.sync_all().map_err(failed("sync", name))?;
        self.sync()
    }

    /// Puts a file with these bytes there, if there is none of that name; it belongs to the owner of
    /// the file `like`. False: there is one.
    pub fn offer(&self, name: &str, bytes: &[u8], like: &str) -> Result<bool, StoreError> {
        let draft = format!("{name}.draft");
        self.write(&draft, bytes)?;
        self.give(&draft, like)?;
        match fs::renameat_with(&self.dir, &draft, &self.dir, name, RenameFlags::NOREPLACE) {
            Ok(()) => self.sync().map(|()| true),
            Err(Errno::EXIST) => self.remove(&draft).map(|()| false),
            Err(errno) => Err(failed("rename", &draft)(errno)),
        }
    }

    /// Gives a file to the owner of another one, if this process may.
    fn give(&self, name: &str, like: &str) -> Result<(), StoreError> {
        let to = fs::fstat(self.reader(like)?).map_err(failed("look at", like))?;
        let file = self.reader(name)?;
        let about = fs::fstat(&file).map_err(failed("look at", name))?;
        if (about.st_uid, about.st_gid) == (to.st_uid, to.st_gid) {
            return Ok(());
        }
        let (owner, group) = (Uid::from_raw(to.st_uid), Gid::from_raw(to.st_gid));
        fs::fchown(&file, Some(owner), Some(group)).map_err(failed("give away", name))
    }

    /// Gives all files to the owner of the file `like`: where root has written a log of another user.
    pub fn give_all(&self, like: &str) -> Result<(), StoreError> {
        self.names()?.iter().try_for_each(|name| self.give(name, like))
    }

    /// Writes zeros over a file's bytes, durably.
    ///
    /// On a disk or file system that writes elsewhere instead of in place the old bytes may stay;
    /// nothing here can prevent that.
    pub fn erase(&self, name: &str) -> Result<(), StoreError> {
        let file = self.writer(name)?;
        let length = length(&file, name)?.min(1 << 16);
        let zeros = vec![0; usize::try_from(length).unwrap_or(0)];
        file.write_all_at(&zeros, 0).map_err(failed("overwrite", name))?;
        file.sync_all().map_err(failed("sync", name))
    }

    /// Renames a file over another, durably.
    pub fn rename(&self, from: &str, to: &str) -> Result<(), StoreError> {
        fs::renameat(&self.dir, from, &self.dir, to).map_err(failed("rename", from))?;
        self.sync()
    }

    /// Removes a file, if it is there.
    pub fn remove(&self, name: &str) -> Result<(), StoreError> {
        match fs::unlinkat(&self.dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(failed("remove", name)(errno)),
        }
    }

    /// Makes the directory's names durable.
    pub fn sync(&self) -> Result<(), StoreError> {
        fs::fsync(&self.dir).map_err(failed("sync", "the directory"))
    }
}

/// A file's length.
pub fn length(file: &File, name: &str) -> Result<u64, StoreError> {
    Ok(file.metadata().map_err(failed("look at", name))?.len())
}

/// Reads what fits into `bytes` from `offset`: fewer bytes only at the file's end.
pub fn read_at(
    file: &File,
    name: &str,
    mut bytes: &mut [u8],
    offset: u64,
) -> Result<usize, StoreError> {
    let mut done = 0;
    while !bytes.is_empty() {
        match file.read_at(bytes, offset + done as u64) {
            Ok(0) => break,
            Ok(count) => {
                done += count;
                bytes = &mut bytes[count..];
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed("read", name)(error)),
        }
    }
    Ok(done)
}

/// Writes `bytes` at `offset`. After an error the file may hold a part of them.
pub fn write_at(file: &File, name: &str, bytes: &[u8], offset: u64) -> Result<(), StoreError> {
    file.write_all_at(bytes, offset).map_err(failed("write", name))
}

/// Makes a file's bytes durable (`fdatasync(2)`). After an error nobody knows which ones are.
pub fn sync_data(file: &File, name: &str) -> Result<(), StoreError> {
    file.sync_data().map_err(failed("sync", name))
}

/// Fails if a file has no name any more.
pub fn find(file: &File, name: &str) -> Result<(), StoreError> {
    let about = fs::fstat(file).map_err(failed("look at", name))?;
    if about.st_nlink == 0 { Err(failed("find", name)(Errno::NOENT)) } else { Ok(()) }
}

/// Cuts a file, durably.
pub fn cut(file: &File, name: &str, length: u64) -> Result<(), StoreError> {
    file.set_len(length).map_err(failed("cut", name))?;
    sync_data(file, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_lock_is_free_though_a_forked_child_has_a_copy_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let lock = store.lock().unwrap();
        let copy = lock.file.try_clone().unwrap();
        assert_eq!(store.lock().unwrap_err().trouble(), Trouble::Held);
        drop(lock);
        assert!(store.lock().is_ok());
        drop(copy);
    }
}
