//! What a channel gives its receiver.

use std::sync::Arc;

use super::state::Item;
use super::{Caller, Channel, Message, Method, Replier};
use crate::channel::LinkError;
use crate::ident::Instance;
use crate::trace::{self, Held};

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
    ///
    /// `old` and `new` are the same if only the link between has ended, because the witness that
    /// relayed it did (`witness = true`): what was under way on it may be lost.
    PeerRestarted {
        /// The instance that ended, or whose link did.
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
    /// The peer layer is down for good: its last instance has ended, and by `restart` in the policy
    /// none will come. Comes once, behind all that the peer had sent; calls that wait and all later
    /// ones fail with [`CallError::PeerDown`](super::CallError::PeerDown).
    PeerDown,
}

impl Channel {
    pub(super) fn event(&self, item: Item) -> Event {
        match item {
            Item::Request { link, from, method, number, call, deadline, trace, message } => {
                let (shared, rules) = (Arc::clone(&self.shared), Arc::clone(&self.rules));
                let (peer, held) = (from.clone(), Held::taken(trace));
                let caller = Caller { shared, link, call, deadline };
                let reply = Replier::new(caller, rules, peer, number, held);
                Event::Request { from, method, message, reply }
            }
            Item::Message { from, method, trace, message, .. } => {
                trace::heard(trace);
                Event::Message { from, method, message }
            }
            Item::Restarted { old, new } => Event::PeerRestarted { old, new },
            Item::Gone(peer) => Event::PeerGone(peer),
            Item::Broke { peer, why } => Event::PeerBroke { peer, why },
            Item::Down => Event::PeerDown,
        }
    }
}
