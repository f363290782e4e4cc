//! A message on its way out: handed to a link once, and then watched until the kernel has it.

use std::time::Instant;

use super::super::{Message, SendError};
use super::State;
use crate::ident::Instance;
use crate::trace::Trace;
use crate::wire::record::{Descriptor, Kind};

/// A message, and what is to be said with it.
pub(in crate::ipc::message) struct SendRequest<'a> {
    pub(in crate::ipc::message) kind: Kind,
    pub(in crate::ipc::message) method: u16,
    pub(in crate::ipc::message) message: &'a mut Message,
    pub(in crate::ipc::message) descriptions: &'a [Descriptor],
    /// Of a request: until when its caller waits.
    pub(in crate::ipc::message) deadline: Option<Instant>,
    /// The trace that it belongs to.
    pub(in crate::ipc::message) trace: Option<Trace>,
    /// May wait a little to share a record.
    pub(in crate::ipc::message) hold: bool,
}

/// Whom a request is for.
#[derive(Clone, Copy)]
pub(in crate::ipc::message) enum Target<'a> {
    /// The peer that has least to do.
    Any,
    /// This one.
    Peer(&'a Instance),
    /// Who made this call.
    Caller { link: u64, call: u32 },
}

/// What became of a request that needs no more waiting.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::ipc::message) enum SendOutcome {
    /// The kernel has it, or a driver that knows.
    Done,
    /// It is in a link's small queue, and the driver must be told.
    Held,
    /// It was an answer, and nobody waits for it: the caller gave up or has ended. The driver must
    /// be told, for the peer is to learn that its call is over.
    Unwanted,
}

/// What became of a request.
pub(in crate::ipc::message) enum SubmitOutcome {
    /// A link has it, under this ticket. The call's number is 0 for messages.
    Taken { link: u64, ticket: u64, call: u32 },
    /// No link has room, or there is none.
    Full,
    /// The one that it was for is no more.
    Gone,
    /// The caller wants no answer any more. Unless it was an item of a stream, it has been told
    /// that there is none.
    Unwanted,
    /// The messages that wait for `recv` keep the caller's credit from coming in.
    Clogged,
}

/// How a request is given to a link and followed.
pub(in crate::ipc::message) struct SendOperation<'a> {
    target: Target<'a>,
    request: SendRequest<'a>,
    /// It may stay in the link's small queue: somebody drives.
    leave: bool,
    taken: Option<(u64, u64)>,
    decided: bool,
}

impl<'a> SendOperation<'a> {
    pub(in crate::ipc::message) fn new(target: Target<'a>, request: SendRequest<'a>) -> Self {
        Self { target, request, leave: false, taken: None, decided: false }
    }

    /// The same for a message that a driver takes care of, so that it need not be in the kernel.
    pub(in crate::ipc::message) fn leaving(target: Target<'a>, request: SendRequest<'a>) -> Self {
        Self { leave: true, ..Self::new(target, request) }
    }

    /// Goes on with it, until there is a result.
    pub(in crate::ipc::message) fn attempt(
        &mut self,
        state: &mut State,
    ) -> Option<Result<SendOutcome, SendError>> {
        let lost = || match self.target {
            // Who answers has done its part.
            Target::Caller { .. } => Some(Ok(SendOutcome::Unwanted)),
            Target::Peer(peer) => Some(Err(SendError::NotDelivered(Some(peer.clone())))),
            Target::Any => Some(Err(SendError::NotDelivered(None))),
        };
        if self.taken.is_none() {
            let submitted = match self.target {
                Target::Any => state.submit(None, &mut self.request),
                Target::Peer(peer) => state.submit(Some(peer), &mut self.request),
                Target::Caller { link, call, .. } => state.answer(link, call, &mut self.request),
            };
            self.decided = !matches!(submitted, SubmitOutcome::Full | SubmitOutcome::Clogged);
            match submitted {
                SubmitOutcome::Taken { link, ticket, .. } => self.taken = Some((link, ticket)),
                SubmitOutcome::Full => {
                    return state.down().map(|down| Err(SendError::PeerDown(down)));
                }
                SubmitOutcome::Gone => return lost(),
                SubmitOutcome::Unwanted => return Some(Ok(SendOutcome::Unwanted)),
                SubmitOutcome::Clogged => return Some(Err(SendError::Clogged)),
            }
        }
        let (link, ticket) = self.taken?;
        match state.sent(link, ticket) {
            Some(true) => Some(Ok(SendOutcome::Done)),
            Some(false) if self.leave => {
                let told = std::mem::replace(&mut state.nudged, true);
                Some(Ok(if told { SendOutcome::Done } else { SendOutcome::Held }))
            }
            Some(false) => None,
            None => lost(),
        }
    }

    /// Whether a link has the request, so that it can't be taken back.
    pub(in crate::ipc::message) fn is_taken(&self) -> bool {
        self.taken.is_some()
    }

    /// Whether there is nothing more to be done for whom it is for, come what may.
    pub(in crate::ipc::message) fn is_decided(&self) -> bool {
        self.decided
    }
}

impl State {
    /// Places a call: its number, once a link has it. An error where none ever will.
    pub(in crate::ipc::message) fn place_call(
        &mut self,
        request: &mut SendRequest<'_>,
    ) -> Option<Result<u32, SendError>> {
        match self.submit(None, request) {
            SubmitOutcome::Taken { call, .. } => Some(Ok(call)),
            _ => self.down().map(|down| Err(SendError::PeerDown(down))),
        }
    }

    /// Puts a message on its way if some link has room now. `Err` where none ever will.
    pub(in crate::ipc::message) fn try_post(
        &mut self,
        request: &mut SendRequest<'_>,
    ) -> Result<bool, SendError> {
        if matches!(self.submit(None, request), SubmitOutcome::Taken { .. }) {
            return Ok(true);
        }
        self.down().map_or(Ok(false), |down| Err(SendError::PeerDown(down)))
    }
}
