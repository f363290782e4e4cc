//! Keys that evolve: each epoch signs with its own, and the last one's secret is gone.
//!
//! The file `key` holds the current secret. To go on to the next epoch:
//!
//! 1. the next secret is written to `key.next`;
//! 2. the last checkpoint of the old epoch, which names the next public key, is appended to
//!    `epochs.note`;
//! 3. `key` is overwritten with zeros, then replaced by `key.next`.
//!
//! A crash between any two steps is finished at the next start. So whoever takes the machine over
//! signs from now on, and can't sign for any epoch before.

use ed25519_dalek::SigningKey;
use zeroize::{Zeroize, Zeroizing};

use super::note::Signed;
use super::store::{Store, StoreError};
use crate::seal::{Chance, SealError};

/// The file of the current secret.
pub const KEY: &str = "key";
const NEXT: &str = "key.next";
/// The file of the first checkpoint, and the last of every epoch. Never dropped.
pub const EPOCHS: &str = "epochs.note";

/// Bytes of a key file: magic, epoch, secret.
const LENGTH: usize = 8 + 8 + 32;
const MAGIC: &[u8; 8] = b"cfdkey 1";

/// The current epoch's key.
pub struct Keys {
    /// Which epoch, from 0.
    pub epoch: u64,
    /// Its key.
    pub signing: SigningKey,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys(epoch {})", self.epoch)
    }
}

impl Keys {
    /// The public half.
    pub fn public(&self) -> [u8; 32] {
        self.signing.verifying_key().to_bytes()
    }

    fn make(epoch: u64, chance: &mut dyn Chance) -> Result<Self, SealError> {
        let mut seed = Zeroizing::new([0; 32]);
        chance.fill(&mut *seed)?;
        Ok(Self { epoch, signing: SigningKey::from_bytes(&seed) })
    }

    fn bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(LENGTH));
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.extend_from_slice(self.signing.as_bytes());
        out
    }

    fn read(store: &Store, name: &str) -> Result<Option<Self>, StoreError> {
        let Some(bytes) = store.read(name, LENGTH as u64 + 1)?.map(Zeroizing::new) else {
            return Ok(None);
        };
        if bytes.len() != LENGTH || bytes[..8] != *MAGIC {
            return Ok(None);
        }
        let mut seed = super::entry::hash_at(&bytes, 16);
        let signing = SigningKey::from_bytes(&seed);
        seed.zeroize();
        Ok(Some(Self { epoch: super::entry::u64_at(&bytes, 8), signing }))
    }

    /// The first key of a new log, written down.
    pub fn first(store: &Store, chance: &mut dyn Chance) -> Result<Self, KeyError> {
        let keys = Self::make(0, chance)?;
        store.write(KEY, &keys.bytes())?;
        Ok(keys)
    }

    /// The key that goes on after `last`, the last checkpoint in `epochs.note`; finishes a change
    /// of epochs that a crash interrupted.
    pub fn load(store: &Store, last: &Signed) -> Result<Self, KeyError> {
        let (epoch, public) = match last.checkpoint.next {
            Some(next) => (last.checkpoint.epoch + 1, next),
            None => (last.checkpoint.epoch, last.checkpoint.key),
        };
        let fits = |keys: &Self| keys.epoch == epoch && keys.public() == public;
        let current = Self::read(store, KEY)?;
        if let Some(keys) = current.filter(fits) {
            // A next key that no checkpoint names is of a change that didn't happen.
            if store.read(NEXT, 1)?.is_some() {
                store.erase(NEXT)?;
                store.remove(NEXT)?;
            }
            return Ok(keys);
        }
        let next = Self::read(store, NEXT)?.filter(fits).ok_or(KeyError::Lost { epoch })?;
        next.install(store)?;
        Ok(next)
    }

    /// Makes the next epoch's key and writes it beside the current one.
    pub fn prepare(&self, store: &Store, chance: &mut dyn Chance) -> Result<Self, KeyError> {
        let next = Self::make(self.epoch + 1, chance)?;
        store.write(NEXT, &next.bytes())?;
        Ok(next)
    }

    /// Erases the key before and takes its place. May be repeated.
    pub fn install(&self, store: &Store) -> Result<(), StoreError> {
        store.erase(KEY)?;
        store.rename(NEXT, KEY)
    }
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The directory refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system has no randomness.
    #[error(transparent)]
    Chance(#[from] SealError),
    /// Neither key file holds the key that the last checkpoint names.
    #[error(
        "the secret key of epoch {epoch} is lost: this log can be verified but not gone on with; \
         keep its directory and start another"
    )]
    Lost {
        /// The epoch.
        epoch: u64,
    },
}
