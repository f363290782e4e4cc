//! Checkpoints as other places than the log's directory keep them: the log's newest one, and the file
//! of a witness.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::Failure;
use crate::audit::keys::EPOCHS;
use crate::audit::log::{notes_name, segment_number};
use crate::audit::note::Signed;
use crate::audit::store::{Store, StoreError, length, read_at};
use crate::text::neutralise;

/// Two notes are shorter than this, in bytes.
const TAIL: u64 = 4096;

/// The log's newest checkpoint.
pub(super) fn newest(store: &Store) -> Result<Option<Signed>, StoreError> {
    let mut numbers: Vec<u64> =
        store.names()?.iter().filter_map(|name| segment_number(name)).collect();
    numbers.sort_unstable();
    // The last segment may be too young for one.
    let files = numbers.into_iter().rev().take(2).map(notes_name).chain([EPOCHS.to_owned()]);
    let mut best: Option<Signed> = None;
    for name in files {
        let Ok(file) = store.reader(&name) else { continue };
        let size = length(&file, &name)?;
        let from = size.saturating_sub(TAIL);
        let mut bytes = vec![0; usize::try_from(size - from).unwrap_or(0)];
        let read = read_at(&file, &name, &mut bytes, from)?;
        let last = parts(&bytes[..read]).0.last().and_then(|note| Signed::parse(note).ok());
        best = best.into_iter().chain(last).max_by_key(|it| it.checkpoint.size);
    }
    Ok(best)
}

/// The notes in a file of checkpoints, whose text alone is looked at, and where the last one ends. What
/// stands before the first is no note's beginning.
fn parts(bytes: &[u8]) -> (Vec<&str>, usize) {
    let (mut notes, mut end) = (Vec::new(), 0);
    let mut begin = 0;
    while let Some(middle) = find(bytes, begin) {
        let Some(after) = find(bytes, middle) else { break };
        let signed = bytes[middle..].starts_with("\u{2014} ".as_bytes());
        if !signed {
            // The file was cut within a note, or this is another file.
            begin = middle;
            continue;
        }
        if let Ok(note) = std::str::from_utf8(&bytes[begin..after - 1]) {
            notes.push(note);
        }
        (begin, end) = (after, after);
    }
    (notes, end)
}

/// Where the next empty line ends.
fn find(bytes: &[u8], from: usize) -> Option<usize> {
    bytes[from..].windows(2).position(|pair| pair == b"\n\n").map(|at| from + at + 2)
}

/// What a witness's file says: the last checkpoint of each epoch, which holds all before it. The torn
/// rest of a write is left out; a file without any checkpoint is wrong usage.
pub(super) fn witnessed(path: &Path) -> Result<Vec<String>, Failure> {
    let shown = neutralise(path.display().to_string().as_bytes());
    let bytes = std::fs::read(path)
        .map_err(|error| Failure::system(format!("can't read the witness {shown}: {error}")))?;
    let mut last: Vec<(&str, &str)> = Vec::new();
    for note in parts(&bytes).0 {
        let epoch = note.lines().find_map(|line| line.strip_prefix("epoch ")).unwrap_or_default();
        match last.last_mut() {
            Some((known, kept)) if *known == epoch => *kept = note,
            _ => last.push((epoch, note)),
        }
    }
    if last.is_empty() {
        return Err(Failure::usage(format!("there is no checkpoint in {shown}")));
    }
    Ok(last.into_iter().map(|(_, note)| note.to_owned()).collect())
}

/// The file of a witness, to which checkpoints are appended.
#[derive(Debug)]
pub(super) struct Witness {
    path: PathBuf,
    file: File,
    /// How many records the last checkpoint in it signs, and of which log.
    last: Option<(u64, [u8; 32])>,
}

/// What became of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It is in the file.
    Done,
    /// It says no more than the file does.
    Nothing,
    /// The file has one of more records: so many.
    Cut(u64),
    /// The file's checkpoints are of another log.
    OtherLog,
}

impl Witness {
    /// Opens the file, or makes it, for its owner alone. The torn rest of a write is cut.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let failed = |error: io::Error| {
            let shown = neutralise(path.display().to_string().as_bytes());
            Failure::system(format!("can't write the witness {shown}: {error}"))
        };
        let flags = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o600).custom_flags(flags);
        let file = options.open(path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
        file.read_exact_at(&mut bytes, 0).map_err(failed)?;
        let (notes, end) = parts(&bytes);
        if end < bytes.len() {
            file.set_len(end as u64).map_err(failed)?;
        }
        let last = notes.last().and_then(|note| Signed::parse(note).ok());
        let last = last.map(|it| (it.checkpoint.size, it.checkpoint.log));
        Ok(Self { path: path.to_owned(), file, last })
    }

    /// Appends a checkpoint, durably, if it says more than the last one.
    pub(super) fn push(&mut self, signed: &Signed) -> Result<Pushed, Failure> {
        let (size, log) = (signed.checkpoint.size, signed.checkpoint.log);
        match self.last {
            Some((_, known)) if known != log => return Ok(Pushed::OtherLog),
            Some((known, _)) if known > size => return Ok(Pushed::Cut(known)),
            Some((known, _)) if known == size => return Ok(Pushed::Nothing),
            _ => {}
        }
        let text = format!("{}\n", signed.encode());
        let written = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_data());
        written.map_err(|error| {
            let shown = neutralise(self.path.display().to_string().as_bytes());
            Failure::system(format!("can't write the witness {shown}: {error}"))
        })?;
        self.last = Some((size, log));
        Ok(Pushed::Done)
    }
}
