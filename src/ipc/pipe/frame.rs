//! The bytes of a sealed stream. No reading or writing here, and no allocation once it has begun.
//!
//! First the handshake's message, then frames: a length of two bytes (little-endian), so many bytes
//! of ciphertext, a tag. The length is authenticated with its frame. A frame of no bytes closes the
//! stream: who doesn't see one knows that something is missing.

use super::error::PipeFault;
use super::report::StreamTap;
use crate::seal::aead::TAG;
use crate::seal::handshake::MESSAGE;
use crate::seal::{SealError, Session};

/// The most bytes in a frame: 16 KiB. A quarter of a pipe of the usual size, so that some can be
/// opened while the next are sealed; the cipher gains nothing from more.
pub(super) const PAYLOAD: usize = 16 << 10;

const LENGTH: usize = 2;
const FRAME: usize = LENGTH + PAYLOAD + TAG;

/// What the writer has sealed and the pipe has not taken yet: at most the handshake and a frame.
pub(super) struct FrameWriter {
    session: Session,
    tap: Option<StreamTap>,
    /// A frame was sealed. Before that there is only the handshake, which waits for it.
    begun: bool,
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl FrameWriter {
    /// A stream that begins with this message, and whose frames are reported.
    pub(super) fn new(session: Session, hello: &[u8; MESSAGE], tap: Option<StreamTap>) -> Self {
        let mut bytes = vec![0; MESSAGE + FRAME].into_boxed_slice();
        bytes[..MESSAGE].copy_from_slice(hello);
        Self { session, tap, begun: false, bytes, start: 0, end: MESSAGE }
    }

    /// What the pipe is to take next. The handshake goes with the first frame.
    pub(super) fn pending(&self) -> &[u8] {
        if self.begun { &self.bytes[self.start..self.end] } else { &[] }
    }

    /// The pipe has taken so many bytes.
    pub(super) fn sent(&mut self, count: usize) {
        self.start += count;
        if self.start >= self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Seals the next frame of `data` and says how much of it that took. Nothing may be
    /// [`pending`](Self::pending). Of no bytes it is the frame that closes the stream.
    pub(super) fn seal(&mut self, data: &[u8]) -> Result<usize, SealError> {
        let data = &data[..data.len().min(PAYLOAD)];
        let length = u16::try_from(data.len()).map_err(|_| SealError::Size)?.to_le_bytes();
        let number = self.session.next_send();
        let room = self.bytes.get_mut(self.end..self.end + LENGTH + data.len() + TAG);
        let frame = room.ok_or(SealError::Size)?;
        let (head, rest) = frame.split_at_mut(LENGTH);
        let (body, tag) = rest.split_at_mut(data.len());
        head.copy_from_slice(&length);
        body.copy_from_slice(data);
        tag.copy_from_slice(&self.session.seal(&length, body)?);
        if let Some(tap) = &self.tap {
            tap.sending(number, frame);
        }
        self.end += LENGTH + data.len() + TAG;
        self.begun = true;
        Ok(data.len())
    }
}

/// Takes the handshake's message up.
type Greet = Box<dyn FnOnce(&[u8; MESSAGE]) -> Result<Session, SealError> + Send>;

/// What came from the writer and was not delivered yet: at most two frames.
pub(super) struct FrameReader {
    phase: Phase,
    tap: Option<StreamTap>,
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
    /// Opened bytes, from `open` to `open_end`; they lie before `start`.
    open: usize,
    open_end: usize,
}

enum Phase {
    Hello(Option<Greet>),
    Frames(Box<Session>),
    Ended,
}

/// What a look at the bytes came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// There are opened bytes to be taken.
    Bytes,
    /// More must come first.
    Nothing,
    /// The writer has closed the stream.
    End,
}

impl FrameReader {
    /// A stream that begins with a message which `greet` takes up, and whose frames are reported.
    pub(super) fn new(greet: Greet, tap: Option<StreamTap>) -> Self {
        let bytes = vec![0; 2 * FRAME].into_boxed_slice();
        let phase = Phase::Hello(Some(greet));
        Self { phase, tap, bytes, start: 0, end: 0, open: 0, open_end: 0 }
    }

    /// Where more bytes go; empty only while there are opened bytes.
    pub(super) fn space(&mut self) -> &mut [u8] {
        if self.open == self.open_end && self.start > 0 && self.bytes.len() - self.start < FRAME {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            (self.start, self.open, self.open_end) = (0, 0, 0);
        }
        &mut self.bytes[self.end..]
    }

    /// So many bytes were put into [`space`](Self::space).
    pub(super) fn filled(&mut self, count: usize) {
        self.end += count;
    }

    /// Bytes of a frame that has not come wholly.
    pub(super) fn partial(&self) -> usize {
        self.end - self.start
    }

    /// Opens the next frame, unless there are opened bytes still.
    pub(super) fn look(&mut self) -> Result<Found, PipeFault> {
        let found = self.open_next();
        if let (Some(tap), Err(fault)) = (&self.tap, &found) {
            let number = match &self.phase {
                Phase::Frames(session) => session.next_receive(),
                Phase::Hello(_) | Phase::Ended => 0,
            };
            tap.refuse(number, fault);
        }
        found
    }

    fn open_next(&mut self) -> Result<Found, PipeFault> {
        loop {
            if self.open < self.open_end {
                return Ok(Found::Bytes);
            }
            let came = &mut self.bytes[self.start..self.end];
            match &mut self.phase {
                Phase::Hello(greet) => {
                    let Some(hello) = came.first_chunk::<MESSAGE>() else {
                        return Ok(Found::Nothing);
                    };
                    let session = greet.take().map_or(Err(SealError::Order), |greet| greet(hello));
                    let session = session.map_err(PipeFault::Handshake)?;
                    self.phase = Phase::Frames(Box::new(session));
                    self.start += MESSAGE;
                }
                Phase::Frames(session) => {
                    let Some(&head) = came.first_chunk::<LENGTH>() else {
                        return Ok(Found::Nothing);
                    };
                    let length = usize::from(u16::from_le_bytes(head));
                    if length > PAYLOAD {
                        return Err(PipeFault::Oversize(length));
                    }
                    let Some(frame) = came.get_mut(..LENGTH + length + TAG) else {
                        return Ok(Found::Nothing);
                    };
                    let number = session.next_receive();
                    let mut open = |frame: &mut [u8]| open(session, frame);
                    let opened = match &self.tap {
                        None => open(frame),
                        Some(tap) => tap.coming(number, frame, open),
                    };
                    opened.map_err(|error| PipeFault::Frame { number, error })?;
                    self.open = self.start + LENGTH;
                    self.open_end = self.open + length;
                    self.start = self.open_end + TAG;
                    if length == 0 {
                        self.phase = Phase::Ended;
                    }
                }
                Phase::Ended if came.is_empty() => return Ok(Found::End),
                Phase::Ended => return Err(PipeFault::AfterEnd),
            }
        }
    }

    /// Moves opened bytes to `out` and says how many.
    pub(super) fn take(&mut self, out: &mut [u8]) -> usize {
        let count = out.len().min(self.open_end - self.open);
        out[..count].copy_from_slice(&self.bytes[self.open..self.open + count]);
        self.open += count;
        count
    }
}

/// Opens a frame where it lies.
fn open(session: &mut Session, frame: &mut [u8]) -> Result<(), SealError> {
    let (head, rest) = frame.split_at_mut(LENGTH);
    let (body, tag) = rest.split_last_chunk_mut::<TAG>().ok_or(SealError::Size)?;
    session.open(head, body, tag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ident::{EdgeId, Instance, Name};
    use crate::seal::{Identity, Introduction, OsChance, one_way};
    use std::sync::Arc;

    fn pair() -> (FrameWriter, FrameReader) {
        let [writer, reader] =
            [(); 2].map(|()| Arc::new(Identity::generate(&mut OsChance).unwrap()));
        let instance =
            |layer| Instance { layer: Name::new(layer).unwrap(), index: 0, generation: 1 };
        let introduction = Introduction {
            edge: EdgeId([7; 32]),
            number: 0,
            channel: "p".into(),
            from: instance("a"),
            to: instance("b"),
        };
        let (to, from) = (reader.public(), writer.public());
        let (session, hello) =
            one_way::begin(writer, &to, &introduction, Box::new(OsChance)).unwrap();
        let greet =
            move |hello: &[u8; MESSAGE]| one_way::accept(reader, &from, &introduction, hello);
        (FrameWriter::new(session, &hello, None), FrameReader::new(Box::new(greet), None))
    }

    /// Carries what is pending over, `step` bytes at a time, and takes what comes out.
    fn carry(out: &mut FrameWriter, incoming: &mut FrameReader, step: usize) -> (Vec<u8>, Found) {
        let (mut got, mut last) = (Vec::new(), Found::Nothing);
        while !out.pending().is_empty() {
            let count = step.min(out.pending().len()).min(incoming.space().len());
            incoming.space()[..count].copy_from_slice(&out.pending()[..count]);
            incoming.filled(count);
            out.sent(count);
            last = incoming.look().unwrap();
            while last == Found::Bytes {
                let mut some = [0; 1000];
                let taken = incoming.take(&mut some);
                got.extend_from_slice(&some[..taken]);
                last = incoming.look().unwrap();
            }
        }
        (got, last)
    }

    #[test]
    fn bytes_come_over_whatever_the_pieces() {
        for step in [1, 7, 4096, 1 << 20] {
            let (mut out, mut incoming) = pair();
            let data: Vec<u8> = (0..100_000_u32).map(|n| n.to_le_bytes()[n as usize % 3]).collect();
            let mut got = Vec::new();
            let mut rest = &data[..];
            while !rest.is_empty() {
                rest = &rest[out.seal(rest).unwrap()..];
                got.extend(carry(&mut out, &mut incoming, step).0);
            }
            assert_eq!(got, data, "{step}");
            out.seal(&[]).unwrap();
            assert_eq!(carry(&mut out, &mut incoming, step), (Vec::new(), Found::End));
            assert_eq!(incoming.partial(), 0);
        }
    }

    /// Where the first frame, of five bytes, ends.
    const FIRST: usize = MESSAGE + LENGTH + 5 + TAG;

    #[test]
    fn what_was_not_sealed_by_the_writer_is_told() {
        let spoil = |spoil: fn(&mut Vec<u8>)| {
            let (mut out, mut incoming) = pair();
            out.seal(b"first").unwrap();
            let mut bytes = out.pending().to_vec();
            out.sent(bytes.len());
            out.seal(b"second").unwrap();
            bytes.extend_from_slice(out.pending());
            spoil(&mut bytes);
            incoming.space()[..bytes.len()].copy_from_slice(&bytes);
            incoming.filled(bytes.len());
            loop {
                match incoming.look() {
                    Ok(Found::Bytes) => drop(incoming.take(&mut [0; 100])),
                    Ok(found) => panic!("{found:?}"),
                    Err(fault) => return fault,
                }
            }
        };
        let error = SealError::NotAuthentic;
        assert_eq!(spoil(|bytes| bytes[0] ^= 1), PipeFault::Handshake(error));
        assert_eq!(spoil(|bytes| bytes[MESSAGE + 2] ^= 1), PipeFault::Frame { number: 0, error });
        assert_eq!(spoil(|bytes| bytes[MESSAGE] = 4), PipeFault::Frame { number: 0, error });
        assert_eq!(spoil(|bytes| bytes[FIRST + 3] ^= 1), PipeFault::Frame { number: 1, error });
        // The first frame again, instead of the second.
        let again = |bytes: &mut Vec<u8>| {
            bytes.truncate(FIRST);
            bytes.extend_from_within(MESSAGE..);
        };
        assert_eq!(spoil(again), PipeFault::Frame { number: 1, error });
        assert_eq!(spoil(|bytes| bytes[MESSAGE + 1] = 0xff), PipeFault::Oversize(0xff05));
    }

    #[test]
    fn nothing_follows_the_end() {
        let (mut out, mut incoming) = pair();
        out.seal(&[]).unwrap();
        let bytes = [out.pending(), b"more"].concat();
        incoming.space()[..bytes.len()].copy_from_slice(&bytes);
        incoming.filled(bytes.len());
        assert_eq!(incoming.look(), Err(PipeFault::AfterEnd));
    }
}
