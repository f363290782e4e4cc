//! Payloads that are kept for an auditor who is not on this machine: sealed to its X25519 public
//! key, so that who captures them can't read them afterwards.
//!
//! ```text
//! a capture: the capturer's public key 32, counter u64, then the payload and its tag, sealed with
//! ChaCha20-Poly1305 (RFC 8439) under BLAKE2s keyed with X25519(capturer, auditor), over
//! "cofferdam capture", both public keys
//! ```
//! The capturer makes its key pair once in its life and forgets the private half at once: the key
//! that is left seals, and opens what it sealed itself, so it lives as long as the process only.

use std::sync::atomic::{AtomicU64, Ordering};

use x25519_dalek::x25519;
use zeroize::Zeroizing;

use super::SealError;
use super::aead::{self, Aead, Chosen, TAG};
use super::derive::derive;
use super::secret::{BASE, Chance, KEY, PublicKey, agree};

const LABEL: &str = "cofferdam capture";
/// By how many bytes a capture is longer than its payload.
pub const OVERHEAD: usize = KEY + COUNTER + TAG;
const COUNTER: usize = 8;

/// Seals payloads to one auditor.
pub struct Capture {
    public: PublicKey,
    cipher: Chosen,
    counter: AtomicU64,
}

impl Capture {
    /// Makes a key pair for this process and this auditor.
    pub fn new(auditor: &PublicKey, chance: &mut dyn Chance) -> Result<Self, SealError> {
        let mut private = Zeroizing::new([0; KEY]);
        chance.fill(&mut *private)?;
        let public = PublicKey(x25519(*private, BASE));
        let cipher = cipher(&private, auditor, &public, auditor)?;
        Ok(Self { public, cipher, counter: AtomicU64::new(0) })
    }

    /// Seals `payload`; `context` must be the same when it is opened.
    pub fn seal(&self, context: &[u8], payload: &[u8]) -> Result<Vec<u8>, SealError> {
        let counter = self.counter.fetch_add(1, Ordering::Relaxed);
        let mut out = Vec::with_capacity(payload.len() + OVERHEAD);
        out.extend_from_slice(&self.public.0);
        out.extend_from_slice(&counter.to_le_bytes());
        out.extend_from_slice(payload);
        let tag = self.cipher.seal(&aead::nonce(counter), context, &mut out[KEY + COUNTER..])?;
        out.extend_from_slice(&tag);
        Ok(out)
    }
}

impl std::fmt::Debug for Capture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Capture").field("public", &self.public).finish_non_exhaustive()
    }
}

/// Opens a capture with the auditor's private key.
pub fn open(private: &[u8; KEY], context: &[u8], capture: &[u8]) -> Result<Vec<u8>, SealError> {
    let (public, rest) = capture.split_first_chunk().ok_or(SealError::Size)?;
    let (counter, rest) = rest.split_first_chunk().ok_or(SealError::Size)?;
    let (sealed, tag) = rest.split_last_chunk::<TAG>().ok_or(SealError::Size)?;
    let (capturer, own) = (PublicKey(*public), public_of(private));
    let cipher = cipher(private, &capturer, &capturer, &own)?;
    let mut payload = sealed.to_vec();
    cipher.open(&aead::nonce(u64::from_le_bytes(*counter)), context, &mut payload, tag)?;
    Ok(payload)
}

/// The public half of an auditor's key: what goes into the policy.
pub fn public_of(private: &[u8; KEY]) -> PublicKey {
    PublicKey(x25519(*private, BASE))
}

fn cipher(
    private: &[u8; KEY],
    peer: &PublicKey,
    capturer: &PublicKey,
    auditor: &PublicKey,
) -> Result<Chosen, SealError> {
    let secret = agree(private, peer)?;
    Ok(Chosen::new(&derive(&secret, LABEL, &[&capturer.0, &auditor.0])?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::OsChance;

    #[test]
    fn only_the_auditor_opens_it_and_only_in_its_place() {
        let private = [7; KEY];
        let capture = Capture::new(&public_of(&private), &mut OsChance).unwrap();
        for payload in [&b"one"[..], b"", b"one"] {
            let sealed = capture.seal(b"here", payload).unwrap();
            assert_eq!(sealed.len(), payload.len() + OVERHEAD);
            assert_eq!(open(&private, b"here", &sealed).unwrap(), payload);
            assert!(open(&private, b"there", &sealed).is_err());
            assert!(open(&[8; KEY], b"here", &sealed).is_err());
            for at in 0..sealed.len() {
                let mut flipped = sealed.clone();
                flipped[at] ^= 1;
                // The highest bit of a public key is not a part of it (RFC 7748, section 5).
                assert!(open(&private, b"here", &flipped).is_err(), "byte {at}");
            }
            assert!(open(&private, b"here", &sealed[..OVERHEAD - 1]).is_err());
        }
    }

    #[test]
    fn equal_payloads_look_different() {
        let capture = Capture::new(&public_of(&[7; KEY]), &mut OsChance).unwrap();
        assert_ne!(capture.seal(b"", b"x").unwrap(), capture.seal(b"", b"x").unwrap());
    }

    #[test]
    fn a_key_of_small_order_is_refused() {
        assert!(Capture::new(&PublicKey([0; KEY]), &mut OsChance).is_err());
    }
}
