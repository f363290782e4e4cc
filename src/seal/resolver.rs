//! The primitives that the Noise library is given: one of each, and no others.
//!
//! snow's own crypto features would bring second copies of the same crates. Here the static
//! private key stays on its secret page: snow never sees it.

use std::sync::{Arc, Mutex, PoisonError};

use blake2::{Blake2s256, Digest};
use snow::Error;
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::CryptoResolver;
use snow::types::{Cipher, Dh, Hash, Random};
use x25519_dalek::x25519;
use zeroize::{Zeroize, Zeroizing};

use super::SealError;
use super::aead::{Aead, Chosen, TAG, nonce};
use super::secret::{self, BASE, Chance, Identity, KEY, Key, PublicKey};

/// Resolves `25519`, `ChaChaPoly` and `BLAKE2s`.
pub(super) struct Resolver {
    identity: Arc<Identity>,
    chance: Mutex<Option<Box<dyn Chance>>>,
    /// Set when a public key of small order was met; snow itself only says "Dh".
    pub(super) small_order: Arc<Mutex<bool>>,
}

impl Resolver {
    pub(super) fn new(identity: Arc<Identity>, chance: Box<dyn Chance>) -> Self {
        Self { identity, chance: Mutex::new(Some(chance)), small_order: Arc::default() }
    }
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        let chance = self.chance.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some(Box::new(Randomness(chance)))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        match choice {
            DHChoice::Curve25519 => Some(Box::new(X25519 {
                private: Private::None,
                public: [0; KEY],
                identity: Arc::clone(&self.identity),
                small_order: Arc::clone(&self.small_order),
            })),
            DHChoice::Curve448 => None,
        }
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        match choice {
            HashChoice::Blake2s => Some(Box::new(Blake2s(Blake2s256::new()))),
            _ => None,
        }
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        match choice {
            CipherChoice::ChaChaPoly => Some(Box::new(ChaChaPoly(Key::take(&mut [0; KEY])))),
            CipherChoice::AESGCM => None,
        }
    }
}

struct Randomness(Box<dyn Chance>);

impl Random for Randomness {
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        self.0.fill(bytes).map_err(|_| Error::Rng)
    }
}

enum Private {
    None,
    /// On the identity's page.
    Static,
    Ephemeral(Zeroizing<[u8; KEY]>),
}

struct X25519 {
    private: Private,
    public: [u8; KEY],
    identity: Arc<Identity>,
    small_order: Arc<Mutex<bool>>,
}

impl Dh for X25519 {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        KEY
    }

    fn priv_len(&self) -> usize {
        KEY
    }

    /// snow calls this with what the builder was told is the static key. The builder is told
    /// zeroes ([`super::handshake`]); the real one stays where it is.
    fn set(&mut self, _: &[u8]) {
        self.private = Private::Static;
        self.public = self.identity.public().0;
    }

    fn generate(&mut self, chance: &mut dyn Random) -> Result<(), Error> {
        let mut private = Zeroizing::new([0; KEY]);
        chance.try_fill_bytes(&mut *private)?;
        self.public = x25519(*private, BASE);
        self.private = Private::Ephemeral(private);
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    /// Asked for only by snow's own key generation, which this crate doesn't use.
    fn privkey(&self) -> &[u8] {
        &[]
    }

    fn dh(&self, peer: &[u8], out: &mut [u8]) -> Result<(), Error> {
        // snow passes keys in buffers for its longest curve: the first 32 bytes are ours.
        let peer = peer.first_chunk::<KEY>().ok_or(Error::Dh)?;
        let out = out.first_chunk_mut::<KEY>().ok_or(Error::Dh)?;
        let secret = match &self.private {
            Private::None => return Err(Error::Dh),
            Private::Static => self.identity.agree(&PublicKey(*peer)),
            Private::Ephemeral(private) => secret::agree(private, &PublicKey(*peer)),
        };
        match secret {
            Ok(secret) => out.copy_from_slice(&*secret),
            Err(error) => {
                let mut mark = self.small_order.lock().unwrap_or_else(PoisonError::into_inner);
                *mark = error == SealError::NonContributory;
                return Err(Error::Dh);
            }
        }
        Ok(())
    }
}

struct ChaChaPoly(Key);

impl Cipher for ChaChaPoly {
    fn name(&self) -> &'static str {
        "ChaChaPoly"
    }

    fn set(&mut self, key: &[u8; KEY]) {
        self.0 = Key::take(&mut key.clone());
    }

    /// The trait leaves no room for errors. A length that the cipher refuses (256 GiB) can't
    /// reach here: Noise messages end at 64 KiB. Should it ever, what is written is zeroes,
    /// which no peer takes for authentic.
    fn encrypt(&self, n: u64, aad: &[u8], plain: &[u8], out: &mut [u8]) -> usize {
        let (body, rest) = out.split_at_mut(plain.len());
        body.copy_from_slice(plain);
        match Chosen::new(&self.0).seal(&nonce(n), aad, body) {
            Ok(tag) => rest[..TAG].copy_from_slice(&tag),
            Err(_) => out[..plain.len() + TAG].zeroize(),
        }
        plain.len() + TAG
    }

    fn decrypt(&self, n: u64, aad: &[u8], sealed: &[u8], out: &mut [u8]) -> Result<usize, Error> {
        let (cipher, tag) = sealed.split_last_chunk::<TAG>().ok_or(Error::Decrypt)?;
        let body = out.get_mut(..cipher.len()).ok_or(Error::Decrypt)?;
        body.copy_from_slice(cipher);
        Chosen::new(&self.0).open(&nonce(n), aad, body, tag).map_err(|_| Error::Decrypt)?;
        Ok(cipher.len())
    }
}

struct Blake2s(Blake2s256);

impl Hash for Blake2s {
    fn name(&self) -> &'static str {
        "BLAKE2s"
    }

    fn block_len(&self) -> usize {
        64
    }

    fn hash_len(&self) -> usize {
        32
    }

    fn reset(&mut self) {
        self.0 = Blake2s256::new();
    }

    fn input(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        let digest = std::mem::replace(&mut self.0, Blake2s256::new()).finalize();
        out[..digest.len()].copy_from_slice(&digest);
    }
}
