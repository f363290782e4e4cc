//! Checkpoints: what was in the log at a moment, signed.
//!
//! The text is a signed note (c2sp.org/signed-note) in the form of a tlog checkpoint
//! (c2sp.org/tlog-checkpoint), with lines of our own after the root, each at its place:
//!
//! ```text
//! cofferdam-audit/LOG ID IN HEX
//! SIZE
//! ROOT
//! link LINK AFTER THE LAST RECORD
//! epoch NUMBER
//! key PUBLIC KEY OF THE EPOCH
//! first FIRST RECORD KEPT
//! time REAL MONOTONIC
//! next PUBLIC KEY OF THE NEXT EPOCH          (only in the last one of an epoch)
//!
//! — cofferdam-audit/LOG ID IN HEX SIGNATURE
//! ```
//!
//! A file of checkpoints holds them one after the other, each followed by an empty line. The root
//! is of this format's BLAKE2s tree, not of a SHA-256 one.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};

use super::entry::Moment;
use super::hash::Hash;
use crate::ident::{hex, unhex};

const ORIGIN: &str = "cofferdam-audit/";
const ED25519: u8 = 1;

/// What a checkpoint says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's [id](super::hash::log_id).
    pub log: Hash,
    /// How many records the log had.
    pub size: u64,
    /// The root of the tree over them.
    pub root: Hash,
    /// The chain's value after them.
    pub link: Hash,
    /// Which key signs.
    pub epoch: u64,
    /// That key's public half.
    pub key: [u8; 32],
    /// The first record that is kept: those before were dropped by the log's own rule.
    pub first: u64,
    /// When it was made.
    pub time: Moment,
    /// The next epoch's public key, if this is the epoch's last checkpoint.
    pub next: Option<[u8; 32]>,
}

/// A checkpoint with its signature, which is valid under the key that it names: whether that key
/// is one of the log's is another question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signed {
    /// What was signed.
    pub checkpoint: Checkpoint,
    signature: [u8; 64],
}

/// Why a text is not a signed checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Not the form, or not written as this crate writes it.
    #[error("this is no checkpoint of the form in docs/audit-format.md")]
    Form,
    /// The signature is not by the key that it names.
    #[error("the checkpoint's signature is wrong")]
    Signature,
}

impl Checkpoint {
    fn origin(&self) -> String {
        format!("{ORIGIN}{}", hex(&self.log))
    }

    /// The text that is signed.
    fn text(&self) -> String {
        let Self { size, epoch, first, time, .. } = self;
        let [root, link, key] = [self.root, self.link, self.key].map(|hash| STANDARD.encode(hash));
        let mut text = format!(
            "{}\n{size}\n{root}\nlink {link}\nepoch {epoch}\nkey {key}\nfirst {first}\ntime {} {}\n",
            self.origin(),
            time.real,
            time.monotonic
        );
        if let Some(next) = self.next {
            let _ = writeln!(text, "next {}", STANDARD.encode(next));
        }
        text
    }

    /// Signs it. The public key in it becomes `key`'s.
    pub fn sign(mut self, key: &SigningKey) -> Signed {
        self.key = key.verifying_key().to_bytes();
        let signature = key.sign(self.text().as_bytes()).to_bytes();
        Signed { checkpoint: self, signature }
    }

    /// The first bytes of SHA-256 of name and key by which signed notes tell keys apart.
    fn key_id(&self) -> [u8; 4] {
        let mut hash = Sha256::new();
        hash.update(self.origin());
        hash.update([b'\n', ED25519]);
        hash.update(self.key);
        let digest: [u8; 32] = hash.finalize().into();
        [digest[0], digest[1], digest[2], digest[3]]
    }
}

impl Signed {
    /// The signed note.
    pub fn encode(&self) -> String {
        let check = &self.checkpoint;
        let mut signature = check.key_id().to_vec();
        signature.extend_from_slice(&self.signature);
        let origin = check.origin();
        format!("{}\n\u{2014} {origin} {}\n", check.text(), STANDARD.encode(signature))
    }

    /// Reads a signed note and verifies the signature strictly (RFC 8032, and no key or nonce of
    /// small order).
    pub fn parse(note: &str) -> Result<Self, NoteError> {
        let signed = Self::read(note).ok_or(NoteError::Form)?;
        // One reading, one writing: nothing can hide in spaces, zeros or padding.
        if signed.encode() != note {
            return Err(NoteError::Form);
        }
        let key = VerifyingKey::from_bytes(&signed.checkpoint.key);
        let signature = Signature::from_bytes(&signed.signature);
        key.and_then(|key| key.verify_strict(signed.checkpoint.text().as_bytes(), &signature))
            .map_err(|_| NoteError::Signature)?;
        Ok(signed)
    }

    fn read(note: &str) -> Option<Self> {
        let (text, signature) = note.split_once("\n\n\u{2014} ")?;
        let mut lines = text.split('\n');
        let log = unhex(lines.next()?.strip_prefix(ORIGIN)?.as_bytes())?;
        let size = lines.next()?.parse().ok()?;
        let root = unbase(lines.next()?)?;
        let mut after = |name: &str| lines.next()?.strip_prefix(name);
        let link = unbase(after("link ")?)?;
        let epoch = after("epoch ")?.parse().ok()?;
        let key = unbase(after("key ")?)?;
        let first = after("first ")?.parse().ok()?;
        let (real, monotonic) = after("time ")?.split_once(' ')?;
        let time = Moment { real: real.parse().ok()?, monotonic: monotonic.parse().ok()? };
        let next = match lines.next() {
            None => None,
            Some(last) => Some(unbase(last.strip_prefix("next ")?)?),
        };
        let signature: [u8; 68] = unbase(signature.trim_end_matches('\n').split(' ').nth(1)?)?;
        let signature = signature[4..].try_into().ok()?;
        let checkpoint = Checkpoint { log, size, root, link, epoch, key, first, time, next };
        Some(Self { checkpoint, signature })
    }
}

/// A file of checkpoints, read as far as it goes.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    /// Where in the file each stands, and what it is.
    pub notes: Vec<(usize, Result<Signed, NoteError>)>,
    /// Where the last whole one ends: behind it is the torn rest of a write, or damage.
    pub end: usize,
}

impl Notes {
    /// Reads a file of checkpoints.
    pub fn read(file: &[u8]) -> Self {
        let mut all = Self::default();
        while let Some(length) = note_length(&file[all.end..]) {
            let note = &file[all.end..all.end + length];
            let parsed = std::str::from_utf8(&note[..length - 1])
                .map_err(|_| NoteError::Form)
                .and_then(Signed::parse);
            all.notes.push((all.end, parsed));
            all.end += length;
        }
        all
    }
}

/// Bytes of the first note with the empty line after it: text, empty line, signature, empty line.
fn note_length(bytes: &[u8]) -> Option<usize> {
    let gap = |from: usize| {
        bytes.get(from..)?.windows(2).position(|pair| pair == b"\n\n").map(|at| from + at + 2)
    };
    gap(gap(0)?)
}

fn unbase<const N: usize>(text: &str) -> Option<[u8; N]> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note() -> String {
        let key = SigningKey::from_bytes(&[7; 32]);
        let public = key.verifying_key().to_bytes();
        let time = Moment { real: 5, monotonic: 6 };
        let log = super::super::hash::log_id(&public);
        let [root, link] = [[1; 32], [2; 32]];
        let next = Some([3; 32]);
        Checkpoint { log, size: 9, root, link, epoch: 0, key: public, first: 0, time, next }
            .sign(&key)
            .encode()
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let note = note();
        let signed = Signed::parse(&note).unwrap();
        assert_eq!(signed.encode(), note);
        for bit in 0..note.len() * 8 {
            let mut bytes = note.clone().into_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let broken = std::str::from_utf8(&bytes).map_err(|_| NoteError::Form);
            assert!(broken.and_then(Signed::parse).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_torn_file_is_read_as_far_as_it_is_whole() {
        let one = format!("{}\n", note());
        let two = format!("{one}{one}");
        for cut in 0..two.len() {
            let notes = Notes::read(&two.as_bytes()[..cut]);
            assert_eq!(notes.end, if cut < one.len() { 0 } else { one.len() });
            assert_eq!(notes.notes.len(), cut / one.len());
        }
        assert_eq!(Notes::read(two.as_bytes()).end, two.len());
    }
}
