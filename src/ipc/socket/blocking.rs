//! The same for threads.

use std::io::{self, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Weak;

use rustix::event::PollFlags;

use super::accept::Slotted;
use super::limit::Source;
use crate::ipc::companion::{Companion, Ends, Waiter};
use crate::trace::Trace;

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

impl super::Acceptor {
    /// The same for a thread, which attends to `companion` meanwhile.
    pub fn blocking(&self, companion: Weak<dyn Companion>) -> Acceptor {
        Acceptor { inner: self.clone(), companion }
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
    /// Waits for a connection; `None` once the layer has been asked to finish.
    pub fn accept(&self) -> io::Result<Option<Connection>> {
        let waiter = Waiter::new(Some(&self.companion), Ends::WithLayer)?;
        loop {
            // Each time, for where clients never cease it never sleeps.
            waiter.attend()?;
            if waiter.is_stopping() {
                return Ok(None);
            }
            let wait = self.inner.wait();
            if !wait.is_zero() {
                // Held up by the rate, it has no ear for who connects.
                waiter.sleep([], Some(wait))?;
                continue;
            }
            match self.inner.try_accept() {
                Ok(None) => {}
                Ok(Some((fd, slot))) => {
                    return Connection::new(fd, slot, self.inner.is_tcp()).map(Some);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    waiter.sleep([(self.inner.socket().as_fd(), PollFlags::IN)], None)?;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl Connection {
    pub(super) fn new(fd: OwnedFd, slot: Slotted, is_tcp: bool) -> io::Result<Self> {
        Ok(Self { stream: Stream::new(fd, is_tcp)?, slot })
    }

    /// The trace that it begins: of whoever uses it, unless that takes another one up.
    pub const fn trace(&self) -> Option<Trace> {
        self.slot.trace()
    }

    /// Where it comes from, as the limits see it.
    pub const fn source(&self) -> Source {
        self.slot.source
    }

    /// The stream beneath, to ask and set its options.
    pub fn stream(&self) -> &Stream {
        self.slot.used();
        &self.stream
    }
}

impl Read for Connection {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.slot.used();
        self.stream.read(bytes)
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.slot.used();
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
