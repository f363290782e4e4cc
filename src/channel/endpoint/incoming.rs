//! Records that come: opened, checked against the policy, and given on message by message.

use std::os::fd::OwnedFd;
use std::time::Instant;

use super::{Endpoint, LinkTap};
use crate::channel::datagram::{Buffer, Received};
use crate::channel::descriptor;
use crate::channel::fault::{LinkError, PeerFault};
use crate::mark;
use crate::seal::Session;
use crate::seal::aead::TAG;
use crate::wire::limits::PAYLOAD;
use crate::wire::record::{Frame, HEADER, Head, Kind, Opening, WireError};
use crate::wire::trace::Trace;

/// A message that came.
pub struct Incoming<'a> {
    /// What it is: anything but a handshake or a batch.
    pub kind: Kind,
    /// The method's number: one of the plan's.
    pub method: u16,
    /// The call's number, 0 for a message.
    pub call: u32,
    /// How many milliseconds the caller of a request waits; 0 is for ever.
    pub within: u32,
    /// The trace that it belongs to, as its sender says.
    pub trace: Option<Trace>,
    /// The bytes, within the method's max.
    pub body: Bytes<'a>,
    /// The descriptors, compared and of the plan's kinds.
    pub fds: Vec<OwnedFd>,
}

/// Bytes that are borrowed when they lie whole in the record, and owned when they came in pieces.
pub enum Bytes<'a> {
    /// In the receiving buffer.
    Borrowed(&'a [u8]),
    /// Put together from several records.
    Owned(Vec<u8>),
}

impl Bytes<'_> {
    /// The bytes as a vector; copies only what is borrowed.
    pub fn into_vec(self) -> Vec<u8> {
        match self {
            Self::Borrowed(bytes) => bytes.to_vec(),
            Self::Owned(bytes) => bytes,
        }
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }
}

/// A message too large for one record, on its way in.
pub(super) struct Partial {
    head: Head,
    call: u32,
    within: u32,
    trace: Option<Trace>,
    total: usize,
    body: Vec<u8>,
    fds: Vec<OwnedFd>,
}

impl Endpoint {
    /// Receives one record, if there is one, and gives its messages to `sink`. False: none now.
    ///
    /// After an error the link is over. [`LinkError::Closed`] comes after everything that the
    /// peer had sent.
    pub fn try_recv(
        &mut self,
        buffer: &mut Buffer,
        sink: &mut dyn FnMut(Incoming<'_>) -> Result<(), PeerFault>,
    ) -> Result<bool, LinkError> {
        let max_fds = self.rules.plan.most_fds();
        let due = self.session.next_receive();
        let refuse = |tap: &Option<Box<LinkTap>>, head: Option<&Head>, fault: &PeerFault| {
            if let Some(tap) = tap {
                tap.refuse(head, due, fault);
            }
        };
        let received = buffer.receive(&self.socket, max_fds).inspect_err(|error| {
            if let LinkError::Peer(fault) = error {
                refuse(&self.tap, None, fault);
            }
        });
        let Some(received) = received? else {
            self.progress.nothing_came(Instant::now);
            return Ok(false);
        };
        mark::reached("message.record.received");
        let Received { bytes, fds } = received;
        let head = Head::decode(bytes)
            .map_err(PeerFault::from)
            .inspect_err(|fault| refuse(&self.tap, None, fault))?;
        let (session, piece) = (&mut self.session, self.partial.is_some());
        let opened = match &mut self.tap {
            None => open(session, head, bytes),
            Some(tap) => tap.coming(&head, bytes, piece, |bytes| open(session, head, bytes)),
        };
        let taken = opened.and_then(|body| {
            mark::reached("message.record.opened");
            self.take(head, body, fds, sink)
        });
        if let Err(fault) = &taken {
            refuse(&self.tap, Some(&head), fault);
        }
        taken.map(|()| true).map_err(LinkError::from)
    }

    /// Takes an opened record's messages.
    fn take(
        &mut self,
        head: Head,
        body: &[u8],
        fds: Vec<OwnedFd>,
        sink: &mut dyn FnMut(Incoming<'_>) -> Result<(), PeerFault>,
    ) -> Result<(), PeerFault> {
        if fds.len() != usize::from(head.descriptors) {
            return Err(PeerFault::DescriptorCount {
                announced: head.descriptors,
                came: fds.len(),
            });
        }
        match head.kind {
            Kind::Batch => self.unpack(body, sink),
            _ if self.partial.is_some() => self.continue_message(head, body, sink),
            _ => self.begin_message(head, body, fds, sink),
        }
    }

    fn unpack(
        &mut self,
        body: &[u8],
        sink: &mut dyn FnMut(Incoming<'_>) -> Result<(), PeerFault>,
    ) -> Result<(), PeerFault> {
        if self.partial.is_some() {
            return Err(PeerFault::Piece);
        }
        let mut rest = body;
        if rest.is_empty() {
            return Err(WireError::Short.into());
        }
        while !rest.is_empty() {
            let Frame { kind, method, call, within, trace, payload } = Frame::decode(&mut rest)?;
            self.check(kind, method, payload.len())?;
            let body = Bytes::Borrowed(payload);
            sink(Incoming { kind, method, call, within, trace, body, fds: Vec::new() })?;
        }
        Ok(())
    }

    fn begin_message(
        &mut self,
        head: Head,
        body: &[u8],
        fds: Vec<OwnedFd>,
        sink: &mut dyn FnMut(Incoming<'_>) -> Result<(), PeerFault>,
    ) -> Result<(), PeerFault> {
        let opening = Opening::decode(head, body)?;
        let Opening { call, total, within, trace, descriptors, payload } = opening;
        let total = total.and_then(|total| usize::try_from(total).ok());
        self.check(head.kind, head.method, total.unwrap_or(payload.len()))?;
        descriptor::compare_all(self.rules.plan.fds_of(head.method), descriptors, &fds)?;
        let Some(total) = total else {
            let body = Bytes::Borrowed(payload);
            let (kind, method) = (head.kind, head.method);
            return sink(Incoming { kind, method, call, within, trace, body, fds });
        };
        // The total is within the policy's max, and memory is only used as bytes come in.
        let mut body = Vec::with_capacity(total);
        body.extend_from_slice(payload);
        self.partial = Some(Partial { head, call, within, trace, total, body, fds });
        Ok(())
    }

    fn continue_message(
        &mut self,
        head: Head,
        piece: &[u8],
        sink: &mut dyn FnMut(Incoming<'_>) -> Result<(), PeerFault>,
    ) -> Result<(), PeerFault> {
        let Some(mut partial) = self.partial.take() else { return Err(PeerFault::Piece) };
        let same = head.kind == partial.head.kind
            && head.method == partial.head.method
            && !head.traced
            && head.descriptors == 0;
        let left = partial.total - partial.body.len();
        let due = left.min(PAYLOAD);
        if !same || piece.len() != due || head.more != (left > PAYLOAD) {
            return Err(PeerFault::Piece);
        }
        partial.body.extend_from_slice(piece);
        mark::reached("message.piece.received");
        if head.more {
            self.partial = Some(partial);
            return Ok(());
        }
        let Partial { head, call, within, trace, body, fds, .. } = partial;
        let body = Bytes::Owned(body);
        let (kind, method) = (head.kind, head.method);
        sink(Incoming { kind, method, call, within, trace, body, fds })
    }

    fn check(&mut self, kind: Kind, method: u16, size: usize) -> Result<(), PeerFault> {
        let max = self.rules.check_received(kind, method)?;
        if size > max {
            return Err(PeerFault::Size { size, max });
        }
        self.progress.admit(&self.rules.plan, kind, method, Instant::now)
    }
}

/// Opens a record where it lies and returns its body.
fn open<'a>(session: &mut Session, head: Head, bytes: &'a mut [u8]) -> Result<&'a [u8], PeerFault> {
    if head.kind == Kind::Handshake {
        return Err(WireError::Misplaced(head.kind).into());
    }
    let expected = session.next_receive();
    if head.sequence != expected {
        return Err(WireError::Sequence { got: head.sequence, expected }.into());
    }
    let (header, rest) = bytes.split_at_mut(HEADER);
    let (body, tag) = rest.split_last_chunk_mut::<TAG>().ok_or(WireError::Short)?;
    session
        .open(header, body, tag)
        .map_err(|error| PeerFault::Record { sequence: expected, error })?;
    Ok(body)
}
