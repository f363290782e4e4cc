//! What can go wrong with a message, by who is to blame.

use std::fmt;

use rustix::io::Errno;

use crate::channel::fault::DescriptorFault;
use crate::channel::{LinkError, PeerFault};
use crate::ident::{Instance, Name};

/// The policy does not allow what this layer's own code asked for. Nothing was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// No such method.
    #[error(
        "there is no method `{method}` on this channel: add it to `[channel.{channel}] methods`"
    )]
    Method {
        /// The channel.
        channel: Name,
        /// What was asked for.
        method: String,
    },
    /// The wrong end for it.
    #[error("this end of the channel can't {act}: `[channel.{channel}]` lets only `{may}` do that")]
    Direction {
        /// The channel.
        channel: Name,
        /// What was tried.
        act: &'static str,
        /// The layer that may.
        may: Name,
    },
    /// Too large.
    #[error("a message of {size} bytes is larger than the {max} that {key} allows")]
    Size {
        /// The policy key that sets the limit.
        key: Key,
        /// Bytes of the message.
        size: usize,
        /// What the policy allows.
        max: usize,
    },
    /// Too many descriptors.
    #[error(
        "the message has more descriptors than {} allows: {count}, and not {max}",
        .key.fds("fds.max")
    )]
    DescriptorCount {
        /// Where the policy says so.
        key: Key,
        /// How many there are.
        count: usize,
        /// What the policy allows.
        max: u8,
    },
    /// A method that is answered otherwise.
    #[error(
        "{} (`call_stream` and `Replier::stream`)",
        if *.streams {
            format!("{} answers by a stream", .key.line("stream = true"))
        } else {
            format!("{} answers by one message, not by a stream", .key.line("stream = false"))
        }
    )]
    Stream {
        /// The policy key that says so.
        key: Key,
        /// Whether it is answered by a stream.
        streams: bool,
    },
    /// A descriptor that the method doesn't carry.
    #[error("descriptor {place}: {fault} ({})", .key.fds("fds.kinds"))]
    Descriptor {
        /// Where the policy says what it carries.
        key: Key,
        /// Which one, from 0.
        place: usize,
        /// What is wrong with it.
        fault: DescriptorFault,
    },
}

/// A key of the policy, as a person would look for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The channel.
    pub channel: Name,
    /// The method, if the limit is one of its own.
    pub method: Option<Name>,
}

impl Key {
    /// The line of the policy that says what descriptors are carried.
    fn fds(&self, key: &str) -> String {
        match &self.method {
            Some(method) => format!("`[channel.{}] methods.{method}.{key}`", self.channel),
            None => format!("`[channel.{}] {key}`", self.channel),
        }
    }

    /// The line of the policy that says something of its method.
    fn line(&self, says: &str) -> String {
        match &self.method {
            Some(method) => format!("`[channel.{}] methods.{method}.{says}`:", self.channel),
            None => format!("`[channel.{}]`: a channel without methods", self.channel),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.method {
            Some(method) => write!(f, "`[channel.{}] methods.{method}.max`", self.channel),
            None => write!(f, "`[channel.{}] max`", self.channel),
        }
    }
}

/// Why a message was not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Our own code asked for what the policy doesn't allow.
    #[error(transparent)]
    Policy(#[from] Violation),
    /// The peer ended before the message was handed to the kernel, or there is no such peer.
    #[error("not delivered: {}", peer_text(.0.as_ref()))]
    NotDelivered(Option<Instance>),
    /// The peer layer is down for good: by `restart` in the policy, no instance of it will come.
    /// Nothing was sent.
    #[error("layer '{0}' is down for good: `restart` in [layer.{0}] starts it no more")]
    PeerDown(Name),
    /// There is no room now, and the caller didn't want to wait.
    #[error("no peer has room for the message now")]
    Full,
    /// No peer had room in time. The message was not taken.
    #[error("no peer had room for the message in time")]
    Timeout,
    /// Of a stream: messages that nobody receives lie before its reader's credit.
    #[error("too many messages wait to be received for the stream to go on: receive them first")]
    Clogged,
    /// The value can't be written as bytes.
    #[error("the message can't be encoded: {0}")]
    Encode(postcard::Error),
    /// The system refused.
    #[error(transparent)]
    System(#[from] ChannelError),
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Our own code asked for what the policy doesn't allow.
    #[error(transparent)]
    Policy(#[from] Violation),
    /// The call was never handed to the kernel: it surely was not executed.
    #[error("not delivered: {}", peer_text(.0.as_ref()))]
    NotDelivered(Option<Instance>),
    /// The peer layer is down for good: by `restart` in the policy, no instance of it will come. The
    /// call was not executed, and to repeat it is of no use.
    #[error("layer '{0}' is down for good: `restart` in [layer.{0}] starts it no more")]
    PeerDown(Name),
    /// The peer ended without an answer: the call was executed, or wasn't, or half.
    #[error("{0} ended before it answered; it may have executed the call")]
    MayHaveExecuted(Instance),
    /// The peer said no.
    #[error("{peer} refused: {reason}")]
    Refused {
        /// Who refused.
        peer: Instance,
        /// Why, in the peer's own words: untrusted text, with control characters in it perhaps.
        reason: String,
    },
    /// No answer in time. If it was delivered, it may have been executed.
    #[error("no answer in time")]
    Timeout,
    /// The deadline of the call has passed.
    #[error(
        "the deadline has passed: {}",
        if *.may_have_executed { "the call may have been executed" } else { "it was not executed" }
    )]
    Deadline {
        /// False: no peer had got it, or the peer says that it has not begun it.
        may_have_executed: bool,
    },
    /// The peer broke the rules of the channel, so nothing that it says counts.
    #[error("{peer} broke the rules: {why}")]
    Broke {
        /// The peer.
        peer: Instance,
        /// The rule.
        why: PeerFault,
    },
    /// The request can't be written as bytes.
    #[error("the request can't be encoded: {0}")]
    Encode(postcard::Error),
    /// The answer isn't what the caller expected.
    #[error("the answer is not of the expected form: {0}")]
    Decode(DecodeError),
    /// The system refused.
    #[error(transparent)]
    System(#[from] ChannelError),
}

impl CallError {
    /// Whether another peer, or the next instance of this one, may do what this one didn't.
    pub(super) const fn is_for_another_try(&self) -> bool {
        matches!(self, Self::NotDelivered(Some(_)) | Self::MayHaveExecuted(_))
    }
}

impl From<SendError> for CallError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Policy(violation) => Self::Policy(violation),
            SendError::NotDelivered(peer) => Self::NotDelivered(peer),
            SendError::PeerDown(layer) => Self::PeerDown(layer),
            // The last is of who answers a call, never of who makes one.
            SendError::Full | SendError::Clogged => Self::NotDelivered(None),
            SendError::Timeout => Self::Timeout,
            SendError::Encode(error) => Self::Encode(error),
            SendError::System(error) => Self::System(error),
        }
    }
}

/// Why bytes are not the value that was expected. The peer's fault, or two versions of a type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not such a value.
    #[error("{0}")]
    Value(postcard::Error),
    /// A value, and then more.
    #[error("{0} bytes are left over after the value")]
    Rest(usize),
}

/// What makes a whole channel unusable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// The system refused.
    #[error("the system refused {what}: {errno}")]
    System {
        /// The call that failed.
        what: &'static str,
        /// Its error.
        errno: Errno,
    },
    /// What was waited for is an instance of a layer that is down for good.
    #[error("layer '{0}' is down for good: `restart` in [layer.{0}] starts it no more")]
    PeerDown(Name),
    /// Nothing came in time.
    #[error("nothing came in time")]
    Timeout,
    /// Nothing has come, and the supervisor asks this layer to finish.
    #[error("the supervisor asks this layer to finish")]
    Stopping,
}

impl ChannelError {
    pub(super) fn from_io(what: &'static str, error: &std::io::Error) -> Self {
        let errno = Errno::from_io_error(error).unwrap_or(Errno::IO);
        Self::System { what, errno }
    }
}

/// What pending calls on a link that ended are told.
pub(super) fn call_lost(peer: &Instance, why: &LinkError, handed_over: bool) -> CallError {
    match why {
        LinkError::Peer(why) => CallError::Broke { peer: peer.clone(), why: why.clone() },
        _ if handed_over => CallError::MayHaveExecuted(peer.clone()),
        _ => CallError::NotDelivered(Some(peer.clone())),
    }
}

fn peer_text(peer: Option<&Instance>) -> String {
    peer.map_or_else(|| "there is no such peer".into(), |peer| format!("{peer} has ended"))
}
