//! Names of things: layers and facilities, running instances, the policy itself.
//!
//! The lowest floor: pure values, no system calls, no policy.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The name of a daemon, a layer, a facility or a method.
///
/// 1 to [`Name::MAX`] bytes of `a-z`, `0-9`, `-` and `_`, beginning with a letter. So a name is
/// safe in a path, a log line, a cgroup directory and a process title, and no two names look
/// alike.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(Arc<str>);

impl Name {
    /// The longest name, in bytes.
    pub const MAX: usize = 48;

    /// Checks `text` and makes it a name.
    pub fn new(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > Self::MAX {
            return Err(NameError::TooLong(text.len()));
        }
        if !text.starts_with(|c: char| c.is_ascii_lowercase()) {
            return Err(NameError::FirstLetter);
        }
        match text.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-' | '_')) {
            Some(c) => Err(NameError::Character(c)),
            None => Ok(Self(text.into())),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a text is not a [`Name`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was written.
    #[error("a name can't be empty")]
    Empty,
    /// Longer than [`Name::MAX`] bytes.
    #[error("a name has at most {max} bytes, this one has {0}", max = Name::MAX)]
    TooLong(usize),
    /// The first character is not `a` to `z`.
    #[error("a name begins with a letter from a to z")]
    FirstLetter,
    /// A character that names don't have.
    #[error("a name is made of a-z, 0-9, '-' and '_': {0:?} is none of them")]
    Character(char),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl FromStr for Name {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::new(&text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for Name {
    fn eq(&self, other: &str) -> bool {
        &*self.0 == other
    }
}

impl PartialEq<&str> for Name {
    fn eq(&self, other: &&str) -> bool {
        &*self.0 == *other
    }
}

/// One running copy of a layer, in one of its lives: `worker/2.g7`.
///
/// The generation starts at 1 and counts the starts of this copy, so no two processes of a daemon
/// are ever the same instance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Instance {
    /// The layer that this is a copy of.
    pub layer: Name,
    /// Which copy, from 0.
    pub index: u16,
    /// Which life of that copy, from 1.
    pub generation: u64,
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}.g{}", self.layer, self.index, self.generation)
    }
}

/// The digest of a checked policy: BLAKE2s-256 of the canonical plan. The audit log has it beside
/// what happens under that policy; what two layers have in common is bound to its [`EdgeId`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PolicyId(pub [u8; 32]);

impl PolicyId {
    /// The first 12 hexadecimal digits: enough to tell policies apart in a log line.
    pub fn short(&self) -> String {
        hex(&self.0[..6])
    }
}

impl fmt::Display for PolicyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for PolicyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PolicyId({})", self.short())
    }
}

/// The digest of what two layers have in common: the daemon's name, and all that the policy says of
/// a channel, pipe or queue, BLAKE2s-256.
///
/// It is part of every handshake and of a queue's keys, so two processes that were told different
/// things of it never talk on it, and what a policy says elsewhere doesn't matter to them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EdgeId(pub [u8; 32]);

impl fmt::Debug for EdgeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EdgeId({})", hex(&self.0[..6]))
    }
}

/// The 32 bytes that 64 hexadecimal digits of either case stand for; `None` for anything else.
pub(crate) fn unhex(digits: &[u8]) -> Option<[u8; 32]> {
    let (pairs, rest) = digits.as_chunks::<2>();
    let mut bytes = [0; 32];
    if pairs.len() != bytes.len() || !rest.is_empty() {
        return None;
    }
    let digit = |it: u8| char::from(it).to_digit(16).and_then(|it| u8::try_from(it).ok());
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_is_exact() {
        assert_eq!(unhex("0a".repeat(32).as_bytes()), Some([10; 32]));
        assert_eq!(unhex("0A".repeat(32).as_bytes()), Some([10; 32]));
        for bad in [String::new(), "0".repeat(63), "0".repeat(65), "+1".repeat(32), "é".repeat(32)]
        {
            assert_eq!(unhex(bad.as_bytes()), None, "{bad}");
        }
    }
}
