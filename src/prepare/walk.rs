//! A walk along a path on which nobody else can change where it leads.
//!
//! The path is walked one component at a time, each opened without following links, so what is
//! looked at is what is used: no name is looked up twice. A symbolic link is followed by hand, after
//! a look at whose it is.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat};
use rustix::io::Errno;
use rustix::process::geteuid;

/// As many symbolic links as the kernel itself follows (`path_resolution(7)`).
const MAX_LINKS: usize = 40;

/// A walk from the root to what a path names.
pub struct Walk {
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

/// Where a walk ends.
pub enum Reached {
    /// In a directory: [`Walk::here`].
    Directory,
    /// At a regular file of this name in [`Walk::here`]. It is not open yet, so look again.
    File(OsString),
    /// At something else, on the way or at its end.
    Other(PathBuf, FileType),
    /// Nothing has this last name in [`Walk::here`].
    Missing(OsString),
}

/// A component of the path that can't be opened.
#[derive(Debug)]
pub struct WalkError {
    /// Which.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// One way in which somebody else can change what a path leads to. Displays as a sentence with the remedy.
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

impl Walk {
    /// Begins at the root, or at a relative path's working directory as the root names it.
    pub fn begin(path: &Path) -> Result<Self, WalkError> {
        let failed = |source| WalkError { path: path.to_owned(), source };
        let whole = std::path::absolute(path).map_err(failed)?;
        let root = openat(CWD, "/", directory_flags(), Mode::empty());
        let mut walk = Self {
            asked: path.to_owned(),
            here: root.map_err(|error| failed(error.into()))?,
            here_path: PathBuf::from("/"),
            ahead: names(&whole),
            links: 0,
            me: geteuid().as_raw(),
            defects: Vec::new(),
        };
        walk.check_here()?;
        Ok(walk)
    }

    /// Walks to the end.
    pub fn go(&mut self) -> Result<Reached, WalkError> {
        while let Some(name) = self.ahead.pop_front() {
            if let Some(reached) = self.step(name)? {
                return Ok(reached);
            }
        }
        Ok(Reached::Directory)
    }

    /// The path as it was asked for.
    pub fn asked(&self) -> &Path {
        &self.asked
    }

    /// The directory reached (`O_PATH`).
    pub fn here(&self) -> BorrowedFd<'_> {
        self.here.as_fd()
    }

    /// How the directory reached is called, without links.
    pub fn here_path(&self) -> &Path {
        &self.here_path
    }

    /// How something in the directory reached is called.
    pub fn path_of(&self, name: &OsStr) -> PathBuf {
        self.here_path.join(name)
    }

    /// Notes what is unsafe about the file at the walk's end.
    pub fn check(&mut self, path: &Path, stat: &Stat) {
        self.check_owner(path, stat.st_uid, false);
        if stat.st_mode & 0o022 != 0 {
            let mode = stat.st_mode & 0o7777;
            self.defects.push(Defect::Writable { path: path.to_owned(), mode });
        }
    }

    /// An error about something in the directory reached.
    pub fn failed(&self, name: &OsStr, source: io::Error) -> WalkError {
        let path = self.path_of(name);
        // The path as it was asked for is the one that the reader knows.
        let asked = std::path::absolute(&self.asked).is_ok_and(|whole| whole == path);
        WalkError { path: if asked { self.asked.clone() } else { path }, source }
    }

    /// Who else could have changed where it led; empty if nobody.
    pub fn into_defects(self) -> Vec<Defect> {
        self.defects
    }

    fn step(&mut self, name: OsString) -> Result<Option<Reached>, WalkError> {
        // Without O_PATH, opening a device or a FIFO can already do something.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = match openat(&self.here, &name, flags, Mode::empty()) {
            Err(Errno::NOENT) if self.ahead.is_empty() => {
                return Ok(Some(Reached::Missing(name)));
            }
            found => found.map_err(|error| self.failed(&name, error.into()))?,
        };
        let stat = fstat(&found).map_err(|error| self.failed(&name, error.into()))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                self.here = found;
                if name == ".." {
                    self.here_path.pop();
                } else {
                    self.here_path.push(&name);
                }
                self.check_here()?;
                Ok(None)
            }
            FileType::Symlink => {
                self.follow(found.as_fd(), &name, &stat)?;
                Ok(None)
            }
            FileType::RegularFile if self.ahead.is_empty() => Ok(Some(Reached::File(name))),
            FileType::RegularFile => Err(self.failed(&name, Errno::NOTDIR.into())),
            other => Ok(Some(Reached::Other(self.path_of(&name), other))),
        }
    }

    /// Puts a link's target in front of what is ahead.
    fn follow(&mut self, link: BorrowedFd<'_>, name: &OsStr, stat: &Stat) -> Result<(), WalkError> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(self.failed(name, Errno::LOOP.into()));
        }
        self.check_owner(&self.path_of(name), stat.st_uid, true);
        // An empty name means the link itself (readlinkat(2)).
        let target = readlinkat(link, "", Vec::new());
        let target = target.map_err(|error| self.failed(name, error.into()))?;
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        if target.is_absolute() {
            let root = openat(CWD, "/", directory_flags(), Mode::empty());
            self.here = root.map_err(|error| self.failed(name, error.into()))?;
            self.here_path = PathBuf::from("/");
        }
        for name in names(&target).into_iter().rev() {
            self.ahead.push_front(name);
        }
        Ok(())
    }

    /// Checks the directory reached. In a sticky one, as `/tmp`, only the owner of an entry can
    /// rename it, and the entry is checked next.
    fn check_here(&mut self) -> Result<(), WalkError> {
        let path = self.here_path.clone();
        let stat = fstat(&self.here)
            .map_err(|error| WalkError { path: path.clone(), source: error.into() })?;
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
}

impl Defect {
    /// What somebody else can change.
    pub fn path(&self) -> &Path {
        match self {
            Self::Owner { path, .. } | Self::Writable { path, .. } => path,
        }
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

fn who_writes(mode: u32) -> &'static str {
    if mode & 0o002 != 0 { "everybody" } else { "its group" }
}

fn remedy_for_owner(path: &Path, link: bool) -> String {
    let flag = if link { "-h " } else { "" };
    format!("run `chown {flag}root {}` or use a copy of your own", path.display())
}
