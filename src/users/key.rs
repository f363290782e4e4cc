//! By what a daemon's users are kept: its name, or `NAME+2` for another daemon of that name.

use std::fmt;
use std::str::FromStr;

use crate::ident::Name;

/// The most daemons of one name.
pub(super) const MOST: u16 = 1_000;

/// A daemon, among all of this machine.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    name: Name,
    /// 1 for the first of the name.
    number: u16,
}

impl Key {
    /// The daemon of that number of the name.
    pub(super) fn new(name: &Name, number: u16) -> Self {
        Self { name: name.clone(), number }
    }

    /// Every daemon that may have the name.
    pub(super) fn all(name: &Name) -> impl Iterator<Item = Self> {
        (1..=MOST).map(|number| Self::new(name, number))
    }

    /// The name that it shares with others.
    pub(super) fn name(&self) -> &str {
        self.name.as_str()
    }

    /// Whether it isn't the first of its name.
    pub(super) fn is_another(&self) -> bool {
        self.number > 1
    }

    /// The first daemon of the name.
    pub(super) fn first(&self) -> Self {
        Self::new(&self.name, 1)
    }
}

/// `web`, or `web+2`.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            1 => write!(f, "{}", self.name),
            number => write!(f, "{}+{number}", self.name),
        }
    }
}

impl FromStr for Key {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (name, number) = match text.split_once('+') {
            None => (text, 1),
            Some((name, number)) => (name, number.parse().map_err(|_| ())?),
        };
        let key = Self { name: Name::new(name).map_err(|_| ())?, number };
        // One spelling for each: not `web+1`, not `web+02`.
        if key.to_string() == text && (1..=MOST).contains(&number) { Ok(key) } else { Err(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_spelling() {
        for good in ["web", "web+2", "a-b+1000"] {
            assert_eq!(good.parse::<Key>().unwrap().to_string(), good);
        }
        for bad in ["", "web+", "web+0", "web+1", "web+02", "web+1001", "web+2+2", "Web", "a b"] {
            assert!(bad.parse::<Key>().is_err(), "{bad}");
        }
    }
}
