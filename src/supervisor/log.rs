//! What the supervisor and its layers say, on standard error, one line each.
//!
//! A layer's line is stamped with the name of the instance, which comes from the pipe that it
//! arrived on, and stripped of anything that isn't text. The supervisor never blocks on its own
//! standard error: lines wait in a bounded queue, and while that is full the layers' pipes are not
//! read, so that a flood stops the layer that makes it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use crate::text::neutralise;

/// A longer line is broken here, in bytes.
const MAX_LINE: usize = 2048;

/// How much waits for standard error before the layers' pipes are left alone, in bytes.
const QUEUE: usize = 256 << 10;

/// Read from one pipe in one turn, in bytes: one flooding layer takes no turn from the others.
const TURN: usize = 16 << 10;

/// A pipe that polls writable takes this much without blocking (`PIPE_BUF`, pipe(7)).
const CHUNK: usize = 4096;

/// Lines on their way to standard error.
#[derive(Debug, Default)]
pub struct Log {
    queue: VecDeque<u8>,
}

impl Log {
    /// A line of the supervisor's own. `text` may hold what layers wrote.
    pub fn say(&mut self, text: &str) {
        for line in text.lines() {
            self.push("cofferdam: ", line.as_bytes());
        }
    }

    /// Lines that stand for themselves, such as a checker's drawing.
    pub fn print(&mut self, text: &str) {
        for line in text.lines() {
            self.push("", line.as_bytes());
        }
    }

    fn push(&mut self, stamp: &str, line: &[u8]) {
        self.queue.extend(stamp.as_bytes());
        self.queue.extend(neutralise(line).as_bytes());
        self.queue.push_back(b'\n');
    }

    /// Whether layers' lines still find room.
    pub fn has_room(&self) -> bool {
        self.queue.len() < QUEUE
    }

    /// Whether anything waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Writes what standard error takes without blocking.
    pub fn flush(&mut self) {
        let stderr = io::stderr();
        while !self.queue.is_empty() && is_writable(&stderr) {
            let (front, _) = self.queue.as_slices();
            match rustix::io::write(&stderr, &front[..front.len().min(CHUNK)]) {
                Ok(written) => drop(self.queue.drain(..written)),
                Err(Errno::INTR | Errno::AGAIN) => return,
                // Nobody reads: what was said is lost, and saying so would be lost too.
                Err(_) => self.queue.clear(),
            }
        }
    }
}

fn is_writable(fd: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::OUT)];
    rustix::event::poll(&mut fds, Some(&rustix::time::Timespec::default())).is_ok_and(|n| n > 0)
}

/// One layer's standard output or error.
#[derive(Debug)]
pub struct Pipe {
    fd: OwnedFd,
    stamp: String,
    line: Vec<u8>,
}

/// Whether a pipe may be read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PipeState {
    /// A writer may still hold it.
    Open,
    /// Every writer has closed it.
    Ended,
}

impl Pipe {
    /// Takes the reading end (non-blocking) of the pipe that `instance` writes to.
    pub fn new(fd: OwnedFd, instance: &str) -> Self {
        Self { fd, stamp: format!("{instance}: "), line: Vec::new() }
    }

    /// The descriptor to poll.
    pub fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Reads one turn's worth into the log.
    pub fn read(&mut self, log: &mut Log) -> PipeState {
        let mut buffer = [0; TURN];
        match rustix::io::read(&self.fd, &mut buffer) {
            Ok(0) => {
                self.finish(log);
                PipeState::Ended
            }
            Ok(n) => {
                self.take(&buffer[..n], log);
                PipeState::Open
            }
            Err(Errno::INTR | Errno::AGAIN) => PipeState::Open,
            Err(_) => PipeState::Ended,
        }
    }

    fn take(&mut self, mut bytes: &[u8], log: &mut Log) {
        while !bytes.is_empty() {
            let room = MAX_LINE - self.line.len();
            let end = bytes.iter().take(room).position(|&b| b == b'\n');
            let take = end.unwrap_or(bytes.len().min(room));
            self.line.extend_from_slice(&bytes[..take]);
            bytes = &bytes[take + usize::from(end.is_some())..];
            if end.is_some() || self.line.len() == MAX_LINE {
                log.push(&self.stamp, &self.line);
                self.line.clear();
            }
        }
    }

    /// Shows a last line that has no end.
    fn finish(&mut self, log: &mut Log) {
        if !self.line.is_empty() {
            log.push(&self.stamp, &self.line);
            self.line.clear();
        }
    }

    /// Reads what is left after the layer has ended, a bounded number of turns.
    pub fn drain(mut self, log: &mut Log) {
        // A pipe holds 64 KiB unless its writer enlarged it; more than this is not waited for.
        for _ in 0..8 {
            let before = log.queue.len();
            if self.read(log) == PipeState::Ended || log.queue.len() == before {
                break;
            }
        }
        self.finish(log);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(chunks: &[&[u8]]) -> String {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
        let (mut pipe, mut log) = (Pipe::new(reader, "a/0.g1"), Log::default());
        for chunk in chunks {
            rustix::io::write(&writer, chunk).unwrap();
            pipe.read(&mut log);
        }
        drop(writer);
        pipe.drain(&mut log);
        String::from_utf8(log.queue.into()).unwrap()
    }

    #[test]
    fn lines_are_put_together_and_stamped() {
        assert_eq!(
            shown(&[b"on", b"e\ntwo\nthr", b"ee"]),
            "a/0.g1: one\na/0.g1: two\na/0.g1: three\n"
        );
    }

    #[test]
    fn a_layer_cannot_write_another_ones_line() {
        assert_eq!(shown(&[b"x\x1b[1A\rcofferdam: ok\n"]), "a/0.g1: x\\x1b[1A\\x0dcofferdam: ok\n");
    }

    #[test]
    fn an_endless_line_is_broken() {
        let text = shown(&[&[b'x'; MAX_LINE + 10]]);
        assert_eq!(text.lines().count(), 2);
        assert!(text.lines().all(|line| line.starts_with("a/0.g1: x")));
    }
}
