//! The record of who is which user: pure text and numbers.
//!
//! ```text
//! cofferdam-users 1
//! daemon web /etc/web/web.toml
//! user 1902834110 web listener/0
//! ```
//!
//! A line that begins with `#` is a comment, and lost when the record is next written.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use super::key::Key;
use crate::ident::Name;

/// The first number that is given. The numbers from here to [`END`] are nobody's by the tables of
/// systemd (<https://systemd.io/UIDS-GIDS/>): container managers' end below, and the users of
/// foreign images begin above. All are below 2^31, which some programs take for the end.
pub const FIRST: u32 = 0x7000_0000;

/// The first number above those that are given.
///
/// It is nobody's itself, for whoever wants to be nobody for a moment.
pub const END: u32 = 0x7ffd_ffff;

/// The first line.
const TITLE: &str = "cofferdam-users 1";

/// A copy of a layer of a daemon.
type Whose = (Key, Name, u16);

/// Which users the layers of this machine's daemons are, for ever.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// Where each daemon's policy lay when it last started.
    homes: BTreeMap<Key, String>,
    numbers: BTreeMap<Whose, u32>,
    owners: BTreeMap<u32, Whose>,
}

/// A line that no record has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadLine {
    /// Counted from 1.
    pub(super) line: usize,
    pub(super) what: &'static str,
}

impl Record {
    /// Reads a record's text. It is all or nothing: what is lost would be given away again.
    pub(super) fn parse(text: &str) -> Result<Self, BadLine> {
        let mut record = Self::default();
        let mut lines = (1..).zip(text.lines());
        let bad = |line, what| BadLine { line, what };
        match lines.next() {
            Some((_, TITLE)) => {}
            _ => return Err(bad(1, "the first line isn't \"cofferdam-users 1\"")),
        }
        for (line, text) in lines.filter(|(_, text)| !text.is_empty() && !text.starts_with('#')) {
            record.line(text).map_err(|what| bad(line, what))?;
        }
        if text.ends_with('\n') {
            Ok(record)
        } else {
            Err(bad(text.lines().count(), "the last line is cut off"))
        }
    }

    /// Reads what a record's text says of the daemons of some names, and looks at no other line but
    /// the first one and the last: a daemon starts as fast on a machine that has seen thousands.
    ///
    /// Whether a number is free it can't tell; who gives one reads the whole record.
    pub(super) fn parse_of(text: &str, names: &[&str]) -> Result<Self, BadLine> {
        let bad = |line, what| BadLine { line, what };
        if text.lines().next() != Some(TITLE) {
            return Err(bad(1, "the first line isn't \"cofferdam-users 1\""));
        }
        if !text.ends_with('\n') {
            return Err(bad(text.lines().count(), "the last line is cut off"));
        }
        let mut record = Self::default();
        for name in names {
            let needle = format!(" {name}");
            let mut next = 0;
            while let Some(found) = text[next..].find(&needle).map(|at| next + at) {
                let start = text[..found].rfind('\n').map_or(0, |at| at + 1);
                let end = text[found..].find('\n').map_or(text.len(), |at| found + at);
                next = end;
                let line = &text[start..end];
                if !is_of(line, name) {
                    continue;
                }
                record.line(line).map_err(|what| bad(text[..end].lines().count(), what))?;
            }
        }
        Ok(record)
    }

    fn line(&mut self, text: &str) -> Result<(), &'static str> {
        if let Some((key, home)) = text.strip_prefix("daemon ").and_then(|it| it.split_once(' ')) {
            let key = key.parse().map_err(|()| "no daemon has this name")?;
            return match self.homes.insert(key, home.to_owned()) {
                None => Ok(()),
                Some(_) => Err("the daemon has a line already"),
            };
        }
        let fields =
            text.strip_prefix("user ").ok_or("it begins with neither `daemon` nor `user`")?;
        let mut fields = fields.split(' ');
        let mut next = || fields.next().ok_or("a field is missing");
        let (number, key, copy) = (next()?, next()?, next()?);
        if next().is_ok() {
            return Err("there are too many fields");
        }
        let number = number.parse().ok().filter(|it| (FIRST..END).contains(it));
        let number = number.ok_or("the number isn't one that cofferdam gives")?;
        let key = key.parse().map_err(|()| "no daemon has this name")?;
        let (layer, copy) = copy.split_once('/').ok_or("a layer is written NAME/COPY")?;
        let layer = Name::new(layer).map_err(|_| "no layer has this name")?;
        let copy = copy.parse().map_err(|_| "a copy is a number")?;
        self.insert((key, layer, copy), number)
    }

    fn insert(&mut self, whose: Whose, number: u32) -> Result<(), &'static str> {
        if self.owners.insert(number, whose.clone()).is_some() {
            return Err("the number has another owner already");
        }
        match self.numbers.insert(whose, number) {
            None => Ok(()),
            Some(_) => Err("the copy has a number already"),
        }
    }

    /// Where the daemon's policy lay.
    pub(super) fn home(&self, key: &Key) -> Option<&str> {
        self.homes.get(key).map(String::as_str)
    }

    /// Notes where the daemon's policy lies; whether that is news.
    pub(super) fn note_home(&mut self, key: &Key, home: &str) -> bool {
        self.homes.insert(key.clone(), home.to_owned()).as_deref() != Some(home)
    }

    /// How many numbers are given.
    pub(super) fn len(&self) -> usize {
        self.owners.len()
    }

    /// Who has `number`.
    pub(super) fn owner(&self, number: u32) -> Option<&(Key, Name, u16)> {
        self.owners.get(&number)
    }

    /// The number of a copy, if it has one.
    pub(super) fn number(&self, key: &Key, layer: &Name, copy: u16) -> Option<u32> {
        self.numbers.get(&(key.clone(), layer.clone(), copy)).copied()
    }

    /// The number of a copy, which it keeps from now on. `None`: all are given.
    ///
    /// It follows from the names alone where nobody else has it, so that a machine whose record
    /// was lost most probably comes to the same again.
    pub(super) fn assign(&mut self, key: &Key, layer: &Name, copy: u16) -> Option<u32> {
        if let Some(number) = self.number(key, layer, copy) {
            return Some(number);
        }
        let count = END - FIRST;
        let begin =
            u32::try_from(hash(&format!("{key}/{layer}/{copy}")) % u64::from(count)).ok()?;
        let number = (0..count)
            .map(|step| FIRST + (begin + step) % count)
            .find(|number| !self.owners.contains_key(number))?;
        self.insert((key.clone(), layer.clone(), copy), number).ok()?;
        Some(number)
    }
}

/// Whether a line is about the daemon of that name, or another one of the name: `web`, `web+2`.
fn is_of(line: &str, name: &str) -> bool {
    let mut fields = line.split(' ');
    let key = match fields.next() {
        Some("daemon") => fields.next(),
        Some("user") => fields.nth(1),
        _ => None,
    };
    let rest = key.and_then(|key| key.strip_prefix(name));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('+'))
}

/// FNV-1a, of 64 bits.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The text that [`Record::parse`] reads.
impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{TITLE}")?;
        for (key, home) in &self.homes {
            write!(f, "daemon {key} ")?;
            home.chars()
                .map(|c| if c.is_control() { '?' } else { c })
                .try_for_each(|c| f.write_char(c))?;
            writeln!(f)?;
        }
        for ((key, layer, copy), number) in &self.numbers {
            writeln!(f, "user {number} {key} {layer}/{copy}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        text.parse().unwrap()
    }

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        let mut record = Record::default();
        assert!(record.note_home(&key("web"), "/etc/a b/web.toml"));
        assert!(!record.note_home(&key("web"), "/etc/a b/web.toml"));
        record.assign(&key("web"), &name("listener"), 0).unwrap();
        record.assign(&key("web+2"), &name("listener"), 63).unwrap();
        assert_eq!(Record::parse(&record.to_string()), Ok(record.clone()));
        record.note_home(&key("x"), "/a\nuser 1 x y/0");
        let read = Record::parse(&record.to_string()).unwrap();
        assert_eq!(read.home(&key("x")), Some("/a?user 1 x y/0"));
    }

    /// Of one daemon the same is read as of all.
    #[test]
    fn one_daemon_is_read_without_the_others() {
        let mut record = Record::default();
        for daemon in ["web", "web+2", "webs", "we", "other"] {
            record.note_home(&key(daemon), &format!("/etc/a web/{daemon} web+2"));
            for layer in ["web", "listener"] {
                record.assign(&key(daemon), &name(layer), 0).unwrap();
            }
        }
        let text = record.to_string();
        let part = Record::parse_of(&text, &["web"]).unwrap();
        assert_eq!(part.len(), 4);
        for daemon in ["web", "web+2"] {
            assert_eq!(part.home(&key(daemon)), record.home(&key(daemon)));
            for layer in ["web", "listener"] {
                let number = part.number(&key(daemon), &name(layer), 0);
                assert_eq!(number, record.number(&key(daemon), &name(layer), 0));
            }
        }
        assert_eq!(part.home(&key("webs")), None);
        assert_eq!(Record::parse_of(&text, &["web", "other"]).unwrap().len(), 6);
        assert_eq!(Record::parse_of(&text, &["none"]), Ok(Record::default()));
        let cut = &text[..text.len() - 1];
        assert!(Record::parse_of(cut, &["web"]).is_err());
        let bad = text.replace("web listener/0", "web listener");
        assert!(Record::parse_of(&bad, &["web"]).unwrap_err().what.contains("NAME/COPY"));
        assert!(Record::parse_of(&bad, &["none"]).is_ok());
        assert!(Record::parse_of("cofferdam-users 2\n", &["web"]).is_err());
    }

    /// The largest plan: 1,024 layers of 64 copies.
    #[test]
    fn nobody_gets_anothers_number() {
        let mut record = Record::default();
        let layers: Vec<Name> = (0..1024).map(|it| name(&format!("l{it}"))).collect();
        let mut all = std::collections::BTreeSet::new();
        for (daemon, layers) in [("a", &layers[..]), ("b", &layers[..9]), ("a+2", &layers[..9])] {
            for layer in layers {
                for copy in 0..64 {
                    let number = record.assign(&key(daemon), layer, copy).unwrap();
                    assert!((FIRST..END).contains(&number));
                    assert!(all.insert(number), "{number} is given twice");
                }
            }
        }
        // As ever, however much was added, and after it was read again.
        let again = Record::parse(&record.to_string()).unwrap();
        for layer in &layers {
            assert_eq!(again.number(&key("a"), layer, 9), record.number(&key("a"), layer, 9));
        }
    }

    #[test]
    fn a_number_that_another_has_is_passed_over() {
        let mut record = Record::default();
        let number = record.assign(&key("web"), &name("a"), 0).unwrap();
        let text = format!("{TITLE}\nuser {number} other z/7\n");
        let mut taken = Record::parse(&text).unwrap();
        assert_eq!(taken.assign(&key("web"), &name("a"), 0), Some(number + 1));
        assert_eq!(taken.owner(number), Some(&(key("other"), name("z"), 7)));
    }

    #[test]
    fn a_broken_record_is_refused_as_a_whole() {
        for (text, line, what) in [
            ("", 1, "first line"),
            ("cofferdam-users 2\n", 1, "first line"),
            ("cofferdam-users 1\nuser 1879048192 a b/0", 2, "cut off"),
            ("cofferdam-users 1\nuser 0 a b/0\n", 2, "isn't one"),
            (
                "cofferdam-users 1\nuser 1879048192 a b/0\nuser 1879048192 a c/0\n",
                3,
                "another owner",
            ),
            (
                "cofferdam-users 1\nuser 1879048192 a b/0\nuser 1879048193 a b/0\n",
                3,
                "a number already",
            ),
            ("cofferdam-users 1\nuser 1879048192 a b\n", 2, "NAME/COPY"),
            ("cofferdam-users 1\nuser 1879048192 a b/0 x\n", 2, "too many"),
            ("cofferdam-users 1\nuser 1879048192 a\n", 2, "missing"),
            ("cofferdam-users 1\ndaemon A /x\n", 2, "no daemon"),
            ("cofferdam-users 1\ndaemon a /x\ndaemon a /y\n", 3, "already"),
            ("cofferdam-users 1\nelse\n", 2, "neither"),
        ] {
            let error = Record::parse(text).unwrap_err();
            assert_eq!(error.line, line, "{text:?}");
            assert!(error.what.contains(what), "{text:?}: {}", error.what);
        }
    }
}
