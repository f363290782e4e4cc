//! What goes out: which link takes it, and what becomes of it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::owing::Leave;
use super::send_operation::SubmitOutcome;
use super::{CANCELLED, Call, Link, Notice, Phase, SendRequest, State};
use crate::channel::endpoint::OutboundMessage;
use crate::channel::{Endpoint, LinkError};
use crate::ident::Instance;
use crate::mark;
use crate::wire::record::Kind;

/// How long who waits does so before it tries again to send descriptors, when too many are in
/// flight, or to report, when the log takes nothing: no event tells when that is over.
const PRESSED: Duration = Duration::from_millis(1);

impl State {
    /// Sends what waits on a link. A peer that takes nothing more is only noted: what it sent
    /// before is still to be read. True when nothing waits any more.
    pub(in crate::ipc::message) fn flush_link(&mut self, place: usize) -> Result<bool, LinkError> {
        let link = &mut self.links[place];
        if !link.has_unsent() {
            return Ok(true);
        }
        let Link { phase: Phase::Open(endpoint), notices, backlog, .. } = link else {
            return Ok(true);
        };
        let before = endpoint.accepted() + endpoint.sent();
        let flushed = endpoint.flush().and_then(|mut clear| {
            while let (true, Some(notice)) = (clear, notices.front()) {
                clear = notice.send(endpoint, &mut self.calls, &mut self.scratch)?;
                if clear {
                    notices.pop_front();
                }
            }
            Ok(clear && backlog.send(endpoint, &mut self.scratch)? && !endpoint.unsent())
        });
        if endpoint.accepted() + endpoint.sent() != before {
            self.to_wake.append(&mut self.senders);
            self.changed = true;
        }
        match flushed {
            Err(LinkError::Closed) => {
                link.mute = true;
                self.to_wake.append(&mut self.senders);
                self.changed = true;
                Ok(true)
            }
            other => other,
        }
    }

    /// Says a word about a call on its link. True if somebody must look after the socket before
    /// it goes out.
    pub(super) fn notify(&mut self, link: u64, notice: Notice) -> bool {
        let Some(place) = self.place(link) else { return false };
        self.links[place].notices.push_back(notice);
        match self.flush_link(place) {
            Ok(_) => self.links[place].has_unsent(),
            Err(error) => {
                self.end(place, &error);
                false
            }
        }
    }

    /// Sends what waits on every link: a task has come to its end, or the driver has its turn.
    pub(in crate::ipc::message) fn flush(&mut self) {
        self.nudged = false;
        self.end_burst();
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
    pub(in crate::ipc::message) fn end_burst(&mut self) {
        for link in &mut self.links {
            link.warm = false;
        }
    }

    /// Hands a message or a call to the link that has least to do, or to that of `to`.
    pub(in crate::ipc::message) fn submit(
        &mut self,
        to: Option<&Instance>,
        request: &mut SendRequest<'_>,
    ) -> SubmitOutcome {
        let mut tried = 0_u128;
        loop {
            let count = self.links.len().min(128);
            let first = self.turn;
            let best = (0..count)
                .map(|step| (first + step) % count)
                .filter(|place| tried & (1 << place) == 0 && self.fit(*place, to))
                .min_by_key(|place| self.links[*place].calls);
            let Some(place) = best else { break };
            let call = if request.kind == Kind::Request { self.fresh_call() } else { 0 };
            match self.hand(place, call, request) {
                Ok(Some(ticket)) => {
                    self.turn = self.turn.wrapping_add(1);
                    let link = self.links[place].id;
                    if call != 0 {
                        mark::reached("message.call.submitted");
                        self.links[place].calls += 1;
                        let method = request.method;
                        let streams = self.rules.streams(method);
                        let window = streams.then(|| self.rules.window(method));
                        self.calls.insert(call, Call::new(link, ticket, method, window));
                    }
                    return SubmitOutcome::Taken { link, ticket, call };
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
        if gone { SubmitOutcome::Gone } else { SubmitOutcome::Full }
    }

    /// Hands an answer, or an item of a stream, to the link that the call came from.
    pub(super) fn answer(
        &mut self,
        link: u64,
        call: u32,
        request: &mut SendRequest<'_>,
    ) -> SubmitOutcome {
        let Some(place) = self.place(link) else { return SubmitOutcome::Gone };
        if self.links[place].mute {
            return SubmitOutcome::Gone;
        }
        let last = request.kind != Kind::Item;
        match self.links[place].owing.leave(call, last) {
            Leave::Granted => {}
            Leave::Gone => return SubmitOutcome::Gone,
            Leave::Starved if self.is_clogged(place) => return SubmitOutcome::Clogged,
            Leave::Starved => return SubmitOutcome::Full,
            Leave::Cancelled => {
                if last {
                    self.decline(link, request.method, call, CANCELLED);
                }
                return SubmitOutcome::Unwanted;
            }
        }
        match self.hand(place, call, request) {
            Ok(Some(ticket)) => {
                let owing = &mut self.links[place].owing;
                if last {
                    mark::reached("message.reply.submitted");
                    owing.complete(call);
                } else {
                    mark::reached("message.item.submitted");
                    owing.sent_item(call);
                }
                SubmitOutcome::Taken { link, ticket, call }
            }
            Ok(None) => SubmitOutcome::Full,
            Err(error) => {
                if error == LinkError::Closed {
                    self.links[place].mute = true;
                } else {
                    self.end(place, &error);
                }
                SubmitOutcome::Gone
            }
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

    /// After how long to look again for what no socket tells of, if there is such a thing.
    pub(in crate::ipc::message) fn look_again(&self) -> Option<Duration> {
        let on = |place: usize| match &self.links[place].phase {
            Phase::Open(end) if end.pressed() => Some(PRESSED),
            Phase::Open(end) => end.paced(),
            Phase::Meeting(_) => None,
        };
        (0..self.links.len()).filter_map(on).min()
    }

    /// The same of one link.
    pub(in crate::ipc::message) fn pressed_on(&self, place: usize) -> bool {
        matches!(&self.links[place].phase, Phase::Open(end) if end.pressed())
    }

    /// Gives a request to a link; its ticket if it was taken.
    pub(in crate::ipc::message) fn hand(
        &mut self,
        place: usize,
        call: u32,
        request: &mut SendRequest<'_>,
    ) -> Result<Option<u64>, LinkError> {
        let Link { phase: Phase::Open(endpoint), warm, .. } = &mut self.links[place] else {
            return Ok(None);
        };
        let mut out = OutboundMessage {
            kind: request.kind,
            method: request.method,
            call,
            within: request.deadline.map_or(0, within),
            trace: request.trace,
            body: &mut request.message.body,
            fds: &mut request.message.fds,
            descriptions: request.descriptions,
        };
        let taken = endpoint.try_send(&mut out, request.hold && *warm)?;
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

impl Notice {
    /// Puts it on its way; false if there is no room. What has become pointless meanwhile is left
    /// out.
    fn send(
        &self,
        endpoint: &mut Endpoint,
        calls: &mut HashMap<u32, Call>,
        scratch: &mut Vec<u8>,
    ) -> Result<bool, LinkError> {
        scratch.clear();
        let (kind, method, call, granted) = match *self {
            Self::Refuse { method, call, reason } => {
                scratch.extend_from_slice(reason.as_bytes());
                (Kind::Refusal, method, call, None)
            }
            Self::Cancel { method, call } => (Kind::Cancel, method, call, None),
            Self::Credit { method, call } => {
                let grant = calls.get_mut(&call).and_then(Call::grant);
                let Some(grant) = grant else { return Ok(true) };
                scratch.extend_from_slice(&grant.to_le_bytes());
                (Kind::Credit, method, call, Some(grant))
            }
        };
        mark::reached(match kind {
            Kind::Cancel => "message.cancel.submitted",
            Kind::Credit => "message.credit.submitted",
            _ => "message.refusal.sent",
        });
        let taken = send_small(endpoint, kind, method, call, scratch)?;
        if let (false, Some(grant), Some(entry)) = (taken, granted, calls.get_mut(&call)) {
            entry.take_back(grant);
        }
        Ok(taken)
    }
}

/// Hands bytes without descriptors to an endpoint; false if there is no room.
pub(super) fn send_small(
    endpoint: &mut Endpoint,
    kind: Kind,
    method: u16,
    call: u32,
    body: &mut Vec<u8>,
) -> Result<bool, LinkError> {
    let fds = &mut Vec::new();
    let mut out = OutboundMessage {
        kind,
        method,
        call,
        within: 0,
        trace: None,
        body,
        fds,
        descriptions: &[],
    };
    endpoint.try_send(&mut out, false)
}

/// The milliseconds that are left, at least one, rounded up: the caller is the first to give up.
fn within(deadline: Instant) -> u32 {
    let left = deadline.saturating_duration_since(Instant::now());
    u32::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX).max(1)
}
