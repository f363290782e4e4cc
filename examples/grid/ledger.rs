//! What the dispatcher must not lose: jobs, and tiles that are painted, as files in the directory that
//! belongs to it. A file appears there whole and under its own name once, so a tile has one result
//! however often it was painted, and a dispatcher that was killed goes on where the former one was.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::protocol::Picture;

/// The jobs, each with its tiles.
pub(crate) struct Ledger {
    directory: PathBuf,
    pub jobs: BTreeMap<u64, Job>,
    next: u64,
}

/// A job.
pub(crate) struct Job {
    pub picture: Picture,
    pub priority: u8,
    /// Which tiles have a result.
    pub done: Vec<bool>,
}

#[derive(Serialize, Deserialize)]
struct Written {
    picture: Picture,
    priority: u8,
}

impl Job {
    /// How many tiles have a result.
    pub fn done(&self) -> u32 {
        let done = self.done.iter().filter(|done| **done).count();
        u32::try_from(done).unwrap_or(u32::MAX)
    }
}

impl Ledger {
    /// What the directory holds.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let mut ledger = Self { directory: directory.to_owned(), jobs: BTreeMap::new(), next: 1 };
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            let number = path.file_name().and_then(|name| name.to_str()?.parse().ok());
            let Some(number) = number else { continue };
            ledger.next = ledger.next.max(number + 1);
            // A job whose first file isn't there was never taken.
            let Ok(text) = fs::read(path.join("job")) else {
                fs::remove_dir_all(&path)?;
                continue;
            };
            let Written { picture, priority } = serde_json::from_slice(&text)?;
            let mut done = vec![false; picture.tiles() as usize];
            for tile in fs::read_dir(&path)? {
                let name = tile?.file_name();
                let tile = name.to_str().and_then(|name| name.parse::<usize>().ok());
                if let Some(done) = tile.and_then(|tile| done.get_mut(tile)) {
                    *done = true;
                }
            }
            ledger.jobs.insert(number, Job { picture, priority, done });
        }
        Ok(ledger)
    }

    /// Takes a job.
    pub fn take(&mut self, picture: Picture, priority: u8) -> io::Result<u64> {
        let number = self.next;
        let directory = self.directory.join(number.to_string());
        fs::create_dir(&directory)?;
        self.next += 1;
        let text = serde_json::to_vec(&Written { picture: picture.clone(), priority })?;
        put(&directory, "job", &text)?;
        let done = vec![false; picture.tiles() as usize];
        self.jobs.insert(number, Job { picture, priority, done });
        Ok(number)
    }

    /// Keeps a tile's result. False: it has one, or nobody wants it any more.
    pub fn keep(&mut self, job: u64, tile: u32, points: &[u8]) -> io::Result<bool> {
        let done = self.jobs.get_mut(&job).and_then(|job| job.done.get_mut(tile as usize));
        let Some(done) = done.filter(|done| !**done) else { return Ok(false) };
        put(&self.directory.join(job.to_string()), &tile.to_string(), points)?;
        *done = true;
        Ok(true)
    }

    /// A tile's result.
    pub fn tile(&self, job: u64, tile: u32) -> io::Result<Vec<u8>> {
        fs::read(self.directory.join(job.to_string()).join(tile.to_string()))
    }

    /// Forgets a job. False: there is none.
    pub fn forget(&mut self, job: u64) -> io::Result<bool> {
        if self.jobs.remove(&job).is_none() {
            return Ok(false);
        }
        let directory = self.directory.join(job.to_string());
        fs::remove_file(directory.join("job"))?;
        fs::remove_dir_all(directory)?;
        Ok(true)
    }
}

/// Writes a file that is there whole, or not at all.
fn put(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let beside = directory.join(".new");
    fs::write(&beside, bytes)?;
    fs::rename(beside, directory.join(name))
}
