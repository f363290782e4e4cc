//! What is published: kept for a link that has no room, the oldest lost first.

use std::collections::VecDeque;
use std::sync::Arc;

use super::outgoing::send_small;
use super::{Phase, State};
use crate::channel::{Endpoint, LinkError};
use crate::mark;
use crate::wire::record::Kind;

/// What waits for one link.
#[derive(Default)]
pub(super) struct Backlog(VecDeque<(u16, Arc<[u8]>)>);

/// The last that was published of a method.
pub(super) struct Retained {
    method: u16,
    body: Arc<[u8]>,
}

impl State {
    /// Puts bytes on their way to every peer, at most `depth` of them to each. How many older ones
    /// were dropped to make room, over all peers. Never waits.
    pub(in crate::ipc::message) fn publish(
        &mut self,
        method: u16,
        body: &Arc<[u8]>,
        depth: usize,
    ) -> u64 {
        mark::reached("message.topic.published");
        let mut dropped = 0;
        let mut place = 0;
        while place < self.links.len() {
            let link = &mut self.links[place];
            if matches!(link.phase, Phase::Open(_)) && !link.mute && !link.departed {
                dropped += link.backlog.push(method, body, depth);
                if let Err(error) = self.flush_link(place) {
                    self.end(place, &error);
                    continue;
                }
            }
            place += 1;
        }
        dropped
    }

    /// Keeps bytes for peers that come later, in the place of the last ones of this method.
    pub(in crate::ipc::message) fn retain(&mut self, method: u16, body: &Arc<[u8]>) {
        let body = Arc::clone(body);
        match self.retained.iter_mut().find(|kept| kept.method == method) {
            Some(kept) => kept.body = body,
            None => self.retained.push(Retained { method, body }),
        }
    }

    /// Gives a peer that has just come what was published last.
    pub(super) fn catch_up(&mut self, place: usize) {
        for kept in &self.retained {
            mark::reached("message.topic.retained");
            self.links[place].backlog.push(kept.method, &kept.body, 1);
        }
    }

    /// Whether nothing of a method waits for any peer.
    pub(in crate::ipc::message) fn has_published(&self, method: u16) -> bool {
        self.links.iter().all(|link| link.mute || link.backlog.count(method) == 0)
    }
}

impl Backlog {
    /// Puts bytes at the end; how many of the same method were dropped to make room.
    fn push(&mut self, method: u16, body: &Arc<[u8]>, depth: usize) -> u64 {
        let mut dropped = 0;
        while self.count(method) >= depth.max(1) {
            let Some(oldest) = self.0.iter().position(|(of, _)| *of == method) else { break };
            mark::reached("message.topic.dropped");
            self.0.remove(oldest);
            dropped += 1;
        }
        self.0.push_back((method, Arc::clone(body)));
        dropped
    }

    fn count(&self, method: u16) -> usize {
        self.0.iter().filter(|(of, _)| *of == method).count()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sends what there is room for; false if something is left.
    pub(super) fn send(
        &mut self,
        endpoint: &mut Endpoint,
        scratch: &mut Vec<u8>,
    ) -> Result<bool, LinkError> {
        while let Some((method, body)) = self.0.front() {
            scratch.clear();
            scratch.extend_from_slice(body);
            if !send_small(endpoint, Kind::Message, *method, 0, scratch)? {
                return Ok(false);
            }
            mark::reached("message.topic.sent");
            self.0.pop_front();
        }
        Ok(true)
    }
}
