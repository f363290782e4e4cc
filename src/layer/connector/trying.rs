//! Connecting to one address after the other, without waiting for any.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};

use super::names::MAX_ADDRESSES;
use crate::mark;

/// An address that is being connected to, and those that come after it.
#[derive(Debug)]
pub(super) struct Trying {
    /// Ready to write once it is known what became of it.
    pub socket: OwnedFd,
    /// When the next one gets its turn.
    pub until: Instant,
    kind: SocketType,
    left: VecDeque<SocketAddr>,
    /// When all of it is over.
    end: Instant,
}

/// What trying came to.
#[derive(Debug)]
pub(super) enum Tried {
    Connected(OwnedFd),
    UnderWay(Trying),
    Refused(Errno),
}

impl Trying {
    /// Begins with the first address, and ends at `end` at the latest.
    pub fn begin(left: VecDeque<SocketAddr>, kind: SocketType, end: Instant) -> Tried {
        next(kind, left, end)
    }

    /// Goes on after the socket has become ready.
    pub fn ready(self) -> Tried {
        match sockopt::socket_error(&self.socket).unwrap_or_else(Err) {
            Ok(()) => Tried::Connected(self.socket),
            Err(_) if !self.left.is_empty() => next(self.kind, self.left, self.end),
            Err(errno) => Tried::Refused(errno),
        }
    }

    /// Goes on after the address has had its time.
    pub fn late(self) -> Tried {
        next(self.kind, self.left, self.end)
    }
}

/// Tries one address after the other until one isn't refused at once.
fn next(kind: SocketType, mut left: VecDeque<SocketAddr>, end: Instant) -> Tried {
    let mut refused = Errno::HOSTUNREACH;
    while let Some(address) = left.pop_front() {
        mark::reached("socket.connect.trying");
        match begin(&address, kind) {
            Ok((socket, true)) => return Tried::Connected(socket),
            Ok((socket, false)) => {
                let now = Instant::now();
                // Those that are left get their share of the time.
                let share = u32::try_from(left.len().min(MAX_ADDRESSES)).unwrap_or(0) + 1;
                let until = now + end.saturating_duration_since(now) / share;
                return Tried::UnderWay(Trying { socket, until, kind, left, end });
            }
            Err(errno) => refused = errno,
        }
    }
    Tried::Refused(refused)
}

/// Begins to connect a new socket, and says whether it is connected already.
fn begin(address: &SocketAddr, kind: SocketType) -> Result<(OwnedFd, bool), Errno> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, kind, flags, None)?;
    match connect(&socket, address) {
        Ok(()) => Ok((socket, true)),
        Err(Errno::INPROGRESS) => Ok((socket, false)),
        Err(errno) => Err(errno),
    }
}
