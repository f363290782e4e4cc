//! What a crash can leave of a log, and what it can't.

use super::{LogError, Notebook, index_number, notes_number, segment_name};
use crate::audit::note::{Notes, Signed};
use crate::audit::store::{self, Store, StoreError};

/// The longest file of checkpoints that is read: some hundred thousand of them.
const MAX_NOTES: u64 = 256 << 20;

pub(super) fn damaged(file: &str, byte: u64, what: &str) -> LogError {
    LogError::Damaged { file: file.to_owned(), byte, what: what.to_owned() }
}

/// Fails if checkpoints or the index of a segment are there which is not: it was made before them,
/// so this is no crash. To go on would write over what shows it.
pub(super) fn no_orphans(names: &[String], last: Option<u64>) -> Result<(), LogError> {
    let numbers = names.iter().filter_map(|name| notes_number(name).or(index_number(name)));
    match numbers.filter(|number| last.is_none_or(|last| *number > last)).min() {
        None => Ok(()),
        Some(number) => {
            let what = "the segment is gone, and its checkpoints or its index are there";
            Err(damaged(&segment_name(number), 0, what))
        }
    }
}

/// What a crash left unfinished, to be cut once nothing speaks against its having been one.
#[derive(Default)]
pub(super) struct Cuts {
    /// Files, and the lengths that they are to have; `None`: they are to go.
    pub(super) files: Vec<(String, Option<u64>)>,
    /// Bytes of records.
    pub(super) records: u64,
    /// Bytes of checkpoints.
    pub(super) notes: u64,
}

impl Cuts {
    pub(super) fn make(&self, store: &Store) -> Result<(), StoreError> {
        for (name, length) in &self.files {
            match length {
                Some(length) => store::cut(&store.writer(name)?, name, *length)?,
                None => store.remove(name)?,
            }
        }
        Ok(())
    }
}

/// Reads a file of checkpoints, and what is to be cut from its end: the torn rest of a write.
pub(super) fn read_notes(
    store: &Store,
    name: &str,
    cuts: &mut Cuts,
) -> Result<(Notebook, Vec<Signed>), LogError> {
    let mut book = Notebook { name: name.to_owned(), length: 0 };
    let Some(bytes) = store.read(name, MAX_NOTES)? else { return Ok((book, Vec::new())) };
    let mut notes = Notes::read(&bytes);
    // Blocks that were allocated and never written come back as zeros: no whole note.
    let mut signed = Vec::with_capacity(notes.notes.len());
    for (at, note) in &notes.notes {
        match note {
            Ok(note) => signed.push(*note),
            Err(_) if bytes[*at..].iter().all(|byte| *byte == 0) => {
                notes.end = *at;
                break;
            }
            Err(error) => return Err(damaged(name, *at as u64, &error.to_string())),
        }
    }
    book.length = notes.end as u64;
    if notes.end < bytes.len() {
        cuts.notes += (bytes.len() - notes.end) as u64;
        cuts.files.push((name.to_owned(), Some(book.length)));
    }
    Ok((book, signed))
}
