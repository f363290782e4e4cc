//! What two links say to each other over a connection: frames of a length, a kind and the rest. Nothing
//! in them is secret, and nothing in them is trusted: what they carry is sealed from end to end.

use crate::ident::{Instance, Name};
use crate::wire::limits::RECORD;

/// The most bytes of a frame behind its length.
pub(super) const MOST: usize = RECORD + 16;

/// The most bytes of one that may come before it is proven whose the connection is.
pub(super) const MOST_UNPROVEN: usize = 1024;

/// What every connection begins with.
const MAGIC: &[u8] = b"cofferdam link 1";

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    /// First, from who calls: the daemon, the host that calls and the one that is called.
    Greeting([&'a str; 3]),
    /// From one host's helper to the other's.
    Hosts(&'a [u8]),
    /// A link begins, of which what follows has this number.
    Open(u32, Ends),
    /// A record of a link.
    Record(u32, &'a [u8]),
    /// So many bytes more may be sent on the link that has this number at the other end.
    Credit(u32, u32),
    /// A link has ended; nothing more comes.
    Close(u32),
}

/// Which link it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ends {
    /// The channel's name.
    pub channel: Name,
    /// Who is on the side of whoever says it.
    pub near: Instance,
    /// Who is on the other side.
    pub far: Instance,
    /// Which link between the two hosts.
    pub link: u64,
}

impl Ends {
    /// The same as the other side says it.
    pub fn turned(&self) -> Self {
        let Self { channel, near, far, link } = self.clone();
        Self { channel, near: far, far: near, link }
    }
}

const GREETING: u8 = 0;
const HOSTS: u8 = 1;
const OPEN: u8 = 2;
const RECORD_OF: u8 = 3;
const CREDIT: u8 = 4;
const CLOSE: u8 = 5;

impl<'a> Frame<'a> {
    /// Appends its length and its bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        let begin = out.len();
        out.extend_from_slice(&[0; 4]);
        match self {
            Self::Greeting(names) => {
                out.push(GREETING);
                out.extend_from_slice(MAGIC);
                for name in names {
                    text(name, out);
                }
            }
            Self::Hosts(bytes) => {
                out.push(HOSTS);
                out.extend_from_slice(bytes);
            }
            Self::Open(link, ends) => {
                out.push(OPEN);
                out.extend_from_slice(&link.to_le_bytes());
                text(ends.channel.as_str(), out);
                for instance in [&ends.near, &ends.far] {
                    text(instance.layer.as_str(), out);
                    out.extend_from_slice(&instance.index.to_le_bytes());
                    out.extend_from_slice(&instance.generation.to_le_bytes());
                }
                out.extend_from_slice(&ends.link.to_le_bytes());
            }
            Self::Record(link, bytes) => {
                out.push(RECORD_OF);
                out.extend_from_slice(&link.to_le_bytes());
                out.extend_from_slice(bytes);
            }
            Self::Credit(link, bytes) => {
                out.push(CREDIT);
                out.extend_from_slice(&link.to_le_bytes());
                out.extend_from_slice(&bytes.to_le_bytes());
            }
            Self::Close(link) => {
                out.push(CLOSE);
                out.extend_from_slice(&link.to_le_bytes());
            }
        }
        let length = u32::try_from(out.len() - begin - 4).unwrap_or(u32::MAX);
        out[begin..begin + 4].copy_from_slice(&length.to_le_bytes());
    }

    /// Reads what stands behind a length; `None` for anything that [`write`](Self::write) wouldn't
    /// have written.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let (kind, mut rest) = bytes.split_first()?;
        let frame = match *kind {
            GREETING => {
                rest = rest.strip_prefix(MAGIC)?;
                Self::Greeting([
                    take_text(&mut rest)?,
                    take_text(&mut rest)?,
                    take_text(&mut rest)?,
                ])
            }
            HOSTS => Self::Hosts(std::mem::take(&mut rest)),
            OPEN => {
                let link = u32::from_le_bytes(take(&mut rest)?);
                let channel = Name::new(take_text(&mut rest)?).ok()?;
                let (near, far) = (take_instance(&mut rest)?, take_instance(&mut rest)?);
                let ends = Ends { channel, near, far, link: u64::from_le_bytes(take(&mut rest)?) };
                Self::Open(link, ends)
            }
            RECORD_OF => {
                let link = u32::from_le_bytes(take(&mut rest)?);
                Self::Record(link, std::mem::take(&mut rest))
            }
            CREDIT => {
                let link = u32::from_le_bytes(take(&mut rest)?);
                Self::Credit(link, u32::from_le_bytes(take(&mut rest)?))
            }
            CLOSE => Self::Close(u32::from_le_bytes(take(&mut rest)?)),
            _ => return None,
        };
        rest.is_empty().then_some(frame)
    }
}

fn text(text: &str, out: &mut Vec<u8>) {
    // Names have 48 letters at most.
    out.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(text.as_bytes());
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*bytes)
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let [length] = take(rest)?;
    let (text, after) = rest.split_at_checked(length.into())?;
    *rest = after;
    std::str::from_utf8(text).ok()
}

fn take_instance(rest: &mut &[u8]) -> Option<Instance> {
    let layer = Name::new(take_text(rest)?).ok()?;
    let index = u16::from_le_bytes(take(rest)?);
    Some(Instance { layer, index, generation: u64::from_le_bytes(take(rest)?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends() -> Ends {
        let one = |layer: &str| Instance {
            layer: Name::new(layer).unwrap(),
            index: 3,
            generation: 1 << 40,
        };
        Ends { channel: Name::new("c").unwrap(), near: one("a"), far: one("b"), link: 1 << 33 }
    }

    #[test]
    fn reads_back_what_it_wrote_and_nothing_else() {
        let frames = [
            Frame::Greeting(["d", "a", "b"]),
            Frame::Hosts(&[1, 2, 3]),
            Frame::Open(7, ends()),
            Frame::Record(1 << 20, &[9; 100]),
            Frame::Credit(5, 1 << 18),
            Frame::Close(6),
        ];
        for frame in frames {
            let mut bytes = Vec::new();
            frame.write(&mut bytes);
            let (length, body) = bytes.split_first_chunk().unwrap();
            assert_eq!(u32::from_le_bytes(*length) as usize, body.len());
            assert_eq!(Frame::read(body), Some(frame.clone()));
            if !matches!(frame, Frame::Hosts(_) | Frame::Record(..)) {
                assert_eq!(Frame::read(&body[..body.len() - 1]), None);
                assert_eq!(Frame::read(&[body, &[0]].concat()), None);
            }
        }
        for bytes in [&[][..], &[GREETING, 1], &[OPEN, 0, 0, 0, 0, 200, b'a'], &[99]] {
            assert_eq!(Frame::read(bytes), None);
        }
        assert_eq!(ends().turned().turned(), ends());
    }
}
