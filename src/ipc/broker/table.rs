//! Requests under way, and the socket that they go over.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::SendFlags;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::Answered;
use super::bell::Bell;
use crate::wire::broker::{Ask, FOR_EVER};
use crate::wire::control::FromLayer;

/// What one lock guards.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// The socket to whoever answers; `None` while there is nobody.
    pub(super) line: Option<Arc<OwnedFd>>,
    /// How often there was a new one.
    pub(super) epoch: u64,
    /// The next request's number. None is given twice.
    next: u64,
    pub(super) waiting: BTreeMap<u64, Waiting>,
    /// Leases that came and were not given back: the semaphore and the fence.
    pub(super) held: BTreeSet<(u16, u64)>,
}

/// A request under way. It is one until it is answered, withdrawn or not.
#[derive(Debug)]
pub(super) struct Waiting {
    /// `None` once it is withdrawn.
    pub(super) answer: Option<oneshot::Sender<Answered>>,
    /// Rung when another thread has taken the answer in for one that sleeps meanwhile.
    pub(super) bell: Option<Bell>,
    pub(super) ask: Ask,
    /// When it was made: of a wait that ends, the rest is asked for again.
    since: Instant,
    /// Whether whoever is at the other end of the line can have heard of it.
    pub(super) sent: bool,
    _slot: OwnedSemaphorePermit,
}

/// What came of sending.
#[derive(Debug)]
pub(super) enum Sent {
    /// It is on its way, or will be as soon as there is somebody again.
    Done,
    /// There is no room in this socket for now.
    Full(Arc<OwnedFd>),
}

impl Table {
    /// A table whose requests go over this socket.
    pub(super) fn over(line: Arc<OwnedFd>) -> Self {
        Self { line: Some(line), ..Self::default() }
    }

    /// Keeps a request, and numbers it.
    pub(super) fn add(
        &mut self,
        ask: Ask,
        answer: oneshot::Sender<Answered>,
        bell: Option<Bell>,
        slot: OwnedSemaphorePermit,
    ) -> u64 {
        let request = self.next;
        self.next += 1;
        let (since, answer, sent) = (Instant::now(), Some(answer), false);
        self.waiting.insert(request, Waiting { answer, bell, ask, since, sent, _slot: slot });
        request
    }

    /// Sends a request that wasn't sent yet. `renews`: who answers may be followed by another, who
    /// is told all that waits.
    pub(super) fn send(&mut self, request: u64, renews: bool) -> io::Result<Sent> {
        let (Some(line), Some(waiting)) = (&self.line, self.waiting.get_mut(&request)) else {
            return Ok(Sent::Done);
        };
        if waiting.sent {
            return Ok(Sent::Done);
        }
        match put(line, &FromLayer::encode_ask(request, &waiting.ask)) {
            Ok(true) => waiting.sent = true,
            Ok(false) => return Ok(Sent::Full(Arc::clone(line))),
            Err(_) if renews => {}
            Err(error) => return Err(error),
        }
        Ok(Sent::Done)
    }

    /// All that the next one who answers must be told, in order; who can't be told is no longer in
    /// the table, and is returned.
    pub(super) fn again(&mut self, now: Instant) -> (Vec<Vec<u8>>, Vec<Waiting>) {
        self.waiting.retain(|_, waiting| waiting.answer.is_some());
        let lost = |_: &u64, waiting: &mut Waiting| waiting.sent && !waiting.ask.is_repeatable();
        let lost = self.waiting.extract_if(.., lost).map(|(_, waiting)| waiting).collect();
        let mut words = Vec::new();
        for (&request, waiting) in &mut self.waiting {
            waiting.sent = true;
            words.push(FromLayer::encode_ask(request, &waiting.rest(now)));
        }
        let held: Vec<_> = self.held.iter().copied().collect();
        let holds = held.chunks(crate::wire::control::MAX_HOLDS);
        words.extend(holds.map(|some| FromLayer::Holds(some.to_vec()).encode()));
        words.push(FromLayer::Resumed.encode());
        (words, lost)
    }
}

impl Waiting {
    /// The request with the time that is left of its wait.
    fn rest(&self, now: Instant) -> Ask {
        match self.ask {
            Ask::Acquire { semaphore, wait } if wait != FOR_EVER => {
                let passed = now.saturating_duration_since(self.since).as_millis();
                let wait = wait.saturating_sub(u32::try_from(passed).unwrap_or(u32::MAX));
                Ask::Acquire { semaphore, wait }
            }
            _ => self.ask.clone(),
        }
    }
}

/// Sends without waiting. `Ok(false)`: there is no room.
pub(super) fn put(line: &OwnedFd, bytes: &[u8]) -> io::Result<bool> {
    match rustix::net::send(line, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
        Ok(_) => Ok(true),
        Err(Errno::AGAIN | Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
