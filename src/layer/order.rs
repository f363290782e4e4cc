//! What the supervisor tells a layer of the framework's own, and no other.

use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use crate::ident::{Instance, PolicyId};
use crate::wire::control::Said;
use crate::wire::life::{Culprit, End, Standing};

/// One thing that it was told.
#[derive(Debug)]
pub(crate) enum Order {
    /// For the auditor: a ring of reports.
    Reports(Arrival),
    /// For the witness, or who carries links to other hosts: one end of a link.
    Relay {
        /// The channel's number.
        channel: u16,
        /// Whose end it is.
        near: Instance,
        /// Who is at the other end of the link.
        far: Instance,
        /// How many descriptors a message may carry.
        fds: u8,
        /// Which link between two hosts it is; 0 on one host.
        link: u64,
        /// The inner end of the socketpair.
        socket: OwnedFd,
    },
    /// For the witness: an instance has ended.
    Departed {
        /// The channel's number.
        channel: u16,
        /// Who.
        peer: Instance,
    },
    /// For a helper: a client.
    Client {
        /// Its place.
        seat: u32,
        /// Who it is.
        client: Instance,
        /// Its public key.
        key: [u8; 32],
        /// This end of the socket to it.
        socket: OwnedFd,
    },
    /// The socket to a helper that does something for this one.
    Service {
        /// This end of the socket.
        socket: OwnedFd,
    },
    /// For a helper: a client has ended.
    ClientGone {
        /// Its place.
        seat: u32,
    },
    /// For the writer of the log: a line.
    Say {
        /// When it was said: `CLOCK_MONOTONIC`, in nanoseconds.
        at: u64,
        /// What it is.
        how: Said,
        /// The line.
        text: String,
    },
    /// For the writer of the log: what an instance writes to.
    Output {
        /// Its place.
        seat: u32,
        /// Who it is.
        instance: Instance,
        /// What the kernel's log calls it.
        culprit: Culprit,
        /// Which, as the supervisor says it.
        part: u8,
        /// It has ended, and this is the last of its pipes.
        over: bool,
        /// The reading end.
        fd: OwnedFd,
    },
    /// For the writer of the log: an instance has ended.
    Ended {
        /// When that was seen, as above.
        at: u64,
        /// How.
        end: Box<End>,
        /// Nobody wants to hear of it.
        hushed: bool,
    },
    /// For who answers at the door: a caller.
    Caller {
        /// What the supervisor calls them.
        caller: u32,
        /// The connection.
        line: OwnedFd,
    },
    /// For who answers at the door: what a caller is told.
    Told {
        /// Who.
        caller: u32,
        /// The line.
        text: String,
        /// Nothing more comes: whether it was done.
        last: Option<bool>,
    },
    /// For who answers at the door: the policy's digest from now on.
    Policy(PolicyId),
    /// For who answers at the door, and who serves numbers: how an instance is.
    Standing(Box<Standing>),
    /// For who serves numbers: where the kernel counts what an instance uses.
    Counter {
        /// Its place.
        seat: u32,
        /// Which of all.
        counter: u8,
        /// The file.
        file: OwnedFd,
    },
}

/// A ring that the supervisor has handed over.
#[derive(Debug)]
pub(crate) struct Arrival {
    /// What the supervisor calls it.
    pub ring: u32,
    /// Whose it is; `None` is the supervisor's own.
    pub reporter: Option<Instance>,
    /// Its size.
    pub bytes: u32,
    /// Its memory.
    pub fd: OwnedFd,
}

/// What came and was not taken up yet, in order.
#[derive(Debug, Default)]
pub(crate) struct Orders(Mutex<Vec<Order>>);

impl Orders {
    /// Keeps one.
    pub(super) fn push(&self, order: Order) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(order);
    }

    /// Gives all that came.
    pub(crate) fn take(&self) -> Vec<Order> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
