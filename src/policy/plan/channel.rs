//! Channels, their methods and the descriptors that they carry.

use serde::{Deserialize, Serialize};

use super::{Audit, Rate, words};
use crate::ident::Name;

/// A channel between two layers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ChannelPlan {
    /// The channel's name.
    pub name: Name,
    /// The layer that speaks first (the initiator of the handshake, the caller of methods).
    pub from: Name,
    /// The layer that answers.
    pub to: Name,
    /// The largest message, in bytes; 1 to [`ChannelPlan::MAX_MESSAGE`].
    pub max: u32,
    /// The methods, sorted by name. A method's number on the wire is its place here.
    /// Empty: one unnamed method 0 in both directions.
    pub methods: Vec<MethodPlan>,
    /// The descriptors that a message may carry, where its method has no `fds` of its own.
    pub fds: DescriptorPlan,
    /// What the audit log keeps of its messages.
    pub audit: Audit,
    /// Whether the built-in witness relays it.
    pub witness: bool,
    /// How its records travel.
    pub transport: Transport,
    /// Whether its ends are on different hosts.
    pub across: bool,
}

/// How a channel's records travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Transport {
    /// A `SOCK_SEQPACKET` socketpair.
    #[default]
    Socket,
    /// A ring in sealed shared memory.
    Ring,
}

words!(Transport { Socket = "socket", Ring = "ring" });

impl ChannelPlan {
    /// The largest `max`: 16 MiB.
    pub const MAX_MESSAGE: u32 = 16 << 20;
    /// The most links between copies of layers that all channels with a witness have together. A
    /// witness that is started again is handed two descriptors for each at once, which must find
    /// room in its control socket.
    pub const MAX_WITNESSED: u64 = 64;

    /// The descriptors that messages of a method may carry, requests and answers alike. 0 is the
    /// method of a channel that names none.
    pub fn fds_of(&self, method: u16) -> &DescriptorPlan {
        let own = self.methods.get(usize::from(method)).and_then(|method| method.fds.as_ref());
        own.unwrap_or(&self.fds)
    }

    /// How many descriptors any message may carry: 0 switches passing off in the kernel too.
    pub fn most_fds(&self) -> u8 {
        let methods = self.methods.iter().map(|method| method.fds.as_ref());
        let all = methods.map(|own| own.unwrap_or(&self.fds).max);
        all.max().unwrap_or(self.fds.max)
    }

    /// Which methods carry a kind of descriptor, `None` standing for all that have no `fds` of
    /// their own, and how many at most.
    pub fn carriers(&self, kind: DescriptorKind) -> Vec<(Option<&MethodPlan>, u8)> {
        let carries = |fds: &DescriptorPlan| fds.kinds.contains(&kind).then_some(fds.max);
        let rest = self.methods.is_empty() || self.methods.iter().any(|it| it.fds.is_none());
        let rest = carries(&self.fds).filter(|_| rest).map(|max| (None, max));
        let own = self.methods.iter().filter_map(|it| Some((Some(it), carries(it.fds.as_ref()?)?)));
        rest.into_iter().chain(own).collect()
    }
}

/// One method of a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MethodPlan {
    /// The method's name.
    pub name: Name,
    /// The largest message of this method, in bytes, both request and reply.
    pub max: u32,
    /// Who may call it.
    pub direction: Direction,
    /// How often one instance may call it; `None` is no limit.
    pub rate: Option<Rate>,
    /// Whether an instance may call it once in its life only.
    pub once: bool,
    /// The method that must have been called before, by its place in the channel.
    pub after: Option<u16>,
    /// Whether a call is answered by a stream of messages instead of one.
    pub stream: bool,
    /// The descriptors that its messages may carry; `None`: what the channel says.
    pub fds: Option<DescriptorPlan>,
}

/// Who may call a method.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Direction {
    /// The channel's `from` calls, its `to` answers.
    #[default]
    Forth,
    /// The channel's `to` sends one-way messages to its `from`.
    Back,
}

words!(Direction { Forth = "forth", Back = "back" });

/// Which descriptors a message may carry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescriptorPlan {
    /// How many at most in one message, 0 to [`DescriptorPlan::MAX`].
    pub max: u8,
    /// Which kinds, sorted; not empty when `max` is above 0.
    pub kinds: Vec<DescriptorKind>,
}

impl DescriptorPlan {
    /// The most descriptors in one message.
    pub const MAX: u8 = 16;
}

/// A kind of descriptor, with the rights that it may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum DescriptorKind {
    /// A regular file open for reading only.
    FileRead,
    /// A regular file open for writing too.
    FileWrite,
    /// A connected stream socket (TCP or Unix).
    Stream,
    /// A datagram socket.
    Datagram,
    /// The reading end of a pipe.
    PipeRead,
    /// The writing end of a pipe.
    PipeWrite,
    /// A memfd sealed against shrinking, growing and writing.
    SealedMemory,
}

words!(DescriptorKind { FileRead = "file-read", FileWrite = "file-write", Stream = "stream", Datagram = "datagram", PipeRead = "pipe-read", PipeWrite = "pipe-write", SealedMemory = "sealed-memory" });
