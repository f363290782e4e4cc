//! What a call of the program is about, and what a socket that takes the place of its own gets of it.

use std::os::fd::{OwnedFd, RawFd};

use crate::sys::notify::Notification;
use crate::sys::socket::carry_option;

/// What a call that names a socket is about.
pub(super) struct Asked<'a> {
    /// The call.
    pub call: &'a Notification,
    /// The program's descriptor.
    pub number: RawFd,
    /// Its socket.
    pub socket: OwnedFd,
    /// Whether the socket is of the layer's own network namespace, and so was never handed to it.
    pub is_own: bool,
}

/// What of a socket is given to the one that takes its place: what programs set before they bind or
/// connect, and expect of it afterwards, or of what it accepts.
const CARRIED: [(i32, i32); 7] = [
    (libc::SOL_SOCKET, libc::SO_KEEPALIVE),
    (libc::SOL_SOCKET, libc::SO_RCVTIMEO),
    (libc::SOL_SOCKET, libc::SO_SNDTIMEO),
    (libc::IPPROTO_TCP, libc::TCP_NODELAY),
    (libc::IPPROTO_IP, libc::IP_TOS),
    (libc::IPPROTO_IP, libc::IP_PKTINFO),
    (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
];

/// Sets a socket as another one was set, before it takes its place.
pub(super) fn carry(from: &OwnedFd, to: &OwnedFd) {
    for (level, option) in CARRIED {
        // One of another family has no such option.
        let _ = carry_option(from, to, level, option);
    }
}
