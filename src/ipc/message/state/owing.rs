//! Calls of a peer's that this end has not answered.

use std::collections::HashMap;
use std::task::Waker;
use std::time::Instant;

use super::{Notice, State};
use crate::channel::PeerFault;
use crate::mark;
use crate::wire::limits::{CALLS, SPILL};

/// The calls that one link owes answers to, and what its peer has said of calls in all.
#[derive(Default)]
pub(in crate::ipc::message) struct Owing {
    calls: HashMap<u32, Owed>,
    requests: u64,
    cancels: u64,
    /// Items of streams that were sent, and the credit that came back for them.
    items: u64,
    credit: u64,
}

/// One call that is to be answered.
#[derive(Default)]
struct Owed {
    cancelled: bool,
    /// Of a call that is answered by a stream: how many more items the caller has room for.
    credit: Option<u32>,
    window: u32,
    /// Its handler waits for credit.
    starving: bool,
    /// Handlers that wait for its being cancelled.
    wakers: Vec<Waker>,
}

/// Whether a handler may answer.
pub(super) enum Leave {
    /// It may.
    Granted,
    /// The caller has no room for another item.
    Starved,
    /// The caller wants no answer any more.
    Cancelled,
    /// There is no such call any more.
    Gone,
}

impl Owing {
    /// A call came. With a window it is answered by a stream.
    pub(super) fn request(&mut self, call: u32, window: Option<u32>) -> Result<(), PeerFault> {
        if self.calls.len() >= CALLS || self.calls.contains_key(&call) {
            return Err(PeerFault::Call(call));
        }
        mark::reached("message.request.received");
        self.requests += 1;
        let owed = Owed { credit: window, window: window.unwrap_or(0), ..Owed::default() };
        self.calls.insert(call, owed);
        Ok(())
    }

    /// The peer gives a call up. One that was answered meanwhile is none of ours any more; but it
    /// can't give up more than it has called.
    pub(super) fn cancel(&mut self, call: u32, wake: &mut Vec<Waker>) -> Result<(), PeerFault> {
        mark::reached("message.cancel.received");
        self.cancels += 1;
        if self.cancels > self.requests {
            return Err(PeerFault::Cancel(call));
        }
        let Some(owed) = self.calls.get_mut(&call) else { return Ok(()) };
        if std::mem::replace(&mut owed.cancelled, true) {
            return Err(PeerFault::Cancel(call));
        }
        owed.starving = false;
        wake.append(&mut owed.wakers);
        Ok(())
    }

    /// The peer has room for more items of a stream: never for more than it has taken.
    pub(super) fn credit(&mut self, call: u32, amount: u32) -> Result<(), PeerFault> {
        mark::reached("message.credit.received");
        self.credit += u64::from(amount);
        if self.credit > self.items {
            return Err(PeerFault::Credit(call));
        }
        let Some(owed) = self.calls.get_mut(&call) else { return Ok(()) };
        let more = owed.credit.and_then(|credit| credit.checked_add(amount));
        let more = more.filter(|credit| *credit <= owed.window);
        owed.credit = Some(more.ok_or(PeerFault::Credit(call))?);
        owed.starving = false;
        Ok(())
    }

    /// Whether the handler of a call may send an item, or with `last` its answer.
    pub(super) fn leave(&mut self, call: u32, last: bool) -> Leave {
        match self.calls.get_mut(&call) {
            None => Leave::Gone,
            Some(owed) if owed.cancelled => Leave::Cancelled,
            Some(owed) if !last && owed.credit == Some(0) => {
                if !std::mem::replace(&mut owed.starving, true) {
                    mark::reached("message.item.starved");
                }
                Leave::Starved
            }
            Some(_) => Leave::Granted,
        }
    }

    /// An item of the stream that answers a call is on its way.
    pub(super) fn sent_item(&mut self, call: u32) {
        self.items += 1;
        if let Some(owed) = self.calls.get_mut(&call) {
            owed.credit = owed.credit.map(|credit| credit.saturating_sub(1));
        }
    }

    /// A call is answered.
    pub(super) fn complete(&mut self, call: u32) {
        self.calls.remove(&call);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Whether some stream waits for its caller's credit.
    pub(super) fn is_starving(&self) -> bool {
        // Counted only while the inbox is full.
        self.calls.values().any(|owed| owed.starving)
    }

    /// Everybody who waits for a call's being cancelled.
    pub(super) fn wakers(&mut self) -> impl Iterator<Item = Waker> {
        self.calls.values_mut().flat_map(|owed| owed.wakers.drain(..))
    }
}

impl State {
    /// Whether the caller of a call has given it up, or is gone.
    pub(in crate::ipc::message) fn is_cancelled(&self, link: u64, call: u32) -> bool {
        let Some(place) = self.place(link) else { return true };
        let link = &self.links[place];
        link.mute || link.owing.calls.get(&call).is_none_or(|owed| owed.cancelled)
    }

    /// Leaves a waker for when a call is given up.
    pub(in crate::ipc::message) fn await_cancel(&mut self, link: u64, call: u32, waker: &Waker) {
        let Some(place) = self.place(link) else { return };
        let Some(owed) = self.links[place].owing.calls.get_mut(&call) else { return };
        if !owed.wakers.iter().any(|known| known.will_wake(waker)) {
            owed.wakers.push(waker.clone());
        }
    }

    /// Answers a call without its handler, or after it: the caller must not wait for ever. True
    /// if somebody must look after the socket before it goes out.
    pub(in crate::ipc::message) fn decline(
        &mut self,
        link: u64,
        method: u16,
        call: u32,
        reason: &'static str,
    ) -> bool {
        mark::reached("message.refusal.submitted");
        let Some(place) = self.place(link) else { return false };
        self.links[place].owing.complete(call);
        self.notify(link, Notice::Refuse { method, call, reason })
    }

    /// Whether a link may be read though the inbox is full: a stream that goes out there waits
    /// for credit, which comes in behind what waits.
    pub(super) fn may_spill(&self, place: usize) -> bool {
        let link = &self.links[place];
        link.owing.is_starving() && !link.load.fills(SPILL)
    }

    /// Whether a stream waits for credit that can't come: more than may wait lies before it.
    pub(super) fn is_clogged(&self, place: usize) -> bool {
        self.inbox.is_full() && self.links[place].load.fills(SPILL)
    }
}

/// Whether a deadline has passed.
pub(super) fn expired(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| deadline <= Instant::now())
}
