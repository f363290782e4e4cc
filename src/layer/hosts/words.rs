//! What the helper with the host's key and the one that carries bytes say to each other. Fixed layout:
//! a tag, the number of the connection, and the rest.

/// From who carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FromLink {
    /// There is a connection to what calls itself that host, or is called as such.
    Opened {
        /// Its number.
        line: u32,
        /// The host's number.
        host: u16,
        /// This host has called.
        calls: bool,
    },
    /// Something came for the other helper.
    Heard {
        /// The connection.
        line: u32,
        /// What.
        bytes: Vec<u8>,
    },
    /// It has ended.
    Closed {
        /// The connection.
        line: u32,
    },
    /// A link that went through it has, and it hasn't.
    Over {
        /// The connection.
        line: u32,
        /// Which link, as bytes.
        bytes: Vec<u8>,
    },
}

/// To who carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ToLink {
    /// Say this to the other host's helper.
    Say {
        /// The connection.
        line: u32,
        /// What.
        bytes: Vec<u8>,
    },
    /// It is that host: links go through it from now on, and through no other.
    Proven {
        /// The connection.
        line: u32,
        /// Which link between the two hosts it is.
        link: u64,
    },
    /// End it.
    Close {
        /// The connection.
        line: u32,
    },
    /// An instance of another host has ended, whose links may not have begun.
    Gone {
        /// The connection to its host.
        line: u32,
        /// The instance, as bytes.
        bytes: Vec<u8>,
    },
}

const OPENED: u8 = 1;
const HEARD: u8 = 2;
const CLOSED: u8 = 3;
const OVER: u8 = 4;
const SAY: u8 = 1;
const PROVEN: u8 = 2;
const CLOSE: u8 = 3;
const GONE: u8 = 4;

impl FromLink {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Opened { line, host, calls } => {
                [&head(OPENED, *line)[..], &host.to_le_bytes(), &[u8::from(*calls)]].concat()
            }
            Self::Heard { line, bytes } => [&head(HEARD, *line)[..], bytes].concat(),
            Self::Closed { line } => head(CLOSED, *line).to_vec(),
            Self::Over { line, bytes } => [&head(OVER, *line)[..], bytes].concat(),
        }
    }

    /// Reads them; `None` for anything else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (tag, line, rest) = split(bytes)?;
        Some(match (tag, rest) {
            (OPENED, [a, b, calls @ (0 | 1)]) => {
                Self::Opened { line, host: u16::from_le_bytes([*a, *b]), calls: *calls == 1 }
            }
            (HEARD, bytes) => Self::Heard { line, bytes: bytes.to_vec() },
            (CLOSED, []) => Self::Closed { line },
            (OVER, bytes) => Self::Over { line, bytes: bytes.to_vec() },
            _ => return None,
        })
    }
}

impl ToLink {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Say { line, bytes } => [&head(SAY, *line)[..], bytes].concat(),
            Self::Proven { line, link } => [&head(PROVEN, *line)[..], &link.to_le_bytes()].concat(),
            Self::Close { line } => head(CLOSE, *line).to_vec(),
            Self::Gone { line, bytes } => [&head(GONE, *line)[..], bytes].concat(),
        }
    }

    /// Reads them; `None` for anything else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (tag, line, rest) = split(bytes)?;
        Some(match (tag, rest) {
            (SAY, bytes) => Self::Say { line, bytes: bytes.to_vec() },
            (PROVEN, rest) => {
                Self::Proven { line, link: u64::from_le_bytes(rest.try_into().ok()?) }
            }
            (CLOSE, []) => Self::Close { line },
            (GONE, bytes) => Self::Gone { line, bytes: bytes.to_vec() },
            _ => return None,
        })
    }
}

fn head(tag: u8, line: u32) -> [u8; 5] {
    let [a, b, c, d] = line.to_le_bytes();
    [tag, a, b, c, d]
}

fn split(bytes: &[u8]) -> Option<(u8, u32, &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (line, rest) = rest.split_first_chunk()?;
    Some((*tag, u32::from_le_bytes(*line), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_it_wrote() {
        let line = 1 << 20;
        for words in [
            FromLink::Opened { line, host: 258, calls: true },
            FromLink::Heard { line, bytes: vec![1, 2] },
            FromLink::Closed { line },
            FromLink::Over { line, bytes: vec![5] },
        ] {
            assert_eq!(FromLink::decode(&words.encode()), Some(words));
        }
        for words in [
            ToLink::Say { line, bytes: vec![3] },
            ToLink::Proven { line, link: 1 << 40 },
            ToLink::Close { line },
            ToLink::Gone { line, bytes: vec![4] },
        ] {
            assert_eq!(ToLink::decode(&words.encode()), Some(words));
        }
        for bytes in [&[][..], &[OPENED, 0, 0, 0, 0], &[CLOSED, 0, 0, 0, 0, 0], &[9, 0, 0, 0, 0]] {
            assert_eq!(FromLink::decode(bytes), None, "{bytes:?}");
        }
    }
}
