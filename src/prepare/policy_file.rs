//! Reading a policy file that nobody else can change.
//!
//! Whoever can write the file, or rename something on the way to it, writes the policy; so each of
//! them must be root or this user. The way is walked (`walk`), so what is checked is what is read.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, fstat, openat};

use super::walk::{Reached, Walk, WalkError};
use crate::policy::MAX_SIZE;

pub use super::walk::Defect;

/// A policy file's bytes, and what is unsafe about where they came from.
#[derive(Debug)]
pub struct PolicyFile {
    /// The whole file, at most [`MAX_SIZE`] bytes.
    pub bytes: Vec<u8>,
    /// Who else could have written them; empty if nobody.
    pub defects: Vec<Defect>,
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
    let not_regular = |path: PathBuf, kind| Err(PolicyFileError::NotRegular { path, kind });
    match walk.go()? {
        Reached::File(name) => {
            let bytes = read_file(&mut walk, &name)?;
            Ok(PolicyFile { bytes, defects: walk.into_defects() })
        }
        Reached::Directory => not_regular(path.to_owned(), "a directory"),
        Reached::Other(path, kind) => not_regular(path, kind_of(kind)),
        Reached::Missing(name) => Err(walk.failed(&name, rustix::io::Errno::NOENT.into()).into()),
    }
}

/// Opens the file for reading, checks what was opened, and reads it whole.
fn read_file(walk: &mut Walk, name: &OsStr) -> Result<Vec<u8>, PolicyFileError> {
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let path = walk.path_of(name);
    let file = openat(walk.here(), name, flags, Mode::empty());
    let file = file.map_err(|error| walk.failed(name, error.into()))?;
    let stat = fstat(&file).map_err(|error| walk.failed(name, error.into()))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {}
        other => return Err(PolicyFileError::NotRegular { path, kind: kind_of(other) }),
    }
    walk.check(&path, &stat);
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file that is too large, even one that grows.
    let most = MAX_SIZE as u64 + 1;
    let done = File::from(file).take(most).read_to_end(&mut bytes);
    done.map_err(|error| walk.failed(name, error))?;
    if bytes.len() > MAX_SIZE {
        return Err(PolicyFileError::TooLarge { path: walk.asked().to_owned() });
    }
    Ok(bytes)
}

impl From<WalkError> for PolicyFileError {
    fn from(WalkError { path, source }: WalkError) -> Self {
        Self::System { path, source }
    }
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
