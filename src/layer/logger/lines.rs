//! Lines on their way to standard error.
//!
//! Every line is stamped with whose it is and stripped of anything that isn't text. Lines wait in a
//! bounded queue, and while that is full the layers' pipes are not read, so that a flood stops the
//! layer that makes it. What finds no room at all is counted.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use super::stderr::Stderr;
use crate::text::neutralise;

/// A longer line is broken here, in bytes.
pub(super) const MAX_LINE: usize = 2048;

/// How much waits for standard error before the layers' pipes are left alone, in bytes.
const QUEUE: usize = 256 << 10;

/// How much may wait of what comes all the same, in bytes: what was left in the pipes of layers that
/// have ended. Beyond it lines are dropped and counted.
const MOST: usize = 2 * QUEUE;

/// How much may wait with the supervisor's own lines, in bytes. What many short lives make it say is
/// bounded too.
const MOST_OWN: usize = 3 * QUEUE;

/// What the supervisor's own lines begin with.
const OWN: &str = "cofferdam: ";

/// Lines on their way to standard error.
#[derive(Debug)]
pub(super) struct Lines {
    queue: VecDeque<u8>,
    /// Lines that found no room since that was said last.
    dropped: u64,
    stderr: Stderr,
}

impl Lines {
    /// None yet.
    pub(super) fn new(stderr: Stderr) -> Self {
        Self { queue: VecDeque::new(), dropped: 0, stderr }
    }

    /// Lines of the supervisor's own. `text` may hold what layers wrote.
    pub(super) fn say(&mut self, text: &str) {
        for line in text.lines() {
            self.push_own(false, line);
        }
    }

    /// A line of the supervisor's own; a plain one stands for itself, such as a checker's drawing.
    pub(super) fn push_own(&mut self, plain: bool, line: &str) {
        self.push(MOST_OWN, if plain { "" } else { OWN }, line.as_bytes());
    }

    /// A line of a layer's.
    pub(super) fn push_from(&mut self, stamp: &str, line: &[u8]) {
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
            self.add(OWN, &loss(dropped));
        }
    }

    fn add(&mut self, stamp: &str, line: &str) {
        self.queue.extend(stamp.as_bytes());
        self.queue.extend(line.as_bytes());
        self.queue.push_back(b'\n');
    }

    /// Whether layers' lines still find room.
    pub(super) fn has_room(&self) -> bool {
        self.queue.len() < QUEUE
    }

    /// Bytes that wait.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// What to poll for room, while something waits.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.stderr.fd()
    }

    /// Writes what standard error takes without blocking.
    pub(super) fn flush(&mut self) {
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

    /// Gives what waits, for another to write it.
    pub(super) fn take(&mut self) -> String {
        let bytes: Vec<u8> = std::mem::take(&mut self.queue).into();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// That lines were dropped.
pub(super) fn loss(dropped: u64) -> String {
    let lines = if dropped == 1 { "line was" } else { "lines were" };
    format!("{dropped} {lines} dropped: nobody reads standard error")
}

#[cfg(test)]
mod tests {
    use super::super::output::Pipe;
    use super::*;

    #[test]
    fn what_nobody_reads_is_dropped_and_counted() {
        let mut lines = Lines::new(Stderr::own());
        for _ in 0..100 {
            let (reader, writer) =
                rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
            rustix::io::write(&writer, &[b"\x1b".repeat(999), b"\n".to_vec()].concat().repeat(60))
                .unwrap();
            Pipe::new(reader, "a/0.g1").drain(&mut lines);
            lines.say("a/0.g1 has ended");
        }
        assert!(lines.queue.len() < MOST_OWN && lines.dropped > 1000, "{}", lines.queue.len());
        let dropped = lines.dropped;
        lines.take();
        lines.say("read at last");
        let told = format!("{dropped} lines were dropped: nobody reads standard error");
        assert_eq!(lines.take(), format!("cofferdam: {told}\ncofferdam: read at last\n"));
    }
}
