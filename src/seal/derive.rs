//! Keys made of other keys: keyed BLAKE2s (RFC 7693), which is a pseudo-random function of its
//! input for everybody who hasn't the key.

use blake2::Blake2sMac256;
use blake2::digest::{KeyInit, Mac};

use super::SealError;
use super::secret::{KEY, Key};

/// The key that `secret` gives for these `parts`. Each part goes in with its length, so no two
/// lists of parts run together into the same bytes.
pub fn derive(secret: &[u8; KEY], label: &str, parts: &[&[u8]]) -> Result<Key, SealError> {
    let mut hash = Blake2sMac256::new_from_slice(secret).map_err(|_| SealError::Size)?;
    for part in std::iter::once(&label.as_bytes()).chain(parts) {
        let length = u64::try_from(part.len()).map_err(|_| SealError::Size)?;
        Mac::update(&mut hash, &length.to_le_bytes());
        Mac::update(&mut hash, part);
    }
    let mut bytes: [u8; KEY] = hash.finalize().into_bytes().into();
    Ok(Key::take(&mut bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_and_its_place_counts() {
        let key = |secret: u8, label: &str, parts: &[&[u8]]| {
            *derive(&[secret; KEY], label, parts).unwrap().bytes()
        };
        let one = key(1, "a", &[b"b", b"c"]);
        assert_eq!(one, key(1, "a", &[b"b", b"c"]));
        for other in [
            key(2, "a", &[b"b", b"c"]),
            key(1, "ab", &[b"c"]),
            key(1, "a", &[b"bc"]),
            key(1, "a", &[b"b", b"c", b""]),
            key(1, "a", &[b"c", b"b"]),
        ] {
            assert_ne!(one, other);
        }
    }
}
