//! What the supervisor has to say: to the writer of the log, or on standard error where there is
//! none yet, or none any more.

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;

use rustix::time::ClockId;

use super::ending::{level, sentence};
use super::lines::{Lines, MAX_LINE, loss};
use super::stderr::Stderr;
use crate::ident::Instance;
use crate::policy::plan::LayerPlan;
use crate::sys::clock::nanoseconds;
use crate::wire::control::{LogFormat, Said, ToLayer};
use crate::wire::life::{End, Ending};

/// How much waits to be said, in bytes. Beyond it lines are dropped and counted.
const MOST: usize = 512 << 10;

/// What waits beyond that of ends, without which their pipes stay open.
const MOST_ENDS: usize = 2 * MOST;

/// What an entry takes besides its text.
const EACH: usize = 128;

/// What the supervisor has to say. It never blocks: what isn't passed on at once waits, within
/// bounds.
#[derive(Debug)]
pub struct Log {
    /// What is said on standard error directly.
    lines: Lines,
    waiting: VecDeque<ToLayer>,
    /// What waits, in bytes.
    bytes: usize,
    /// Lines that found no room since that was said last.
    dropped: u64,
    /// Whether nothing is said of what goes as it should.
    quiet: bool,
}

impl Default for Log {
    fn default() -> Self {
        let lines = Lines::new(Stderr::own());
        Self { lines, waiting: VecDeque::new(), bytes: 0, dropped: 0, quiet: false }
    }
}

impl Log {
    /// In which form lines are written from now on, and whether it is to the journal.
    ///
    /// # Errors
    /// That there is no journal, or that it can't be reached.
    pub fn write_as(&mut self, format: LogFormat) -> io::Result<()> {
        if format == LogFormat::Journal {
            self.lines.write_to(Stderr::journal()?);
        }
        self.lines.write_as(format);
        Ok(())
    }

    /// Which daemon's lines they are.
    pub fn belong_to(&mut self, daemon: &str) {
        self.lines.belong_to(daemon);
    }

    /// Lines of the supervisor's own. `text` may hold what layers wrote.
    pub fn say(&mut self, text: &str) {
        self.add_lines(text, Said::Own);
    }

    /// Lines of what goes as it should.
    pub fn note(&mut self, text: &str) {
        if !self.quiet {
            self.say(text);
        }
    }

    /// Says nothing from now on of what goes as it should, and of a program's exit codes.
    pub fn hush(&mut self) {
        self.quiet = true;
    }

    /// Lines that stand for themselves, such as a checker's drawing.
    pub fn print(&mut self, text: &str) {
        self.add_lines(text, Said::Plain);
    }

    /// How an instance ended.
    pub fn tell_end(&mut self, end: End) {
        let is_helper = end.instance.layer.as_str().starts_with(LayerPlan::RESERVED);
        let is_usual = match end.ending {
            Ending::Exited(code) => end.served && (code == 0 || !is_helper),
            Ending::Killed(_) => false,
        };
        let hushed = self.quiet && is_usual && end.failure.is_none() && end.limit.is_none();
        self.add(MOST_ENDS, ToLayer::Ended { at: now(), end: Box::new(end), hushed });
    }

    fn add_lines(&mut self, text: &str, how: Said) {
        for line in text.lines().flat_map(pieces) {
            self.add(MOST, ToLayer::Say { at: now(), how, text: line.to_owned() });
        }
    }

    fn add(&mut self, most: usize, message: ToLayer) {
        let cost = cost(&message);
        if self.bytes + cost > most {
            self.dropped += 1;
            return;
        }
        self.bytes += cost;
        self.waiting.push_back(message);
    }

    /// In which form lines are written.
    pub fn format(&self) -> LogFormat {
        self.lines.format()
    }

    /// Whether nothing is said of what goes as it should.
    pub fn is_hushed(&self) -> bool {
        self.quiet
    }

    /// Takes what is to be said next.
    pub fn next(&mut self) -> Option<ToLayer> {
        let Some(next) = self.waiting.pop_front() else {
            let text = (self.dropped > 0).then(|| loss(std::mem::take(&mut self.dropped)))?;
            return Some(ToLayer::Say { at: now(), how: Said::Own, text });
        };
        self.bytes -= cost(&next);
        Some(next)
    }

    /// Whether the end of an instance is still to be told.
    pub fn will_tell_end(&self, instance: &Instance) -> bool {
        let is_it = |message: &ToLayer| matches!(message, ToLayer::Ended { end, .. } if end.instance == *instance);
        self.waiting.iter().any(is_it)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.dropped == 0 && self.lines.is_empty()
    }

    /// Writes what standard error takes without blocking.
    pub fn flush(&mut self) {
        loop {
            self.lines.flush();
            if !self.lines.is_empty() {
                return;
            }
            match self.next() {
                Some(ToLayer::Say { how, text, .. }) => self.lines.push_said(how, &text),
                Some(ToLayer::Ended { end, hushed: false, .. }) => {
                    self.lines.say(level(&end), &sentence(&end, ""));
                }
                Some(_) => {}
                None => return,
            }
        }
    }

    /// The form of the lines, and what standard error had no room for, go to the writer of the log,
    /// which writes from now on.
    pub fn hand_over(&mut self) {
        let rest = self.lines.take();
        for piece in pieces(&rest).rev().filter(|piece| !piece.is_empty()) {
            self.put_first(Said::Formed, piece);
        }
        self.put_first(Said::Form(self.lines.format()), "");
    }

    fn put_first(&mut self, how: Said, text: &str) {
        let message = ToLayer::Say { at: now(), how, text: text.to_owned() };
        self.bytes += cost(&message);
        self.waiting.push_front(message);
    }

    /// Standard error, opened so that nobody has to wait for it; or a socket of the journal's.
    pub fn stderr(&self) -> BorrowedFd<'_> {
        self.lines.fd()
    }
}

fn now() -> u64 {
    nanoseconds(ClockId::Monotonic)
}

fn cost(message: &ToLayer) -> usize {
    EACH + match message {
        ToLayer::Say { text, .. } => text.len(),
        ToLayer::Ended { end, .. } => end.failure.as_ref().map_or(0, String::len),
        _ => 0,
    }
}

/// A line in pieces of which each fits into a message, the last first or last.
fn pieces(line: &str) -> impl DoubleEndedIterator<Item = &str> {
    let mut pieces = Vec::new();
    let mut rest = line;
    loop {
        let (piece, more) = rest.split_at(rest.floor_char_boundary(MAX_LINE));
        pieces.push(piece);
        rest = more;
        if rest.is_empty() {
            return pieces.into_iter();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines that are to be said.
    fn all(log: &mut Log) -> Vec<String> {
        let text = |message| match message {
            ToLayer::Say { text, .. } => text,
            other => panic!("{other:?}"),
        };
        std::iter::from_fn(|| log.next()).map(text).collect()
    }

    #[test]
    fn a_long_line_comes_in_pieces_that_fit() {
        let mut log = Log::default();
        log.say(&format!("{}é\nnext", "x".repeat(MAX_LINE - 1)));
        log.say("");
        assert_eq!(all(&mut log), ["x".repeat(MAX_LINE - 1), "é".to_owned(), "next".to_owned()]);
        assert_eq!(log.bytes, 0);
    }

    #[test]
    fn what_waits_is_bounded_and_what_is_dropped_is_counted() {
        let mut log = Log::default();
        let mut said = 0;
        while log.dropped < 7 {
            log.say(&"x".repeat(100));
            said += 1;
        }
        assert!(log.bytes <= MOST);
        let all = all(&mut log);
        assert_eq!(all.len(), said - 7 + 1);
        let told = "7 lines were dropped: nobody reads standard error";
        assert_eq!(all.last().map(String::as_str), Some(told));
        assert!(log.is_empty());
    }
}
