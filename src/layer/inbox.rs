//! The layer's end of the control socket.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags, recvmsg,
};
use tokio::io::unix::AsyncFd;

use crate::sys::socket;
use crate::wire::control::{FromLayer, MAX_CONTROL, ToLayer};

/// What one look at the socket found.
#[derive(Debug)]
pub enum Heard {
    /// A message, with the descriptor that came with it.
    Message(ToLayer, Option<OwnedFd>),
    /// Nothing for now.
    Nothing,
    /// The supervisor is gone.
    HungUp,
}

/// The control socket (`SOCK_SEQPACKET`, non-blocking).
#[derive(Debug)]
pub struct Inbox(Arc<OwnedFd>);

impl Inbox {
    /// Takes the layer's end.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Self(Arc::new(socket)))
    }

    /// Reads the next message without waiting.
    pub fn look(&self) -> io::Result<Heard> {
        let mut bytes = [0; MAX_CONTROL];
        // Room for two: with room for one, alignment would let a second one in unseen.
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(
            &*self.0,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
        );
        let received = match received {
            Ok(received) => received,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(Heard::Nothing),
            Err(Errno::CONNRESET) => return Ok(Heard::HungUp),
            Err(error) => return Err(error.into()),
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

    /// Waits for the next message.
    pub fn wait(&self) -> io::Result<Heard> {
        loop {
            match self.look()? {
                Heard::Nothing => {
                    let mut fds =
                        [rustix::event::PollFd::new(&*self.0, rustix::event::PollFlags::IN)];
                    match rustix::event::poll(&mut fds, None) {
                        Ok(_) | Err(Errno::INTR) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                heard => return Ok(heard),
            }
        }
    }

    /// The socket, for a thread to watch.
    pub fn socket(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.0)
    }

    /// The socket, for tokio to watch.
    pub fn watch(&self) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
        socket::watch(Arc::clone(&self.0))
    }

    /// Says something that must not be lost, and waits for room as long as `time`.
    pub fn say_surely(&self, message: &FromLayer, time: Duration) -> io::Result<()> {
        let until = Instant::now() + time;
        loop {
            match self.say(message) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                said => return said,
            }
            let rest = until.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let mut fds = [rustix::event::PollFd::new(&*self.0, rustix::event::PollFlags::OUT)];
            let rest = rustix::event::Timespec::try_from(rest).ok();
            match rustix::event::poll(&mut fds, rest.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Says something to the supervisor. The few messages that a layer may send always fit.
    pub fn say(&self, message: &FromLayer) -> io::Result<()> {
        rustix::net::send(&*self.0, &message.encode(), SendFlags::NOSIGNAL)?;
        Ok(())
    }
}

impl AsFd for Inbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
