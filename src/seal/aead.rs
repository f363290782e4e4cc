//! The cipher behind one small trait: `ChaCha20-Poly1305` (RFC 8439), by either of two makers.

use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit};

use super::SealError;
use super::secret::Key;

/// Bytes of an authentication tag.
pub const TAG: usize = 16;
/// Bytes of a nonce.
pub const NONCE: usize = 12;

/// Authenticated encryption in place, with the tag apart.
pub trait Aead: Send + Sync + Sized {
    /// Takes the key up.
    fn new(key: &Key) -> Self;

    /// Encrypts `body` where it lies, and returns the tag of `aad` and `body`.
    fn seal(
        &self,
        nonce: &[u8; NONCE],
        aad: &[u8],
        body: &mut [u8],
    ) -> Result<[u8; TAG], SealError>;

    /// Checks the tag, and only then decrypts `body` where it lies.
    ///
    /// After an error `body` holds nothing of use.
    fn open(
        &self,
        nonce: &[u8; NONCE],
        aad: &[u8],
        body: &mut [u8],
        tag: &[u8; TAG],
    ) -> Result<(), SealError>;
}

/// The one that channels use: ring's with the cargo feature `ring`, the portable one without.
#[cfg(feature = "ring")]
pub type Chosen = Ring;
/// The one that channels use: ring's with the cargo feature `ring`, the portable one without.
#[cfg(not(feature = "ring"))]
pub type Chosen = Portable;

/// Noise's nonce for `ChaChaPoly`: four zero bytes, then the counter in little-endian
/// (Noise, section 12.3).
pub fn nonce(counter: u64) -> [u8; NONCE] {
    let mut nonce = [0; NONCE];
    nonce[NONCE - 8..].copy_from_slice(&counter.to_le_bytes());
    nonce
}

/// The crate `chacha20poly1305`: Rust alone.
pub struct Portable(ChaCha20Poly1305);

impl Aead for Portable {
    fn new(key: &Key) -> Self {
        Self(ChaCha20Poly1305::new(key.bytes().into()))
    }

    fn seal(
        &self,
        nonce: &[u8; NONCE],
        aad: &[u8],
        body: &mut [u8],
    ) -> Result<[u8; TAG], SealError> {
        self.0
            .encrypt_inout_detached(nonce.into(), aad, body.into())
            .map(Into::into)
            .map_err(|_| SealError::Size)
    }

    fn open(
        &self,
        nonce: &[u8; NONCE],
        aad: &[u8],
        body: &mut [u8],
        tag: &[u8; TAG],
    ) -> Result<(), SealError> {
        self.0
            .decrypt_inout_detached(nonce.into(), aad, body.into(), tag.into())
            .map_err(|_| SealError::NotAuthentic)
    }
}

/// The crate `ring`: assembly from `BoringSSL`.
#[cfg(feature = "ring")]
pub struct Ring(Option<ring::aead::LessSafeKey>);

#[cfg(feature = "ring")]
impl Aead for Ring {
    fn new(key: &Key) -> Self {
        // 32 bytes are always a key for this algorithm; should ring ever disagree, every seal
        // and open fails.
        let key = ring::aead::UnboundKey::new(&ring::aead::CHACHA20_POLY1305, key.bytes());
        Self(key.ok().map(ring::aead::LessSafeKey::new))
    }

    fn seal(
        &self,
        nonce: &[u8; NONCE],
        aad: &[u8],
        body: &mut [u8],
    ) -> Result<[u8; TAG], SealError> {
        let key = self.0.as_ref().ok_or(SealError::Size)?;
        let nonce = ring::aead::Nonce::assume_unique_for_key(*nonce);
        let tag = key
            .seal_in_place_separate_tag(nonce, ring::aead::Aad::from(aad), body)
            .map_err(|_| SealError::Size)?;
        tag.as_ref().try_into().map_err(|_| SealError::Size)
    }

    fn open(
        &self,
        nonce: &[u8; NONCE],
        aad: &[u8],
        body: &mut [u8],
        tag: &[u8; TAG],
    ) -> Result<(), SealError> {
        let key = self.0.as_ref().ok_or(SealError::Size)?;
        let nonce = ring::aead::Nonce::assume_unique_for_key(*nonce);
        let tag = ring::aead::Tag::from(*tag);
        key.open_in_place_separate_tag(nonce, ring::aead::Aad::from(aad), tag, body, 0..)
            .map(|_| ())
            .map_err(|_| SealError::NotAuthentic)
    }
}
