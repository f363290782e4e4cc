//! Directories that belong to layers: made, and given to the layer's user of this life.
//!
//! What is in them a layer has written, and it may have been a hostile one. So nothing in them is
//! found by a path, and nothing leads out of them: each entry is opened by its name in the directory
//! that it was listed in, without following it, looked at, and changed by that very handle.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir, FileType, FlockOperation, Gid, Mode, OFlags, Stat, Uid, chownat, fchmod, fchown,
    flock, fstat, mkdirat, openat,
};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::tree::{self, Entry};
use super::walk::{Reached, Walk, WalkError};
use crate::ident::Name;
use crate::policy::plan::{DirectoryPlan, LayerPlan, Plan};
use crate::users::is_layers;

/// Nobody but the layer.
const PRIVATE: Mode = Mode::RWXU;

/// Who is to own a directory: user and group.
type Owner = (u32, u32);

/// How many descriptors [`all`] gives.
pub(super) fn most(plan: &Plan) -> usize {
    plan.layers.iter().map(|layer| kept(layer).count()).sum()
}

fn kept(layer: &LayerPlan) -> impl Iterator<Item = &DirectoryPlan> {
    layer.directories.iter().filter(|it| it.kind.is_kept())
}

/// Makes the directories of all layers, and gives each to its layer's user. Each descriptor holds a
/// lock on one: as long as it is open no other daemon takes the directory.
pub(super) fn all(plan: &Plan, users: &BTreeMap<(Name, u16), u32>) -> Result<Vec<OwnedFd>, String> {
    let mut locks = Vec::new();
    for layer in &plan.layers {
        for directory in kept(layer) {
            let rule = format!("[layer.{}] {}", layer.name, directory.kind.name());
            let made = make(Path::new(&directory.path), owner(layer, users));
            locks.push(made.map_err(|error| format!("{rule}: {error}"))?);
        }
    }
    Ok(locks)
}

/// Whom the layer's directories belong to; `None`: this user, who the layer is as well.
fn owner(layer: &LayerPlan, users: &BTreeMap<(Name, u16), u32>) -> Option<Owner> {
    let own = users.get(&(layer.name.clone(), 0)).copied();
    let uid = layer.uid.or(own).filter(|_| geteuid().is_root())?;
    Some((uid, layer.group.unwrap_or(uid)))
}

/// Why a layer can't have its directory.
#[derive(Debug, thiserror::Error)]
enum DirectoryError {
    #[error("{0}: {1}")]
    System(PathBuf, io::Error),
    #[error("{0}: nothing is there to make it in; make its parent first")]
    NoParent(PathBuf),
    #[error("{0}: a part of this path is a symbolic link; write the path that it leads to: {1}")]
    Link(PathBuf, PathBuf),
    #[error("{0}: it is there already and no directory; move it away")]
    NoDirectory(PathBuf),
    #[error("{0}: somebody else could put another in its place: {1}")]
    Unsafe(PathBuf, super::walk::Defect),
    #[error("{0}: another daemon has it in use")]
    InUse(PathBuf),
    #[error(
        "{path}: it belongs to user {uid}, who is no layer, and isn't empty; if it is the layer's, \
         look at what is in it and run `chown -R {to}:{group} {path}`",
        path = .path.display()
    )]
    Foreign { path: PathBuf, uid: u32, to: u32, group: u32 },
    #[error("{0}: it belongs to user {1}; give it to the user who runs the daemon")]
    NotOurs(PathBuf, u32),
    #[error(
        "{0}: {1}, which its former user can't have made; nothing in the directory is given to \
         the layer before somebody has looked at it"
    )]
    Strange(PathBuf, String),
}

impl From<WalkError> for DirectoryError {
    fn from(WalkError { path, source }: WalkError) -> Self {
        match source.kind() {
            io::ErrorKind::NotFound => Self::NoParent(path),
            io::ErrorKind::NotADirectory => Self::NoDirectory(path),
            _ => Self::System(path, source),
        }
    }
}

fn make(path: &Path, owner: Option<Owner>) -> Result<OwnedFd, DirectoryError> {
    let failed = |error: Errno| DirectoryError::System(path.to_owned(), error.into());
    let directory = open(path)?;
    flock(&directory, FlockOperation::NonBlockingLockExclusive).map_err(|errno| match errno {
        Errno::WOULDBLOCK => DirectoryError::InUse(path.to_owned()),
        errno => failed(errno),
    })?;
    let now = fstat(&directory).map_err(failed)?;
    match owner {
        None if now.st_uid != geteuid().as_raw() => {
            return Err(DirectoryError::NotOurs(path.to_owned(), now.st_uid));
        }
        None => {}
        Some(owner) => give(&directory, path, &now, owner)?,
    }
    fchmod(&directory, PRIVATE).map_err(failed)?;
    Ok(directory)
}

/// Opens the directory, which is made if it isn't there.
fn open(path: &Path) -> Result<OwnedFd, DirectoryError> {
    let mut walk = Walk::begin(path)?;
    let name = match walk.go()? {
        Reached::Directory => OsString::from("."),
        Reached::Missing(name) => {
            mkdirat(walk.here(), &name, PRIVATE)
                .map_err(|errno| walk.failed(&name, errno.into()))?;
            name
        }
        Reached::File(_) | Reached::Other(..) => {
            return Err(DirectoryError::NoDirectory(path.to_owned()));
        }
    };
    let reached = if name == "." { walk.here_path().to_owned() } else { walk.path_of(&name) };
    if reached != path {
        return Err(DirectoryError::Link(path.to_owned(), reached));
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = openat(walk.here(), &name, flags, Mode::empty())
        .map_err(|errno| walk.failed(&name, errno.into()))?;
    // Of the directory itself more is known: whose it may be.
    match walk.into_defects().into_iter().find(|defect| defect.path() != path) {
        Some(defect) => Err(DirectoryError::Unsafe(path.to_owned(), defect)),
        None => Ok(opened),
    }
}

/// Gives a directory with all that is in it to `owner`.
fn give(directory: &OwnedFd, path: &Path, now: &Stat, owner: Owner) -> Result<(), DirectoryError> {
    let failed = |error: io::Error| DirectoryError::System(path.to_owned(), error);
    let (uid, gid) = owner;
    if now.st_uid != uid {
        let is_empty = is_empty(directory).map_err(failed)?;
        // A number that is no layer's is somebody's: what he has isn't given away.
        if !is_empty && !is_layers(now.st_uid) {
            let (path, uid, group) = (path.to_owned(), now.st_uid, gid);
            return Err(DirectoryError::Foreign { path, uid, to: owner.0, group });
        }
        let change = Change { former: now.st_uid, device: now.st_dev, owner };
        let names = change.look(directory, path)?;
        change.carry_out(directory, path, &names)?;
    }
    // The directory itself last: until then it says that there is work left.
    fchown(directory, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
        .map_err(|errno| failed(errno.into()))
}

fn is_empty(directory: &OwnedFd) -> io::Result<bool> {
    for entry in Dir::read_from(directory)? {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A change of the owner of all that is in a directory.
struct Change {
    former: u32,
    device: u64,
    owner: Owner,
}

/// How many names of a file are in the tree, of those that have several.
type Names = BTreeMap<u64, u64>;

impl Change {
    /// Looks at everything before anything is changed.
    fn look(&self, top: &OwnedFd, path: &Path) -> Result<Names, DirectoryError> {
        let mut names = Names::new();
        let mut several = Vec::new();
        self.each(top, path, |entry| {
            if entry.has_names() {
                *names.entry(entry.stat.st_ino).or_default() += 1;
                several.push((entry.stat.st_ino, entry.stat.st_nlink, entry.path()));
            }
            Ok(())
        })?;
        // A name elsewhere is somebody else's, to whom the file would go as well.
        let outside = several.into_iter().find(|(inode, links, _)| names[inode] != *links);
        match outside {
            Some((.., path)) => {
                let what = "it has another name (hard link) outside of the directory".to_owned();
                Err(DirectoryError::Strange(path, what))
            }
            None => Ok(names),
        }
    }

    fn carry_out(&self, top: &OwnedFd, path: &Path, names: &Names) -> Result<(), DirectoryError> {
        let (uid, gid) = (Uid::from_raw(self.owner.0), Gid::from_raw(self.owner.1));
        self.each(top, path, |entry| {
            let failed = |error: Errno| DirectoryError::System(entry.path(), error.into());
            if entry.has_names() && names.get(&entry.stat.st_ino) != Some(&entry.stat.st_nlink) {
                let what = "it has got another name meanwhile".to_owned();
                return Err(DirectoryError::Strange(entry.path(), what));
            }
            let itself = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
            chownat(entry.handle.as_fd(), "", Some(uid), Some(gid), itself).map_err(failed)?;
            // The kernel takes these bits away with the owner (chown(2)): they meant the former.
            let left = fstat(&entry.handle).map_err(failed)?.st_mode & 0o6000;
            if left != 0 && !entry.is_directory() {
                let what = "its set-user-id bit stays".to_owned();
                return Err(DirectoryError::Strange(entry.path(), what));
            }
            Ok(())
        })
    }

    /// Does something with each entry that the former user can have made, and stops at another.
    fn each(
        &self,
        top: &OwnedFd,
        path: &Path,
        mut act: impl FnMut(&Entry<'_>) -> Result<(), DirectoryError>,
    ) -> Result<(), DirectoryError> {
        let failed = |path, error| DirectoryError::System(path, error);
        tree::walk(top, path, failed, |entry| match self.strange(&entry.stat) {
            Some(what) => Err(DirectoryError::Strange(entry.path(), what)),
            None => act(entry),
        })
    }

    /// Why an entry is none that the former user can have made.
    fn strange(&self, stat: &Stat) -> Option<String> {
        if stat.st_dev != self.device {
            return Some("it is on another file system, which is mounted there".to_owned());
        }
        // What an interrupted change has reached is the new user's.
        if stat.st_uid != self.former && stat.st_uid != self.owner.0 {
            return Some(format!("it belongs to user {}", stat.st_uid));
        }
        let kind = FileType::from_raw_mode(stat.st_mode);
        let is_device = matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
        is_device.then(|| "it is a device".to_owned())
    }
}
