//! Lines on their way to standard error, or to the journal.
//!
//! Every line is stamped with whose it is and stripped of anything that isn't text. Lines wait in a
//! bounded queue. What finds no room is counted, and so is what a layer prints beyond its rate.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use rustix::io::Errno;

use super::form::{What, Who, form};
use super::rate::Rates;
use super::stderr::Stderr;
use crate::ident::{Instance, Name};
use crate::policy::plan::{LogLevel, LogPlan};
use crate::wire::control::{LogFormat, Said};

/// A longer line is broken here, in bytes.
pub(super) const MAX_LINE: usize = 2048;

/// How much waits for standard error before the layers' pipes are left alone for a while, in bytes.
const QUEUE: usize = 256 << 10;

/// How much may wait of what comes all the same, in bytes: what was left in the pipes of layers that
/// have ended. Beyond it lines are dropped and counted.
const MOST: usize = 2 * QUEUE;

/// How much may wait with the supervisor's own lines, in bytes. What many short lives make it say is
/// bounded too.
const MOST_OWN: usize = 3 * QUEUE;

/// So many bytes are written at once, where what is written is a stream.
const TOGETHER: usize = 16 << 10;

/// Lines on their way to standard error.
#[derive(Debug)]
pub(super) struct Lines {
    /// Datagrams, or pieces of a stream.
    queue: VecDeque<Vec<u8>>,
    /// The bytes in it.
    bytes: usize,
    /// How many of the first piece are written.
    written: usize,
    /// Lines that found no room since that was said last.
    dropped: u64,
    rates: Rates,
    format: LogFormat,
    daemon: String,
    stderr: Stderr,
}

impl Lines {
    /// None yet.
    pub(super) fn new(stderr: Stderr) -> Self {
        Self {
            queue: VecDeque::new(),
            bytes: 0,
            written: 0,
            dropped: 0,
            rates: Rates::default(),
            format: LogFormat::Text,
            daemon: "cofferdam".to_owned(),
            stderr,
        }
    }

    /// In which form lines are written from now on.
    pub(super) fn write_as(&mut self, format: LogFormat) {
        self.format = format;
    }

    /// Which daemon's lines they are.
    pub(super) fn belong_to(&mut self, daemon: &str) {
        daemon.clone_into(&mut self.daemon);
    }

    /// Writes elsewhere from now on.
    pub(super) fn write_to(&mut self, stderr: Stderr) {
        self.stderr = stderr;
    }

    /// The form in which lines are written.
    pub(super) fn format(&self) -> LogFormat {
        self.format
    }

    /// Lines of the daemon's own. `text` may hold what layers wrote.
    pub(super) fn say(&mut self, level: LogLevel, text: &str) {
        for line in text.lines() {
            self.push(MOST_OWN, Who::Daemon, What::Line(level, line.as_bytes()));
        }
    }

    /// What the supervisor has said.
    pub(super) fn push_said(&mut self, how: Said, text: &str) {
        let who = match how {
            Said::Own => Who::Daemon,
            Said::Plain => Who::Nobody,
            Said::Formed => return self.add(text.as_bytes().to_vec()),
            Said::Form(format) => return self.write_as(format),
        };
        self.push(MOST_OWN, who, What::Line(LogLevel::Info, text.as_bytes()));
    }

    /// A line or an event of a layer's. False: it isn't shown, for the layer has had its share.
    pub(super) fn push_from(
        &mut self,
        who: &Instance,
        plan: &LogPlan,
        what: What<'_>,
        now: Instant,
    ) -> bool {
        let weight = (what.units(), what.bytes());
        let admitted = self.rates.admits(&who.layer, || plan.clone(), weight, now);
        if admitted {
            self.push(MOST, Who::Layer(who), what);
        }
        admitted
    }

    /// One of the last lines of a layer that has ended, which had been dropped.
    pub(super) fn push_last(&mut self, who: &Instance, line: &[u8]) {
        self.rates.forgive(&who.layer, line.len());
        self.push(MOST, Who::Layer(who), What::Line(LogLevel::Info, line));
    }

    /// Tells what a layer has lost, or all have.
    pub(super) fn tell_lost(&mut self, layer: Option<&Name>) {
        for line in self.rates.tell(layer, Instant::now()) {
            self.say(LogLevel::Warn, &line);
        }
    }

    /// Tells what layers have lost of which that wasn't told for a while.
    pub(super) fn tell_due(&mut self) {
        for line in self.rates.due(Instant::now()) {
            self.say(LogLevel::Warn, &line);
        }
    }

    /// When there is something to tell.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.rates.deadline()
    }

    /// Adds a line, if with it no more than `most` bytes wait. What counts is what is shown: an
    /// escaped byte is four.
    fn push(&mut self, most: usize, who: Who<'_>, what: What<'_>) {
        let line = form(self.format, &self.daemon, who, what);
        if self.bytes + line.len() > most {
            self.dropped += 1;
            return;
        }
        self.admit_loss();
        self.add(line);
    }

    /// Says how many lines are missing here, once there is room again.
    fn admit_loss(&mut self) {
        if self.dropped > 0 && self.bytes < QUEUE {
            let text = loss(std::mem::take(&mut self.dropped));
            let what = What::Line(LogLevel::Warn, text.as_bytes());
            self.add(form(self.format, &self.daemon, Who::Daemon, what));
        }
    }

    fn add(&mut self, line: Vec<u8>) {
        self.bytes += line.len();
        let is_stream = self.is_stream();
        match self.queue.back_mut() {
            Some(last) if is_stream && last.len() + line.len() <= TOGETHER => {
                last.extend_from_slice(&line);
            }
            _ => self.queue.push_back(line),
        }
    }

    fn is_stream(&self) -> bool {
        self.format != LogFormat::Journal
    }

    /// Whether layers' lines still find room.
    pub(super) fn has_room(&self) -> bool {
        self.bytes < QUEUE
    }

    /// Bytes that wait.
    pub(super) fn len(&self) -> usize {
        self.bytes
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
        while let Some(first) = self.queue.front() {
            let length = first.len();
            match self.stderr.write(&first[self.written..]) {
                Ok(written) => {
                    self.written += written;
                    self.bytes -= written;
                }
                Err(Errno::INTR | Errno::AGAIN) => return,
                // The journal's socket takes no datagram of this size: the others may fit.
                Err(Errno::MSGSIZE) => {
                    self.dropped += 1;
                    self.bytes -= length - self.written;
                    self.written = length;
                }
                // Nobody reads: what was said is lost, and saying so would be lost too.
                Err(_) => {
                    self.queue.clear();
                    (self.bytes, self.written) = (0, 0);
                    return;
                }
            }
            if self.written >= length {
                self.queue.pop_front();
                self.written = 0;
            }
            self.admit_loss();
        }
    }

    /// Gives what waits, for another to write it. What is in datagrams can't be given, and is counted
    /// as lost.
    pub(super) fn take(&mut self) -> String {
        let queue = std::mem::take(&mut self.queue);
        let written = std::mem::take(&mut self.written);
        self.bytes = 0;
        if !self.is_stream() {
            self.dropped += queue.len() as u64;
            return String::new();
        }
        let bytes: Vec<u8> = queue.into_iter().flatten().skip(written).collect();
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
    use std::time::Duration;

    use super::super::output::Pipe;
    use super::*;
    use crate::policy::plan::Rate;

    #[test]
    fn what_nobody_reads_is_dropped_and_counted() {
        let mut lines = Lines::new(Stderr::own());
        let instance = Instance { layer: Name::new("a").unwrap(), index: 0, generation: 1 };
        let rate = Rate { count: 100_000, per: Duration::from_secs(1) };
        let plan = LogPlan { rate, ..LogPlan::default() };
        for _ in 0..100 {
            let (reader, writer) =
                rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
            rustix::io::write(&writer, &[b"\x1b".repeat(999), b"\n".to_vec()].concat().repeat(60))
                .unwrap();
            Pipe::new(reader, instance.clone(), plan.clone(), None).drain(&mut lines);
            lines.say(LogLevel::Info, "a/0.g1 has ended");
        }
        assert!(lines.bytes < MOST_OWN && lines.dropped > 1000, "{}", lines.bytes);
        let dropped = lines.dropped;
        lines.take();
        lines.say(LogLevel::Info, "read at last");
        let told = format!("{dropped} lines were dropped: nobody reads standard error");
        assert_eq!(lines.take(), format!("cofferdam: {told}\ncofferdam: read at last\n"));
    }
}
