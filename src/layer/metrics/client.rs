//! One client: what it has said so far, and what it is still to be sent.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};

use super::board::Board;
use super::request::{self, MOST, Wanted};

/// How long a client may take to ask, and once more to read the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long one that has had its answer may take to hang up: if we did at once, what it said
/// beyond its request would make the kernel take the answer back.
const FAREWELL: Duration = Duration::from_secs(1);

/// A connection.
pub(super) struct Client {
    line: OwnedFd,
    said: Vec<u8>,
    answer: Vec<u8>,
    sent: usize,
    came: Instant,
    until: Instant,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Asking,
    Answered,
    Leaving,
    Over,
}

impl Client {
    pub(super) fn new(line: OwnedFd, now: Instant) -> Self {
        let (said, answer, until) = (Vec::new(), Vec::new(), now + PATIENCE);
        Self { line, said, answer, sent: 0, came: now, until, stage: Stage::Asking }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.line.as_fd()
    }

    pub(super) fn came(&self) -> Instant {
        self.came
    }

    pub(super) fn until(&self) -> Instant {
        self.until
    }

    pub(super) fn has_asked(&self) -> bool {
        self.stage == Stage::Answered
    }

    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.stage == Stage::Over || now >= self.until
    }

    pub(super) fn interest(&self) -> PollFlags {
        if self.stage == Stage::Answered { PollFlags::OUT } else { PollFlags::IN }
    }

    /// Reads or sends what is there.
    pub(super) fn serve(&mut self, ready: PollFlags, board: &mut Board) {
        if ready.is_empty() {
            return;
        }
        match self.stage {
            Stage::Asking => self.listen(board),
            Stage::Answered => self.send(),
            Stage::Leaving => self.leave(),
            Stage::Over => {}
        }
    }

    fn listen(&mut self, board: &mut Board) {
        let mut bytes = [0; MOST];
        match recv(&self.line, &mut bytes[..], RecvFlags::DONTWAIT) {
            Ok((_, 0)) => return self.stage = Stage::Over,
            Ok((_, length)) => self.said.extend_from_slice(&bytes[..length]),
            Err(Errno::AGAIN | Errno::INTR) => return,
            Err(_) => return self.stage = Stage::Over,
        }
        let Some(wanted) = request::read(&self.said) else { return };
        let numbers = matches!(wanted, Wanted::Numbers { .. }).then(|| board.text());
        self.answer = request::answer(wanted, numbers.unwrap_or_default());
        self.stage = Stage::Answered;
        self.until = Instant::now() + PATIENCE;
        self.said = Vec::new();
        self.send();
    }

    fn send(&mut self) {
        while self.sent < self.answer.len() {
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match send(&self.line, &self.answer[self.sent..], flags) {
                Ok(sent) => self.sent += sent,
                Err(Errno::AGAIN | Errno::INTR) => return,
                Err(_) => return self.stage = Stage::Over,
            }
        }
        self.stage = Stage::Leaving;
        self.until = Instant::now() + FAREWELL;
        if shutdown(&self.line, Shutdown::Write).is_err() {
            self.stage = Stage::Over;
        }
    }

    /// Drops what is still said.
    fn leave(&mut self) {
        match recv(&self.line, &mut [0; MOST][..], RecvFlags::DONTWAIT) {
            Ok((_, 1..)) | Err(Errno::AGAIN | Errno::INTR) => {}
            _ => self.stage = Stage::Over,
        }
    }
}
