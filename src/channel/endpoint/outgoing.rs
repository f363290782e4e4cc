//! Messages on their way out: sealed one by one, several in a record, or in pieces.

use std::mem;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::io::Errno;

use super::Endpoint;
use crate::channel::datagram::send_record;
use crate::channel::fault::LinkError;
use crate::mark;
use crate::seal::SealError;
use crate::sys::original::is_copy;
use crate::wire::limits::{BODY, PAYLOAD, SHARED_PAYLOAD};
use crate::wire::record::{Descriptor, FRAME, Frame, HEADER, Head, Kind, Opening, TRACE, WITHIN};
use crate::wire::trace::Trace;

/// A message to be sent. What is taken is moved out of `body` and `fds`.
pub struct OutboundMessage<'a> {
    /// What it is: anything but a handshake or a batch.
    pub kind: Kind,
    /// The method's number.
    pub method: u16,
    /// The call's number, 0 for a message.
    pub call: u32,
    /// How many milliseconds the caller of a request waits; 0 is for ever.
    pub within: u32,
    /// The trace that a request or message belongs to; other kinds have none.
    pub trace: Option<Trace>,
    /// The bytes, within the method's max.
    pub body: &'a mut Vec<u8>,
    /// The descriptors, with what `descriptor::describe_all` said of them.
    pub fds: &'a mut Vec<OwnedFd>,
    /// The descriptions, one for each of `fds`.
    pub descriptions: &'a [Descriptor],
}

/// A message too large for one record, on its way out.
pub(super) struct Large {
    head: Head,
    call: u32,
    body: Vec<u8>,
    at: usize,
}

impl Endpoint {
    /// Takes a message if it can, and sends it at once if the socket has room.
    ///
    /// `false`: there is no room now, or it would come sooner than the policy's `rate` allows
    /// ([`Endpoint::paced`]), and the message is left as it was. With `hold`, a small
    /// message may wait for [`Endpoint::flush`], to share a record with those that follow.
    /// What is held here is bounded by one record, one batch and one large message.
    pub fn try_send(
        &mut self,
        out: &mut OutboundMessage<'_>,
        hold: bool,
    ) -> Result<bool, LinkError> {
        let (kind, method) = (out.kind, out.method);
        self.paced = self.pace.due(&self.rules.plan, kind, method, Instant::now);
        let taken = self.paced.is_none() && self.accept(out, hold)?;
        if taken {
            self.pace.count(&self.rules.plan, kind, method);
        }
        Ok(taken)
    }

    fn accept(&mut self, out: &mut OutboundMessage<'_>, hold: bool) -> Result<bool, LinkError> {
        let shares = out.body.len() <= SHARED_PAYLOAD && out.fds.is_empty();
        if self.unsent() || (hold && shares) {
            if shares && self.push_frame(out) {
                return Ok(true);
            }
            let clear = self.flush()?;
            if shares && (hold || !clear) && self.push_frame(out) {
                return Ok(true);
            }
            if !clear {
                return Ok(false);
            }
        }
        if self.held_up() {
            return Ok(false);
        }
        let head = Head {
            kind: out.kind,
            method: out.method,
            // The plan's bound on descriptors is far below 256.
            descriptors: u8::try_from(out.fds.len()).unwrap_or(u8::MAX),
            more: out.body.len() > PAYLOAD,
            traced: out.trace.is_some(),
            sequence: 0,
        };
        let first = out.body.len().min(PAYLOAD);
        let total = head.more.then(|| u32::try_from(out.body.len()).unwrap_or(u32::MAX));
        self.begin_record();
        let OutboundMessage { call, within, trace, descriptions: descriptors, .. } = *out;
        Opening { call, total, within, trace, descriptors, payload: &out.body[..first] }
            .encode(out.kind, &mut self.record);
        self.record_fds.append(out.fds);
        self.accepted += 1;
        if head.more {
            let body = mem::take(out.body);
            self.large = Some(Large { head, call: out.call, body, at: first });
        }
        let sealed = self.seal_record(head, u64::from(!head.more), false);
        if let Err(error) = sealed.and_then(|()| self.flush().map(drop)) {
            // The message may still go to another peer: give it back whole.
            out.fds.append(&mut self.record_fds);
            if let Some(large) = self.large.take() {
                *out.body = large.body;
            }
            return Err(error);
        }
        Ok(true)
    }

    /// Sends what waits, as far as there is room. True when nothing waits any more.
    pub fn flush(&mut self) -> Result<bool, LinkError> {
        loop {
            if let Some(ends) = self.waiting {
                self.pressed = false;
                match send_record(&self.socket, &self.record, &self.record_fds) {
                    Ok(true) => {}
                    Ok(false) => return Ok(false),
                    Err(LinkError::System { errno: Errno::TOOMANYREFS, .. }) => {
                        self.pressed = true;
                        return Ok(false);
                    }
                    Err(error) => return Err(error),
                }
                mark::reached("message.record.sent");
                self.waiting = None;
                self.record_fds.clear();
                self.sent += ends;
            } else if self.unsent() && self.held_up() {
                return Ok(false);
            } else if self.large.is_some() {
                self.next_piece()?;
            } else if self.batched > 0 {
                mem::swap(&mut self.record, &mut self.batch);
                self.batch.clear();
                let ends = mem::take(&mut self.batched);
                let head = Head::bare(Kind::Batch, 0);
                self.seal_record(head, ends, false)?;
            } else {
                return Ok(true);
            }
        }
    }

    /// Appends a frame to the batch, if it has room.
    fn push_frame(&mut self, out: &mut OutboundMessage<'_>) -> bool {
        let most = FRAME + WITHIN + TRACE + out.body.len();
        if self.batch.len().max(HEADER) + most > HEADER + BODY {
            return false;
        }
        self.batch.resize(self.batch.len().max(HEADER), 0);
        let OutboundMessage { kind, method, call, within, trace, .. } = *out;
        let frame = Frame { kind, method, call, within, trace, payload: out.body };
        frame.encode(&mut self.batch);
        mark::reached("message.record.gathered");
        self.batched += 1;
        self.accepted += 1;
        true
    }

    fn begin_record(&mut self) {
        self.record.clear();
        self.record.extend_from_slice(&[0; HEADER]);
    }

    /// Seals what lies in `record`. From here on it must be sent before anything else. `piece`: it
    /// goes on with the message before.
    fn seal_record(&mut self, head: Head, ends: u64, piece: bool) -> Result<(), LinkError> {
        // Two processes that count from here would use every number twice.
        if is_copy() {
            return Err(SealError::Copy.into());
        }
        let head = Head { sequence: self.session.next_send(), ..head };
        let header = head.encode();
        let (clear, body) = self.record.split_at_mut(HEADER);
        clear.copy_from_slice(&header);
        let said = self.tap.as_mut().map(|tap| tap.look(&head, body, piece));
        let tag = self.session.seal(&header, body)?;
        self.record.extend_from_slice(&tag);
        mark::reached("message.record.sealed");
        if let (Some(tap), Some((facts, kept))) = (&self.tap, said) {
            tap.sending(&facts, &self.record, &kept);
        }
        self.waiting = Some(ends);
        Ok(())
    }

    fn next_piece(&mut self) -> Result<(), LinkError> {
        self.begin_record();
        let Some(large) = &mut self.large else { return Ok(()) };
        let rest = &large.body[large.at..];
        let piece = rest.len().min(PAYLOAD);
        let more = rest.len() > PAYLOAD;
        self.record.extend_from_slice(&rest[..piece]);
        large.at += piece;
        let head = Head { more, descriptors: 0, traced: false, ..large.head };
        debug_assert_eq!(large.call == 0, head.kind == Kind::Message);
        if !more {
            self.large = None;
        }
        self.seal_record(head, u64::from(!more), true)
    }
}
