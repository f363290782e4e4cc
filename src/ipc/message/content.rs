//! A message, and the name of its method.

use std::fmt;
use std::os::fd::OwnedFd;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{ChannelError, DecodeError};
use crate::ident::Name;

/// Bytes, and the descriptors that go with them.
#[derive(Debug, Default)]
pub struct Message {
    /// The bytes.
    pub body: Vec<u8>,
    /// The descriptors, of the kinds that the channel's `fds.kinds` names.
    pub fds: Vec<OwnedFd>,
}

/// The name of a method; the unnamed one of a channel without methods is `""`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Method(Option<Name>);

impl Message {
    /// A message that holds `value`, written by postcard.
    pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Self, postcard::Error> {
        postcard::to_stdvec(value).map(Self::from)
    }

    /// The same once more, with descriptors of its own.
    pub(super) fn try_clone(&self) -> Result<Self, ChannelError> {
        let fds = self.fds.iter().map(OwnedFd::try_clone).collect::<std::io::Result<_>>();
        let fds = fds.map_err(|error| ChannelError::from_io("dup", &error))?;
        Ok(Self { body: self.body.clone(), fds })
    }

    /// The value that the bytes hold. Bytes after it are an error.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        match postcard::take_from_bytes(&self.body) {
            Ok((value, [])) => Ok(value),
            Ok((_, rest)) => Err(DecodeError::Rest(rest.len())),
            Err(error) => Err(DecodeError::Value(error)),
        }
    }
}

impl From<Vec<u8>> for Message {
    fn from(body: Vec<u8>) -> Self {
        Self { body, fds: Vec::new() }
    }
}

impl From<&[u8]> for Message {
    fn from(body: &[u8]) -> Self {
        body.to_vec().into()
    }
}

impl<const N: usize> From<&[u8; N]> for Message {
    fn from(body: &[u8; N]) -> Self {
        body.to_vec().into()
    }
}

impl From<&str> for Message {
    fn from(body: &str) -> Self {
        body.as_bytes().into()
    }
}

impl From<String> for Message {
    fn from(body: String) -> Self {
        body.into_bytes().into()
    }
}

impl From<()> for Message {
    fn from((): ()) -> Self {
        Self::default()
    }
}

impl Method {
    /// The one of a channel without methods.
    pub(super) const UNNAMED: Self = Self(None);

    pub(super) fn named(name: Name) -> Self {
        Self(Some(name))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        self.0.as_ref().map_or("", Name::as_str)
    }
}

impl PartialEq<&str> for Method {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}
