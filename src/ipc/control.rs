//! Reading what the supervisor or a helper says: one message, with its descriptor.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};

use crate::wire::control::{MAX_CONTROL, ToLayer};

/// What one look at a socket found.
#[derive(Debug)]
pub enum Heard {
    /// A message, with the descriptor that came with it.
    Message(ToLayer, Option<OwnedFd>),
    /// Nothing for now.
    Nothing,
    /// The other end is gone, and all that it said was read.
    HungUp,
}

/// Reads the next message without waiting.
pub fn look(socket: &OwnedFd) -> io::Result<Heard> {
    let mut bytes = [0; MAX_CONTROL];
    // Room for two: with room for one, alignment would let a second one in unseen.
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        match recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, flags) {
            Ok(received) => break received,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(Heard::Nothing),
            // It died with messages of ours unread. What it said is still to come.
            Err(Errno::CONNRESET) => {}
            Err(error) => return Err(error.into()),
        }
    };
    let mut fds: Vec<OwnedFd> = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        .collect();
    if received.bytes == 0 {
        return Ok(Heard::HungUp);
    }
    let cut = received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC);
    match postcard::take_from_bytes(&bytes[..received.bytes]) {
        Ok((message, [])) if !cut && fds.len() < 2 => Ok(Heard::Message(message, fds.pop())),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "a control message is malformed")),
    }
}
