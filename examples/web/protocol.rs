//! What the layers say to each other. All of it is bounded by the policy's `max` per method.

use serde::{Deserialize, Serialize};

/// What the daemon's set-up hands to every layer: nothing secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// The certificate chain, DER, the server's own certificate first.
    pub(crate) chain: Vec<Vec<u8>>,
}

/// Parser to opener: open what this request path names.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct OpenRequest {
    /// The path of the request target as the client wrote it, percent signs and all.
    pub(crate) path: String,
}

/// Opener to parser. Only [`OpenReply::File`] comes with a descriptor, exactly one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum OpenReply {
    /// Here it is, open for reading.
    File(Found),
    /// It is a directory with an index page, and the path lacked the slash at its end.
    Moved {
        /// The path to ask for instead, percent-encoded.
        to: String,
    },
    /// Nothing of that name is served.
    NotFound,
    /// The path is not a path: bad escapes, a zero byte, not UTF-8, or it leads out.
    Malformed,
    /// The opener has run out of descriptors or memory; later it may work.
    Busy,
}

/// What the opener found, as it was when it was opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Found {
    /// Length in bytes.
    pub(crate) size: u64,
    /// Last modification, in seconds and nanoseconds since 1970; times before that are 0.
    pub(crate) modified: (u64, u32),
    /// The value for `Content-Type`.
    pub(crate) content_type: String,
}

/// Parser to keeper: sign this.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SignRequest {
    /// The TLS number of the signature scheme (RFC 8446 section 4.2.3).
    pub(crate) scheme: u16,
    /// The content to sign, not hashed (RFC 8446 section 4.4.3).
    pub(crate) content: Vec<u8>,
}

/// Keeper to parser: the signature, in the scheme's own encoding.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SignReply(pub(crate) Vec<u8>);
