//! One end of a link: a socket, a session, and the messages on their way out and in.

mod incoming;
mod outgoing;
pub(super) mod report;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use incoming::{Bytes, Incoming};
pub use outgoing::OutboundMessage;
pub use report::LinkTap;

use self::incoming::Partial;
use self::outgoing::Large;
use super::protocol::{Pace, Progress};
use super::rules::Rules;
use crate::seal::Session;

/// An established end of a link. Its owner has shown its key in the handshake.
pub struct Endpoint {
    socket: Arc<OwnedFd>,
    session: Session,
    rules: Arc<Rules>,
    /// A sealed record: on its way, or left there because the socket was full.
    record: Vec<u8>,
    record_fds: Vec<OwnedFd>,
    /// How many messages end with [`Self::record`]; `None` when it is not waiting to go.
    waiting: Option<u64>,
    /// Frames that gather while a record waits; begins with room for a header.
    batch: Vec<u8>,
    batched: u64,
    large: Option<Large>,
    accepted: u64,
    sent: u64,
    pressed: bool,
    partial: Option<Partial>,
    progress: Progress,
    pace: Pace,
    /// Until when a message waits that would have come too early.
    paced: Option<Instant>,
    tap: Option<Box<LinkTap>>,
}

impl Endpoint {
    /// An end whose handshake is done.
    pub fn new(socket: Arc<OwnedFd>, session: Session, rules: Arc<Rules>) -> Self {
        let mut progress = Progress::new(&rules.plan);
        progress.nothing_came(Instant::now);
        Self {
            progress,
            pace: Pace::new(&rules.plan),
            paced: None,
            socket,
            session,
            rules,
            record: Vec::new(),
            record_fds: Vec::new(),
            waiting: None,
            batch: Vec::new(),
            batched: 0,
            large: None,
            accepted: 0,
            sent: 0,
            pressed: false,
            partial: None,
            tap: None,
        }
    }

    /// Has this end report every record.
    #[must_use]
    pub fn tapped(self, tap: Option<LinkTap>) -> Self {
        Self { tap: tap.map(Box::new), ..self }
    }

    /// The socket to wait on.
    pub fn socket(&self) -> &Arc<OwnedFd> {
        &self.socket
    }

    /// How many messages were accepted so far. The number of the last one is its ticket.
    pub fn accepted(&self) -> u64 {
        self.accepted
    }

    /// How many of the accepted messages the kernel has taken.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Whether messages wait here for the socket to have room.
    pub fn unsent(&self) -> bool {
        self.accepted != self.sent
    }

    /// Whether it waits for what no socket tells of: the kernel holds too many descriptors in flight
    /// for this user (`ETOOMANYREFS`), or there is no room to [report](Self::held_up). The socket may
    /// then be ready all the same: try again after a moment.
    pub fn pressed(&self) -> bool {
        self.pressed || self.held_up()
    }

    /// How long to wait until a message may be tried again that the policy's `rate` holds up; `None`
    /// if there is none.
    pub fn paced(&self) -> Option<Duration> {
        let left = self.paced?.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    /// Whether a record that is sent or received could find no room for its report. Nothing is sealed
    /// and nothing received before there is, so that no lock is held meanwhile.
    pub fn held_up(&self) -> bool {
        self.tap.as_ref().is_some_and(|tap| !tap.has_room())
    }
}
