//! The record on the disk: `users` in a directory that root alone writes to.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::UsersError;
use super::record::{BadLine, Record};

/// The record's name, that of the next one while it is written, and that of the lock meanwhile.
const NAME: &str = "users";
const DRAFT: &str = "users.new";
const LOCK: &str = "users.lock";

/// The longest record, in bytes: a million users have some forty million.
const LONGEST: u64 = 256 << 20;

/// How long another daemon's start may take to write: tries, ten milliseconds apart.
const TRIES: u32 = 1_000;

/// The record's directory, held open.
#[derive(Debug)]
pub(super) struct Store {
    directory: OwnedFd,
    path: PathBuf,
}

impl Store {
    /// Opens the directory, and makes it where it isn't there. Refuses one that others may write
    /// to.
    pub(super) fn open(path: &Path) -> Result<Self, UsersError> {
        let failed = |error: io::Error| UsersError::Record(path.to_owned(), error);
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(path);
        if let Err(error) = made
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(failed(error));
        }
        Self::open_existing(path)
    }

    /// The same, where it is there already.
    pub(super) fn open_existing(path: &Path) -> Result<Self, UsersError> {
        let failed = |error: io::Error| UsersError::Record(path.to_owned(), error);
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory =
            rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| failed(errno.into()))?;
        let directory = File::from(directory);
        ours(&directory).map_err(failed)?;
        Ok(Self { directory: directory.into(), path: path.to_owned() })
    }

    /// The record; an empty one where there is none yet. A broken one is an error: what it said
    /// would be given away.
    pub(super) fn read(&self) -> Result<Record, UsersError> {
        self.parse(Record::parse)
    }

    /// What it says of the daemons of these names: see [`Record::parse_of`].
    pub(super) fn read_of(&self, names: &[&str]) -> Result<Record, UsersError> {
        self.parse(|text| Record::parse_of(text, names))
    }

    fn parse(
        &self,
        parse: impl FnOnce(&str) -> Result<Record, BadLine>,
    ) -> Result<Record, UsersError> {
        let path = self.path.join(NAME);
        let failed = |error: io::Error| UsersError::Record(path.clone(), error);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.directory, NAME, flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(Errno::NOENT) => return Ok(Record::default()),
            Err(errno) => return Err(failed(errno.into())),
        };
        ours(&file).map_err(failed)?;
        let about = file.metadata().map_err(failed)?;
        if !about.is_file() || about.len() > LONGEST {
            return Err(failed(io::Error::other("it is no file of a record's length")));
        }
        let mut text = String::new();
        (&file).take(LONGEST).read_to_string(&mut text).map_err(failed)?;
        parse(&text).map_err(|bad| UsersError::Broken {
            path: path.clone(),
            line: bad.line,
            what: bad.what,
        })
    }

    /// Changes the record: no other daemon does meanwhile, and a crash leaves the old one or the
    /// new one, whole.
    pub(super) fn change<T>(
        &self,
        change: impl FnOnce(&mut Record) -> Result<T, UsersError>,
    ) -> Result<T, UsersError> {
        let failed = |error: io::Error| UsersError::Record(self.path.join(NAME), error);
        let _lock = self.lock().map_err(failed)?;
        let mut record = self.read()?;
        let result = change(&mut record)?;
        self.write(&record).map_err(failed)?;
        Ok(result)
    }

    fn write(&self, record: &Record) -> io::Result<()> {
        // What a start that was killed has left.
        match rustix::fs::unlinkat(&self.directory, DRAFT, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let draft = rustix::fs::openat(&self.directory, DRAFT, flags, Mode::from_raw_mode(0o644))?;
        let mut draft = File::from(draft);
        draft.write_all(record.to_string().as_bytes())?;
        draft.sync_all()?;
        rustix::fs::renameat(&self.directory, DRAFT, &self.directory, NAME)?;
        Ok(rustix::fs::fsync(&self.directory)?)
    }

    fn lock(&self) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let lock = rustix::fs::openat(&self.directory, LOCK, flags, Mode::from_raw_mode(0o600))?;
        for _ in 0..TRIES {
            match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(lock.into()),
                Err(Errno::WOULDBLOCK) => std::thread::sleep(Duration::from_millis(10)),
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(io::Error::other("another daemon's start doesn't come to an end with it"))
    }
}

/// An error for what others than this user may write to.
pub(super) fn ours(file: &File) -> io::Result<()> {
    let about = file.metadata()?;
    let own = rustix::process::geteuid().as_raw();
    if about.uid() != own {
        return Err(io::Error::other(format!("it belongs to user {}, not to {own}", about.uid())));
    }
    if about.mode() & 0o022 != 0 {
        let mode = about.mode() & 0o7777;
        return Err(io::Error::other(format!(
            "others may write to it (mode {mode:o}): chmod go-w"
        )));
    }
    Ok(())
}
