//! The same for threads.

use std::io::{self, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Weak;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::accept::Slotted;
use super::limit::Source;
use crate::ipc::message::Companion;

/// A connected stream whose reads and writes block.
#[derive(Debug)]
pub enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
}

impl Stream {
    pub(super) fn new(fd: OwnedFd, is_tcp: bool) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, false)?;
        Ok(if is_tcp { Self::Tcp(fd.into()) } else { Self::Unix(fd.into()) })
    }
}

/// A connected UDP socket whose calls block.
pub(super) fn datagram(fd: OwnedFd) -> io::Result<UdpSocket> {
    rustix::io::ioctl_fionbio(&fd, false)?;
    Ok(fd.into())
}

impl Read for Stream {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(bytes),
            Self::Unix(stream) => stream.read(bytes),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An [`Acceptor`](super::Acceptor) for a thread.
#[derive(Debug)]
pub struct Acceptor {
    inner: super::Acceptor,
    companion: Weak<dyn Companion>,
}

/// An accepted connection; dropping it frees its place among those of its source.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    slot: Slotted,
}

impl Acceptor {
    pub(super) const fn new(inner: super::Acceptor, companion: Weak<dyn Companion>) -> Self {
        Self { inner, companion }
    }

    /// Waits for a connection; `None` once the layer has been asked to finish.
    pub fn accept(&self) -> io::Result<Option<Connection>> {
        let gone = || io::Error::other("the layer has ended");
        loop {
            let companion = self.companion.upgrade().ok_or_else(gone)?;
            if companion.is_stopping() {
                return Ok(None);
            }
            let wait = self.inner.wait();
            if wait.is_zero() {
                match self.inner.try_accept() {
                    Ok(None) => continue,
                    Ok(Some((fd, slot))) => {
                        let stream = Stream::new(fd, self.inner.is_tcp())?;
                        return Ok(Some(Connection { stream, slot }));
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
            self.sleep(&*companion, wait)?;
        }
    }

    /// Sleeps until somebody connects, the supervisor says something, or `wait` has passed.
    fn sleep(&self, companion: &dyn Companion, wait: Duration) -> io::Result<()> {
        let control = companion.socket();
        let mut fds = [
            PollFd::new(&*control, PollFlags::IN),
            PollFd::new(self.inner.socket(), PollFlags::IN),
        ];
        let limit = (!wait.is_zero()).then_some(wait);
        // Held up by the rate, it has no ear for who connects.
        let watched = if limit.is_some() { 1 } else { 2 };
        let timeout = limit.and_then(|limit| Timespec::try_from(limit).ok());
        match poll(&mut fds[..watched], timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => companion.attend(),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl Connection {
    /// Where it comes from, as the limits see it.
    pub const fn source(&self) -> Source {
        self.slot.source
    }

    /// The stream beneath, to ask and set its options.
    pub const fn stream(&self) -> &Stream {
        &self.stream
    }
}

impl Read for Connection {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.stream.read(bytes)
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
