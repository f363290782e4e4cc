//! What somebody who watches has asked for by keys: which part, in which order, and only what.

use super::view::{Row, Seat};

/// By what edges are sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    /// The busiest first.
    #[default]
    Rate,
    Name,
    /// The most messages first.
    All,
    /// The slowest first.
    Slow,
    /// The most refused first.
    Refused,
}

impl Sort {
    const ALL: [Self; 5] = [Self::Rate, Self::Name, Self::All, Self::Slow, Self::Refused];

    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Name => "name",
            Self::All => "all",
            Self::Slow => "99 %",
            Self::Refused => "refused",
        }
    }
}

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    /// How many of the instances and of the edges are passed over.
    pub(super) from: usize,
    pub(super) sort: Sort,
    /// Only what has this in its name.
    pub(super) filter: String,
    /// The filter is being typed.
    pub(super) typing: bool,
    pub(super) help: bool,
}

/// What keys do, for `?`.
pub(super) const KEYS: [(&str, &str); 6] = [
    ("j k, arrows", "a line down, up"),
    ("space b, page keys", "ten lines down, up"),
    ("g", "to the beginning"),
    ("s", "sort edges by rate, name, all, 99 %, refused"),
    ("/", "only what has this in its name; Enter ends, Escape takes it back"),
    ("q", "quit; so do Escape and Ctrl-C"),
];

impl Asked {
    /// Takes what was typed, which may be several keys. False: to quit.
    pub(super) fn take(&mut self, mut keys: &[u8]) -> bool {
        while !keys.is_empty() {
            let (key, rest) = keys.split_at(length(keys));
            if !self.key(key) {
                return false;
            }
            keys = rest;
        }
        true
    }

    fn key(&mut self, keys: &[u8]) -> bool {
        if self.typing {
            return self.type_in(keys);
        }
        if self.help {
            self.help = false;
            return !matches!(keys, [3 | 4]);
        }
        let (down, up) = (|from: usize, by| from.saturating_add(by), usize::saturating_sub);
        match keys {
            [b'q' | b'Q' | 3 | 4 | 27] => return false,
            b"j" | b"\x1b[B" | b"\x1bOB" => self.from = down(self.from, 1),
            b"k" | b"\x1b[A" | b"\x1bOA" => self.from = up(self.from, 1),
            b" " | b"\x1b[6~" => self.from = down(self.from, 10),
            b"b" | b"\x1b[5~" => self.from = up(self.from, 10),
            b"g" | b"\x1b[H" | b"\x1b[1~" => self.from = 0,
            b"s" => {
                let at = Sort::ALL.iter().position(|it| *it == self.sort).unwrap_or(0);
                self.sort = Sort::ALL[(at + 1) % Sort::ALL.len()];
            }
            b"/" => (self.typing, self.from) = (true, 0),
            b"?" | b"h" => self.help = true,
            _ => {}
        }
        true
    }

    fn type_in(&mut self, keys: &[u8]) -> bool {
        match keys {
            [3 | 4] => return false,
            [27] => (self.typing, self.filter) = (false, String::new()),
            [b'\r' | b'\n'] => self.typing = false,
            [8 | 127] => drop(self.filter.pop()),
            [key @ 0x20..0x7f] => self.filter.push(char::from(*key)),
            _ => {}
        }
        true
    }

    /// The instances that are asked for.
    pub(super) fn seats<'a>(&self, all: impl Iterator<Item = &'a Seat>) -> Vec<&'a Seat> {
        all.filter(|seat| seat.name.contains(&self.filter)).collect()
    }

    /// The edges that are asked for, in order.
    pub(super) fn rows(&self, mut all: Vec<Row>) -> Vec<Row> {
        all.retain(|row| row.name.contains(&self.filter));
        let slow = |row: &Row| row.edge.all.latency.quantile(990).unwrap_or(0);
        match self.sort {
            // As they come.
            Sort::Rate => {}
            Sort::Name => all.sort_by(|a, b| a.name.cmp(&b.name)),
            Sort::All => all.sort_by_key(|row| std::cmp::Reverse(row.edge.all.messages())),
            Sort::Slow => all.sort_by_key(|row| std::cmp::Reverse(slow(row))),
            Sort::Refused => all.sort_by_key(|row| std::cmp::Reverse(row.edge.all.refused)),
        }
        all
    }
}

/// How many bytes the first key has: one, but for the sequences that begin with Escape.
fn length(keys: &[u8]) -> usize {
    match keys {
        [27, b'[' | b'O', rest @ ..] => {
            let end = rest.iter().position(|it| matches!(it, 0x40..=0x7e));
            end.map_or(keys.len(), |end| end + 3)
        }
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_ask_for_a_part_an_order_and_a_name() {
        let mut asked = Asked::default();
        for keys in [&b"j"[..], b"\x1b[B", b" ", b"k"] {
            assert!(asked.take(keys));
        }
        assert_eq!(asked.from, 11);
        assert!(asked.take(b"b") && asked.take(b"b"));
        assert_eq!(asked.from, 0);
        assert!(asked.take(b"s"));
        assert_eq!(asked.sort, Sort::Name);
        (0..4).for_each(|_| assert!(asked.take(b"s")));
        assert_eq!(asked.sort, Sort::Rate);
        // What is typed is no key.
        assert!(asked.take(b"/") && asked.take(b"q") && asked.take(b"sx\x7f\r"));
        assert_eq!((asked.filter.as_str(), asked.typing), ("qs", false));
        assert!(asked.take(b"/") && asked.take(b"\x1b"));
        assert_eq!((asked.filter.as_str(), asked.typing), ("", false));
        assert!(asked.take(b"?") && asked.help);
        assert!(asked.take(b"q") && !asked.help, "any key ends the help");
        assert!(!asked.take(b"q"));
        assert!(!asked.take(b"\x1b") && !asked.take(b"\x03"));
        assert!(asked.take(b"/") && !asked.take(b"\x03"));
        // Whoever types fast, or sends it.
        let mut asked = Asked::default();
        assert!(asked.take(b"\x1b[Bj/keep\rs\x1b[6~"));
        assert_eq!((asked.filter.as_str(), asked.sort, asked.from), ("keep", Sort::Name, 10));
        assert!(!asked.take(b"jq"));
    }
}
