//! What is special about queues: a message may stay in one for any time, any of several receivers
//! may take it, and a full one may give up its oldest: the broker's record of that takes the place
//! of the receiver's report.
//!
//! So a message that only its sender reports is no fault. It becomes one when it can't be in the
//! queue any more: a later message of the same sender has come out of a queue that keeps the
//! order, or more messages are missed than a queue holds.

use std::collections::HashMap;

use super::outcome::{Outcome, Teller};
use super::ways::Ways;
use super::{Disagreement, Stream};
use crate::audit::entry::Who;

/// What is known of each queue.
#[derive(Debug, Default)]
pub(super) struct Queues {
    all: HashMap<u16, Known>,
}

#[derive(Debug, Default)]
struct Known {
    ordered: bool,
    receivers: Option<Vec<u16>>,
    /// Receivers that ended, each perhaps with a message in its hand.
    in_hand: u64,
    /// Messages that are missed beyond what the queue holds.
    excess: u64,
}

impl Queues {
    /// An instance ended that may have taken a message out without having said so.
    pub(super) fn receiver_ended(&mut self, ways: &Ways, who: Who) {
        for (number, queue) in &ways.queues {
            if queue.receivers.contains(&who.layer) {
                let known = self.all.entry(*number).or_default();
                known.in_hand = known.in_hand.saturating_add(1);
            }
        }
    }

    /// Counts what is missed, and keeps what the tables say. `missed` gives how many messages of a
    /// stream only the sender reported, too long ago, and the queue's number.
    pub(super) fn count(&mut self, ways: &Ways, missed: impl Iterator<Item = (u16, usize)>) {
        for (number, queue) in &ways.queues {
            let known = self.all.entry(*number).or_default();
            known.ordered = queue.ordered;
            known.receivers = Some(queue.receivers.clone());
            known.excess = 0;
        }
        for (number, late) in missed {
            if let Some(known) = self.all.get_mut(&number) {
                known.excess = known.excess.saturating_add(late as u64);
            }
        }
        for (number, queue) in &ways.queues {
            if let Some(known) = self.all.get_mut(number) {
                let depth = if queue.depth == 0 { u64::MAX } else { queue.depth.into() };
                known.excess = known.excess.saturating_sub(depth);
            }
        }
    }

    /// What a message is that only its sender reports; `None` while it may be in the queue.
    pub(super) fn judge<F: FnMut(Disagreement)>(
        &mut self,
        stream: &Stream,
        overtaken: bool,
        teller: &mut Teller<'_, F>,
    ) -> Option<Outcome> {
        let known = self.all.get_mut(&stream.edge)?;
        if !(overtaken && known.ordered || known.excess > 0) {
            return None;
        }
        known.excess = known.excess.saturating_sub(1);
        let layers = &known.receivers;
        if teller.lost(|who| layers.as_ref().is_none_or(|all| all.contains(&who.layer))) {
            return Some(Outcome::Lost);
        }
        if known.in_hand > 0 {
            known.in_hand -= 1;
            return Some(Outcome::InFlight);
        }
        Some(Outcome::Gap)
    }
}
