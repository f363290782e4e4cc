//! Reading a segment's frames one after the other, in memory bounded by the largest one.

use std::fs::File;

use super::entry;
use super::frame::{self, Frame, FrameError};
use super::segment::{self, Header, HeaderError};
use super::store::{self, StoreError};

/// How much is read at once.
const CHUNK: usize = 1 << 20;

/// A segment being read.
#[derive(Debug)]
pub struct Reader {
    file: File,
    name: String,
    buffer: Vec<u8>,
    /// What of the buffer is not consumed.
    from: usize,
    /// Where in the file that begins.
    offset: u64,
    /// Bytes of the frame that was given out last.
    given: usize,
    end: bool,
    /// Where in the file reading stops.
    until: u64,
}

impl Reader {
    /// Reads `file` from `offset` on.
    pub fn new(file: File, name: &str, offset: u64) -> Self {
        let name = name.to_owned();
        Self {
            file,
            name,
            buffer: Vec::new(),
            from: 0,
            offset,
            given: 0,
            end: false,
            until: u64::MAX,
        }
    }

    /// Stops at the offset `until`, as if the file ended there.
    #[must_use]
    pub fn ending(self, until: u64) -> Self {
        Self { until, ..self }
    }

    /// Where the next frame begins.
    pub fn offset(&self) -> u64 {
        self.offset + self.given as u64
    }

    /// Reads the segment's header; to be called first, at offset 0.
    pub fn header(&mut self) -> Result<Result<Header, HeaderError>, StoreError> {
        self.fill(segment::FIXED)?;
        let first = self.buffer.get(..segment::FIXED).map_or(0, |fixed| entry::u64_at(fixed, 56));
        self.fill(Header::length(first))?;
        let header = Header::parse(&self.buffer[self.from..]);
        if let Ok(header) = &header {
            self.given = Header::length(header.before.size());
        }
        Ok(header)
    }

    /// The next frame and where it begins; `None` at the segment's end. After an error the reader
    /// stays where it is until it is told to [`skip`](Self::skip).
    #[expect(clippy::type_complexity, reason = "an end, a place, and whose fault it is")]
    pub fn frame(&mut self) -> Result<Option<(u64, Result<Frame<'_>, FrameError>)>, StoreError> {
        self.skip(0);
        if self.fill(frame::HEAD)? == 0 {
            return Ok(None);
        }
        if let Ok(length) = frame::length(&self.buffer[self.from..]) {
            self.fill(length)?;
        }
        let parsed = frame::parse(&self.buffer[self.from..]);
        self.given = parsed.as_ref().map_or(0, Frame::length);
        Ok(Some((self.offset, parsed)))
    }

    /// Goes on so many bytes behind the last frame.
    pub fn skip(&mut self, bytes: usize) {
        let step = self.given + bytes;
        self.from = (self.from + step).min(self.buffer.len());
        self.offset += step as u64;
        self.given = 0;
    }

    /// Forgets what was read ahead, so that a segment is read on which has grown since.
    pub fn again(&mut self) {
        self.skip(0);
        self.buffer.clear();
        (self.from, self.end) = (0, false);
    }

    /// Goes behind a damaged frame as far as its own head says, if a whole one follows there or the
    /// segment ends there. Says whether it did.
    pub fn skip_frame(&mut self) -> Result<bool, StoreError> {
        self.skip(0);
        self.fill(frame::HEAD)?;
        let Ok(length) = frame::length(&self.buffer[self.from..]) else { return Ok(false) };
        let have = self.fill(length + frame::HEAD)?;
        if have > length {
            let Some(head) = self.buffer.get(self.from + length..) else { return Ok(false) };
            let Ok(next) = frame::length(head) else { return Ok(false) };
            self.fill(length + next)?;
            if frame::parse(&self.buffer[self.from + length..]).is_err() {
                return Ok(false);
            }
        } else if have < length {
            return Ok(false);
        }
        self.skip(length);
        Ok(true)
    }

    /// Has at least `wanted` bytes at hand, or as many as there are; says how many.
    fn fill(&mut self, wanted: usize) -> Result<usize, StoreError> {
        let have = self.buffer.len() - self.from;
        if have >= wanted || self.end {
            return Ok(have);
        }
        self.buffer.copy_within(self.from.., 0);
        self.from = 0;
        let next = self.offset + have as u64;
        let left = usize::try_from(self.until.saturating_sub(next)).unwrap_or(usize::MAX);
        self.buffer.resize(wanted.max(CHUNK).min(have.saturating_add(left)), 0);
        let got = store::read_at(&self.file, &self.name, &mut self.buffer[have..], next)?;
        self.end = have + got < wanted.max(CHUNK);
        self.buffer.truncate(have + got);
        Ok(have + got)
    }
}
