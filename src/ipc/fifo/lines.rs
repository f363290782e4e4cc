//! Making lines of bytes. Bounded whatever the bytes are.

use std::collections::VecDeque;

use super::{Event, Line};

/// Bytes on their way to being lines.
pub(super) struct Lines {
    max: usize,
    begun: Vec<u8>,
    /// The line that has begun is too long, and so dropped up to its end.
    drops: bool,
    ready: VecDeque<Event>,
}

impl Lines {
    /// Lines of at most `max` bytes each.
    pub(super) fn new(max: usize) -> Self {
        Self { max, begun: Vec::new(), drops: false, ready: VecDeque::new() }
    }

    /// Takes in what came.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            let (text, ends) = match piece {
                [text @ .., b'\n'] => (text, true),
                text => (text, false),
            };
            if !self.drops && self.begun.len() + text.len() > self.max {
                self.begun = Vec::new();
                self.drops = true;
                self.ready.push_back(Event::TooLong);
            }
            if !self.drops {
                self.begun.extend_from_slice(text);
            }
            if ends {
                let line = std::mem::take(&mut self.begun);
                if !std::mem::take(&mut self.drops) {
                    self.ready.push_back(Event::Line(Line(line)));
                }
            }
        }
    }

    /// The next event.
    pub(super) fn next(&mut self) -> Option<Event> {
        self.ready.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(max: usize, pieces: &[&[u8]]) -> Vec<Event> {
        let mut lines = Lines::new(max);
        for piece in pieces {
            lines.add(piece);
        }
        std::iter::from_fn(|| lines.next()).collect()
    }

    fn line(bytes: &[u8]) -> Event {
        Event::Line(Line(bytes.to_vec()))
    }

    #[test]
    fn a_line_is_a_line_however_it_comes() {
        let whole = [line(b"one"), line(b""), line(b"t\0w\xff")];
        let bytes = b"one\n\nt\0w\xff\nthr";
        assert_eq!(events(8, &[bytes]), whole);
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(events(8, &single), whole);
    }

    #[test]
    fn a_line_too_long_is_told_once_and_dropped_to_its_end() {
        assert_eq!(events(3, &[b"abc\nabcd\nab\n"]), [line(b"abc"), Event::TooLong, line(b"ab")]);
        let endless = [b"xxxxxxxx"; 1000].map(|piece| &piece[..]);
        assert_eq!(events(3, &endless), [Event::TooLong]);
        assert_eq!(events(3, &[b"abcd", b"\nok\n"]), [Event::TooLong, line(b"ok")]);
    }
}
