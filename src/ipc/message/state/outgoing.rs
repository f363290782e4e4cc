//! What goes out: which link takes it, and what becomes of it.

use std::mem;

use super::{Call, Link, Parcel, Phase, State, Submitted};
use crate::channel::endpoint::Outgoing;
use crate::channel::{Endpoint, LinkError};
use crate::ident::Instance;
use crate::wire::record::Kind;

impl State {
    /// Sends what waits on a link. A peer that takes nothing more is only noted: what it sent
    /// before is still to be read.
    pub(in crate::ipc::message) fn flush_link(&mut self, place: usize) -> Result<bool, LinkError> {
        let Link { phase: Phase::Open(endpoint), mute, refusals, .. } = &mut self.links[place]
        else {
            return Ok(true);
        };
        if *mute || (!endpoint.unsent() && refusals.is_empty()) {
            return Ok(true);
        }
        let before = endpoint.sent();
        let flushed = endpoint.flush().and_then(|mut clear| {
            while let (true, Some((method, call))) = (clear, refusals.front().copied()) {
                clear = refuse(endpoint, method, call, b"the handler ended without an answer")?;
                if clear {
                    refusals.pop_front();
                }
            }
            Ok(clear)
        });
        if endpoint.sent() != before {
            self.to_wake.append(&mut self.senders);
            self.changed = true;
        }
        match flushed {
            Err(LinkError::Closed) => {
                *mute = true;
                self.to_wake.append(&mut self.senders);
                self.changed = true;
                Ok(true)
            }
            other => other,
        }
    }

    /// Sends what waits on every link: a task has come to its end, or the driver has its turn.
    pub(in crate::ipc::message) fn flush(&mut self) {
        self.nudged = false;
        self.settle();
        let mut place = 0;
        while place < self.links.len() {
            match self.flush_link(place) {
                Ok(_) => place += 1,
                Err(error) => {
                    self.end(place, &error);
                }
            }
        }
    }

    /// The task waits: the next message begins a new burst.
    pub(in crate::ipc::message) fn settle(&mut self) {
        for link in &mut self.links {
            link.warm = false;
        }
    }

    /// Hands a message or a call to the link that has least to do, or to that of `to`.
    pub(in crate::ipc::message) fn submit(
        &mut self,
        to: Option<&Instance>,
        parcel: &mut Parcel<'_>,
    ) -> Submitted {
        let mut tried = 0_u128;
        loop {
            let count = self.links.len().min(128);
            let first = self.turn;
            let best = (0..count)
                .map(|step| (first + step) % count)
                .filter(|place| tried & (1 << place) == 0 && self.fit(*place, to))
                .min_by_key(|place| self.links[*place].calls);
            let Some(place) = best else { break };
            let call = if parcel.kind == Kind::Request { self.fresh_call() } else { 0 };
            match self.hand(place, call, parcel) {
                Ok(Some(ticket)) => {
                    self.turn = self.turn.wrapping_add(1);
                    let link = self.links[place].id;
                    if call != 0 {
                        self.links[place].calls += 1;
                        let method = parcel.method;
                        let (outcome, waker, abandoned) = (None, None, false);
                        let call_ = Call { link, ticket, method, outcome, waker, abandoned };
                        self.calls.insert(call, call_);
                    }
                    return Submitted::Taken { link, ticket, call };
                }
                Ok(None) => tried |= 1 << place,
                Err(LinkError::Closed) => self.links[place].mute = true,
                Err(error) => {
                    self.end(place, &error);
                    tried = 0;
                }
            }
        }
        let gone = to.is_some_and(|to| !self.links.iter().any(|link| link.instance == *to));
        if gone { Submitted::Gone } else { Submitted::Full }
    }

    /// Hands an answer to the link that the call came from.
    pub(in crate::ipc::message) fn answer(
        &mut self,
        link: u64,
        call: u32,
        parcel: &mut Parcel<'_>,
    ) -> Submitted {
        let Some(place) = self.place(link) else { return Submitted::Gone };
        if self.links[place].mute {
            return Submitted::Gone;
        }
        match self.hand(place, call, parcel) {
            Ok(Some(ticket)) => {
                self.links[place].owing.remove(&call);
                Submitted::Taken { link, ticket, call }
            }
            Ok(None) => Submitted::Full,
            Err(error) => {
                if error == LinkError::Closed {
                    self.links[place].mute = true;
                } else {
                    self.end(place, &error);
                }
                Submitted::Gone
            }
        }
    }

    /// A handler went away without an answer: the caller must not wait for ever.
    pub(in crate::ipc::message) fn forsake(&mut self, link: u64, method: u16, call: u32) {
        let Some(place) = self.place(link) else { return };
        let link = &mut self.links[place];
        link.owing.remove(&call);
        link.refusals.push_back((method, call));
        if let Err(error) = self.flush_link(place) {
            self.end(place, &error);
        }
    }

    /// Nobody waits for a call's answer any more.
    pub(in crate::ipc::message) fn abandon(&mut self, call: u32) {
        let Some(entry) = self.calls.get_mut(&call) else { return };
        if entry.outcome.is_some() {
            self.calls.remove(&call);
        } else {
            entry.abandoned = true;
            entry.waker = None;
        }
    }

    /// Whether the kernel has taken what `ticket` stands for. `None`: it never will.
    pub(in crate::ipc::message) fn sent(&self, link: u64, ticket: u64) -> Option<bool> {
        let link = &self.links[self.place(link)?];
        let Phase::Open(endpoint) = &link.phase else { return None };
        match endpoint.sent() >= ticket {
            true => Some(true),
            false if link.mute => None,
            false => Some(false),
        }
    }

    /// Whether messages wait on some link that still takes any.
    pub(in crate::ipc::message) fn unsent(&self) -> bool {
        self.links.iter().any(|link| {
            !link.mute && matches!(&link.phase, Phase::Open(endpoint) if endpoint.unsent())
        })
    }

    /// Whether the kernel holds too many descriptors in flight on some link.
    pub(in crate::ipc::message) fn pressed(&self) -> bool {
        self.links.iter().any(|link| matches!(&link.phase, Phase::Open(end) if end.pressed()))
    }

    /// Gives a parcel to a link; its ticket if it was taken.
    pub(in crate::ipc::message) fn hand(
        &mut self,
        place: usize,
        call: u32,
        parcel: &mut Parcel<'_>,
    ) -> Result<Option<u64>, LinkError> {
        let Link { phase: Phase::Open(endpoint), warm, .. } = &mut self.links[place] else {
            return Ok(None);
        };
        let mut out = Outgoing {
            kind: parcel.kind,
            method: parcel.method,
            call,
            body: &mut parcel.message.body,
            fds: &mut parcel.message.fds,
            descriptions: parcel.descriptions,
        };
        let taken = endpoint.try_send(&mut out, parcel.hold && *warm)?;
        *warm = true;
        self.asked = true;
        Ok(taken.then(|| endpoint.accepted()))
    }

    /// A call number that no waiting call has, and not 0.
    pub(in crate::ipc::message) fn fresh_call(&mut self) -> u32 {
        loop {
            self.next_call = self.next_call.wrapping_add(1);
            if self.next_call != 0 && !self.calls.contains_key(&self.next_call) {
                return self.next_call;
            }
        }
    }
}

/// Puts a refusal on its way; false if there is no room.
fn refuse(
    endpoint: &mut Endpoint,
    method: u16,
    call: u32,
    reason: &[u8],
) -> Result<bool, LinkError> {
    let mut body = reason.to_vec();
    let fds = &mut mem::take(&mut Vec::new());
    let kind = Kind::Refusal;
    let mut out = Outgoing { kind, method, call, body: &mut body, fds, descriptions: &[] };
    endpoint.try_send(&mut out, false)
}
