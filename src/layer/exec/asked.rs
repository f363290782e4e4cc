//! What a call of the program is about, and what is said of one that is refused.

use std::collections::BTreeSet;
use std::io::{self, IoSlice};
use std::os::fd::{OwnedFd, RawFd};

use rustix::io::{Errno, ReadWriteFlags, pwritev2};

use crate::ident::Name;
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

/// What was said already of what the program may not do, so that it is said once.
pub(super) struct Said {
    layer: Name,
    lines: BTreeSet<String>,
}

/// Lines that are said of what a program may not do; more are not said.
const MOST_LINES: usize = 32;

/// How often a line is tried to be said.
const TRIES: usize = 64;

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

impl Said {
    /// Nothing yet, of that layer.
    pub fn new(layer: &Name) -> Self {
        Self { layer: layer.clone(), lines: BTreeSet::new() }
    }

    /// Says a line of what the program may not do, once, if the log has room: the program can fill
    /// it, and must not make init wait.
    pub fn once(&mut self, line: impl FnOnce(&Name) -> String) {
        if self.lines.len() >= MOST_LINES {
            return;
        }
        let line = line(&self.layer);
        if !self.lines.contains(&line) {
            let bytes = format!("{line}\n");
            // Who reads the log holds its pipe for moments.
            for _ in 0..TRIES {
                let part = [IoSlice::new(bytes.as_bytes())];
                match pwritev2(io::stderr(), &part, u64::MAX, ReadWriteFlags::NOWAIT) {
                    Err(Errno::AGAIN) => std::thread::yield_now(),
                    _ => break,
                }
            }
            self.lines.insert(line);
        }
    }
}

/// Sets a socket as another one was set, before it takes its place.
pub(super) fn carry(from: &OwnedFd, to: &OwnedFd) {
    for (level, option) in CARRIED {
        // One of another family has no such option.
        let _ = carry_option(from, to, level, option);
    }
}
