//! What the plan allows on a channel, seen from one of its ends.

use super::fault::PeerFault;
use crate::ident::Name;
use crate::policy::plan::{ChannelPlan, Direction};
use crate::wire::limits::{MESSAGE, REASON, WINDOW, WINDOW_BYTES};
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
    /// The layer at the other end.
    pub fn peer(&self) -> &Name {
        match self.side {
            Side::From => &self.plan.to,
            Side::To => &self.plan.from,
        }
    }

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

    /// Whether our side may send this kind, of this method if it is known.
    pub fn may_send(&self, kind: Kind, method: Option<u16>) -> bool {
        self.may(self.side, kind, method)
    }

    /// Whether the method goes back: its messages are sent by the channel's `to`.
    pub fn goes_back(&self, method: Option<u16>) -> bool {
        let plan = method.and_then(|method| self.plan.methods.get(usize::from(method)));
        plan.is_some_and(|plan| plan.direction == Direction::Back)
    }

    /// Whether calls of the method are answered by a stream.
    pub fn streams(&self, method: u16) -> bool {
        self.plan.methods.get(usize::from(method)).is_some_and(|plan| plan.stream)
    }

    /// How many items of a stream may be on their way, or wait for the caller's code, at once.
    /// Both ends reckon with it, so it isn't negotiated.
    pub fn window(&self, method: u16) -> u32 {
        let fit = WINDOW_BYTES / self.max(method).unwrap_or(MESSAGE).max(1);
        u32::try_from(fit).unwrap_or(WINDOW).clamp(1, WINDOW)
    }

    /// Checks what the peer sent, and gives the most bytes that it may have.
    pub fn check_received(&self, kind: Kind, method: u16) -> Result<usize, PeerFault> {
        let theirs = match self.side {
            Side::From => Side::To,
            Side::To => Side::From,
        };
        if !self.may(theirs, kind, Some(method)) {
            return Err(PeerFault::Direction(kind));
        }
        let max = self.max(method).ok_or(PeerFault::Method(method))?;
        Ok(match kind {
            Kind::Refusal => REASON,
            // The record's own rules give these their one size.
            Kind::Cancel | Kind::End | Kind::Credit => size_of::<u32>(),
            _ => max,
        })
    }

    /// Methods are called by `from` and answered by `to`, by one reply or by a stream as the plan
    /// says; one that goes back is a message of `to`, without answer. Without methods either end
    /// may send plain messages.
    fn may(&self, sender: Side, kind: Kind, method: Option<u16>) -> bool {
        let back = self.goes_back(method);
        let streams = method.is_some_and(|method| self.streams(method));
        match kind {
            Kind::Message if self.plan.methods.is_empty() => true,
            Kind::Message => (sender == Side::To) == back,
            Kind::Request | Kind::Cancel => sender == Side::From && !back,
            Kind::Refusal => sender == Side::To && !back,
            Kind::Reply => sender == Side::To && !back && !streams,
            Kind::Item | Kind::End => sender == Side::To && streams,
            Kind::Credit => sender == Side::From && streams,
            Kind::Handshake | Kind::Batch => false,
        }
    }
}
