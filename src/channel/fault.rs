//! What can go wrong on a link, by who is to blame.

use rustix::io::Errno;

use crate::ident::Name;
use crate::policy::plan::DescriptorKind;
use crate::seal::SealError;
use crate::wire::record::{Kind, WireError};

/// Why a link ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The peer broke the rules, or somebody in its place did. It is taken as compromised.
    #[error("the peer broke the rules: {0}")]
    Peer(#[from] PeerFault),
    /// The peer closed its end. Everything that it had sent before was received.
    #[error("the peer has closed its end")]
    Closed,
    /// The system refused.
    #[error("the system refused {what}: {errno}")]
    System {
        /// The call that failed.
        what: &'static str,
        /// Its error.
        errno: Errno,
    },
    /// This end can't go on, for a reason of its own.
    #[error("this end can't go on: {0}")]
    Seal(#[from] SealError),
}

/// A rule of a method, by its key in the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MethodRule {
    /// `after`.
    After,
    /// `once`.
    Once,
    /// `rate`.
    Rate,
}

impl MethodRule {
    fn broken(self) -> &'static str {
        match self {
            Self::After => "the peer called it before the method that must come first",
            Self::Once => "the peer called it a second time",
            Self::Rate => "the peer called it more often than it may",
        }
    }
}

impl std::fmt::Display for MethodRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::After => "after",
            Self::Once => "once",
            Self::Rate => "rate",
        })
    }
}

/// A rule that a peer broke.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerFault {
    /// The handshake failed: another key, another policy, another channel or another instance.
    #[error("the handshake failed: {0}")]
    Handshake(SealError),
    /// A record does not open.
    #[error("record {sequence}: {error}")]
    Record {
        /// Which record was due.
        sequence: u64,
        /// What is wrong with it.
        error: SealError,
    },
    /// Not in the form of a record.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// A datagram longer than any record.
    #[error("a datagram is longer than any record")]
    Oversize,
    /// A datagram of no bytes, which no end sends.
    #[error("an empty datagram")]
    Empty,
    /// More descriptors than there was room for, or than this process may open. All are closed.
    #[error("more descriptors came than the policy allows, or than this process may hold")]
    DescriptorsCut,
    /// Not as many descriptors as the header announces. All are closed.
    #[error("{came} descriptors came where the record announces {announced}")]
    DescriptorCount {
        /// What the header says.
        announced: u8,
        /// What came.
        came: usize,
    },
    /// A descriptor that is not what it should be. All are closed.
    #[error("descriptor {place}: {fault}")]
    Descriptor {
        /// Which one, from 0.
        place: usize,
        /// What is wrong with it.
        fault: DescriptorFault,
    },
    /// A kind of message that this side of the channel never gets.
    #[error("the peer may not send a {0:?} on its side of the channel")]
    Direction(Kind),
    /// A method that the plan has not.
    #[error("method number {0} is not in the policy")]
    Method(u16),
    /// Larger than the policy allows.
    #[error("a message of {size} bytes passes the method's max of {max}")]
    Size {
        /// Bytes of the message.
        size: usize,
        /// What the policy allows.
        max: usize,
    },
    /// A piece that doesn't belong to the message that was begun.
    #[error("a piece does not continue the message that was begun")]
    Piece,
    /// An answer to no call.
    #[error("an answer to call {0}, which is not waiting for one")]
    Answer(u32),
    /// A call number that is in use already, or more calls at once than the protocol allows.
    #[error("call {0} is one too many, or was made twice")]
    Call(u32),
    /// A call that was given up twice, or more calls given up than were made.
    #[error("call {0} was cancelled twice, or never made")]
    Cancel(u32),
    /// An item of a stream that this end had no room for, and had said so.
    #[error("the stream that answers call {0} goes on past its credit")]
    Overrun(u32),
    /// More credit for streams than what was sent can have made room for.
    #[error("call {0} gives more credit than it can have room for")]
    Credit(u32),
    /// A method that is called out of its turn, or too often.
    #[error("[channel.{channel}] methods.{method}.{rule}: {}", rule.broken())]
    Protocol {
        /// The channel.
        channel: Name,
        /// The method.
        method: Name,
        /// The key of the policy.
        rule: MethodRule,
    },
    /// A refusal whose reason is no text, or too long.
    #[error("a refusal's reason is not text of a bounded length")]
    Reason,
}

/// What is wrong with a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DescriptorFault {
    /// No kind that can ever be passed.
    #[error("it is {0}, which can't be passed")]
    Unfit(&'static str),
    /// A kind that `fds.kinds` has not.
    #[error("it is of kind {0:?}, which `fds.kinds` does not name")]
    Kind(DescriptorKind),
    /// Not the object, or not the rights, that the sealed message describes.
    #[error("it is not what the sealed message describes")]
    Swapped,
    /// The kernel would not tell about it.
    #[error("the kernel would not describe it: {0}")]
    System(Errno),
}

impl From<Errno> for DescriptorFault {
    fn from(errno: Errno) -> Self {
        Self::System(errno)
    }
}

impl PeerFault {
    /// Its number in the audit log, from 1.
    pub fn code(&self) -> u32 {
        match self {
            Self::Handshake(_) => 1,
            Self::Record { .. } => 2,
            Self::Wire(_) => 3,
            Self::Oversize => 4,
            Self::Empty => 5,
            Self::DescriptorsCut => 6,
            Self::DescriptorCount { .. } => 7,
            Self::Descriptor { .. } => 8,
            Self::Direction(_) => 9,
            Self::Method(_) => 10,
            Self::Size { .. } => 11,
            Self::Piece => 12,
            Self::Answer(_) => 13,
            Self::Call(_) => 14,
            Self::Cancel(_) => 15,
            Self::Overrun(_) => 16,
            Self::Credit(_) => 17,
            Self::Protocol { .. } => 18,
            Self::Reason => 19,
        }
    }
}
