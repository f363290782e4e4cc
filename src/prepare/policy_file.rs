//! Reading a policy file that nobody else can change.
//!
//! The path is walked one component at a time, each opened without following links, so what is
//! checked is what is read: no name is looked up twice. Whoever can write the file, or rename
//! something on the way to it, writes the policy; so each of them must be root or this user.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat};
use rustix::process::geteuid;

use crate::policy::MAX_SIZE;

/// As many symbolic links as the kernel itself follows (`path_resolution(7)`).
const MAX_LINKS: usize = 40;

/// A policy file's bytes, and what is unsafe about where they came from.
#[derive(Debug)]
pub struct PolicyFile {
    /// The whole file, at most [`MAX_SIZE`] bytes.
    pub bytes: Vec<u8>,
    /// Who else could have written them; empty if nobody.
    pub defects: Vec<Defect>,
}

/// One way in which somebody else can change a policy. Displays as a sentence with the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Defect {
    /// A file, directory or link on the way belongs to neither root nor this user.
    #[error("{path} belongs to user {uid}, who can change it; {remedy}", path = path.display(),
        remedy = remedy_for_owner(path, *link))]
    Owner {
        /// What belongs to somebody else.
        path: PathBuf,
        /// Whom it belongs to.
        uid: u32,
        /// Whether it is a symbolic link.
        link: bool,
    },
    /// A file or directory on the way is writable by its group or by everybody.
    #[error("{path} has mode {mode:04o}: {who} can change it; run `chmod go-w {path}`",
        path = path.display(), who = who_writes(*mode))]
    Writable {
        /// What is writable.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

/// Why a policy file was not read.
#[derive(Debug, thiserror::Error)]
pub enum PolicyFileError {
    /// The system refused.
    #[error("can't read the policy {path}: {source}", path = path.display())]
    System {
        /// What could not be opened or read.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is a directory, a device, a FIFO or a socket.
    #[error("can't read the policy {path}: it is {kind}, not a regular file",
        path = path.display())]
    NotRegular {
        /// The path.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// It is larger than [`MAX_SIZE`] bytes.
    #[error("the policy {path} is larger than {MAX_SIZE} bytes: is this the right file?",
        path = path.display())]
    TooLarge {
        /// The path.
        path: PathBuf,
    },
    /// Somebody else could have written it.
    #[error("the policy {path} is not safe to run: {first}", path = path.display(),
        first = defects.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n  also: "))]
    Unsafe {
        /// The path.
        path: PathBuf,
        /// Each way in.
        defects: Vec<Defect>,
    },
}

impl PolicyFileError {
    /// Whether the file itself is at fault (exit code 1) and not the system (exit code 3).
    pub fn is_finding(&self) -> bool {
        matches!(self, Self::TooLarge { .. } | Self::Unsafe { .. })
    }
}

/// Reads a policy that is about to be run: any defect is an error.
pub fn read(path: &Path) -> Result<Vec<u8>, PolicyFileError> {
    let file = inspect(path)?;
    if file.defects.is_empty() {
        Ok(file.bytes)
    } else {
        Err(PolicyFileError::Unsafe { path: path.to_owned(), defects: file.defects })
    }
}

/// Reads a policy that is only looked at, and tells its defects.
pub fn inspect(path: &Path) -> Result<PolicyFile, PolicyFileError> {
    let mut walk = Walk::begin(path)?;
    while let Some(name) = walk.ahead.pop_front() {
        if let Some(bytes) = walk.step(&name)? {
            return Ok(PolicyFile { bytes, defects: walk.defects });
        }
    }
    Err(PolicyFileError::NotRegular { path: path.to_owned(), kind: "a directory" })
}

/// A walk from the root to the file.
struct Walk {
    asked: PathBuf,
    /// The directory reached, and how it is called.
    here: OwnedFd,
    here_path: PathBuf,
    /// The names still to be followed.
    ahead: VecDeque<OsString>,
    links: usize,
    me: u32,
    defects: Vec<Defect>,
}

impl Walk {
    fn begin(path: &Path) -> Result<Self, PolicyFileError> {
        let system = |source| PolicyFileError::System { path: path.to_owned(), source };
        let whole = std::path::absolute(path).map_err(system)?;
        let root = openat(CWD, "/", directory_flags(), Mode::empty());
        let mut walk = Self {
            asked: path.to_owned(),
            here: root.map_err(|error| system(error.into()))?,
            here_path: PathBuf::from("/"),
            ahead: names(&whole),
            links: 0,
            me: geteuid().as_raw(),
            defects: Vec::new(),
        };
        walk.check_here()?;
        Ok(walk)
    }

    /// Follows one name. Gives the file's bytes when it was the last one.
    fn step(&mut self, name: &OsString) -> Result<Option<Vec<u8>>, PolicyFileError> {
        let path = self.here_path.join(name);
        // Without O_PATH, opening a device or a FIFO can already do something.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = openat(&self.here, name, flags, Mode::empty());
        let found = found.map_err(|error| self.system(&path, error.into()))?;
        let stat = fstat(&found).map_err(|error| self.system(&path, error.into()))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                self.here = found;
                if name == ".." {
                    self.here_path.pop();
                } else {
                    self.here_path = path;
                }
                self.check_here()?;
                Ok(None)
            }
            FileType::Symlink => {
                self.follow(found.as_fd(), &path, &stat)?;
                Ok(None)
            }
            FileType::RegularFile if self.ahead.is_empty() => self.read(name, &path).map(Some),
            FileType::RegularFile => {
                Err(self.system(&path, io::Error::from(rustix::io::Errno::NOTDIR)))
            }
            other => Err(PolicyFileError::NotRegular { path, kind: kind_of(other) }),
        }
    }

    /// Puts a link's target in front of what is ahead.
    fn follow(
        &mut self,
        link: BorrowedFd<'_>,
        path: &Path,
        stat: &Stat,
    ) -> Result<(), PolicyFileError> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(self.system(path, io::Error::from(rustix::io::Errno::LOOP)));
        }
        self.check_owner(path, stat.st_uid, true);
        // An empty name means the link itself (readlinkat(2)).
        let target = readlinkat(link, "", Vec::new());
        let target = target.map_err(|error| self.system(path, error.into()))?;
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        if target.is_absolute() {
            let root = openat(CWD, "/", directory_flags(), Mode::empty());
            self.here = root.map_err(|error| self.system(path, error.into()))?;
            self.here_path = PathBuf::from("/");
        }
        for name in names(&target).into_iter().rev() {
            self.ahead.push_front(name);
        }
        Ok(())
    }

    /// Opens the file for reading, checks what was opened, and reads it whole.
    fn read(&mut self, name: &OsString, path: &Path) -> Result<Vec<u8>, PolicyFileError> {
        let flags =
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = openat(&self.here, name, flags, Mode::empty());
        let file = file.map_err(|error| self.system(path, error.into()))?;
        let stat = fstat(&file).map_err(|error| self.system(path, error.into()))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {}
            other => {
                let (path, kind) = (path.to_owned(), kind_of(other));
                return Err(PolicyFileError::NotRegular { path, kind });
            }
        }
        self.check_owner(path, stat.st_uid, false);
        if stat.st_mode & 0o022 != 0 {
            let mode = stat.st_mode & 0o7777;
            self.defects.push(Defect::Writable { path: path.to_owned(), mode });
        }
        let mut bytes = Vec::new();
        // One byte more than allowed tells a file that is too large, even one that grows.
        let most = MAX_SIZE as u64 + 1;
        let done = File::from(file).take(most).read_to_end(&mut bytes);
        done.map_err(|error| self.system(path, error))?;
        if bytes.len() > MAX_SIZE {
            return Err(PolicyFileError::TooLarge { path: self.asked.clone() });
        }
        Ok(bytes)
    }

    /// Checks the directory reached. In a sticky one, as `/tmp`, only the owner of an entry can
    /// rename it, and the entry is checked next.
    fn check_here(&mut self) -> Result<(), PolicyFileError> {
        let path = self.here_path.clone();
        let stat = fstat(&self.here).map_err(|error| self.system(&path, error.into()))?;
        self.check_owner(&path, stat.st_uid, false);
        if stat.st_mode & 0o022 != 0 && stat.st_mode & 0o1000 == 0 {
            self.defects.push(Defect::Writable { path, mode: stat.st_mode & 0o7777 });
        }
        Ok(())
    }

    fn check_owner(&mut self, path: &Path, uid: u32, link: bool) {
        if uid != 0 && uid != self.me {
            self.defects.push(Defect::Owner { path: path.to_owned(), uid, link });
        }
    }

    fn system(&self, path: &Path, source: io::Error) -> PolicyFileError {
        // The path as it was asked for is the one that the reader knows.
        let asked = std::path::absolute(&self.asked).is_ok_and(|whole| whole == path);
        let path = if asked { self.asked.clone() } else { path.to_owned() };
        PolicyFileError::System { path, source }
    }
}

fn directory_flags() -> OFlags {
    OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC
}

fn names(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

fn kind_of(kind: FileType) -> &'static str {
    match kind {
        FileType::Directory => "a directory",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::Symlink => "a symbolic link",
        _ => "something else",
    }
}

fn who_writes(mode: u32) -> &'static str {
    if mode & 0o002 != 0 { "everybody" } else { "its group" }
}

fn remedy_for_owner(path: &Path, link: bool) -> String {
    let flag = if link { "-h " } else { "" };
    format!("run `chown {flag}root {}` or use a copy of your own", path.display())
}
