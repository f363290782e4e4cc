//! What can go wrong with a queue, by who is to blame.

use std::io;
use std::time::Duration;

use crate::ident::{Instance, Name};
use crate::seal::SealError;
use crate::wire::broker;

/// Why a verb of a queue failed.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// Our own code: this layer doesn't send on it.
    #[error("`[queue.{queue}] send` doesn't name this layer, so it can't send")]
    NotASender {
        /// The queue.
        queue: Name,
    },
    /// Our own code: this layer doesn't receive from it.
    #[error("`[queue.{queue}] receive` doesn't name this layer, so it can't receive")]
    NotAReceiver {
        /// The queue.
        queue: Name,
    },
    /// Our own code: too large.
    #[error("`[queue.{queue}] max = \"{max}B\"`: this message has {size} bytes")]
    Size {
        /// The queue.
        queue: Name,
        /// Bytes of the message.
        size: usize,
        /// What the policy allows.
        max: u32,
    },
    /// Our own code: no such priority.
    #[error(
        "`[queue.{queue}] priorities = {priorities}`: they are numbered from 0, so there is no \
         priority {priority}"
    )]
    Priority {
        /// The queue.
        queue: Name,
        /// What was asked for.
        priority: u8,
        /// How many there are.
        priorities: u8,
    },
    /// Our own code: the value can't be written as bytes.
    #[error("the message can't be encoded: {0}")]
    Encode(postcard::Error),
    /// The policy: no room, and nobody is to wait. The message was not taken.
    #[error("`[queue.{queue}] depth = {depth}`: the queue is full")]
    Full {
        /// The queue.
        queue: Name,
        /// What the policy allows.
        depth: u32,
    },
    /// The policy: no room in time. The message was not taken.
    #[error("`[queue.{queue}] wait`: the queue was full for {waited:?}")]
    Timeout {
        /// The queue.
        queue: Name,
        /// How long the sender has waited.
        waited: Duration,
    },
    /// Nothing came in time.
    #[error("nothing came in time")]
    Nothing,
    /// Nothing has come, and the supervisor asks this layer to finish.
    #[error("the supervisor asks this layer to finish")]
    Stopping,
    /// The supervisor made no room.
    #[error(
        "`[queue.{queue}] on-full = \"drop-oldest\"`: the supervisor made no room: {refusal:?}"
    )]
    NoRoom {
        /// The queue.
        queue: Name,
        /// What it said.
        refusal: broker::Refusal,
    },
    /// The cipher failed, or its numbers are used up.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The system refused.
    #[error("the system refused {what}: {error}")]
    System {
        /// The call that failed.
        what: &'static str,
        /// Its error.
        error: io::Error,
    },
}

/// A message that was taken from the queue and not accepted. It is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What is wrong with it.
    pub why: Fault,
    /// What its header says, if it has one. Unless [`Fault::is_authentic`], it proves nothing.
    pub claim: Option<Claim>,
}

/// What the header of a refused message says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Who sent it, if there is such a sender.
    pub from: Option<Instance>,
    /// The epoch of the key.
    pub epoch: u32,
    /// Its number.
    pub number: u64,
    /// Its priority.
    pub priority: u8,
}

/// Why a message is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Too short to be a message.
    #[error("{0} bytes are no message")]
    Torn(usize),
    /// Longer than the policy allows.
    #[error("a body of {0} bytes is longer than the policy allows")]
    Size(usize),
    /// Of another version than this library's.
    #[error("its version is unknown")]
    Version,
    /// From a layer that doesn't send on this queue.
    #[error("its sender is none of the queue's")]
    Sender,
    /// Sealed with a key that this receiver never had, or no longer has.
    #[error("its key is of an epoch that this receiver has no key of")]
    Epoch,
    /// Not sealed with the queue's key by the sender that it names, or altered since.
    #[error("it is forged or altered")]
    NotAuthentic,
    /// It was put in with another priority than it was sealed with.
    #[error("it came with priority {delivered}, which is not its own")]
    Priority {
        /// The priority that the kernel gave it.
        delivered: u32,
    },
    /// This receiver had it before, or one that its sender sent later with the same priority.
    #[error("it was received before, or is older than what was")]
    Replayed,
}

impl Fault {
    /// Its number in the audit log.
    pub const fn code(&self) -> u32 {
        match self {
            Self::Torn(_) => 1,
            Self::Size(_) => 2,
            Self::Version => 3,
            Self::Sender => 4,
            Self::Epoch => 5,
            Self::NotAuthentic => 6,
            Self::Priority { .. } => 7,
            Self::Replayed => 8,
        }
    }

    /// Whether the claim is proven: some member of the queue did seal such a message.
    pub const fn is_authentic(&self) -> bool {
        matches!(self, Self::Priority { .. } | Self::Replayed)
    }
}
