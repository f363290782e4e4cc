//! The users that layers get as root, and the claim on them.
//!
//! No two daemons may share a user: its quotas (tasks, descriptors in flight, keys) and the
//! kernel's log would mix them up. So a supervisor claims a whole range by locking a file for as
//! long as it lives.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::ident::Name;

/// The first of these users. Far above what user databases, containers and systemd's dynamic
/// users hand out, and below 2^31, which some programs take for the end.
const FIRST: u32 = 0x4000_0000;

/// Users that one daemon may take: 64 instances of each of 64 layers.
pub const RANGE: u32 = 4096;

/// How many ranges there are.
const RANGES: u32 = 0x2000;

/// How many ranges are tried: as many daemons of one name can run at once, at least.
const TRIES: u32 = 256;

/// Where the claims are: root's alone, and gone after a boot.
const CLAIMS: &str = "/run/cofferdam";

/// A range of users that no other supervisor of this machine has.
#[derive(Debug)]
pub struct Users {
    /// The first of them.
    pub first: u32,
    _claim: File,
}

impl Users {
    /// Claims a range, the same for a daemon's name every time where it is free.
    pub fn claim(daemon: &Name) -> io::Result<Self> {
        Self::claim_in(Path::new(CLAIMS), daemon)
    }

    fn claim_in(claims: &Path, daemon: &Name) -> io::Result<Self> {
        match DirBuilder::new().mode(0o700).create(claims) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let directory = claims.symlink_metadata()?;
        let own = rustix::process::geteuid().as_raw();
        if !directory.is_dir() || directory.uid() != own || directory.mode() & 0o022 != 0 {
            return Err(io::Error::other("it is not a directory of our own"));
        }
        let begin = place_of(daemon);
        for place in (0..TRIES).map(|step| (begin + step) % RANGES) {
            let first = FIRST + place * RANGE;
            let claim = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW)
                .open(claims.join(format!("users-{first}")))?;
            match rustix::fs::flock(&claim, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { first, _claim: claim }),
                Err(Errno::WOULDBLOCK) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(io::Error::other("all ranges of users that this name may have are taken"))
    }
}

/// Where a daemon begins to look: FNV-1a of its name.
fn place_of(daemon: &Name) -> u32 {
    let hash = daemon
        .as_str()
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash % RANGES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_daemons_of_one_name_have_different_users() {
        let claims = tempfile::tempdir().unwrap();
        let claims = claims.path().join("claims");
        let name = Name::new("web").unwrap();
        let one = Users::claim_in(&claims, &name).unwrap();
        let two = Users::claim_in(&claims, &name).unwrap();
        assert!(one.first.abs_diff(two.first) >= RANGE);
        let first = one.first;
        drop(one);
        assert_eq!(Users::claim_in(&claims, &name).unwrap().first, first);
    }

    #[test]
    fn a_directory_that_others_may_write_to_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let claims = tempfile::tempdir().unwrap();
        std::fs::set_permissions(claims.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        Users::claim_in(claims.path(), &Name::new("web").unwrap()).unwrap_err();
    }
}
