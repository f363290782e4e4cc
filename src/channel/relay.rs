//! A link that is relayed: the two inner ends of it, between which datagrams go on as they came.
//!
//! Whoever relays has no key. It sees each record's clear header and ciphertext, reports that, and
//! only then sends it on; so nothing comes through that was not reported. The handshake is no
//! record: the first datagram of each end, if it has the form of one. What breaks the rules is
//! passed on too, for the receiving end knows them and names who broke them.
//!
//! At most one datagram waits in each direction, and none is read while one does.

use std::os::fd::OwnedFd;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};

use super::datagram::{Buffer, send_record};
use super::endpoint::report::form;
use super::fault::LinkError;
use super::introduce;
use crate::report::{Facts, Form, Side, Tap, Who};
use crate::wire::record::Head;

/// A relayed link.
pub struct Relay {
    ends: [End; 2],
    /// How many descriptors may come along.
    fds: u8,
    tap: Tap,
    /// What a record's number on the link is counted from.
    first: u64,
}

/// One end, seen from the relay.
pub struct End {
    /// The inner end of its socketpair.
    pub socket: OwnedFd,
    /// Who holds the outer one.
    pub who: Who,
    state: State,
}

#[derive(Default)]
struct State {
    /// How many records have come; `None` before its first datagram.
    records: Option<u64>,
    /// Its last record said that more pieces of the same message follow.
    more: bool,
    /// What came from it and finds no room at the other end.
    held: Option<Held>,
    /// It has ended: what is in its socket is all there will be.
    departed: bool,
    /// Nothing more is taken from it, for the other end takes nothing more.
    deaf: bool,
}

struct Held {
    bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
    /// The kernel holds too many descriptors in flight: the other end's socket may have room and
    /// still take nothing.
    pressed: bool,
}

/// What an attempt to pass a datagram on came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passed {
    /// One went on; there may be more.
    Progress,
    /// Nothing can be done until a socket says so.
    Nothing,
    /// The link is over: everything has gone on that could.
    Over,
    /// The link is over, for the system refused to go on with it.
    Broken(LinkError),
}

impl End {
    /// An end of which nothing has come yet.
    pub fn new(socket: OwnedFd, who: Who) -> Self {
        Self { socket, who, state: State::default() }
    }
}

impl Relay {
    /// Joins two ends. Each record is reported to `tap`; the first one has the number `first`.
    pub fn new(ends: [End; 2], fds: u8, tap: Tap, first: u64) -> Self {
        Self { ends, fds, tap, first }
    }

    /// A buffer that serves any number of relays.
    pub fn buffer() -> Buffer {
        Buffer::oversize()
    }

    /// The socket of an end, and what of it to wait for.
    pub fn interest(&self, end: usize) -> (&OwnedFd, PollFlags) {
        let (own, other) = (&self.ends[end], &self.ends[1 - end].state);
        let mut flags = PollFlags::empty();
        if own.state.held.is_none() && !own.state.deaf {
            flags |= PollFlags::IN;
        }
        if other.held.as_ref().is_some_and(|held| !held.pressed) {
            flags |= PollFlags::OUT;
        }
        (&own.socket, flags)
    }

    /// Whether something waits that no socket will tell of: try again after a moment.
    pub fn pressed(&self) -> bool {
        self.ends.iter().any(|end| end.state.held.as_ref().is_some_and(|held| held.pressed))
    }

    /// The supervisor says that an instance has ended: an end of it has nothing more to say, though
    /// somebody else may hold its socket.
    pub fn departed(&mut self, who: Who) {
        for end in self.ends.iter_mut().filter(|end| end.who == who) {
            end.state.departed = true;
        }
    }

    /// Passes the next datagram of an end on.
    pub fn pass(&mut self, end: usize, buffer: &mut Buffer) -> Passed {
        if self.ends[end].state.deaf {
            return if self.ends[end].state.departed { Passed::Over } else { Passed::Nothing };
        }
        if let Some(held) = self.ends[end].state.held.take() {
            let sent = send_record(&self.ends[1 - end].socket, &held.bytes, &held.fds);
            return self.sent(end, sent, || held);
        }
        match buffer.receive_raw(&self.ends[end].socket, self.fds) {
            Ok(None) if self.ends[end].state.departed => Passed::Over,
            Ok(None) => Passed::Nothing,
            Ok(Some(raw)) => {
                let bytes = buffer.bytes(raw.length);
                self.witness(end, bytes, raw.fds.len());
                let sent = send_record(&self.ends[1 - end].socket, bytes, &raw.fds);
                self.sent(end, sent, || Held {
                    bytes: bytes.to_vec(),
                    fds: raw.fds,
                    pressed: false,
                })
            }
            // It has ended, and everything of it has gone on.
            Err(LinkError::Closed) => Passed::Over,
            Err(error) => Passed::Broken(error),
        }
    }

    /// Deals with what sending came to.
    fn sent(
        &mut self,
        end: usize,
        sent: Result<bool, LinkError>,
        held: impl FnOnce() -> Held,
    ) -> Passed {
        let over = self.ends[1 - end].state.deaf;
        let own = &mut self.ends[end];
        match sent {
            Ok(true) => return Passed::Progress,
            Ok(false) => own.state.held = Some(Held { pressed: false, ..held() }),
            Err(LinkError::System { errno: Errno::TOOMANYREFS, .. }) => {
                own.state.held = Some(Held { pressed: true, ..held() });
            }
            // The other end takes nothing more, and this one is to see that, as if there were no
            // relay. What the other one sent before is still to be passed on.
            Err(LinkError::Closed) => {
                own.state.deaf = true;
                let _ = shutdown(&own.socket, Shutdown::Read);
                if over {
                    return Passed::Over;
                }
            }
            Err(error) => return Passed::Broken(error),
        }
        Passed::Nothing
    }

    /// Reports a datagram, unless it is an end's handshake.
    fn witness(&mut self, end: usize, bytes: &[u8], fds: usize) {
        let End { who, state, .. } = &mut self.ends[end];
        let first = state.records.is_none();
        let due = *state.records.get_or_insert(0);
        let head = Head::decode(bytes).ok();
        if first && fds == 0 && head.is_some_and(|head| introduce::is_handshake(&head, bytes)) {
            return;
        }
        let piece = std::mem::replace(&mut state.more, head.is_some_and(|head| head.more));
        state.records = Some(due.wrapping_add(1));
        let facts = Facts {
            sequence: self.first.wrapping_add(due),
            // The plan's bound on descriptors is far below 256.
            descriptors: u8::try_from(fds).unwrap_or(u8::MAX),
            length: bytes.len() as u64,
            peer: *who,
            ..self.tap.bare(Side::Witness)
        };
        let facts = head.map_or(facts, |head| Facts {
            form: if piece { Form::Piece } else { form(head.kind) },
            method: head.method.into(),
            sequence: self.first.wrapping_add(head.sequence),
            ..facts
        });
        self.tap.report(&facts, bytes, b"");
    }
}

#[cfg(test)]
mod tests;
