//! What a mapped file looks like, and how a commit changes it.
//!
//! ```text
//! 0      header A   magic, generation, length, digest of the content, file size, check
//! 2048   the writer's name, until the daemon starts anew
//! 4096   header B
//! 8192   content A
//! ...    content B
//! ```
//!
//! The generation decides the half: even ones lie in A, odd ones in B. The valid header with the
//! larger generation is the file's state. A commit writes the content of the *other* half, has the
//! disk take it if the file is durable, and only then writes that half's header. So at every instant
//! one half is whole: before the header is, the old one counts; afterwards the new one. A header
//! that is written in part fails its check, and content that never reached the disk (a file that
//! isn't durable, and a power cut) fails its digest; then the other half is there.

use std::io;

use crate::ipc::region::digest;
use crate::mark::reached;
use crate::ring::Cells;
use crate::sys::mapping::WORD;

/// `cfd-map`, version 1.
const MAGIC: u64 = u64::from_le_bytes(*b"cfd-map1");
/// The magic number without its last byte, the version.
const ANY_VERSION: u64 = MAGIC & 0x00ff_ffff_ffff_ffff;

const HEADER: [usize; 2] = [0, 4096];
/// Where the writer's name stands.
pub const AT_WRITER: usize = 2048;
const CONTENT: usize = 8192;

/// How much of a file shows what it is.
pub const HEAD: usize = CONTENT;

const PAGE: usize = 4096;

/// How many words a header has.
const WORDS: usize = 6;

/// The smallest file, in bytes.
pub const SMALLEST: u64 = (CONTENT + 2 * PAGE) as u64;

/// How often a reader begins anew when the writer overtakes it.
const TRIES: u32 = 16;

/// The largest content of a file of `size` bytes: half of it, less 4 KiB.
pub const fn capacity(size: usize) -> usize {
    (size.saturating_sub(CONTENT) / 2) & !(PAGE - 1)
}

/// A header that passes its check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// How many commits there have been.
    pub generation: u64,
    /// How long the content is, in bytes.
    pub length: usize,
    digest: u64,
}

/// What a file begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing but zeros where the headers would be: new, or its making was interrupted.
    Blank,
    /// A mapped file.
    Ours,
    /// A mapped file of a version that this program doesn't know.
    OtherVersion,
    /// Something else.
    Foreign,
}

impl Header {
    /// The words of a header, its check last.
    fn words(&self, size: usize) -> [u64; WORDS] {
        let mut words = [MAGIC, self.generation, self.length as u64, self.digest, size as u64, 0];
        words[WORDS - 1] = check(&words);
        words
    }

    fn from_words(words: &[u64; WORDS], half: usize, size: usize) -> Option<Self> {
        let [magic, generation, length, digest, file, sum] = *words;
        let length = usize::try_from(length).ok()?;
        let valid = magic == MAGIC
            && sum == check(words)
            && file == size as u64
            && half_of(generation) == half
            && length <= capacity(size);
        valid.then_some(Self { generation, length, digest })
    }

    fn read(cells: &impl Cells, half: usize) -> Option<Self> {
        let mut words = [0; WORDS];
        for (at, word) in (HEADER[half]..).step_by(WORD).zip(&mut words) {
            *word = cells.load_acquire(at);
        }
        Self::from_words(&words, half, cells.size())
    }

    fn content(&self, size: usize) -> usize {
        CONTENT + half_of(self.generation) * capacity(size)
    }
}

fn check(words: &[u64; WORDS]) -> u64 {
    let bytes: Vec<u8> = words[..WORDS - 1].iter().flat_map(|word| word.to_le_bytes()).collect();
    digest(MAGIC, &bytes)
}

fn half_of(generation: u64) -> usize {
    usize::from(generation % 2 == 1)
}

/// The bytes with which a new file begins: an empty content, generation 0.
pub fn blank(size: usize) -> Vec<u8> {
    let header = Header { generation: 0, length: 0, digest: digest(0, b"") };
    header.words(size).iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// What a file is, by its first 8 KiB.
pub fn kind(head: &[u8]) -> Kind {
    let magic = |half: usize| {
        let bytes = head.get(HEADER[half]..HEADER[half] + WORD)?;
        Some(u64::from_ne_bytes(bytes.try_into().ok()?))
    };
    let magics = [magic(0), magic(1)].map(Option::unwrap_or_default);
    if magics.contains(&MAGIC) {
        Kind::Ours
    } else if magics.iter().any(|magic| magic & 0x00ff_ffff_ffff_ffff == ANY_VERSION) {
        Kind::OtherVersion
    } else if head.iter().all(|byte| *byte == 0) {
        Kind::Blank
    } else {
        Kind::Foreign
    }
}

/// The headers that pass their checks, the newer one first.
fn headers(cells: &impl Cells) -> [Option<Header>; 2] {
    let mut found = [0, 1].map(|half| Header::read(cells, half));
    found.sort_by_key(|header| std::cmp::Reverse(header.map(|header| header.generation)));
    found
}

/// The generation that counts, by the headers alone.
pub fn generation(cells: &impl Cells) -> Option<u64> {
    headers(cells)[0].map(|header| header.generation)
}

/// Copies the newest whole content out, and tells its header; `None` if neither half is whole.
pub fn read(cells: &impl Cells, into: &mut Vec<u8>) -> Option<Header> {
    let mut seen = [None; 2];
    for _ in 0..TRIES {
        let headers = headers(cells);
        reached("mapped-file.read.headers");
        let newer = headers[0]?;
        if copy(cells, &newer, into) {
            return Some(newer);
        }
        // Overtaken by a commit, or never written whole? If the headers stand still, the latter.
        if headers == seen {
            let older = headers[1]?;
            reached("mapped-file.read.older");
            return copy(cells, &older, into).then_some(older);
        }
        seen = headers;
    }
    None
}

fn copy(cells: &impl Cells, header: &Header, into: &mut Vec<u8>) -> bool {
    into.resize(header.length, 0);
    cells.copy_out(header.content(cells.size()), into);
    reached("mapped-file.read.copied");
    digest(header.generation, into) == header.digest
}

/// Makes `content` the file's content in place of that of generation `from`, which is whole. It
/// must fit ([`capacity`]). An error says that the disk failed, and the old content counts still.
pub fn commit(cells: &impl Cells, from: u64, content: &[u8], durable: bool) -> io::Result<u64> {
    reached("mapped-file.commit.begin");
    let generation = from.wrapping_add(1);
    let (half, size) = (half_of(generation), cells.size());
    // A header that stands here belongs to content that is about to go.
    cells.store(HEADER[half], 0);
    reached("mapped-file.commit.voided");
    let header = Header { generation, length: content.len(), digest: digest(generation, content) };
    let at = header.content(size);
    let (first, second) = content.split_at((content.len() / 2) & !(WORD - 1));
    cells.copy_in(at, first);
    reached("mapped-file.commit.half");
    cells.copy_in(at + first.len(), second);
    reached("mapped-file.commit.copied");
    if durable {
        cells.sync(at, content.len())?;
        reached("mapped-file.commit.content-synced");
    }
    let words = header.words(size);
    // The magic number last: with it the header begins to count.
    for (index, word) in words.iter().enumerate().skip(1) {
        cells.store(HEADER[half] + index * WORD, *word);
        if index == 3 {
            reached("mapped-file.commit.header-half");
        }
    }
    reached("mapped-file.commit.header-copied");
    cells.store_release(HEADER[half], words[0]);
    reached("mapped-file.commit.counted");
    if durable {
        cells.sync(HEADER[half], WORDS * WORD)?;
        reached("mapped-file.commit.header-synced");
    }
    Ok(generation)
}

#[cfg(test)]
#[path = "format/tests.rs"]
mod tests;
