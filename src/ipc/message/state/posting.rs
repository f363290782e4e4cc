//! A message on its way out: handed to a link once, and then watched until the kernel has it.

use std::time::Instant;

use super::super::{Message, SendError};
use super::State;
use crate::ident::Instance;
use crate::wire::record::{Descriptor, Kind};

/// A message, and what is to be said with it.
pub(in crate::ipc::message) struct Parcel<'a> {
    pub(in crate::ipc::message) kind: Kind,
    pub(in crate::ipc::message) method: u16,
    pub(in crate::ipc::message) message: &'a mut Message,
    pub(in crate::ipc::message) descriptions: &'a [Descriptor],
    /// Of a request: until when its caller waits.
    pub(in crate::ipc::message) deadline: Option<Instant>,
    /// May wait a little to share a record.
    pub(in crate::ipc::message) hold: bool,
}

/// Whom a parcel is for.
#[derive(Clone, Copy)]
pub(in crate::ipc::message) enum Target<'a> {
    /// The peer that has least to do.
    Any,
    /// This one.
    Peer(&'a Instance),
    /// Who made this call.
    Caller { link: u64, call: u32 },
}

/// What became of a parcel that needs no more waiting.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::ipc::message) enum Posted {
    /// The kernel has it, or a driver that knows.
    Done,
    /// It is in a link's small queue, and the driver must be told.
    Held,
    /// It was an answer, and nobody waits for it: the caller gave up or has ended. The driver must
    /// be told, for the peer is to learn that its call is over.
    Unwanted,
}

/// What became of a parcel.
pub(in crate::ipc::message) enum Submitted {
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

/// How a parcel is given to a link and followed.
pub(in crate::ipc::message) struct Posting<'a> {
    target: Target<'a>,
    parcel: Parcel<'a>,
    /// It may stay in the link's small queue: somebody drives.
    leave: bool,
    taken: Option<(u64, u64)>,
    settled: bool,
}

impl<'a> Posting<'a> {
    pub(in crate::ipc::message) fn new(target: Target<'a>, parcel: Parcel<'a>) -> Self {
        Self { target, parcel, leave: false, taken: None, settled: false }
    }

    /// The same for a message that a driver takes care of, so that it need not be in the kernel.
    pub(in crate::ipc::message) fn leaving(target: Target<'a>, parcel: Parcel<'a>) -> Self {
        Self { leave: true, ..Self::new(target, parcel) }
    }

    /// Goes on with it, until there is a result.
    pub(in crate::ipc::message) fn attempt(
        &mut self,
        state: &mut State,
    ) -> Option<Result<Posted, SendError>> {
        let lost = || match self.target {
            // Who answers has done its part.
            Target::Caller { .. } => Some(Ok(Posted::Unwanted)),
            Target::Peer(peer) => Some(Err(SendError::NotDelivered(Some(peer.clone())))),
            Target::Any => Some(Err(SendError::NotDelivered(None))),
        };
        if self.taken.is_none() {
            let submitted = match self.target {
                Target::Any => state.submit(None, &mut self.parcel),
                Target::Peer(peer) => state.submit(Some(peer), &mut self.parcel),
                Target::Caller { link, call, .. } => state.answer(link, call, &mut self.parcel),
            };
            self.settled = !matches!(submitted, Submitted::Full | Submitted::Clogged);
            match submitted {
                Submitted::Taken { link, ticket, .. } => self.taken = Some((link, ticket)),
                Submitted::Full => return state.down().map(|down| Err(SendError::PeerDown(down))),
                Submitted::Gone => return lost(),
                Submitted::Unwanted => return Some(Ok(Posted::Unwanted)),
                Submitted::Clogged => return Some(Err(SendError::Clogged)),
            }
        }
        let (link, ticket) = self.taken?;
        match state.sent(link, ticket) {
            Some(true) => Some(Ok(Posted::Done)),
            Some(false) if self.leave => {
                let told = std::mem::replace(&mut state.nudged, true);
                Some(Ok(if told { Posted::Done } else { Posted::Held }))
            }
            Some(false) => None,
            None => lost(),
        }
    }

    /// Whether a link has the parcel, so that it can't be taken back.
    pub(in crate::ipc::message) fn is_taken(&self) -> bool {
        self.taken.is_some()
    }

    /// Whether there is nothing more to be done for whom it is for, come what may.
    pub(in crate::ipc::message) fn is_settled(&self) -> bool {
        self.settled
    }
}

impl State {
    /// Places a call: its number, once a link has it. An error where none ever will.
    pub(in crate::ipc::message) fn place_call(
        &mut self,
        parcel: &mut Parcel<'_>,
    ) -> Option<Result<u32, SendError>> {
        match self.submit(None, parcel) {
            Submitted::Taken { call, .. } => Some(Ok(call)),
            _ => self.down().map(|down| Err(SendError::PeerDown(down))),
        }
    }

    /// Puts a message on its way if some link has room now. `Err` where none ever will.
    pub(in crate::ipc::message) fn try_post(
        &mut self,
        parcel: &mut Parcel<'_>,
    ) -> Result<bool, SendError> {
        if matches!(self.submit(None, parcel), Submitted::Taken { .. }) {
            return Ok(true);
        }
        self.down().map_or(Ok(false), |down| Err(SendError::PeerDown(down)))
    }
}
