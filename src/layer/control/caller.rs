//! One caller: what it has said so far, and what it is still to be told.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use crate::handle::{MAX_REQUEST, Reply, Request};

/// How long a caller may take to say what it wants, or to read something of the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection.
pub(super) struct Caller {
    line: OwnedFd,
    said: Vec<u8>,
    answer: VecDeque<u8>,
    /// When it is given up that says or reads nothing.
    until: Option<Instant>,
    /// What is being done for it.
    pub work: Work,
}

/// What is being done for a caller.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// It hasn't asked yet.
    Listening,
    /// Copies of layers are restarted, one after the other.
    Restart {
        /// Those whose turn comes.
        left: VecDeque<u32>,
        /// Whose turn it is, and its life before.
        now: Option<(u32, u64)>,
    },
    /// The daemon stops.
    Stop,
    /// The supervisor reloads the policy, or another program takes its place.
    Reload,
    /// All is said.
    Over,
}

impl Caller {
    pub(super) fn new(line: OwnedFd) -> Self {
        let (said, answer) = (Vec::new(), VecDeque::new());
        let until = Some(Instant::now() + PATIENCE);
        Self { line, said, answer, until, work: Work::Listening }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.line.as_fd()
    }

    /// What its connection is watched for. That it is gone is told in any case.
    pub(super) fn interest(&self) -> PollFlags {
        match self.work {
            _ if !self.answer.is_empty() => PollFlags::OUT,
            Work::Listening => PollFlags::IN,
            _ => PollFlags::RDHUP,
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.until
    }

    /// Whether nothing more is to be done for it.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.work == Work::Over && self.answer.is_empty()
            || self.until.is_some_and(|until| until <= now)
    }

    /// Adds a line to the answer.
    pub(super) fn tell(&mut self, reply: &Reply) {
        // Text and numbers: there is nothing in it that can't be written.
        let line = serde_json::to_vec(reply).unwrap_or_default();
        self.answer.extend(line);
        self.answer.push_back(b'\n');
        self.until.get_or_insert_with(|| Instant::now() + PATIENCE);
        self.flush();
    }

    /// The same, and nothing more.
    pub(super) fn tell_last(&mut self, reply: &Reply) {
        self.work = Work::Over;
        self.tell(reply);
    }

    /// Sends what the connection takes.
    pub(super) fn flush(&mut self) {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        while !self.answer.is_empty() {
            match rustix::net::send(&self.line, self.answer.as_slices().0, flags) {
                Ok(sent) => {
                    self.answer.drain(..sent);
                    self.until = Some(Instant::now() + PATIENCE);
                }
                Err(Errno::AGAIN | Errno::INTR) => return,
                Err(_) => return self.hang_up(),
            }
        }
        // What is under way takes as long as it takes.
        self.until = None;
    }

    /// Nobody is there any more.
    pub(super) fn hang_up(&mut self) {
        self.answer.clear();
        self.work = Work::Over;
    }

    /// Reads what it says. The request, once it is whole; an error says why it is none.
    pub(super) fn listen(&mut self) -> Option<Result<Request, String>> {
        let mut bytes = [0; MAX_REQUEST];
        match rustix::net::recv(&self.line, &mut bytes, RecvFlags::DONTWAIT) {
            Ok((_, 0)) | Err(Errno::CONNRESET) => {
                self.hang_up();
                return None;
            }
            Ok((_, read)) => self.said.extend_from_slice(&bytes[..read]),
            Err(_) => return None,
        }
        let end = self.said.iter().position(|byte| *byte == b'\n');
        match end {
            Some(end) => {
                // What it asks for takes as long as it takes.
                self.until = None;
                let request = serde_json::from_slice(&self.said[..end]);
                Some(request.map_err(|error| format!("this is no request: {error}")))
            }
            None if self.said.len() >= MAX_REQUEST => {
                Some(Err(format!("a request has less than {MAX_REQUEST} bytes")))
            }
            None => None,
        }
    }
}
