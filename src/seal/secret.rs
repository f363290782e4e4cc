//! Key material: where it lives, and that it is wiped.

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};
use x25519_dalek::x25519;
use zeroize::{Zeroize, Zeroizing};

use super::SealError;
use crate::ident::hex;
use crate::sys::secret_page::{Kind, SecretPage};

/// Bytes of every key here: X25519 private and public, ChaCha20-Poly1305.
pub const KEY: usize = 32;

/// Where randomness comes from. Tests give their own, so that handshakes have known answers.
pub trait Chance: Send + Sync {
    /// Fills `bytes` wholly with randomness, or fails.
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), SealError>;
}

/// The kernel's randomness, `getrandom(2)`.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsChance;

impl Chance for OsChance {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), SealError> {
        getrandom::fill(bytes).map_err(|_| SealError::NoChance)
    }
}

/// A symmetric key, wiped when dropped and never shown.
pub struct Key(Zeroizing<[u8; KEY]>);

impl Key {
    /// Takes a key over and wipes where it was.
    pub fn take(bytes: &mut [u8; KEY]) -> Self {
        let key = Self(Zeroizing::new(*bytes));
        bytes.zeroize();
        key
    }

    /// The key's bytes.
    pub fn bytes(&self) -> &[u8; KEY] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// An X25519 public key. It proves nothing by itself: the handshake does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PublicKey(pub [u8; KEY]);

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", hex(&self.0[..6]))
    }
}

/// What makes an instance itself: its X25519 key pair, the private half on a [`SecretPage`].
///
/// Made once in every instance, in its own memory, before the filter is loaded.
pub struct Identity {
    page: SecretPage,
    kind: Kind,
    public: PublicKey,
}

/// Why an instance could not make its key.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// No page for it.
    #[error("no memory for the private key: {0}")]
    Page(#[from] io::Error),
    /// No randomness for it.
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl Identity {
    /// Makes a new key pair.
    pub fn generate(chance: &mut dyn Chance) -> Result<Self, IdentityError> {
        let mut private = Zeroizing::new([0; KEY]);
        chance.fill(&mut *private)?;
        Self::take(&mut private)
    }

    /// Takes a key pair by its private half, and wipes where that was.
    pub fn take(private: &mut [u8; KEY]) -> Result<Self, IdentityError> {
        let (mut page, kind) = SecretPage::new()?;
        page.bytes_mut()[..KEY].copy_from_slice(private);
        private.zeroize();
        let mut identity = Self { page, kind, public: PublicKey([0; KEY]) };
        identity.public = PublicKey(x25519(*identity.private(), BASE));
        Ok(identity)
    }

    /// The public half, for the supervisor to pass on.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// How well the private half is hidden; the receipt says so.
    pub fn hidden(&self) -> Kind {
        self.kind
    }

    /// The shared secret of this key and the peer's.
    pub(super) fn agree(&self, peer: &PublicKey) -> Result<Zeroizing<[u8; KEY]>, SealError> {
        agree(&self.private(), peer)
    }

    fn private(&self) -> Zeroizing<[u8; KEY]> {
        let mut key = Zeroizing::new([0; KEY]);
        key.copy_from_slice(&self.page.bytes()[..KEY]);
        key
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("public", &self.public).finish_non_exhaustive()
    }
}

/// The base point of Curve25519 (RFC 7748, section 4.1).
pub(super) const BASE: [u8; KEY] = x25519_dalek::X25519_BASEPOINT_BYTES;

/// X25519, refusing the all-zero result that a public key of small order gives.
///
/// The comparison looks at every byte, so it takes the same time whatever the secret is.
pub fn agree(private: &[u8; KEY], peer: &PublicKey) -> Result<Zeroizing<[u8; KEY]>, SealError> {
    let secret = Zeroizing::new(x25519(*private, peer.0));
    match secret.iter().fold(0, |all, byte| all | byte) {
        0 => Err(SealError::NonContributory),
        _ => Ok(secret),
    }
}
