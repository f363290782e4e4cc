//! One datagram in or out, with its descriptors, and nothing of what it means.
//!
//! Every call says `MSG_DONTWAIT` for itself: the socket's own flags are shared with whoever
//! holds a copy of the descriptor, and prove nothing.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

use super::fault::{LinkError, PeerFault};
use crate::policy::plan::DescriptorPlan;
use crate::wire::limits::RECORD;

/// Room for the descriptors of one message.
const CONTROL: usize = rustix::cmsg_space!(ScmRights(DescriptorPlan::MAX as usize));

/// Bytes of the largest datagram.
pub const LARGEST: usize = RECORD;

/// A receiving buffer: room for the largest record. One serves all links of a channel.
pub struct Buffer(Box<[u8]>);

/// A datagram as it came, whatever is wrong with it.
pub(super) struct Raw {
    /// Its bytes, as far as there was room for them.
    pub length: usize,
    /// It has more of them.
    pub cut: bool,
    /// Its descriptors, close-on-exec, not looked at yet.
    pub fds: Vec<OwnedFd>,
    /// It has more of them; the kernel closed those.
    pub fds_cut: bool,
}

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
    /// One with room for a byte more than a record has, so that a longer datagram stays too long.
    pub(super) fn oversize() -> Self {
        Self(vec![0; RECORD + 1].into_boxed_slice())
    }

    /// The first bytes of what came last.
    pub(super) fn bytes(&self, length: usize) -> &[u8] {
        &self.0[..length]
    }

    /// Receives a datagram, if there is one.
    pub fn receive(
        &mut self,
        socket: &OwnedFd,
        max_fds: u8,
    ) -> Result<Option<Received<'_>>, LinkError> {
        let Some(raw) = self.receive_raw(socket, max_fds)? else { return Ok(None) };
        let Raw { length, cut, fds, fds_cut } = raw;
        if cut {
            return Err(PeerFault::Oversize.into());
        }
        if fds_cut {
            return Err(PeerFault::DescriptorsCut.into());
        }
        if length == 0 {
            return Err(PeerFault::Empty.into());
        }
        Ok(Some(Received { bytes: &mut self.0[..length], fds }))
    }

    /// Receives a datagram whatever it is, if there is one.
    ///
    /// Every descriptor that came is owned before anything is checked, so none leaks whatever
    /// the datagram is. With `max_fds` 0 the kernel installs none.
    pub(super) fn receive_raw(
        &mut self,
        socket: &OwnedFd,
        max_fds: u8,
    ) -> Result<Option<Raw>, LinkError> {
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
        let cut = got.flags.contains(ReturnFlags::TRUNC);
        let fds_cut = got.flags.contains(ReturnFlags::CTRUNC);
        if got.bytes == 0 && !cut && !fds_cut && hung_up(socket.as_fd())? {
            return Err(LinkError::Closed);
        }
        Ok(Some(Raw { length: got.bytes, cut, fds, fds_cut }))
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
pub fn send_record(socket: &OwnedFd, bytes: &[u8], fds: &[OwnedFd]) -> Result<bool, LinkError> {
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
