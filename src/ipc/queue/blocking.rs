//! The same queue for code that waits by blocking its thread.

use std::slice;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::error::QueueError;
use super::wait::For;
use super::{Event, Sent};
use crate::mark::reached;
use crate::policy::plan::OnFull;

/// A queue whose verbs block. A handle; clones are the same member.
#[derive(Clone, Debug)]
pub struct Queue(super::Queue);

impl Queue {
    pub(super) fn new(queue: super::Queue) -> Self {
        Self(queue)
    }

    /// Sends a message; see [`Queue::send`](super::Queue::send). It blocks at most as long as the
    /// policy's `wait`.
    pub fn send(&self, body: impl AsRef<[u8]>, priority: u8) -> Result<Sent, QueueError> {
        let (shared, body) = (&*self.0.0, body.as_ref());
        let lane = shared.check(body, priority)?;
        let mut sealed = None;
        let mut attempt = || shared.try_send(body, priority, &mut sealed);
        match shared.spec.plan.on_full {
            OnFull::Reject => attempt()?.ok_or_else(|| shared.full()),
            OnFull::Block(time) => {
                let lanes = slice::from_ref(&lane);
                let sent = shared.block(lanes, For::Room, deadline(Some(time)), attempt)?;
                sent.ok_or_else(|| shared.timeout(time))
            }
            OnFull::DropOldest => {
                let mut dropped = 0;
                while attempt()?.is_none() {
                    reached("queue.send.full");
                    let answer = shared.broker.ask_blocking(shared.make_room(priority));
                    dropped += shared.room(answer.map(|(answer, _)| answer))?;
                }
                Ok(Sent { dropped })
            }
        }
    }

    /// Sends a value, written by postcard.
    pub fn send_typed<T: Serialize + ?Sized>(
        &self,
        value: &T,
        priority: u8,
    ) -> Result<Sent, QueueError> {
        self.send(postcard::to_stdvec(value).map_err(QueueError::Encode)?, priority)
    }

    /// Receives the next message, or [`QueueError::Nothing`] after `time`; in a layer that is
    /// asked to finish, [`QueueError::Stopping`] once there is none left.
    pub fn recv(&self, time: Option<Duration>) -> Result<Event, QueueError> {
        let shared = &*self.0.0;
        let lanes = shared.receives()?;
        let event = shared.block(&lanes, For::Message, deadline(time), || shared.try_recv())?;
        event.ok_or(QueueError::Nothing)
    }
}

/// A time limit that lies beyond what the clock can tell is none.
fn deadline(time: Option<Duration>) -> Option<Instant> {
    time.and_then(|time| Instant::now().checked_add(time))
}
