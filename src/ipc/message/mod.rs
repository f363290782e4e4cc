//! Messages between layers: what a layer's code uses of a channel.
//!
//! A [`Channel`] is all links of one declared channel to the live instances of the layer at its
//! other end. Methods are called by the `from` layer and answered by the `to` layer; a channel
//! without methods carries plain messages both ways, under the method `""`.
//!
//! ```no_run
//! # async fn example(keeper: cofferdam::ipc::message::Channel) -> Result<(), Box<dyn std::error::Error>> {
//! let signature: Vec<u8> = keeper.call("sign").send_typed(&b"digest").await?;
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
//! A [`Call`] can be given up ([`PendingCall`]), can have a deadline that its handler sees, and can
//! be answered by a stream of messages where the policy says `stream = true`. Whoever answers calls
//! writes a handler ([`Channel::serve`]). A [`Publisher`] tells many subscribers the same.
//!
//! One layer's end is no other layer's failure: an answer that nobody waits for is a
//! [`Delivery::NobodyWaits`], and a call whose peer ended is an error of that call alone.
//!
//! What it does not: keep messages for a peer that is down (`send` waits for the next instance),
//! or repeat calls ([`CallError::NotDelivered`] says when that is safe).
//!
//! Async verbs must be called within a tokio runtime. [`Channel::blocking`] has the same verbs
//! for threads, and for code that can't wait otherwise, such as a callback in the middle of an
//! async task.

pub mod blocking;
mod call;
mod caller;
mod check;
mod content;
pub mod error;
mod event;
mod pending;
mod reply;
mod send;
mod serve;
mod state;
mod stream;
mod topic;
mod wait;

use std::convert::Infallible;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

pub use self::call::Call;
pub use self::caller::Caller;
pub use self::content::{Message, Method};
pub use self::error::{CallError, ChannelError, DecodeError, SendError, Violation};
pub use self::event::Event;
pub use self::pending::PendingCall;
pub use self::reply::{Delivery, Replier, StreamReplier};
pub use self::serve::Request;
use self::state::State;
pub use self::stream::ReplyStream;
pub use self::topic::{Publication, Publisher, Subscriber};
use self::wait::Shared;
pub use super::companion::Companion;
pub use crate::channel::fault::DescriptorFault;
use crate::channel::{Introducing, Rules};
pub use crate::channel::{LinkError, PeerFault, Side};
use crate::confine::Confined;
use crate::ident::{EdgeId, Instance, Name};
use crate::ipc::gauge::{Gauge, InHand};
use crate::policy::plan::ChannelPlan;
use crate::report::{Desk, Facility, Tap};
use crate::seal::handshake::Introduction;
use crate::seal::{Identity, OsChance, PublicKey};

/// Which channel, and which end of it.
#[derive(Clone, Debug)]
pub struct ChannelSpec {
    /// The channel's number in the plan.
    pub number: u16,
    /// What the plan says of it.
    pub plan: ChannelPlan,
    /// The digest of that, and of whose it is.
    pub edge: EdgeId,
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
    /// Where it is reported that a message was refused before it was made.
    tap: Option<Tap>,
}

impl Channel {
    /// An end without links yet. The supervisor's introductions bring them.
    ///
    /// `_proof`: only a confined process talks to another. What goes over its links is reported to
    /// `desk` as the plan says.
    #[doc(hidden)]
    pub fn new(spec: ChannelSpec, identity: Arc<Identity>, desk: &Desk, _proof: &Confined) -> Self {
        let rules = Arc::new(Rules { plan: spec.plan.clone(), side: spec.side });
        let tap = desk.tap(Facility::Channel, spec.number, spec.plan.audit);
        let shared = Shared::new(State::new(Arc::clone(&rules), tap.clone()));
        Self { shared, spec: Arc::new(spec), rules, identity, tap }
    }

    /// Names who is attended to by threads that sleep on this channel.
    #[doc(hidden)]
    pub fn accompany(&self, companion: Weak<dyn Companion>) {
        self.shared.accompany(companion);
    }

    /// Something is handled that wants no answer.
    fn take(&self) -> Option<InHand> {
        self.shared.take()
    }

    /// Names who counts the calls that are to be answered, once.
    pub(crate) fn measure(&self, gauge: &Arc<Gauge>) {
        self.shared.measure(gauge);
    }

    /// Takes a peer up: the supervisor says that `peer` with this key holds the other end of
    /// `socket`. The handshake goes on in the background ([`Channel::drive`]).
    #[doc(hidden)]
    pub fn introduce(
        &self,
        peer: Instance,
        key: PublicKey,
        socket: OwnedFd,
    ) -> Result<(), LinkError> {
        self.introduce_through(peer, key, socket, 0)
    }

    /// The same, on a link that the witness of this generation relays; 0: none does.
    pub(crate) fn introduce_through(
        &self,
        peer: Instance,
        key: PublicKey,
        socket: OwnedFd,
        witness: u64,
    ) -> Result<(), LinkError> {
        let own = self.spec.own.clone();
        let (from, to) = match self.spec.side {
            Side::From => (own, peer.clone()),
            Side::To => (peer.clone(), own),
        };
        let introduction = Introduction {
            edge: self.spec.edge,
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
        self.shared.with(|state| state.introduce(peer, meeting, witness));
        self.shared.wake_driver();
        Ok(())
    }

    /// The supervisor says that `peer` has ended. What it had sent is still received.
    #[doc(hidden)]
    pub fn departed(&self, peer: &Instance) {
        self.shared.with(|state| state.departed(peer));
        self.shared.wake_driver();
    }

    /// The layer is asked to finish: [`Channel::next`] ends once nothing is left.
    pub(crate) fn finish(&self) {
        self.shared.finish();
    }

    /// The supervisor says that no instance of the peer is left, and that none will come.
    pub(crate) fn peer_down(&self) {
        self.shared.with(State::peer_down);
        self.shared.wake_driver();
    }

    /// Completes handshakes, sends what waits and takes in what comes, for as long as it is
    /// polled. It ends only if the system refuses to watch a socket.
    ///
    /// The verbs work without it, each for as long as it is polled itself; with it, messages
    /// that are sent in a burst share records: they go at the latest when the task next waits.
    #[doc(hidden)]
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
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("spec", &self.spec).finish_non_exhaustive()
    }
}
