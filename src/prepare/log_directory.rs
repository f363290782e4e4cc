//! The log's directory, from the first look at it until the auditor has it.
//!
//! As root the directory and what is in it become the auditor's, and whoever could choose what that
//! is would be given any file of the machine. So the way to the directory is [walked](Walk), one
//! descriptor is held from then on, and nothing is given away but regular files of one name whose
//! owner is root or the log's auditor. The directory itself stays root's, which nobody else can
//! make it, with the auditor's group: so an auditor of another user number is known as the heir of
//! the former one.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use caps::Capability;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid, chownat, fchmod, fchown, fstat, mkdirat,
    openat,
};
use rustix::io::Errno;

use super::child::{self, Kind, PrepareError};
use super::walk::{Defect, Reached, Walk, WalkError};
use crate::audit::Store;
use crate::policy::plan::Plan;

/// How long the auditor of a supervisor that was killed may take to write down what was left.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The mode of a directory that only its owner uses.
const OWN: u32 = 0o700;

/// The mode of a directory of root that an auditor has: its group is the auditor's. In a sticky
/// directory nobody but root removes or renames what isn't its own.
const GIVEN: u32 = 0o1770;

/// The child that looks at the directory: it keeps the way to it.
pub(super) const KIND: Kind = Kind {
    does: "looks at the audit log's directory",
    without: "there can be no audit log",
    capabilities: &[Capability::CAP_DAC_OVERRIDE, Capability::CAP_DAC_READ_SEARCH],
    calls: &["@core", "@file-read", "@shared-memory", "mkdirat", "flock"],
};

/// A log's directory, open.
#[derive(Debug)]
pub(crate) struct LogDirectory {
    path: PathBuf,
    identity: (u64, u64),
    fd: OwnedFd,
}

/// Why there is no directory for the log.
#[derive(Debug, thiserror::Error)]
pub(super) enum DirectoryError {
    /// The policy demands a log, and nobody says where.
    #[error(
        "the policy demands an audit log, and nobody says where: give `--audit DIR`, or \
         `directory` in [audit]"
    )]
    Nowhere,
    /// The directory can't be had.
    #[error("the audit log's directory {0}: {1}")]
    Directory(PathBuf, io::Error),
    /// Somebody else may write there.
    #[error(
        "the audit log's directory {0} is writable to others (mode {1:o}): `chmod go-w {0}`, or \
         give another one"
    )]
    Open(PathBuf, u32),
    /// Somebody else could put another directory in its place.
    #[error("the audit log's directory {0}: {1}")]
    Unsafe(PathBuf, Defect),
    /// It belongs to somebody else.
    #[error(
        "the audit log's directory {0} belongs to user {1}, who could alter it: if it is yours, \
         look at what is in it and `chown -R` it to the user who runs the daemon"
    )]
    Foreign(PathBuf, u32),
    /// Something in it may not be given to the auditor.
    #[error(
        "the audit log's directory {0} holds {1:?}, which {2}: no log has such a file; take it \
         away, or give another directory"
    )]
    Strange(PathBuf, String, String),
    /// Another daemon's auditor writes there: given to another user, it would lose the log.
    #[error(
        "the audit log's directory {0}: another supervisor writes the log; stop that daemon, or give \
         another directory"
    )]
    Held(PathBuf),
    /// It is used for something else.
    #[error(
        "the audit log's directory {0} holds {1:?}, which is no part of a log: give one that is \
         empty, isn't there yet, or holds a log"
    )]
    Used(PathBuf, String),
    /// A layer can reach it.
    #[error(
        "the audit log's directory {0} is within reach of [{1}]: give one that no layer is \
         granted anything in, at or around"
    )]
    Reached(PathBuf, String),
}

impl From<WalkError> for DirectoryError {
    fn from(WalkError { path, source }: WalkError) -> Self {
        Self::Directory(path, source)
    }
}

impl LogDirectory {
    /// Has a child look at the log's directory, `asked` or else the policy's, which is made if it
    /// isn't there. `None`: the daemon keeps no log.
    pub(crate) fn find(plan: &Plan, asked: Option<&Path>) -> Result<Option<Self>, PrepareError> {
        let stated = plan.audit.directory.as_deref().map(Path::new);
        let Some(asked) = asked.or(stated) else {
            let nowhere = PrepareError::Failed(DirectoryError::Nowhere.to_string());
            return if plan.audit.demanded { Err(nowhere) } else { Ok(None) };
        };
        let ((path, identity), fds) = child::run(&KIND, 1, |handover| {
            let failed = |error: io::Error| DirectoryError::Directory(asked.into(), error);
            let found = Self::look(plan, asked).map_err(|error| error.to_string())?;
            handover.give(found.fd.as_fd()).map_err(|error| failed(error).to_string())?;
            // By its path the auditor's own policy grants it.
            let no_text = || io::Error::new(io::ErrorKind::InvalidInput, "its path is no UTF-8");
            let path = found.path.to_str().ok_or_else(|| failed(no_text()).to_string())?;
            Ok((path.to_owned(), found.identity))
        })?;
        let fd = fds.into_iter().next();
        let missing = || PrepareError::Garbled(KIND.does, io::ErrorKind::UnexpectedEof.into());
        Ok(Some(Self { path: path.into(), identity, fd: fd.ok_or_else(missing)? }))
    }

    fn look(plan: &Plan, asked: &Path) -> Result<Self, DirectoryError> {
        let found = Self::open(asked)?;
        match plan.reaching(&found.path.display().to_string()).into_iter().next() {
            Some(rule) => Err(DirectoryError::Reached(found.path, rule)),
            None => Ok(found),
        }
    }

    /// Opens the directory, which is made if it isn't there, and looks whether anybody else could
    /// write in it or put another in its place, and whether all that is in it is of a log.
    ///
    /// [`LogDirectory::path`] has no symbolic links, for the auditor's own view follows none.
    fn open(asked: &Path) -> Result<Self, DirectoryError> {
        let mut walk = Walk::begin(asked)?;
        let (path, found) = match walk.go()? {
            Reached::Directory => (walk.here_path().to_owned(), openat_directory(&walk, ".")),
            Reached::Missing(name) => {
                match mkdirat(walk.here(), &name, Mode::from_raw_mode(OWN)) {
                    // Made by another meanwhile, it is looked at as any other is.
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(walk.failed(&name, errno.into()).into()),
                }
                (walk.path_of(&name), openat_directory(&walk, &name))
            }
            Reached::File(name) => return Err(walk.failed(&name, Errno::NOTDIR.into()).into()),
            Reached::Other(path, _) => {
                return Err(DirectoryError::Directory(path, Errno::NOTDIR.into()));
            }
        };
        // Of the directory itself more is known: see below.
        if let Some(defect) = walk.into_defects().into_iter().find(|it| it.path() != path) {
            return Err(DirectoryError::Unsafe(path, defect));
        }
        let opened = found.and_then(|fd| Ok((fstat(&fd)?, fd)));
        let (about, fd) =
            opened.map_err(|errno| DirectoryError::Directory(path.clone(), errno.into()))?;
        let directory = Self { path, identity: (about.st_dev, about.st_ino), fd };
        directory.check(about.st_mode & 0o7777, about.st_uid)?;
        Ok(directory)
    }

    /// Its path, without symbolic links.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What it is on this machine: device and inode.
    pub(crate) fn identity(&self) -> (u64, u64) {
        self.identity
    }

    /// Gives what is in the directory to the auditor's user, `uid`, and lets it write there.
    /// `None`: the auditor is the user of this process.
    pub(super) fn give_to(&self, uid: Option<u32>) -> Result<(), DirectoryError> {
        let failed = |error: io::Error| DirectoryError::Directory(self.path.clone(), error);
        let own = rustix::process::geteuid().as_raw();
        let about = fstat(&self.fd).map_err(|errno| failed(errno.into()))?;
        if about.st_uid != own && Some(about.st_uid) != uid {
            return Err(DirectoryError::Foreign(self.path.clone(), about.st_uid));
        }
        // The auditor that had it, which may have had another number.
        let former = (about.st_mode & 0o7777 == GIVEN).then_some(about.st_gid);
        let known = [Some(own), uid, former];
        let mut files = Vec::new();
        for name in self.names().map_err(failed)? {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = openat(&self.fd, &name, flags, Mode::empty());
            let file = file.map_err(|errno| failed(errno.into()))?;
            let stat = fstat(&file).map_err(|errno| failed(errno.into()))?;
            match strange(&stat, &known) {
                Some(what) => return Err(DirectoryError::Strange(self.path.clone(), name, what)),
                None => files.push(file),
            }
        }
        let Some(uid) = uid else { return Ok(()) };
        let (owner, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
        for file in files {
            chownat(file.as_fd(), "", Some(owner), Some(group), AtFlags::EMPTY_PATH)
                .map_err(|errno| failed(errno.into()))?;
        }
        // The mode last: before that, who has the group has no right by it.
        fchown(&self.fd, Some(Uid::ROOT), Some(group))
            .and_then(|()| fchmod(&self.fd, Mode::from_raw_mode(GIVEN)))
            .map_err(|errno| failed(errno.into()))
    }

    fn check(&self, mode: u32, owner: u32) -> Result<(), DirectoryError> {
        let failed = |error: io::Error| DirectoryError::Directory(self.path.clone(), error);
        // An ordinary user may be in the group; root has given it away itself.
        let given = mode == GIVEN && owner == 0 && rustix::process::geteuid().is_root();
        if mode & 0o022 != 0 && !given {
            return Err(DirectoryError::Open(self.path.clone(), mode));
        }
        let names = self.names().map_err(failed)?;
        if let Some(name) = names.into_iter().find(|name| !is_of_a_log(name)) {
            return Err(DirectoryError::Used(self.path.clone(), name));
        }
        if self.is_held_for_long().map_err(failed)? {
            return Err(DirectoryError::Held(self.path.clone()));
        }
        Ok(())
    }

    /// Whether somebody holds the log, and doesn't give it up in a moment: the auditor of a supervisor
    /// that was killed is about to write down what was left, and what this daemon's start clears away
    /// would end it.
    fn is_held_for_long(&self) -> io::Result<bool> {
        let store = Store::from_fd(self.fd.try_clone()?);
        let until = Instant::now() + LAST_WORDS;
        while store.is_held() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(store.is_held())
    }

    /// What is in the directory.
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        // Read by an open file of its own, so that each look begins at the beginning.
        for entry in rustix::fs::Dir::read_from(&self.fd)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if !matches!(name.as_str(), "." | "..") {
                names.push(name);
            }
        }
        Ok(names)
    }
}

fn openat_directory(walk: &Walk, name: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(walk.here(), name, flags, Mode::empty())
}

/// What is wrong with an entry that is to be given away, if anything is.
fn strange(stat: &Stat, known: &[Option<u32>]) -> Option<String> {
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Some("is no regular file".to_owned());
    }
    if stat.st_nlink > 1 {
        return Some(format!("has {} names (hard links)", stat.st_nlink));
    }
    if !known.contains(&Some(stat.st_uid)) {
        return Some(format!("belongs to user {}", stat.st_uid));
    }
    None
}

/// Whether a log has files of that name (`docs/audit-format.md`, section 2).
fn is_of_a_log(name: &str) -> bool {
    let name = name.strip_suffix(".draft").unwrap_or(name);
    let numbered = |rest: &str| rest.len() >= 8 && rest.bytes().all(|byte| byte.is_ascii_digit());
    matches!(name, "epochs.note" | "key" | "key.next" | "lock" | "redaction")
        || name.rsplit_once('.').is_some_and(|(number, kind)| {
            matches!(kind, "log" | "note" | "idx") && numbered(number)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_holds_something_else_is_left_alone() {
        for name in [
            "00000000.log",
            "00000012.idx.draft",
            "key.next",
            "lock",
            "redaction",
            "123456789.note",
        ] {
            assert!(is_of_a_log(name), "{name}");
        }
        for name in ["passwd", "1.log", "0000000x.log", "00000000.txt", ".draft", "keys"] {
            assert!(!is_of_a_log(name), "{name}");
        }
    }
}
