//! One end of a link: a socket, a session, and the messages on their way out and in.

use std::io::{IoSlice, IoSliceMut};
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

use super::descriptor;
use super::fault::{LinkError, PeerFault};
use super::protocol::Progress;
use super::rules::Rules;
use crate::policy::plan::DescriptorPlan;
use crate::seal::Session;
use crate::seal::aead::TAG;
use crate::wire::limits::{BODY, PAYLOAD, RECORD, SHARED_PAYLOAD};
use crate::wire::record::{Descriptor, FRAME, Frame, HEADER, Head, Kind, Opening, WireError};

/// Room for the descriptors of one message.
const CONTROL: usize = rustix::cmsg_space!(ScmRights(DescriptorPlan::MAX as usize));

/// An established end of a link. Its owner has shown its key in the handshake.
pub struct Endpoint {
    socket: Arc<OwnedFd>,
    session: Session,
    rules: Arc<Rules>,
    /// A sealed record: on its way, or left there because the socket was full.
    record: Vec<u8>,
    record_fds: Vec<OwnedFd>,
    /// How many messages end with [`Self::record`]; `None` when it is not waiting to go.
    waiting: Option<u64>,
    /// Frames that gather while a record waits; begins with room for a header.
    batch: Vec<u8>,
    batched: u64,
    large: Option<Large>,
    accepted: u64,
    sent: u64,
    pressed: bool,
    partial: Option<Partial>,
    progress: Progress,
}

/// A message too large for one record, on its way out.
struct Large {
    head: Head,
    call: u32,
    body: Vec<u8>,
    at: usize,
}

/// A message too large for one record, on its way in.
struct Partial {
    head: Head,
    call: u32,
    total: usize,
    body: Vec<u8>,
    fds: Vec<OwnedFd>,
}

/// A message to be sent. What is taken is moved out of `body` and `fds`.
pub struct Outgoing<'a> {
    /// A message, request, reply or refusal.
    pub kind: Kind,
    /// The method's number.
    pub method: u16,
    /// The call's number, 0 for a message.
    pub call: u32,
    /// The bytes, within the method's max.
    pub body: &'a mut Vec<u8>,
    /// The descriptors, with what [`descriptor::describe_all`] said of them.
    pub fds: &'a mut Vec<OwnedFd>,
    /// The descriptions, one for each of `fds`.
    pub descriptions: &'a [Descriptor],
}

/// A message that came.
pub struct Incoming<'a> {
    /// A message, request, reply or refusal.
    pub kind: Kind,
    /// The method's number: one of the plan's.
    pub method: u16,
    /// The call's number, 0 for a message.
    pub call: u32,
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

impl Endpoint {
    /// An end whose handshake is done.
    pub fn new(socket: Arc<OwnedFd>, session: Session, rules: Arc<Rules>) -> Self {
        Self {
            progress: Progress::new(&rules.plan),
            socket,
            session,
            rules,
            record: Vec::new(),
            record_fds: Vec::new(),
            waiting: None,
            batch: Vec::new(),
            batched: 0,
            large: None,
            accepted: 0,
            sent: 0,
            pressed: false,
            partial: None,
        }
    }

    /// The socket to wait on.
    pub fn socket(&self) -> &Arc<OwnedFd> {
        &self.socket
    }

    /// How many messages were accepted so far. The number of the last one is its ticket.
    pub fn accepted(&self) -> u64 {
        self.accepted
    }

    /// How many of the accepted messages the kernel has taken.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Whether messages wait here for the socket to have room.
    pub fn unsent(&self) -> bool {
        self.accepted != self.sent
    }

    /// Whether the kernel holds too many descriptors in flight for this user (`ETOOMANYREFS`).
    /// The socket may then be writable all the same: try again after a moment.
    pub fn pressed(&self) -> bool {
        self.pressed
    }

    /// Takes a message if it can, and sends it at once if the socket has room.
    ///
    /// `false`: there is no room now, and the message is left as it was. With `hold`, a small
    /// message may wait for [`Endpoint::flush`], to share a record with those that follow.
    /// What is held here is bounded by one record, one batch and one large message.
    pub fn try_send(&mut self, out: &mut Outgoing<'_>, hold: bool) -> Result<bool, LinkError> {
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
        let head = Head {
            kind: out.kind,
            method: out.method,
            // The plan's bound on descriptors is far below 256.
            descriptors: u8::try_from(out.fds.len()).unwrap_or(u8::MAX),
            more: out.body.len() > PAYLOAD,
            sequence: 0,
        };
        let first = out.body.len().min(PAYLOAD);
        let total = head.more.then(|| u32::try_from(out.body.len()).unwrap_or(u32::MAX));
        self.begin_record();
        Opening::encode(out.call, total, out.descriptions, &mut self.record);
        self.record.extend_from_slice(&out.body[..first]);
        self.record_fds.append(out.fds);
        self.accepted += 1;
        if head.more {
            let body = mem::take(out.body);
            self.large = Some(Large { head, call: out.call, body, at: first });
        }
        let sealed = self.seal_record(head, u64::from(!head.more));
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
                self.waiting = None;
                self.record_fds.clear();
                self.sent += ends;
            } else if self.large.is_some() {
                self.next_piece()?;
            } else if self.batched > 0 {
                mem::swap(&mut self.record, &mut self.batch);
                self.batch.clear();
                let ends = mem::take(&mut self.batched);
                let head =
                    Head { kind: Kind::Batch, method: 0, descriptors: 0, more: false, sequence: 0 };
                self.seal_record(head, ends)?;
            } else {
                return Ok(true);
            }
        }
    }

    /// Receives one record, if there is one, and gives its messages to `sink`. False: none now.
    ///
    /// After an error the link is over. [`LinkError::Closed`] comes after everything that the
    /// peer had sent.
    pub fn try_recv(
        &mut self,
        buffer: &mut Buffer,
        sink: &mut dyn FnMut(Incoming<'_>) -> Result<(), PeerFault>,
    ) -> Result<bool, LinkError> {
        let max_fds = self.rules.plan.fds.max;
        let Some(received) = buffer.receive(&self.socket, max_fds)? else { return Ok(false) };
        let Received { bytes, fds } = received;
        let head = Head::decode(bytes).map_err(PeerFault::from)?;
        let body = open(&mut self.session, head, bytes)?;
        if fds.len() != usize::from(head.descriptors) {
            let fault = PeerFault::DescriptorCount { announced: head.descriptors, came: fds.len() };
            return Err(fault.into());
        }
        match head.kind {
            Kind::Batch => self.unpack(body, sink)?,
            _ if self.partial.is_some() => self.continue_message(head, body, sink)?,
            _ => self.begin_message(head, body, fds, sink)?,
        }
        Ok(true)
    }

    /// Appends a frame to the batch, if it has room.
    fn push_frame(&mut self, out: &mut Outgoing<'_>) -> bool {
        if self.batch.len().max(HEADER) + FRAME + out.body.len() > HEADER + BODY {
            return false;
        }
        self.batch.resize(self.batch.len().max(HEADER), 0);
        let frame = Frame { kind: out.kind, method: out.method, call: out.call, payload: out.body };
        frame.encode(&mut self.batch);
        self.batched += 1;
        self.accepted += 1;
        true
    }

    fn begin_record(&mut self) {
        self.record.clear();
        self.record.extend_from_slice(&[0; HEADER]);
    }

    /// Seals what lies in `record`. From here on it must be sent before anything else.
    fn seal_record(&mut self, head: Head, ends: u64) -> Result<(), LinkError> {
        let header = Head { sequence: self.session.next_send(), ..head }.encode();
        let (clear, body) = self.record.split_at_mut(HEADER);
        clear.copy_from_slice(&header);
        let tag = self.session.seal(&header, body)?;
        self.record.extend_from_slice(&tag);
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
        let head = Head { more, descriptors: 0, ..large.head };
        debug_assert_eq!(large.call == 0, head.kind == Kind::Message);
        if !more {
            self.large = None;
        }
        self.seal_record(head, u64::from(!more))
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
            let Frame { kind, method, call, payload } = Frame::decode(&mut rest)?;
            self.check(kind, method, payload.len())?;
            let body = Bytes::Borrowed(payload);
            sink(Incoming { kind, method, call, body, fds: Vec::new() })?;
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
        let Opening { call, total, descriptors, payload } = Opening::decode(head, body)?;
        let total = total.and_then(|total| usize::try_from(total).ok());
        self.check(head.kind, head.method, total.unwrap_or(payload.len()))?;
        descriptor::compare_all(&self.rules.plan.fds, descriptors, &fds)?;
        let Some(total) = total else {
            let body = Bytes::Borrowed(payload);
            let (kind, method) = (head.kind, head.method);
            return sink(Incoming { kind, method, call, body, fds });
        };
        // The total is within the policy's max, and memory is only used as bytes come in.
        let mut body = Vec::with_capacity(total);
        body.extend_from_slice(payload);
        self.partial = Some(Partial { head, call, total, body, fds });
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
            && head.descriptors == 0;
        let left = partial.total - partial.body.len();
        let due = left.min(PAYLOAD);
        if !same || piece.len() != due || head.more != (left > PAYLOAD) {
            return Err(PeerFault::Piece);
        }
        partial.body.extend_from_slice(piece);
        if head.more {
            self.partial = Some(partial);
            return Ok(());
        }
        let Partial { head, call, body, fds, .. } = partial;
        let body = Bytes::Owned(body);
        sink(Incoming { kind: head.kind, method: head.method, call, body, fds })
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

/// A receiving buffer: room for the largest record. One serves all links of a channel.
pub struct Buffer(Box<[u8]>);

/// A datagram that came.
pub struct Received<'a> {
    /// Its bytes.
    pub bytes: &'a mut [u8],
    /// Its descriptors, close-on-exec, not looked at yet.
    pub fds: Vec<OwnedFd>,
}

impl Default for Buffer {
    fn default() -> Self {
        Self(vec![0; RECORD].into_boxed_slice())
    }
}

impl Buffer {
    /// Receives a datagram, if there is one.
    ///
    /// Every descriptor that came is owned before anything is checked, so none leaks whatever
    /// the datagram is. With `max_fds` 0 the kernel installs none.
    pub fn receive(
        &mut self,
        socket: &OwnedFd,
        max_fds: u8,
    ) -> Result<Option<Received<'_>>, LinkError> {
        let mut room = [MaybeUninit::uninit(); CONTROL];
        let room = if max_fds == 0 { &mut [][..] } else { &mut room[..] };
        let mut control = RecvAncillaryBuffer::new(room);
        let got = loop {
            let mut into = [IoSliceMut::new(&mut self.0)];
            let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
            match rustix::net::recvmsg(socket, &mut into, &mut control, flags) {
                Ok(got) => break got,
                Err(Errno::AGAIN) => return Ok(None),
                // The peer died with messages of ours unread. What it sent is still to come.
                Err(Errno::INTR | Errno::CONNRESET) => {}
                Err(errno) => return Err(LinkError::System { what: "recvmsg", errno }),
            }
        };
        let mut fds = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        if got.flags.contains(ReturnFlags::TRUNC) {
            return Err(PeerFault::Oversize.into());
        }
        if got.flags.contains(ReturnFlags::CTRUNC) {
            return Err(PeerFault::DescriptorsCut.into());
        }
        if got.bytes == 0 {
            return Err(if hung_up(socket.as_fd())? {
                LinkError::Closed
            } else {
                PeerFault::Empty.into()
            });
        }
        Ok(Some(Received { bytes: &mut self.0[..got.bytes], fds }))
    }
}

/// Whether the peer is gone: an empty datagram looks like the end, and is not.
fn hung_up(socket: BorrowedFd<'_>) -> Result<bool, LinkError> {
    let mut fds = [PollFd::from_borrowed_fd(socket, PollFlags::RDHUP)];
    loop {
        match poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
            Ok(_) => break,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(LinkError::System { what: "poll", errno }),
        }
    }
    Ok(fds[0].revents().intersects(PollFlags::RDHUP | PollFlags::HUP))
}

/// Sends one datagram with its descriptors. False: the socket is full.
pub(super) fn send_record(
    socket: &OwnedFd,
    bytes: &[u8],
    fds: &[OwnedFd],
) -> Result<bool, LinkError> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    loop {
        let sent = if fds.is_empty() {
            rustix::net::send(socket, bytes, flags)
        } else {
            send_with(socket, bytes, fds, flags)
        };
        return match sent {
            Ok(_) => Ok(true),
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => Ok(false),
            Err(Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN) => Err(LinkError::Closed),
            Err(errno) => Err(LinkError::System { what: "sendmsg", errno }),
        };
    }
}

fn send_with(
    socket: &OwnedFd,
    bytes: &[u8],
    fds: &[OwnedFd],
    flags: SendFlags,
) -> Result<usize, Errno> {
    let mut borrowed = [socket.as_fd(); DescriptorPlan::MAX as usize];
    let borrowed = borrowed.get_mut(..fds.len()).ok_or(Errno::INVAL)?;
    for (place, fd) in borrowed.iter_mut().zip(fds) {
        *place = fd.as_fd();
    }
    let mut room = [MaybeUninit::uninit(); CONTROL];
    let mut control = SendAncillaryBuffer::new(&mut room);
    if !control.push(SendAncillaryMessage::ScmRights(borrowed)) {
        return Err(Errno::INVAL);
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags)
}
