//! The layer's end of the control socket.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::SendFlags;
use tokio::io::unix::AsyncFd;

pub use crate::ipc::control::Heard;
use crate::ipc::control::look;
use crate::sys::socket;
use crate::wire::control::FromLayer;

/// The control socket (`SOCK_SEQPACKET`, non-blocking).
#[derive(Debug)]
pub struct Inbox(Arc<OwnedFd>);

impl Inbox {
    /// Takes the layer's end.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Self(Arc::new(socket)))
    }

    /// The same at a number above this one, in place of the former.
    pub fn above(&self, number: RawFd) -> io::Result<Self> {
        let above = rustix::io::fcntl_dupfd_cloexec(&*self.0, number + 1)?;
        Ok(Self(Arc::new(above)))
    }

    /// Reads the next message without waiting.
    pub fn look(&self) -> io::Result<Heard> {
        look(&self.0)
    }

    /// Waits for the next message.
    pub fn wait(&self) -> io::Result<Heard> {
        loop {
            match self.look()? {
                Heard::Nothing => match poll(&mut [PollFd::new(&*self.0, PollFlags::IN)], None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                },
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
