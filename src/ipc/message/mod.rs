//! Messages between layers: what a layer's code uses of a channel.
//!
//! A [`Channel`] is all links of one declared channel to the live instances of the layer at its
//! other end. Methods are called by the `from` layer and answered by the `to` layer; a channel
//! without methods carries plain messages both ways, under the method `""`.
//!
//! ```no_run
//! # async fn example(keeper: cofferdam::ipc::message::Channel) -> Result<(), Box<dyn std::error::Error>> {
//! let signature: Vec<u8> = keeper.call_typed("sign", &b"digest").await?;
//! # Ok(())
//! # }
//! ```
//!
//! What it promises: every message comes whole, once and in the order in which it was sent on
//! its link, or its sender learns that it may not have. A peer's restart is one
//! [`Event::PeerRestarted`]; what the old instance had sent comes before it, and nothing of the
//! old instance comes after it. Memory is bounded whatever the peer does: a sender waits while
//! the peer is full.
//!
//! What it does not: keep messages for a peer that is down (`send` waits for the next instance),
//! or repeat calls ([`CallError::NotDelivered`] says when that is safe).
//!
//! Async verbs must be called within a tokio runtime. [`Channel::blocking`] has the same verbs
//! for threads, and for code that can't wait otherwise, such as a callback in the middle of an
//! async task.

pub mod blocking;
mod call;
pub mod error;
pub(super) mod patience;
mod state;
mod wait;

use std::convert::Infallible;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};
use std::time::Duration;

pub use call::Replier;
pub use error::{CallError, ChannelError, DecodeError, SendError, Violation};
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::state::{Item, Parcel, State, Submitted};
pub use self::wait::Companion;
use self::wait::{Shared, Who};
pub use crate::channel::Side;
use crate::channel::descriptor::describe_all;
use crate::channel::{Introducing, LinkError, Rules};
use crate::confine::Confined;
use crate::ident::{Instance, Name, PolicyId};
use crate::policy::plan::ChannelPlan;
use crate::seal::handshake::Introduction;
use crate::seal::{Identity, OsChance, PublicKey};
use crate::wire::limits::SHARED_PAYLOAD;
use crate::wire::record::{Descriptor, Kind};

/// Which channel, and which end of it.
#[derive(Clone, Debug)]
pub struct ChannelSpec {
    /// The channel's number in the plan.
    pub number: u16,
    /// What the plan says of it.
    pub plan: ChannelPlan,
    /// The policy that this process was started with.
    pub policy: PolicyId,
    /// Who we are.
    pub own: Instance,
    /// Which end is ours.
    pub side: Side,
}

/// One end of a declared channel: all its links to live instances of the peer layer.
///
/// A handle; clones are the same end.
#[derive(Clone)]
pub struct Channel {
    shared: Arc<Shared>,
    spec: Arc<ChannelSpec>,
    rules: Arc<Rules>,
    identity: Arc<Identity>,
}

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

/// What [`Channel::recv`] gives.
#[derive(Debug)]
pub enum Event {
    /// A call. Answer it through `reply`; dropping that refuses the call.
    Request {
        /// Who calls: as proven in the handshake.
        from: Instance,
        /// The method.
        method: Method,
        /// The request.
        message: Message,
        /// Takes the answer.
        reply: Replier,
    },
    /// A message that wants no answer.
    Message {
        /// Who sent it: as proven in the handshake.
        from: Instance,
        /// The method.
        method: Method,
        /// The message.
        message: Message,
    },
    /// A peer has ended, and its next life can be talked to. Everything of the old one came
    /// before this.
    PeerRestarted {
        /// The instance that ended.
        old: Instance,
        /// The instance that took its place.
        new: Instance,
    },
    /// A peer has ended, and so far nothing took its place. `PeerRestarted` follows if something
    /// does; if it already has, this is left out.
    PeerGone(Instance),
    /// A link has ended for another reason. `why` says who is to blame; a peer that broke the
    /// rules is best taken as compromised.
    PeerBroke {
        /// The peer.
        peer: Instance,
        /// What happened.
        why: LinkError,
    },
}

impl Channel {
    /// An end without links yet. The supervisor's introductions bring them.
    ///
    /// `_proof`: only a confined process talks to another.
    pub fn new(spec: ChannelSpec, identity: Arc<Identity>, _proof: &Confined) -> Self {
        let rules = Arc::new(Rules { plan: spec.plan.clone(), side: spec.side });
        let shared = Shared::new(State::new(Arc::clone(&rules)));
        Self { shared, spec: Arc::new(spec), rules, identity }
    }

    /// Names who is attended to by threads that sleep on this channel.
    pub fn accompany(&self, companion: Weak<dyn Companion>) {
        self.shared.accompany(companion);
    }

    /// Takes a peer up: the supervisor says that `peer` with this key holds the other end of
    /// `socket`. The handshake goes on in the background ([`Channel::drive`]).
    pub fn introduce(
        &self,
        peer: Instance,
        key: PublicKey,
        socket: OwnedFd,
    ) -> Result<(), LinkError> {
        let own = self.spec.own.clone();
        let (from, to) = match self.spec.side {
            Side::From => (own, peer.clone()),
            Side::To => (peer.clone(), own),
        };
        let introduction = Introduction {
            policy: self.spec.policy,
            number: self.spec.number,
            channel: self.spec.plan.name.as_str().to_owned(),
            from,
            to,
        };
        let meeting = Introducing::new(
            Arc::new(socket),
            self.spec.side,
            Arc::clone(&self.identity),
            &key,
            &introduction,
            Box::new(OsChance),
        )?;
        self.shared.with(|state| state.introduce(peer, meeting));
        self.shared.wake_driver();
        Ok(())
    }

    /// The supervisor says that `peer` has ended. What it had sent is still received.
    pub fn departed(&self, peer: &Instance) {
        self.shared.with(|state| state.departed(peer));
        self.shared.wake_driver();
    }

    /// Completes handshakes, sends what waits and takes in what comes, for as long as it is
    /// polled. It ends only if the system refuses to watch a socket.
    ///
    /// The verbs work without it, each for as long as it is polled itself; with it, messages
    /// that are sent in a burst share records: they go at the latest when the task next waits.
    pub async fn drive(&self) -> Result<Infallible, ChannelError> {
        self.shared.drive().await
    }

    /// The instances that can be talked to now.
    pub fn peers(&self) -> Vec<Instance> {
        self.shared.with(|state| state.peers())
    }

    /// The channel's name.
    pub fn name(&self) -> &Name {
        &self.spec.plan.name
    }

    /// The same end, for code that waits by blocking its thread.
    pub fn blocking(&self) -> blocking::Channel {
        blocking::Channel::new(self.clone())
    }

    /// Sends a message to the peer that has least to do. Waits while all are full, or while
    /// there is none, as during a restart.
    ///
    /// `Ok` says that the message is on its way: in the kernel, or in a small queue that the
    /// driver empties. It does not say that the peer has read it.
    pub async fn send(&self, method: &str, message: impl Into<Message>) -> Result<(), SendError> {
        self.post(None, method, message.into()).await
    }

    /// Sends a message to one instance; fails if that has ended.
    pub async fn send_to(
        &self,
        peer: &Instance,
        method: &str,
        message: impl Into<Message>,
    ) -> Result<(), SendError> {
        self.post(Some(peer), method, message.into()).await
    }

    /// Sends a message if some peer has room now; else gives it back.
    pub fn try_send(&self, method: &str, message: Message) -> Result<(), (SendError, Message)> {
        let mut message = message;
        let (number, descriptions) = match self.check(Kind::Message, method, &message) {
            Ok(checked) => checked,
            Err(violation) => return Err((violation.into(), message)),
        };
        let mut parcel = parcel(Kind::Message, number, &mut message, &descriptions);
        match self.shared.with(|state| state.submit(None, &mut parcel)) {
            Submitted::Taken { .. } => {
                self.shared.wake_driver();
                Ok(())
            }
            Submitted::Full | Submitted::Gone => Err((SendError::Full, message)),
        }
    }

    /// Receives the next event. Dropping the future loses nothing.
    pub async fn recv(&self) -> Result<Event, ChannelError> {
        let item = self.shared.wait(Who::Receiver, State::take).await?;
        Ok(self.event(item))
    }

    /// The next event, if one is there now.
    pub fn try_recv(&self) -> Option<Event> {
        let item = self.shared.with(|state| {
            state.take().or_else(|| {
                state.pump();
                state.take()
            })
        })?;
        Some(self.event(item))
    }

    /// [`Channel::send`] that gives up after a while; then the message was not taken.
    pub async fn send_timeout(
        &self,
        method: &str,
        message: impl Into<Message>,
        time: Duration,
    ) -> Result<(), SendError> {
        let sent = tokio::time::timeout(time, self.send(method, message)).await;
        sent.unwrap_or(Err(SendError::Timeout))
    }

    /// Checks a message against the policy: the method's number, and what its descriptors are.
    fn check(
        &self,
        kind: Kind,
        method: &str,
        message: &Message,
    ) -> Result<(u16, Vec<Descriptor>), Violation> {
        let plan = &self.rules.plan;
        let channel = || plan.name.clone();
        let number = self.rules.number(method);
        if !self.rules.may_send(kind, number) {
            let (act, may) = match kind {
                Kind::Request => ("call methods", &plan.from),
                Kind::Reply | Kind::Refusal => ("answer calls", &plan.to),
                _ if self.rules.goes_back(number) => ("send this message", &plan.to),
                _ => ("send messages of its own", &plan.from),
            };
            return Err(Violation::Direction { channel: channel(), act, may: may.clone() });
        }
        let Some(number) = number else {
            return Err(Violation::Method { channel: channel(), method: method.to_owned() });
        };
        self.check_message(number, message).map(|descriptions| (number, descriptions))
    }

    fn check_message(&self, number: u16, message: &Message) -> Result<Vec<Descriptor>, Violation> {
        check_message(&self.rules, number, message)
    }

    async fn post(
        &self,
        to: Option<&Instance>,
        method: &str,
        mut message: Message,
    ) -> Result<(), SendError> {
        let (number, descriptions) = self.check(Kind::Message, method, &message)?;
        let driven = self.shared.driven();
        // What may stay in the link's small queue when the driver takes care of it.
        let leave = driven && message.fds.is_empty() && message.body.len() <= SHARED_PAYLOAD;
        let mut parcel =
            Parcel { hold: driven, ..parcel(Kind::Message, number, &mut message, &descriptions) };
        let mut taken = None;
        let attempt = |state: &mut State| {
            if taken.is_none() {
                match state.submit(to, &mut parcel) {
                    Submitted::Taken { link, ticket, .. } => taken = Some((link, ticket)),
                    Submitted::Gone => return Some(Err(SendError::NotDelivered(to.cloned()))),
                    Submitted::Full => {}
                }
            }
            let (link, ticket) = taken?;
            match state.sent(link, ticket) {
                Some(true) => Some(Ok(false)),
                Some(false) if leave => Some(Ok(!std::mem::replace(&mut state.nudged, true))),
                Some(false) => None,
                None => Some(Err(SendError::NotDelivered(to.cloned()))),
            }
        };
        if self.shared.wait(Who::Sender, attempt).await?? {
            self.shared.wake_driver();
        }
        Ok(())
    }

    fn event(&self, item: Item) -> Event {
        match item {
            Item::Request { link, from, method, number, call, message } => {
                let reply = Replier::new(
                    Arc::clone(&self.shared),
                    Arc::clone(&self.rules),
                    link,
                    from.clone(),
                    number,
                    call,
                );
                Event::Request { from, method, message, reply }
            }
            Item::Message { from, method, message } => Event::Message { from, method, message },
            Item::Restarted { old, new } => Event::PeerRestarted { old, new },
            Item::Gone(peer) => Event::PeerGone(peer),
            Item::Broke { peer, why } => Event::PeerBroke { peer, why },
        }
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("spec", &self.spec).finish_non_exhaustive()
    }
}

/// What of a message the policy must allow: its size and its descriptors.
fn check_message(
    rules: &Rules,
    number: u16,
    message: &Message,
) -> Result<Vec<Descriptor>, Violation> {
    let plan = &rules.plan;
    let channel = || plan.name.clone();
    let max = rules.max(number).unwrap_or(0);
    let size = message.body.len();
    if size > max {
        let method = plan.methods.get(usize::from(number)).map(|method| method.name.clone());
        let key = error::Key { channel: channel(), method };
        return Err(Violation::Size { key, size, max });
    }
    if message.fds.is_empty() {
        return Ok(Vec::new());
    }
    let (count, max) = (message.fds.len(), plan.fds.max);
    if count > usize::from(max) {
        return Err(Violation::DescriptorCount { channel: channel(), count, max });
    }
    describe_all(&plan.fds, &message.fds).map_err(|(place, fault)| Violation::Descriptor {
        channel: channel(),
        place,
        fault,
    })
}

fn parcel<'a>(
    kind: Kind,
    method: u16,
    message: &'a mut Message,
    descriptions: &'a [Descriptor],
) -> Parcel<'a> {
    Parcel { kind, method, message, descriptions, hold: false }
}

impl Message {
    /// A message that holds `value`, written by postcard.
    pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Self, postcard::Error> {
        postcard::to_stdvec(value).map(Self::from)
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

impl Method {
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
