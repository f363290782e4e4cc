//! Calls of ours: what was asked, what has come of it, and how they are given up.

use std::collections::VecDeque;
use std::task::Waker;

use super::super::Message;
use super::super::error::CallError;
use super::{Notice, State};
use crate::channel::PeerFault;
use crate::mark;

/// A call that waits for its answer.
///
/// Its number is not used again before the peer has answered it, also when nobody waits any more:
/// so an answer never meets another call than its own.
pub(in crate::ipc::message) struct Call {
    pub(super) link: u64,
    pub(super) ticket: u64,
    pub(super) method: u16,
    pub(super) outcome: Option<Result<Message, CallError>>,
    pub(super) flow: Option<Box<Flow>>,
    pub(in crate::ipc::message) waker: Option<Waker>,
    /// Nobody waits any more, but the answer will still come.
    pub(super) abandoned: bool,
}

/// A stream that answers a call, at the caller's end.
pub(super) struct Flow {
    items: VecDeque<Message>,
    /// How many more items the peer may send.
    credit: u32,
    /// Items that our code has taken, and the peer has not been told of.
    taken: u32,
    window: u32,
    /// A notice of credit is on its way to the link.
    granting: bool,
    ended: bool,
}

impl Call {
    pub(super) fn new(link: u64, ticket: u64, method: u16, window: Option<u32>) -> Self {
        let flow = window.map(|window| {
            let items = VecDeque::new();
            let credit = window;
            Box::new(Flow { items, credit, taken: 0, window, granting: false, ended: false })
        });
        Self { link, ticket, method, outcome: None, flow, waker: None, abandoned: false }
    }

    /// Whether the peer has said its last of it.
    pub(super) fn is_over(&self) -> bool {
        self.outcome.is_some() || self.flow.as_ref().is_some_and(|flow| flow.ended)
    }

    /// Takes an item of the stream that answers it.
    pub(super) fn item(&mut self, number: u32, message: Message) -> Result<(), PeerFault> {
        let flow = self.flow.as_mut().ok_or(PeerFault::Answer(number))?;
        flow.credit = flow.credit.checked_sub(1).ok_or(PeerFault::Overrun(number))?;
        if !self.abandoned {
            mark::reached("message.item.received");
            flow.items.push_back(message);
        }
        Ok(())
    }

    /// Takes the end of the stream that answers it.
    pub(super) fn end(&mut self, number: u32) -> Result<(), PeerFault> {
        mark::reached("message.end.received");
        self.flow.as_mut().ok_or(PeerFault::Answer(number))?.ended = true;
        Ok(())
    }

    /// What a notice of credit says, from when it is sent. Nothing once the stream is over.
    pub(super) fn grant(&mut self) -> Option<u32> {
        let over = self.abandoned || self.is_over();
        let flow = self.flow.as_mut()?;
        flow.granting = false;
        if over || flow.taken == 0 {
            return None;
        }
        let grant = std::mem::take(&mut flow.taken);
        flow.credit += grant;
        Some(grant)
    }

    /// The notice found no room after all.
    pub(super) fn take_back(&mut self, grant: u32) {
        if let Some(flow) = &mut self.flow {
            flow.granting = true;
            flow.taken += grant;
            flow.credit = flow.credit.saturating_sub(grant);
        }
    }
}

impl State {
    /// Takes the answer to a call, once it is there.
    pub(in crate::ipc::message) fn take_answer(
        &mut self,
        number: u32,
    ) -> Option<Result<Message, CallError>> {
        let Some(call) = self.calls.get_mut(&number) else {
            return Some(Err(CallError::NotDelivered(None)));
        };
        let outcome = call.outcome.take()?;
        mark::reached("message.call.taken");
        self.calls.remove(&number);
        Some(outcome)
    }

    /// Takes the next item of a stream, once it is there; `None` in it after the last one.
    #[allow(clippy::option_option)]
    pub(in crate::ipc::message) fn take_item(
        &mut self,
        number: u32,
    ) -> Option<Option<Result<Message, CallError>>> {
        let Some(call) = self.calls.get_mut(&number) else { return Some(None) };
        let over = call.is_over();
        let Some(flow) = &mut call.flow else { return Some(None) };
        if let Some(message) = flow.items.pop_front() {
            mark::reached("message.item.taken");
            flow.taken += 1;
            if !over && !flow.granting && flow.taken >= flow.window.div_ceil(2) {
                flow.granting = true;
                let (link, method) = (call.link, call.method);
                self.notify(link, Notice::Credit { method, call: number });
            }
            return Some(Some(Ok(message)));
        }
        if !over {
            return None;
        }
        let outcome = call.outcome.take();
        self.calls.remove(&number);
        Some(outcome)
    }

    /// Nobody waits for a call's answer any more: the peer is told, unless it has answered. True
    /// if somebody must look after the socket before it goes out.
    pub(in crate::ipc::message) fn abandon(&mut self, number: u32) -> bool {
        let Some(call) = self.calls.get_mut(&number) else { return false };
        if call.is_over() {
            self.calls.remove(&number);
            return false;
        }
        mark::reached("message.call.abandoned");
        call.abandoned = true;
        call.waker = None;
        if let Some(flow) = &mut call.flow {
            flow.items = VecDeque::new();
        }
        let (link, method) = (call.link, call.method);
        self.notify(link, Notice::Cancel { method, call: number })
    }
}
