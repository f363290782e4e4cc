//! What the supervisor and its layers say, on standard error, one line each.
//!
//! A layer's line is stamped with the name of the instance, which comes from the pipe that it
//! arrived on, and stripped of anything that isn't text. The supervisor never blocks on its own
//! standard error: lines wait in a bounded queue, and while that is full the layers' pipes are not
//! read, so that a flood stops the layer that makes it. What finds no room at all is counted.

use std::collections::VecDeque;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::SendFlags;

use crate::text::neutralise;

/// A longer line is broken here, in bytes.
const MAX_LINE: usize = 2048;

/// How much waits for standard error before the layers' pipes are left alone, in bytes.
const QUEUE: usize = 256 << 10;

/// How much may wait of what comes all the same, in bytes: what was left in the pipes of layers that
/// have ended. Beyond it lines are dropped and counted.
const MOST: usize = 2 * QUEUE;

/// How much may wait with the supervisor's own lines, in bytes. What many short lives make it say is
/// bounded too.
const MOST_OWN: usize = 3 * QUEUE;

/// Read from one pipe in one turn, in bytes: one flooding layer takes no turn from the others.
const TURN: usize = 16 << 10;

/// Lines on their way to standard error.
#[derive(Debug, Default)]
pub struct Log {
    queue: VecDeque<u8>,
    /// Lines that found no room since that was said last.
    dropped: u64,
    stderr: Stderr,
}

impl Log {
    /// A line of the supervisor's own. `text` may hold what layers wrote.
    pub fn say(&mut self, text: &str) {
        for line in text.lines() {
            self.push(MOST_OWN, OWN, line.as_bytes());
        }
    }

    /// Lines that stand for themselves, such as a checker's drawing.
    pub fn print(&mut self, text: &str) {
        for line in text.lines() {
            self.push(MOST_OWN, "", line.as_bytes());
        }
    }

    /// A line of a layer's.
    fn push_from(&mut self, stamp: &str, line: &[u8]) {
        self.push(MOST, stamp, line);
    }

    /// Adds a line, if with it no more than `most` bytes wait. What counts is what is shown: an
    /// escaped byte is four.
    fn push(&mut self, most: usize, stamp: &str, line: &[u8]) {
        let line = neutralise(line);
        if self.queue.len() + stamp.len() + line.len() >= most {
            self.dropped += 1;
            return;
        }
        self.admit_loss();
        self.add(stamp, &line);
    }

    /// Says how many lines are missing here, once there is room again.
    fn admit_loss(&mut self) {
        if self.dropped > 0 && self.queue.len() < QUEUE {
            let dropped = std::mem::take(&mut self.dropped);
            let lines = if dropped == 1 { "line was" } else { "lines were" };
            self.add(OWN, &format!("{dropped} {lines} dropped: nobody reads standard error"));
        }
    }

    fn add(&mut self, stamp: &str, line: &str) {
        self.queue.extend(stamp.as_bytes());
        self.queue.extend(line.as_bytes());
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

    /// What to poll for room, while something waits.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.stderr.fd()
    }

    /// Writes what standard error takes without blocking.
    pub fn flush(&mut self) {
        while !self.queue.is_empty() {
            let (front, _) = self.queue.as_slices();
            match self.stderr.write(front) {
                Ok(written) => drop(self.queue.drain(..written)),
                Err(Errno::INTR | Errno::AGAIN) => return,
                // Nobody reads: what was said is lost, and saying so would be lost too.
                Err(_) => self.queue.clear(),
            }
            self.admit_loss();
        }
    }
}

/// What the supervisor's own lines begin with.
const OWN: &str = "cofferdam: ";

/// Standard error, written to without ever waiting.
///
/// The flags of an open file are shared with everybody who has it, a shell for example, so it isn't
/// switched to non-blocking. And that it polls writable doesn't say for how much: a terminal that was
/// stopped takes some bytes and blocks for the rest, and of a pipe another writer may take the room
/// in between. So a terminal or a pipe is opened anew, with flags of our own, by its entry in
/// `/proc/self/fd` (proc(5)); a socket has a flag for each call. A file never keeps anybody waiting
/// for a reader.
#[derive(Debug)]
struct Stderr {
    passed: io::Stderr,
    way: Way,
}

/// How it is written to.
#[derive(Debug)]
enum Way {
    /// Opened anew, non-blocking.
    Own(OwnedFd),
    /// A socket.
    Socket,
    /// As it was passed, and written to in pieces that fit by what poll says: a regular file, or what
    /// another user has opened, which then can't be opened again.
    Shared {
        /// How much at once, in bytes.
        piece: usize,
    },
}

impl Default for Stderr {
    fn default() -> Self {
        let passed = io::stderr();
        let kind = rustix::fs::fstat(&passed).map(|stat| FileType::from_raw_mode(stat.st_mode));
        let way = match kind {
            Ok(FileType::Socket) => Way::Socket,
            Ok(FileType::Fifo | FileType::CharacterDevice) => {
                let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
                let own = rustix::fs::open("/proc/self/fd/2", flags, Mode::empty());
                // A pipe that polls writable takes PIPE_BUF (pipe(7)), a terminal a character.
                let piece = if passed.is_terminal() { 1 } else { PIPE_BUF };
                own.map_or(Way::Shared { piece }, Way::Own)
            }
            _ => Way::Shared { piece: PIPE_BUF },
        };
        Self { passed, way }
    }
}

/// From linux/limits.h.
const PIPE_BUF: usize = 4096;

impl Stderr {
    fn fd(&self) -> BorrowedFd<'_> {
        match &self.way {
            Way::Own(fd) => fd.as_fd(),
            Way::Socket | Way::Shared { .. } => self.passed.as_fd(),
        }
    }

    fn write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        match &self.way {
            Way::Own(fd) => rustix::io::write(fd, bytes),
            Way::Socket => {
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                rustix::net::send(self.fd(), bytes, flags)
            }
            Way::Shared { piece } => {
                let mut fds = [PollFd::from_borrowed_fd(self.fd(), PollFlags::OUT)];
                match rustix::event::poll(&mut fds, Some(&Timespec::default()))? {
                    0 => Err(Errno::AGAIN),
                    _ => rustix::io::write(self.fd(), &bytes[..bytes.len().min(*piece)]),
                }
            }
        }
    }
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
                log.push_from(&self.stamp, &self.line);
                self.line.clear();
            }
        }
    }

    /// Shows a last line that has no end.
    fn finish(&mut self, log: &mut Log) {
        if !self.line.is_empty() {
            log.push_from(&self.stamp, &self.line);
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
    fn what_nobody_reads_is_dropped_and_counted() {
        let mut log = Log::default();
        for _ in 0..100 {
            let (reader, writer) =
                rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
            rustix::io::write(&writer, &[b"\x1b".repeat(999), b"\n".to_vec()].concat().repeat(60))
                .unwrap();
            Pipe::new(reader, "a/0.g1").drain(&mut log);
            log.say("a/0.g1 has ended");
        }
        assert!(log.queue.len() < MOST_OWN && log.dropped > 1000, "{}", log.queue.len());
        let dropped = log.dropped;
        log.queue.clear();
        log.say("read at last");
        let text = String::from_utf8(log.queue.into()).unwrap();
        let told = format!("{dropped} lines were dropped: nobody reads standard error");
        assert_eq!(text, format!("cofferdam: {told}\ncofferdam: read at last\n"));
    }

    #[test]
    fn an_endless_line_is_broken() {
        let text = shown(&[&[b'x'; MAX_LINE + 10]]);
        assert_eq!(text.lines().count(), 2);
        assert!(text.lines().all(|line| line.starts_with("a/0.g1: x")));
    }
}
