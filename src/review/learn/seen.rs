//! What was seen of a program, within bounds that it can't move.

use std::collections::{BTreeMap, BTreeSet};

use super::choosing::choosing;
use crate::policy::plan::FileRight;

/// What was seen of one program and all that it started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// System calls, by their number and the [arguments that count](super::choosing()).
    pub calls: BTreeMap<(u32, [u64; 6]), Evidence>,
    /// Files and directories that were there before, by their real paths.
    pub files: BTreeMap<String, File>,
    /// Addresses that were bound, as policies write them.
    pub bound: BTreeMap<String, Evidence>,
    /// Addresses that were connected to, likewise.
    pub connected: BTreeMap<String, Evidence>,
    /// Directories that it made where services have theirs and the host had none, with the key that
    /// gives a layer such a one.
    pub made: BTreeMap<String, (&'static str, Evidence)>,
    /// Its working directory, if it has used paths from there on.
    pub cwd: Option<(String, Evidence)>,
    /// Who owns the files that a user of the layer's own could not use as they were used.
    pub owners: BTreeMap<u32, Evidence>,
    /// Standard streams of who learns that it used, by their key, with what says so.
    pub streams: Vec<(&'static str, &'static str)>,
    /// The most that was held of what limits bound.
    pub peaks: Peaks,
    /// How many things there was no room to note.
    pub lost: u64,
}

/// How often something was done, and which program did it first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// How often.
    pub times: u64,
    /// The program's path, as far as it was known.
    pub first: String,
}

/// What was done with a file or directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct File {
    /// Whether it is a directory.
    pub is_directory: bool,
    /// What was done with it; of a directory also what was done with things that were made in it.
    pub rights: BTreeSet<FileRight>,
    /// By whom.
    pub evidence: Evidence,
}

/// The most that was held at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peaks {
    /// Memory of all processes together, in bytes.
    pub memory: u64,
    /// Descriptors of one process.
    pub files: u64,
    /// Processes and threads.
    pub tasks: u64,
    /// The largest file that was written, in bytes.
    pub file_size: u64,
}

/// Where services have directories of their own, and the key of a layer for it.
const SERVICES: [(&str, &str); 4] = [
    ("/run", "runtime-directory"),
    ("/var/cache", "cache"),
    ("/var/lib", "state"),
    ("/var/log", "logs"),
];

/// The most entries of each kind. What comes past them is counted, and not kept.
const MOST: usize = 4096;

impl Seen {
    /// Notes a call.
    pub fn call(&mut self, number: u32, arguments: [u64; 6], by: &str) {
        let key = (number, choosing(number, &arguments));
        note(&mut self.calls, &key, Evidence::default, &mut self.lost, |it| it.count(by));
    }

    /// Notes that something was done with a file or directory that was there before.
    pub fn file(&mut self, path: &str, is_directory: bool, rights: &[FileRight], by: &str) {
        let make = || File { is_directory, ..File::default() };
        note(&mut self.files, path, make, &mut self.lost, |file| {
            file.rights.extend(rights);
            file.evidence.count(by);
        });
    }

    /// Notes that only who owns it could do that with a file.
    pub fn owned(&mut self, owner: u32, by: &str) {
        note(&mut self.owners, &owner, Evidence::default, &mut self.lost, |it| it.count(by));
    }

    /// Notes an address that was bound.
    pub fn bound(&mut self, address: &str, by: &str) {
        note(&mut self.bound, address, Evidence::default, &mut self.lost, |it| it.count(by));
    }

    /// Notes an address that was connected to.
    pub fn connected(&mut self, address: &str, by: &str) {
        note(&mut self.connected, address, Evidence::default, &mut self.lost, |it| it.count(by));
    }

    /// Notes a directory that was made; `false` if it isn't one of those that services have.
    pub fn made(&mut self, path: &str, by: &str) -> bool {
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        let Some((_, key)) = SERVICES.iter().find(|(place, _)| *place == parent) else {
            return false;
        };
        let make = || (*key, Evidence::default());
        note(&mut self.made, path, make, &mut self.lost, |(_, it)| it.count(by));
        true
    }

    /// Notes a path that was relative to the working directory.
    pub fn relative(&mut self, cwd: &str, by: &str) {
        self.cwd.get_or_insert_with(|| (cwd.to_owned(), Evidence::default())).1.count(by);
    }
}

impl Evidence {
    /// All together: how often, and who is named first.
    pub(super) fn sum<'a>(all: impl Iterator<Item = &'a Self>) -> Self {
        all.fold(Self::default(), |mut sum, one| {
            if sum.times == 0 {
                sum.first.clone_from(&one.first);
            }
            sum.times = sum.times.saturating_add(one.times);
            sum
        })
    }

    /// Once more.
    pub fn count(&mut self, by: &str) {
        if self.times == 0 {
            by.clone_into(&mut self.first);
        }
        self.times = self.times.saturating_add(1);
    }
}

impl std::fmt::Display for Evidence {
    /// `3 times, first by /usr/bin/make`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let who = crate::text::neutralise(self.first.as_bytes());
        match self.times {
            1 => write!(f, "once, by {who}"),
            times => write!(f, "{times} times, first by {who}"),
        }
    }
}

fn note<K: Ord + ToOwned<Owned: Ord + std::borrow::Borrow<K>> + ?Sized, T>(
    map: &mut BTreeMap<K::Owned, T>,
    key: &K,
    make: impl FnOnce() -> T,
    lost: &mut u64,
    change: impl FnOnce(&mut T),
) {
    if let Some(known) = map.get_mut(key) {
        change(known);
    } else if map.len() < MOST {
        change(map.entry(key.to_owned()).or_insert_with(make));
    } else {
        *lost = lost.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_bounded() {
        let mut seen = Seen::default();
        for number in 0..MOST + 5 {
            seen.file(&format!("/a/{number}"), false, &[FileRight::Read], "/bin/a");
        }
        seen.file("/a/1", false, &[FileRight::Write], "/bin/b");
        assert_eq!((seen.files.len(), seen.lost), (MOST, 5));
        let one = &seen.files["/a/1"];
        assert!(one.rights.contains(&FileRight::Write) && one.rights.contains(&FileRight::Read));
        assert_eq!(one.evidence.to_string(), "2 times, first by /bin/a");
    }
}
