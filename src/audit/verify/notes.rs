//! The chain of keys, and the checkpoints that they sign.

use super::{Finding, Options, What};
use crate::audit::hash::{self, Hash};
use crate::audit::keys::EPOCHS;
use crate::audit::log::notes_name;
use crate::audit::note::{Checkpoint, Notes, Signed};
use crate::audit::store::{Store, StoreError};

/// The longest file of checkpoints that is read.
const MAX_NOTES: u64 = 256 << 20;

/// A checkpoint and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) file: String,
    pub(super) byte: u64,
    pub(super) signed: Signed,
}

/// Each epoch's key, as the one before announced it.
#[derive(Debug, Default)]
pub(super) struct KeyChain {
    pub(super) log: Option<Hash>,
    /// Key, and the number of records when the epoch began.
    keys: Vec<([u8; 32], u64)>,
    /// The checkpoints of `epochs.note`.
    pub(super) notes: Vec<Placed>,
}

impl KeyChain {
    /// Reads `epochs.note`.
    pub(super) fn read(
        store: &Store,
        findings: &mut Vec<Finding>,
        live: bool,
    ) -> Result<Self, StoreError> {
        let mut chain = Self::default();
        for placed in read(store, EPOCHS, None, findings, live)? {
            let check = placed.signed.checkpoint;
            let what = if chain.keys.is_empty() {
                let first = check.size == 0 && check.epoch == 0 && check.next.is_none();
                if first && hash::log_id(&check.key) == check.log {
                    chain.log = Some(check.log);
                    chain.keys.push((check.key, 0));
                    None
                } else {
                    Some(What::NoGenesis)
                }
            } else {
                let current = chain.epochs() - 1;
                let fault = chain.fault(&check);
                match check.next {
                    Some(next) if fault.is_none() && check.epoch == current => {
                        chain.keys.push((next, check.size));
                    }
                    _ => {}
                }
                let last = check.next.is_some() && check.epoch == current;
                fault.or_else(|| (!last).then_some(What::Key { epoch: check.epoch }))
            };
            match what {
                Some(what) => once(findings, at(&placed, what)),
                None => chain.notes.push(placed),
            }
        }
        if chain.keys.is_empty() {
            once(findings, Finding::of(EPOCHS.to_owned(), None, What::NoGenesis));
        }
        Ok(chain)
    }

    /// How many epochs have begun.
    pub(super) fn epochs(&self) -> u64 {
        self.keys.len() as u64
    }

    /// What is wrong with a checkpoint, as far as keys go.
    fn fault(&self, check: &Checkpoint) -> Option<What> {
        if self.log != Some(check.log) {
            return Some(What::OtherLog);
        }
        let epoch = check.epoch;
        let place = usize::try_from(epoch).ok();
        let Some((key, from)) = place.and_then(|at| self.keys.get(at)) else {
            return Some(What::Key { epoch });
        };
        if *key != check.key {
            return Some(What::Key { epoch });
        }
        let to = place.and_then(|at| self.keys.get(at + 1)).map_or(u64::MAX, |(_, from)| *from);
        (!(*from..=to).contains(&check.size)).then_some(What::Epoch { epoch, size: check.size })
    }

    /// Reads the checkpoints of a segment.
    pub(super) fn segment(
        &self,
        store: &Store,
        number: u64,
        findings: &mut Vec<Finding>,
        live: bool,
    ) -> Result<Vec<Placed>, StoreError> {
        let mut good = Vec::new();
        let mut last = 0;
        for placed in read(store, &notes_name(number), Some(number), findings, live)? {
            // What is wrong with the chain of keys is told of it alone.
            if self.log.is_none() {
                break;
            }
            let check = placed.signed.checkpoint;
            let what = match self.fault(&check) {
                Some(What::Key { epoch }) if epoch >= self.epochs() => {
                    // In a log that is being written it was made after `epochs.note` was read.
                    if !live && findings.iter().all(|it| it.file != EPOCHS) {
                        let what = What::EpochsCut { epoch };
                        findings.push(Finding::of(EPOCHS.to_owned(), None, what));
                    }
                    continue;
                }
                None if check.size < last => Some(What::NotePlace { size: check.size }),
                fault => fault,
            };
            if let Some(what) = what {
                once(findings, Finding { segment: Some(number), ..at(&placed, what) });
            } else {
                last = check.size;
                good.push(placed);
            }
        }
        Ok(good)
    }

    /// Reads the checkpoints that were kept elsewhere.
    pub(super) fn outside(
        &self,
        options: &Options,
        findings: &mut Vec<Finding>,
    ) -> Vec<Checkpoint> {
        let mut good = Vec::new();
        for (at, text) in options.outside.iter().enumerate() {
            let name = format!("outside checkpoint {}", at + 1);
            let what = match Signed::parse(text) {
                Err(error) => Some(What::Note(error)),
                Ok(signed) => {
                    let fault = self.fault(&signed.checkpoint);
                    if fault.is_none() {
                        good.push(signed.checkpoint);
                    }
                    fault
                }
            };
            findings.extend(what.map(|what| Finding::of(name, None, what)));
        }
        good
    }
}

/// Tells of a file once for each kind of thing that is wrong with it.
pub(super) fn once(findings: &mut Vec<Finding>, finding: Finding) {
    let kind = std::mem::discriminant(&finding.what);
    let told = findings
        .iter()
        .any(|it| it.file == finding.file && std::mem::discriminant(&it.what) == kind);
    if !told {
        findings.push(finding);
    }
}

pub(super) fn at(placed: &Placed, what: What) -> Finding {
    Finding { byte: Some(placed.byte), ..Finding::of(placed.file.clone(), None, what) }
}

fn read(
    store: &Store,
    name: &str,
    segment: Option<u64>,
    findings: &mut Vec<Finding>,
    live: bool,
) -> Result<Vec<Placed>, StoreError> {
    let bytes = store.read(name, MAX_NOTES)?.unwrap_or_default();
    let notes = Notes::read(&bytes);
    let mut good = Vec::with_capacity(notes.notes.len());
    let mut wrong = |byte: usize, what| {
        let finding = Finding::of(name.to_owned(), segment, what);
        once(findings, Finding { byte: Some(byte as u64), ..finding });
    };
    for (byte, note) in notes.notes {
        match note {
            Ok(signed) => good.push(Placed { file: name.to_owned(), byte: byte as u64, signed }),
            Err(error) => wrong(byte, What::Note(error)),
        }
    }
    if notes.end < bytes.len() && !live {
        wrong(notes.end, What::TornNote);
    }
    Ok(good)
}
