//! Users of layers: which daemon's layer is which user of this machine, for ever.
//!
//! Files outlive processes, and to the kernel their owner is a number. So the number of a layer's
//! user must not depend on what else is in the policy, and must never become another layer's. It
//! is kept in a record, [`RECORD`], by the daemon, the layer's name and the number of the copy,
//! and nothing is ever taken out of that.
//!
//! | module | what is here |
//! |---|---|
//! | [`access`] | what owner and mode of a file keep a layer's user from |
//! | `key` | by what a daemon is known: `web`, or `web+2` |
//! | `record` | the record as text, and how a number is found |
//! | `store` | the record on the disk |
//!
//! # Which daemon it is
//!
//! A daemon is known by its policy's name and by where its policy lies. Another policy of the same
//! name is another daemon, with users of its own, as `NAME+2`; so is one that is started while the
//! first still runs. A policy that isn't any more where it was has moved, and keeps its users.
//! `--users NAME` says it outright.

pub mod access;
mod key;
mod record;
mod store;

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use rustix::fs::{Mode, OFlags};

pub use self::key::Key;
use self::key::MOST;
use self::record::Record;
pub use self::record::{END, FIRST};
use self::store::{Store, ours};
use crate::ident::Name;

/// Where the record is: the file `users` in it.
pub const RECORD: &str = "/var/lib/cofferdam";

/// Where it is locked whose users are in use, in the file `users`: root's alone, and gone after a boot.
pub const LOCKS: &str = "/run/cofferdam";

/// The users of one daemon's layers, which no other daemon of this machine has as long as this is.
#[derive(Debug)]
pub struct Users {
    numbers: BTreeMap<(Name, u16), u32>,
    /// What the operator should know of whose users they are.
    pub note: Option<String>,
    /// Whose users they are.
    pub key: Key,
    lock: File,
}

/// A daemon that wants users.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// Its policy's name.
    pub daemon: &'a Name,
    /// Where its policy lies, or its program if that holds the policy.
    pub home: &'a str,
    /// Whose users its layers shall be, if the operator says so.
    pub told: Option<&'a Key>,
    /// Whether the caller's daemon holds the lock of those already, and wants more of them.
    pub is_held: bool,
    /// The layers that want one for each copy, and how many copies they have.
    pub layers: &'a [(&'a Name, u16)],
    /// The layers whose policy says which user they are.
    pub fixed: &'a [(&'a Name, u32)],
}

/// Why there are no users.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    /// The record can't be had.
    #[error(
        "{0}: the users of layers can't be recorded there: {1}; have it writable to root alone, or \
         give each layer a `uid`"
    )]
    Record(PathBuf, #[source] io::Error),
    /// The record isn't one.
    #[error(
        "{path}, line {line}: {what}; put it right, or restore it from a backup: without it a \
         layer could get the files of another one"
    )]
    Broken {
        /// The record.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// The lock can't be had.
    #[error("{0}: it can't be locked there whose users are in use: {1}")]
    Lock(PathBuf, #[source] io::Error),
    /// They are in use.
    #[error(
        "the users of {0} are those of a daemon that runs: stop it, or say `--users` of another"
    )]
    Taken(Key),
    /// All are in use.
    #[error(
        "{MOST} daemons of the name {0} are recorded or run already; `--users NAME` says which one this is"
    )]
    Full(Name),
    /// No number is left.
    #[error("all numbers of users from {FIRST} to {last} are given", last = END - 1)]
    Spent,
    /// A group that the policy fixes has one of those numbers.
    #[error(
        "[layer.{layer}] group = {group}: it is another layer's; take a number that isn't from \
         {FIRST} to {last}", last = END - 1
    )]
    Group {
        /// The layer.
        layer: Name,
        /// The number.
        group: u32,
    },
    /// A number that the policy fixes is one of those.
    #[error(
        "[layer.{layer}] uid = {uid}: {whose}; leave `uid` out, or take a number that isn't from \
         {FIRST} to {last}, which are those of layers without one", last = END - 1
    )]
    Fixed {
        /// The layer.
        layer: Name,
        /// The number.
        uid: u32,
        /// Who has it.
        whose: String,
    },
}

/// How many users are recorded, or what stands in the way. Changes nothing.
pub fn recorded() -> Result<usize, UsersError> {
    let path = Path::new(RECORD);
    if has_gone(RECORD) {
        return Ok(0);
    }
    Ok(Store::open_existing(path)?.read()?.len())
}

/// Whether `uid` is a number that layers without one in their policy get.
pub fn is_layers(uid: u32) -> bool {
    (FIRST..END).contains(&uid)
}

impl Users {
    /// Finds the users of a daemon, records those that are new, and locks them.
    pub fn claim(claim: &Claim<'_>) -> Result<Self, UsersError> {
        Self::claim_in(Path::new(RECORD), Path::new(LOCKS), claim)
    }

    /// The user of each copy, [`Users::note`], and what locks them as long as anybody has it open.
    pub fn into_parts(self) -> (BTreeMap<(Name, u16), u32>, Option<String>, OwnedFd) {
        (self.numbers, self.note, self.lock.into())
    }

    fn claim_in(record: &Path, locks: &Path, claim: &Claim<'_>) -> Result<Self, UsersError> {
        let store = Store::open(record)?;
        let locks = Locks::open(locks)?;
        let mut names = vec![claim.daemon.as_str()];
        names.extend(claim.told.map(Key::name).filter(|name| *name != claim.daemon.as_str()));
        // Whose a number is that the policy fixes, the whole record alone can tell.
        let whole = claim.fixed.iter().any(|(_, uid)| is_layers(*uid));
        let read = || if whole { store.read() } else { store.read_of(&names) };
        loop {
            let seen = read()?;
            let (key, lock) = choose(&seen, &locks, claim)?;
            // From here on nobody else changes what is said of this daemon. Before, somebody may
            // have: then the choice was made on what isn't so any more.
            let before = read()?;
            if before.home(&key) != seen.home(&key) {
                continue;
            }
            let mut record = before.clone();
            let mut numbers = give(&mut record, &key, claim)?;
            if record != before {
                // On what is there by now: others have recorded users of theirs.
                numbers = store.change(|record| give(record, &key, claim))?;
            }
            let note = note(&before, &key, claim);
            return Ok(Self { numbers, note, key, lock });
        }
    }
}

/// Finds out which daemon this is, and locks it.
fn choose(record: &Record, locks: &Locks, claim: &Claim<'_>) -> Result<(Key, File), UsersError> {
    if let Some(key) = claim.told.filter(|_| claim.is_held) {
        return Ok((key.clone(), locks.file()?));
    }
    if let Some(key) = claim.told {
        let lock = locks.take(key)?.ok_or_else(|| UsersError::Taken(key.clone()))?;
        return Ok((key.clone(), lock));
    }
    let is_own = |key: &Key| record.home(key) == Some(claim.home);
    let is_free = |key: &Key| record.home(key).is_none_or(has_gone);
    let own = Key::all(claim.daemon).filter(|key| is_own(key));
    let free = Key::all(claim.daemon).filter(|key| !is_own(key) && is_free(key));
    for key in own.chain(free) {
        if let Some(lock) = locks.take(&key)? {
            return Ok((key, lock));
        }
    }
    Err(UsersError::Full(claim.daemon.clone()))
}

/// Whether nothing is there any more. What can't be looked at may well be.
fn has_gone(path: &str) -> bool {
    let found = Path::new(path).symlink_metadata();
    found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// The numbers of all copies, new ones where there are none yet.
fn give(
    record: &mut Record,
    key: &Key,
    claim: &Claim<'_>,
) -> Result<BTreeMap<(Name, u16), u32>, UsersError> {
    for (layer, uid) in claim.fixed.iter().filter(|(_, uid)| is_layers(*uid)) {
        let whose = match record.owner(*uid) {
            // As it was before somebody wrote it down.
            Some((owner, name, _)) if owner == key && name == *layer => continue,
            Some((owner, name, copy)) => format!("it is {owner}'s {name}/{copy}"),
            None => "it may become another layer's".to_owned(),
        };
        return Err(UsersError::Fixed { layer: (*layer).clone(), uid: *uid, whose });
    }
    record.note_home(key, claim.home);
    let mut numbers = BTreeMap::new();
    for (layer, copies) in claim.layers {
        for copy in 0..*copies {
            let number = record.assign(key, layer, copy).ok_or(UsersError::Spent)?;
            numbers.insert(((*layer).clone(), copy), number);
        }
    }
    Ok(numbers)
}

/// What the operator should know: that they aren't those which the name alone would give.
fn note(before: &Record, key: &Key, claim: &Claim<'_>) -> Option<String> {
    let moved = before.home(key).filter(|home| *home != claim.home);
    if let Some(home) = moved {
        return Some(format!("its layers are the users of {key}, whose policy was {home}"));
    }
    let first = key.first();
    if !key.is_another() || claim.told.is_some() {
        return None;
    }
    Some(match before.home(&first) {
        Some(home) if home != claim.home => format!(
            "its layers are the users of {key}, for {first} is the daemon of {home}; if it is the \
             same one, stop it and say `--users {first}` here once"
        ),
        _ => format!(
            "its layers are the users of {key}, for {first} runs already; `--users NAME` makes that \
             independent of which is started first"
        ),
    })
}

/// The file in it whose bytes are locked.
const LOCKED: &str = "users";

/// The directory of the locks.
struct Locks(PathBuf);

impl Locks {
    fn open(path: &Path) -> Result<Self, UsersError> {
        let failed = |error: io::Error| UsersError::Lock(path.to_owned(), error);
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed(error));
            }
            _ => {}
        }
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty());
        let directory = directory.map_err(|errno| failed(errno.into()))?;
        ours(&File::from(directory)).map_err(failed)?;
        Ok(Self(path.to_owned()))
    }

    /// `None`: a daemon that runs has it.
    ///
    /// The lock is of one byte and of the open file (fcntl(2), `F_OFD_SETLK`): so one file serves all
    /// daemons, and who gets the descriptor holds the lock.
    fn take(&self, key: &Key) -> Result<Option<File>, UsersError> {
        let file = self.file()?;
        let byte = libc::flock {
            l_type: WRITE_LOCK,
            l_whence: FROM_START,
            l_start: place(key),
            l_len: 1,
            l_pid: 0,
        };
        match fcntl(&file, FcntlArg::F_OFD_SETLK(&byte)) {
            Ok(_) => Ok(Some(file)),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(None),
            Err(errno) => Err(UsersError::Lock(self.0.join(LOCKED), errno.into())),
        }
    }

    /// What is locked. To open and close it does nothing to a lock that another open file has.
    fn file(&self) -> Result<File, UsersError> {
        let path = self.0.join(LOCKED);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600));
        Ok(file.map_err(|errno| UsersError::Lock(path, errno.into()))?.into())
    }
}

/// Of `struct flock` (fcntl(2)), whose fields are shorter than the numbers.
#[expect(clippy::cast_possible_truncation, reason = "1 and 0")]
const WRITE_LOCK: libc::c_short = libc::F_WRLCK as libc::c_short;
#[expect(clippy::cast_possible_truncation, reason = "1 and 0")]
const FROM_START: libc::c_short = libc::SEEK_SET as libc::c_short;

/// A daemon's byte in the file of locks: 62 bits of a hash, so no two share one.
fn place(key: &Key) -> i64 {
    use blake2::Digest;
    let hash = blake2::Blake2s256::digest(key.to_string().as_bytes());
    let bytes = hash.first_chunk().copied().unwrap_or_default();
    (u64::from_le_bytes(bytes) >> 2).cast_signed()
}

#[cfg(test)]
mod tests;
