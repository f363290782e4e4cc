//! One writer, many readers, and always the newest whole object.
//!
//! The memory is a head and [`SLOTS`] slots. Objects are numbered from 1; object `n` lies in slot
//! `n % SLOTS` with its number, its length and a digest of both and of its bytes, and the head says
//! which one is the newest. The writer fills the slot that was filled longest ago, and only then
//! names it in the head. So a writer that dies in the middle leaves the head as it was, and a reader
//! is overtaken only by one that publishes three objects while it copies one.
//!
//! A reader believes nothing that it reads there. It copies number, length and digest, looks whether
//! they can be, copies the bytes, and then compares the digest with that of *its copy*. Whatever the
//! writer does meanwhile, the reader ends with bytes that the writer had once given a digest, or it
//! tries again, a bounded number of times, and keeps what it has.

use super::digest::digest;
use crate::mark::reached;
use crate::ring::Cells;
use crate::sys::mapping::WORD;

/// What the first word says of memory that holds slots.
pub const KIND: u64 = u64::from_le_bytes(*b"cfd-slt1");

const AT_KIND: usize = 0;
/// Where the writer's name stands.
pub const AT_WRITER: usize = 8;
/// Where the number of the newest object stands, on a cache line of its own.
pub const AT_NEWEST: usize = 64;
const HEAD: usize = 128;

/// How many slots there are.
pub const SLOTS: usize = 4;

/// Number, length, digest.
const SLOT_HEAD: usize = 3 * WORD;

/// How often a reader begins anew when the writer overtakes it, or seems to.
const TRIES: u32 = 16;

/// A predecessor's number above this is a lie: at a million objects a second it takes 146,000
/// years.
const BELIEVABLE: u64 = 1 << 62;

/// The largest object that memory of `size` bytes takes.
pub const fn capacity(size: usize) -> usize {
    stride(size).saturating_sub(SLOT_HEAD)
}

const fn stride(size: usize) -> usize {
    (size.saturating_sub(HEAD) / SLOTS) & !63
}

fn slot(size: usize, number: u64) -> usize {
    let which = usize::try_from(number % SLOTS as u64).unwrap_or(0);
    HEAD + which * stride(size)
}

/// Prepares memory that is all zeros; false if it is used for something else.
pub fn format(cells: &impl Cells) -> bool {
    let _ = cells.exchange(AT_KIND, 0, KIND);
    reached("region.publish.formatted");
    cells.load(AT_KIND) == KIND
}

/// The number of the last object that was published, for a writer to go on from.
///
/// The writer before may have written anything: its number is believed if there is a whole object
/// under it.
pub fn last(cells: &impl Cells) -> u64 {
    let mut bytes = Vec::new();
    let whole = |number: &u64, bytes: &mut Vec<u8>| {
        (1..BELIEVABLE).contains(number) && copy(cells, *number, bytes).is_some()
    };
    let named = cells.load_acquire(AT_NEWEST);
    if whole(&named, &mut bytes) {
        return named;
    }
    let found = (0..SLOTS as u64).map(|which| cells.load(slot(cells.size(), which)));
    let found = found.filter(|number| whole(number, &mut bytes)).max().unwrap_or(0);
    // The first object, of a writer that died before it named it: nobody has seen it.
    if (named, found) == (0, 1) { 0 } else { found }
}

/// Publishes an object under `number`, and wakes who waits for it. It must fit ([`capacity`]).
pub fn publish(cells: &impl Cells, number: u64, bytes: &[u8]) {
    reached("region.publish.begin");
    let at = slot(cells.size(), number);
    // No reader shall take the old object's number for that of the new bytes.
    cells.store(at, 0);
    reached("region.publish.opened");
    let (first, second) = bytes.split_at((bytes.len() / 2) & !(WORD - 1));
    cells.copy_in(at + SLOT_HEAD, first);
    reached("region.publish.half");
    cells.copy_in(at + SLOT_HEAD + first.len(), second);
    reached("region.publish.copied");
    cells.store(at + WORD, bytes.len() as u64);
    cells.store(at + 2 * WORD, digest(number, bytes));
    reached("region.publish.digested");
    cells.store_release(at, number);
    reached("region.publish.numbered");
    cells.store_release(AT_NEWEST, number);
    reached("region.publish.named");
    cells.wake(AT_NEWEST);
    reached("region.publish.woken");
}

/// A reader's own memory: the last good object, and room for the next.
#[derive(Debug, Default)]
pub struct Reader {
    number: u64,
    good: Vec<u8>,
    next: Vec<u8>,
}

impl Reader {
    /// The number of the object that it has; 0 is none.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The object that it has.
    pub fn bytes(&self) -> &[u8] {
        &self.good
    }

    /// Takes the newest whole object. Says whether it is another one than before.
    #[inline]
    pub fn refresh(&mut self, cells: &impl Cells) -> bool {
        for _ in 0..TRIES {
            let newest = cells.load_acquire(AT_NEWEST);
            reached("region.read.named");
            if newest == self.number || newest == 0 {
                return false;
            }
            if copy(cells, newest, &mut self.next).is_some() {
                std::mem::swap(&mut self.good, &mut self.next);
                self.number = newest;
                reached("region.read.taken");
                return true;
            }
            std::hint::spin_loop();
        }
        false
    }
}

/// Copies the object `number` out, if it is whole.
#[inline]
fn copy(cells: &impl Cells, number: u64, into: &mut Vec<u8>) -> Option<()> {
    let at = slot(cells.size(), number);
    let found = cells.load_acquire(at);
    let length = usize::try_from(cells.load(at + WORD)).ok()?;
    let expected = cells.load(at + 2 * WORD);
    if found != number || length > capacity(cells.size()) {
        return None;
    }
    into.resize(length, 0);
    reached("region.read.measured");
    cells.copy_out(at + SLOT_HEAD, into);
    reached("region.read.copied");
    (digest(number, into) == expected).then_some(())
}
