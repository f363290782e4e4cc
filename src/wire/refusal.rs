//! What the init of an `exec` layer tells the writer of the log: one call that was refused.
//!
//! It goes through a pipe that holds nothing else, in frames of at most [`MOST`] bytes: a length of
//! two bytes, little-endian, and so many bytes of postcard. A write of that size is never torn
//! (pipe(7)). Whoever has taken over an init may send any bytes: what is read here is bounded, and
//! believed of that layer alone.

use serde::{Deserialize, Serialize};

/// The most bytes of a frame, its length included: `PIPE_BUF` of linux/limits.h.
pub const MOST: usize = 4096;

/// The most bytes of one of its texts.
pub const TEXT: usize = 768;

/// A call that was refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The architecture by whose interface it was made, `AUDIT_ARCH_*`.
    pub arch: u32,
    /// Its number.
    pub number: u32,
    /// Its arguments, as they were in the registers.
    pub arguments: [u64; 6],
    /// The thread that made it, by its number within the layer.
    pub thread: i32,
    /// What became of it.
    pub answer: Answer,
    /// What would have to be declared for it.
    pub lacks: Lacks,
    /// How often the like of it was refused by now, this one included; 0: there was none, and this is
    /// about those that were lost.
    pub times: u64,
    /// Refusals before this one that are told by nothing but this count.
    pub lost: u64,
    /// The call, decoded.
    pub call: String,
    /// The program that made it; empty if that can't be known.
    pub program: String,
    /// The module and the function that made it; empty if that can't be known.
    pub site: String,
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub enum Answer {
    /// Its process was ended.
    #[default]
    Killed,
    /// It failed with this errno.
    Failed(u16),
    /// The kernel answers it, and most likely so.
    Likely(u16),
}

/// What a policy would have to declare for a call.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Lacks {
    /// The call itself.
    #[default]
    Call,
    /// An address to listen on, as policies write it.
    Listen(String),
    /// An address to connect to, as policies write it.
    Connect(String),
    /// A path.
    Path {
        /// Where it is, as the layer sees it.
        path: String,
        /// What would have to be granted there, in the words of policies.
        rights: Vec<String>,
        /// Whether the layer sees it.
        is_seen: bool,
    },
}

impl Refusal {
    /// As a frame. Texts that are too long are cut.
    pub fn encode(mut self) -> Vec<u8> {
        for text in [&mut self.call, &mut self.program, &mut self.site] {
            text.truncate(text.floor_char_boundary(TEXT));
        }
        if let Lacks::Listen(text) | Lacks::Connect(text) | Lacks::Path { path: text, .. } =
            &mut self.lacks
        {
            text.truncate(text.floor_char_boundary(TEXT));
        }
        // Four texts, and numbers of at most ten bytes each: it always fits.
        let bytes = postcard::to_stdvec(&self).unwrap_or_default();
        let length = u16::try_from(bytes.len()).unwrap_or(0);
        [&length.to_le_bytes()[..], &bytes].concat()
    }

    /// Takes the first frame off `bytes`: how many bytes it has, and what it says. `Ok(None)`: it
    /// isn't all there yet.
    ///
    /// # Errors
    /// It is none, and nothing behind it can be told from it.
    pub fn decode(bytes: &[u8]) -> Result<Option<(usize, Self)>, Torn> {
        let Some((length, rest)) = bytes.split_first_chunk() else { return Ok(None) };
        let length = usize::from(u16::from_le_bytes(*length));
        if length == 0 || length > MOST - 2 {
            return Err(Torn);
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        match postcard::take_from_bytes(body) {
            Ok((refusal, [])) => Ok(Some((2 + length, refusal))),
            _ => Err(Torn),
        }
    }
}

/// What a refused call asked for, as its record says it: what a policy is made of later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The call itself, with these arguments.
    Call([u64; 6]),
    /// An address to listen on.
    Listen(String),
    /// An address to connect to.
    Connect(String),
    /// Rights at a path.
    Path {
        /// Where.
        path: String,
        /// In the words of policies.
        rights: Vec<String>,
    },
}

impl Asked {
    /// What a refusal says of it.
    pub fn of(refusal: &Refusal) -> Self {
        match &refusal.lacks {
            Lacks::Call => Self::Call(refusal.arguments),
            Lacks::Listen(address) => Self::Listen(address.clone()),
            Lacks::Connect(address) => Self::Connect(address.clone()),
            Lacks::Path { path, rights, .. } => {
                Self::Path { path: path.clone(), rights: rights.clone() }
            }
        }
    }

    /// Reads what [`Display`](std::fmt::Display) writes.
    pub fn parse(text: &str) -> Option<Self> {
        let (word, rest) = text.split_once(' ')?;
        Some(match word {
            "call" => {
                let hex = |part: &str| u64::from_str_radix(part, 16).ok();
                let arguments: Option<Vec<u64>> = rest.split(',').map(hex).collect();
                Self::Call(arguments?.try_into().ok()?)
            }
            "listen" => Self::Listen(rest.to_owned()),
            "connect" => Self::Connect(rest.to_owned()),
            "path" => {
                let (rights, path) = rest.split_once(' ')?;
                let rights = rights.split(',').filter(|it| !it.is_empty()).map(str::to_owned);
                Self::Path { path: path.to_owned(), rights: rights.collect() }
            }
            _ => return None,
        })
    }
}

impl std::fmt::Display for Asked {
    /// `call 2,1,0,0,0,0` in hexadecimal digits, `listen tcp:127.0.0.1:80`, `path read,list /srv`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Call(arguments) => {
                let words: Vec<String> = arguments.iter().map(|it| format!("{it:x}")).collect();
                write!(f, "call {}", words.join(","))
            }
            Self::Listen(address) => write!(f, "listen {address}"),
            Self::Connect(address) => write!(f, "connect {address}"),
            Self::Path { path, rights } => write!(f, "path {} {path}", rights.join(",")),
        }
    }
}

/// These bytes are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Torn;

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(call: &str) -> Refusal {
        Refusal {
            arch: u32::MAX,
            number: u32::MAX,
            arguments: [u64::MAX; 6],
            thread: i32::MIN,
            answer: Answer::Failed(u16::MAX),
            lacks: Lacks::Connect("é".repeat(2000)),
            times: u64::MAX,
            lost: u64::MAX,
            call: call.to_owned(),
            program: "x".repeat(9999),
            site: "y".repeat(9999),
        }
    }

    #[test]
    fn a_frame_is_read_back_and_always_fits() {
        let small = Refusal {
            lacks: Lacks::Call,
            program: String::new(),
            site: String::new(),
            ..refusal("socket(AF_INET, SOCK_STREAM)")
        };
        let mut bytes = small.clone().encode();
        let first = bytes.len();
        bytes.extend(refusal(&"é".repeat(9999)).encode());
        assert!(bytes.len() - first <= MOST);
        let (length, read) = Refusal::decode(&bytes).unwrap().unwrap();
        assert_eq!((length, read), (first, small));
        let (length, read) = Refusal::decode(&bytes[first..]).unwrap().unwrap();
        assert_eq!((length, read.call.len()), (bytes.len() - first, TEXT));
        for cut in 0..first {
            assert_eq!(Refusal::decode(&bytes[..cut]), Ok(None));
        }
    }

    #[test]
    fn what_is_no_frame_is_said_to_be_none() {
        assert_eq!(Refusal::decode(&[0, 0]), Err(Torn));
        assert_eq!(Refusal::decode(&[255, 255]), Err(Torn));
        let mut longer = refusal("x").encode();
        longer.push(0);
        longer[0] += 1;
        assert_eq!(Refusal::decode(&longer), Err(Torn));
    }

    #[test]
    fn what_was_asked_is_read_as_it_was_written() {
        let rights = ["read", "list"].map(str::to_owned).to_vec();
        for asked in [
            Asked::Call([2, 0x80003, 0, u64::MAX, 0, 7]),
            Asked::Listen("tcp:[::1]:80".to_owned()),
            Asked::Connect("unix:/run/a b".to_owned()),
            Asked::Path { path: "/srv/a b,c".to_owned(), rights },
            Asked::Path { path: "/srv".to_owned(), rights: Vec::new() },
        ] {
            assert_eq!(Asked::parse(&asked.to_string()), Some(asked));
        }
        for none in ["", "call", "call 1,2", "call 1,2,3,4,5,x", "path", "path /srv", "grant x"] {
            assert_eq!(Asked::parse(none), None, "{none}");
        }
    }
}
