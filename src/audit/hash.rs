//! BLAKE2s-256 (RFC 7693), once for each use, told apart by the personalisation parameter.
//!
//! A separate parameter instead of a prefix byte keeps a link and a node of the tree at one
//! compression each.

use blake2::Blake2s256;
use blake2::digest::{CustomizedInit, Digest};

/// A digest.
pub type Hash = [u8; 32];

fn digest<const N: usize>(personal: [u8; 8], parts: [&[u8]; N]) -> Hash {
    let mut hash = Blake2s256::new_customized(&personal);
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

/// A record's hash, from its body: also its leaf in the tree.
pub fn leaf(body: &[u8]) -> Hash {
    digest(*b"cfd-leaf", [body])
}

/// A node of the tree above two others.
pub fn node(left: &Hash, right: &Hash) -> Hash {
    digest(*b"cfd-node", [left, right])
}

/// The chain's value after a record, from its value before and the record's [`leaf`].
pub fn link(before: &Hash, leaf: &Hash) -> Hash {
    digest(*b"cfd-link", [before, leaf])
}

/// A payload's digest.
pub fn payload(bytes: &[u8]) -> Hash {
    digest(*b"cfd-data", [bytes])
}

/// The root of a tree without leaves.
pub fn empty() -> Hash {
    digest(*b"cfd-none", [])
}

/// A log's id, from the public key of its first epoch: also the chain's value before the first
/// record. So whoever remembers the id knows the key that all later ones hang from.
pub fn log_id(first_key: &[u8; 32]) -> Hash {
    digest(*b"cfd-name", [first_key])
}
