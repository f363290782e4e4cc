//! What a layer prints: the reading end of its standard output or error.
//!
//! A line is stamped with the name of the instance, which comes from the pipe that it arrived on: no
//! layer can write another one's. Between the lines there may be frames with events
//! ([`crate::wire::event`]), known by the layer's mark.
//!
//! A layer that prints more than its rate loses lines, and its pipe is read less often. It is read all
//! the same: a flood slows down who makes it, and ends nobody.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::form::What;
use super::lines::{Lines, MAX_LINE};
use crate::ident::Instance;
use crate::policy::plan::{LogLevel, LogPlan};
use crate::wire::event::{Event, Found, Mark, find};

/// Read from one pipe in one turn, in bytes: one flooding layer takes no turn from the others.
const TURN: usize = 16 << 10;

/// The same of a pipe of which lines are dropped: all that is in it.
const FLOOD_TURN: usize = 64 << 10;

/// Turns in which what a layer left is read. A pipe holds 64 KiB unless its writer enlarged it; more
/// than this is not waited for.
const LAST_TURNS: usize = 8;

/// How long a pipe rests at least of which lines were dropped.
const REST: Duration = Duration::from_millis(2);

/// How many times longer it rests than reading it took: so the writer of the log spends little on it.
const REST_TIMES: u32 = 4;

/// What is kept of the last lines that were dropped, in bytes.
const LAST_WORDS: usize = 4 << 10;

/// One layer's standard output or error.
#[derive(Debug)]
pub(super) struct Pipe {
    fd: OwnedFd,
    instance: Instance,
    plan: LogPlan,
    /// What its events begin with, if it is one that tells events.
    mark: Option<Mark>,
    /// What was read and isn't shown yet.
    read: Vec<u8>,
    /// The beginning of a line.
    line: Vec<u8>,
    /// The last lines that were dropped, with their newlines; none once another was shown.
    last_words: Vec<u8>,
    /// Until when it is left alone.
    rests_until: Option<Instant>,
    ended: bool,
}

impl Pipe {
    /// Takes the reading end (non-blocking) of the pipe that `instance` writes to.
    pub(super) fn new(fd: OwnedFd, instance: Instance, plan: LogPlan, mark: Option<Mark>) -> Self {
        let (read, line, last_words) = (Vec::new(), Vec::new(), Vec::new());
        let (rests_until, ended) = (None, false);
        Self { fd, instance, plan, mark, read, line, last_words, rests_until, ended }
    }

    /// The descriptor to poll; `None` once every writer has closed it.
    pub(super) fn fd(&self) -> Option<&OwnedFd> {
        (!self.ended).then_some(&self.fd)
    }

    /// Until when it is left alone.
    pub(super) fn rests_until(&self) -> Option<Instant> {
        self.rests_until.filter(|_| !self.ended)
    }

    /// Reads one turn's worth, which is shown [later](Self::show). False: there was nothing.
    pub(super) fn read(&mut self) -> bool {
        let turn = if self.rests_until.is_some() { FLOOD_TURN } else { TURN };
        let before = self.read.len();
        self.read.resize(before + turn, 0);
        let read = rustix::io::read(&self.fd, &mut self.read[before..]);
        self.read.truncate(before + read.unwrap_or(0));
        self.ended |= !matches!(read, Ok(1..) | Err(Errno::INTR | Errno::AGAIN));
        self.read.len() > before
    }

    /// Puts what was read into the log.
    pub(super) fn show(&mut self, lines: &mut Lines) {
        let began = Instant::now();
        let dropped = self.take_apart(lines, began);
        let took = began.elapsed();
        self.rests_until = dropped.then(|| began + took + (took * REST_TIMES).max(REST));
    }

    /// Shows or drops what was read. Whether something was dropped.
    fn take_apart(&mut self, lines: &mut Lines, now: Instant) -> bool {
        let read = std::mem::take(&mut self.read);
        let mut bytes = &read[..];
        let mut dropped = false;
        while let Some(&first) = bytes.first() {
            if first == 0
                && let Some(mark) = self.mark
            {
                match find(bytes, mark) {
                    Found::Frame(length, event) => {
                        dropped |= !self.show_event(event, lines, now);
                        bytes = &bytes[length..];
                        continue;
                    }
                    Found::Part if !self.ended => {
                        self.read = bytes.to_vec();
                        return dropped;
                    }
                    _ => {}
                }
            }
            let room = MAX_LINE - self.line.len();
            // The first byte, if it is a zero, was looked at.
            let is_end = |(at, byte): (usize, &u8)| *byte == b'\n' || (*byte == 0 && at > 0);
            let end = bytes.iter().enumerate().take(room).position(is_end);
            let take = end.unwrap_or(bytes.len().min(room));
            self.line.extend_from_slice(&bytes[..take]);
            let is_whole = bytes.get(take) == Some(&b'\n') && end.is_some();
            bytes = &bytes[take + usize::from(is_whole)..];
            if is_whole || self.line.len() == MAX_LINE {
                dropped |= !self.show_line(lines, now);
            }
        }
        // A last line that has no end.
        if self.ended && !self.line.is_empty() {
            dropped |= !self.show_line(lines, now);
        }
        dropped
    }

    fn show_line(&mut self, lines: &mut Lines, now: Instant) -> bool {
        let what = What::Line(LogLevel::Info, &self.line);
        let shown = lines.push_from(&self.instance, &self.plan, what, now);
        if shown {
            self.last_words.clear();
        } else {
            self.last_words.extend_from_slice(&self.line);
            self.last_words.push(b'\n');
            if self.last_words.len() > 2 * LAST_WORDS {
                self.last_words.drain(..self.last_words.len() - LAST_WORDS);
            }
        }
        self.line.clear();
        shown
    }

    /// Shows an event, unless its level isn't asked for. False: it was dropped.
    fn show_event(&mut self, event: &[u8], lines: &mut Lines, now: Instant) -> bool {
        match Event::decode(event) {
            Some(event) if event.level > self.plan.level => true,
            Some(event) => lines.push_from(&self.instance, &self.plan, What::Event(&event), now),
            None => true,
        }
    }

    /// Puts what is left into the log after the layer has ended, and what it said last whether or not
    /// it had a right to more lines: why it ended may be there.
    pub(super) fn drain(mut self, lines: &mut Lines) {
        self.show(lines);
        for _ in 0..LAST_TURNS {
            let before = lines.len();
            let more = self.read();
            self.show(lines);
            // What finds no room is dropped, and so is all that would be read after it.
            if !more || (lines.len() == before && self.rests_until.is_none()) {
                break;
            }
        }
        self.ended = true;
        self.show(lines);
        let words = std::mem::take(&mut self.last_words);
        // The first of them may be the rest of a line.
        let begin = words.len().saturating_sub(LAST_WORDS);
        let whole = match words[begin..].iter().position(|byte| *byte == b'\n') {
            Some(end) if begin > 0 => begin + end + 1,
            _ => begin,
        };
        for line in words[whole..].split_inclusive(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            lines.push_last(&self.instance, line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::stderr::Stderr;
    use super::*;
    use crate::ident::Name;

    const MARK: Mark = Mark([9; 16]);

    fn pipe(reader: OwnedFd) -> Pipe {
        let instance = Instance { layer: Name::new("a").unwrap(), index: 0, generation: 1 };
        Pipe::new(reader, instance, LogPlan::default(), Some(MARK))
    }

    fn shown(chunks: &[&[u8]]) -> String {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
        let (mut pipe, mut lines) = (pipe(reader), Lines::new(Stderr::own()));
        for chunk in chunks {
            rustix::io::write(&writer, chunk).unwrap();
            pipe.read();
            pipe.show(&mut lines);
        }
        drop(writer);
        pipe.drain(&mut lines);
        lines.take()
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

    fn event(message: &str) -> Vec<u8> {
        let (level, target, message) = (LogLevel::Info, "t".to_owned(), message.to_owned());
        let (fields, spans) = (Vec::new(), Vec::new());
        Event { level, target, message, fields, spans, lost: 0, cut: false }.frame(MARK)
    }

    #[test]
    fn events_are_told_from_text_wherever_they_are() {
        let frame = event("hello\nfriend");
        let told = "a/0.g1: INFO t: hello\\x0afriend\n";
        assert_eq!(shown(&[&frame]), told);
        // In the middle of a line, which goes on; in pieces; behind each other.
        let text = shown(&[b"on", &frame[..5], &frame[5..30], &[&frame[30..], b"e\n"].concat()]);
        assert_eq!(text, format!("{told}a/0.g1: one\n"));
        assert_eq!(shown(&[&[&frame[..], &frame].concat()]), told.repeat(2));
        // Without the mark it is text, and what looks like one and isn't loses nothing.
        let other = [&[0][..], &[8; 16], &frame[17..]].concat();
        assert!(shown(&[&other]).starts_with("a/0.g1: \\x00\\x08"));
        assert_eq!(shown(&[b"\0\x09\x09x\n"]), "a/0.g1: \\x00\t\tx\n");
        assert_eq!(shown(&[b"a\0\0b\n", &frame[..25]]).lines().count(), 2);
    }

    #[test]
    fn of_a_flood_the_last_words_are_kept() {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
        let (mut pipe, mut lines) = (pipe(reader), Lines::new(Stderr::own()));
        for _ in 0..20 {
            rustix::io::write(&writer, &b"y\n".repeat(8 << 10)).unwrap();
            while pipe.read() {
                pipe.show(&mut lines);
            }
        }
        assert!(pipe.rests_until().is_some());
        rustix::io::write(&writer, b"thread panicked at the end\n").unwrap();
        drop(writer);
        pipe.drain(&mut lines);
        lines.tell_lost(None);
        let text = lines.take();
        let shown = text.lines().filter(|line| line.starts_with("a/0.g1: ")).count();
        assert!((10_000..20_000).contains(&shown), "{shown}");
        let dropped: usize = text
            .lines()
            .filter_map(|line| line.strip_prefix("cofferdam: ")?.split_once(" lines of a ("))
            .map(|(number, _)| number.parse::<usize>().unwrap())
            .sum();
        assert_eq!(shown + dropped, 20 * (8 << 10) + 1, "{}", &text[text.len() - 500..]);
        assert!(text.contains("a/0.g1: thread panicked at the end\n"));
    }
}
