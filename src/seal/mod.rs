//! Sealing: keys, the handshake, and what becomes of records. Pure but for the page that holds
//! the private key; randomness comes through [`Chance`].

pub mod aead;
pub mod capture;
pub mod derive;
pub mod handshake;
pub mod one_way;
mod resolver;
pub mod secret;
pub mod session;

pub use aead::Aead;
pub use handshake::{Initiator, Introduction, Responder};
pub use secret::{Chance, Identity, OsChance, PublicKey};
pub use session::Session;

/// Why sealing, opening or a handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The peer's bytes don't carry its key's mark: altered, out of order, from elsewhere, or it
    /// holds another policy.
    #[error("authentication failed: altered, replayed, out of order or sealed for someone else")]
    NotAuthentic,
    /// A public key that gives the same secret with every private key (RFC 7748, section 6.1).
    #[error("the public key is of small order, so the secret would be no secret")]
    NonContributory,
    /// A direction has sent as many records as its nonce can count.
    #[error("the channel has used up its record numbers; only a new handshake helps")]
    Exhausted,
    /// The system has no randomness to give.
    #[error("the system gave no randomness")]
    NoChance,
    /// More bytes than the cipher takes, or a buffer of the wrong size.
    #[error("a record of this size can't be sealed")]
    Size,
    /// A fork of the process that has the key: both would use the same numbers.
    #[error(
        "this process is a fork of the layer's own, which alone may seal and open: leave that to it"
    )]
    Copy,
    /// The Noise library refused what this crate asked of it.
    #[error("the handshake was driven out of its order")]
    Order,
}
