//! Reading what the supervisor or a helper says: one message, with its descriptor.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use crate::sys::passing;
use crate::wire::control::{FromLayer, MAX_CONTROL, ToLayer};

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
    let received = loop {
        match passing::receive(socket, &mut bytes, RecvFlags::DONTWAIT) {
            Ok(received) => break received,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(Heard::Nothing),
            // It died with messages of ours unread. What it said is still to come.
            Err(Errno::CONNRESET) => {}
            Err(error) => return Err(error.into()),
        }
    };
    if received.length == 0 {
        return Ok(Heard::HungUp);
    }
    match postcard::take_from_bytes(&bytes[..received.length]) {
        Ok((message, [])) if !received.is_cut => Ok(Heard::Message(message, received.fd)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "a control message is malformed")),
    }
}

/// Says something without waiting; one that finds no room wasn't said.
pub fn say(socket: &OwnedFd, message: &FromLayer) -> io::Result<()> {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    rustix::net::send(socket, &message.encode(), flags)?;
    Ok(())
}
