//! What the plan allows on a channel, seen from one of its ends.

use super::fault::PeerFault;
use crate::policy::plan::ChannelPlan;
use crate::wire::limits::{MESSAGE, REASON};
use crate::wire::record::Kind;

/// Which end of a channel an instance holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Side {
    /// The one that calls, and that begins the handshake.
    From,
    /// The one that answers.
    To,
}

/// A channel's plan and the side from which it is looked at.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The plan.
    pub plan: ChannelPlan,
    /// Our side.
    pub side: Side,
}

impl Rules {
    /// The number of the method called `name`; 0 for the unnamed one of a channel without
    /// methods.
    pub fn number(&self, name: &str) -> Option<u16> {
        if self.plan.methods.is_empty() {
            return name.is_empty().then_some(0);
        }
        let place = self.plan.methods.binary_search_by(|method| method.name.as_str().cmp(name));
        u16::try_from(place.ok()?).ok()
    }

    /// The largest message of a method, in bytes; `None` if there is no such method.
    pub fn max(&self, method: u16) -> Option<usize> {
        let channel = usize::try_from(self.plan.max).unwrap_or(MESSAGE).min(MESSAGE);
        match self.plan.methods.get(usize::from(method)) {
            Some(plan) => Some(channel.min(usize::try_from(plan.max).unwrap_or(channel))),
            None if self.plan.methods.is_empty() && method == 0 => Some(channel),
            None => None,
        }
    }

    /// Whether our side may send this kind at all.
    pub fn may_send(&self, kind: Kind) -> bool {
        Self::may(self.side, self.plan.methods.is_empty(), kind)
    }

    /// Checks what the peer sent, and gives the most bytes that it may have.
    pub fn check_received(&self, kind: Kind, method: u16) -> Result<usize, PeerFault> {
        let theirs = match self.side {
            Side::From => Side::To,
            Side::To => Side::From,
        };
        if !Self::may(theirs, self.plan.methods.is_empty(), kind) {
            return Err(PeerFault::Direction(kind));
        }
        let max = self.max(method).ok_or(PeerFault::Method(method))?;
        Ok(if kind == Kind::Refusal { REASON } else { max })
    }

    /// Methods are called by `from` and answered by `to`. Without methods either end may send
    /// plain messages.
    fn may(sender: Side, unnamed: bool, kind: Kind) -> bool {
        match kind {
            Kind::Message => sender == Side::From || unnamed,
            Kind::Request => sender == Side::From,
            Kind::Reply | Kind::Refusal => sender == Side::To,
            Kind::Handshake | Kind::Batch => false,
        }
    }
}
