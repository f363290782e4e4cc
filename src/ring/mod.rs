//! A ring of bytes between one producer and one consumer, which believe each other nothing.
//!
//! The head of the memory holds two positions, counted in bytes from the ring's beginning and never
//! wrapping: up to where the producer has written, and up to where the consumer has read. Each end
//! keeps its own position in private memory and only tells it there; it reads the other's once,
//! checks the copy, and uses the copy. A message is a word with its length and a tag made of its
//! position, and its bytes, filled up to a whole word; it may run over the end to the beginning.
//!
//! An end that is about to sleep says so, looks once more, and sleeps; the other one looks for that
//! after it has told its position. Of the two looks at least one sees (there is a barrier between
//! telling and looking on both sides), so no wake-up is lost, and while nobody sleeps, nobody makes
//! a system call.

pub mod cells;

pub use self::cells::Cells;
use crate::mark::reached;
use crate::sys::mapping::WORD;

/// What the first word says of memory that holds a ring.
pub const KIND: u64 = u64::from_le_bytes(*b"cfd-rng1");

const AT_KIND: usize = 0;
/// Where the producer's name stands.
pub const AT_PRODUCER: usize = 8;
/// Where the consumer's name stands.
pub const AT_CONSUMER: usize = 16;
// Each on a cache line of its own.
const AT_WRITTEN: usize = 64;
const AT_READ: usize = 128;
/// Where the producer says that it sleeps.
pub const AT_PRODUCER_SLEEPS: usize = 192;
/// Where the consumer says that it sleeps.
pub const AT_CONSUMER_SLEEPS: usize = 256;
const HEAD: usize = 320;

/// Why an end stops believing the other.
pub type Fault = &'static str;

const POSITION: Fault = "its position is impossible";
const FRAME: Fault = "what it wrote is no message";

/// How many bytes the ring of memory of `size` bytes holds, heads of messages included.
pub const fn room(size: usize) -> usize {
    size.saturating_sub(HEAD) & !(WORD - 1)
}

/// The largest message.
pub const fn capacity(size: usize) -> usize {
    let most = room(size).saturating_sub(WORD);
    if most > u32::MAX as usize { u32::MAX as usize } else { most }
}

/// How many bytes the positions say are in use, heads of messages included: for a guess, since
/// nobody has checked them. No more than there are.
pub fn used(cells: &impl Cells) -> usize {
    let used = cells.load(AT_WRITTEN).wrapping_sub(cells.load(AT_READ));
    usize::try_from(used).map_or(0, |used| if used > room(cells.size()) { 0 } else { used })
}

/// Prepares memory that is all zeros; false if it is used for something else.
pub fn format(cells: &impl Cells) -> bool {
    let _ = cells.exchange(AT_KIND, 0, KIND);
    reached("region.ring.formatted");
    cells.load(AT_KIND) == KIND
}

/// A cursor in the ring: a position, and where that is.
#[derive(Clone, Copy, Debug, Default)]
struct Cursor {
    position: u64,
    index: usize,
}

impl Cursor {
    fn at(position: u64, room: usize) -> Self {
        let index = usize::try_from(position % room.max(1) as u64).unwrap_or(0);
        Self { position, index }
    }

    #[inline]
    fn after(self, bytes: usize, room: usize) -> Self {
        let index = self.index + bytes;
        let index = if index >= room { index - room } else { index };
        Self { position: self.position.wrapping_add(bytes as u64), index }
    }
}

/// The end that writes.
#[derive(Debug)]
pub struct Producer {
    written: Cursor,
    /// Up to where the consumer has read, as far as we know.
    read: u64,
    room: usize,
}

impl Producer {
    /// Goes on where the producer before stopped. Where the two positions can't be, what is in the
    /// ring is given up.
    pub fn resume(cells: &impl Cells) -> Self {
        let room = room(cells.size());
        let read = cells.load_acquire(AT_READ);
        let written = cells.load(AT_WRITTEN);
        let possible = written.is_multiple_of(8) && written.wrapping_sub(read) <= room as u64;
        let written = if possible { written } else { read & !7 };
        cells.store_release(AT_WRITTEN, written);
        reached("region.send.resumed");
        Self { written: Cursor::at(written, room), read: read & !7, room }
    }

    /// Writes a message, if there is room. It must fit ([`capacity`]).
    #[inline]
    pub fn send(&mut self, cells: &impl Cells, message: &[u8]) -> Result<bool, Fault> {
        if !self.reserve(cells, message.len())? {
            return Ok(false);
        }
        reached("region.send.begin");
        self.put(cells, 0, message);
        reached("region.send.copied");
        self.publish(cells, message.len());
        Ok(true)
    }

    /// Whether there is room for a message of that length, which must fit ([`capacity`]). Then it
    /// may be [put](Self::put) there, and the consumer sees nothing of it until it is
    /// [published](Self::publish).
    #[inline]
    pub fn reserve(&mut self, cells: &impl Cells, length: usize) -> Result<bool, Fault> {
        let need = (WORD + length.next_multiple_of(WORD)) as u64;
        if self.free() < need {
            self.look(cells)?;
        }
        Ok(self.free() >= need)
    }

    /// Writes a part of the message for which room is reserved; `offset` is a multiple of 8.
    #[inline]
    pub fn put(&self, cells: &impl Cells, offset: usize, part: &[u8]) {
        let at = self.written.after(WORD + offset, self.room);
        let (first, second) = part.split_at(part.len().min(self.room - at.index));
        cells.copy_in(HEAD + at.index, first);
        reached("region.send.half");
        if !second.is_empty() {
            cells.copy_in(HEAD, second);
        }
    }

    /// Gives the consumer what was put, `length` bytes of it, which are no more than were reserved.
    #[inline]
    pub fn publish(&mut self, cells: &impl Cells, length: usize) {
        cells.store(HEAD + self.written.index, frame(self.written.position, length));
        reached("region.send.framed");
        let need = WORD + length.next_multiple_of(WORD);
        self.written = self.written.after(need, self.room);
        cells.store_release(AT_WRITTEN, self.written.position);
        reached("region.send.told");
        cells.barrier();
        if cells.load(AT_CONSUMER_SLEEPS) != 0 {
            cells.store(AT_CONSUMER_SLEEPS, 0);
            reached("region.send.waking");
            cells.wake(AT_CONSUMER_SLEEPS);
        }
        reached("region.send.done");
    }

    /// Wakes the consumer, if it sleeps, to look after something else than the ring.
    pub fn nudge(&self, cells: &impl Cells) {
        if cells.load(AT_CONSUMER_SLEEPS) != 0 {
            cells.store(AT_CONSUMER_SLEEPS, 0);
            cells.wake(AT_CONSUMER_SLEEPS);
        }
    }

    /// Says that it is about to sleep while the word at [`AT_PRODUCER_SLEEPS`] is 1, and looks once
    /// more: false if the consumer has read meanwhile, and then that is taken back.
    pub fn arm_wakeup(&mut self, cells: &impl Cells) -> Result<bool, Fault> {
        cells.store(AT_PRODUCER_SLEEPS, 1);
        cells.barrier();
        let before = self.read;
        let looked = self.look(cells);
        let sleeps = looked.is_ok() && self.read == before;
        if sleeps {
            reached("region.send.sleeping");
        } else {
            cells.store(AT_PRODUCER_SLEEPS, 0);
        }
        looked.map(|()| sleeps)
    }

    fn free(&self) -> u64 {
        self.room as u64 - self.written.position.wrapping_sub(self.read)
    }

    /// Learns up to where the consumer has read.
    fn look(&mut self, cells: &impl Cells) -> Result<(), Fault> {
        let read = cells.load_acquire(AT_READ);
        let more = read.wrapping_sub(self.read);
        if !read.is_multiple_of(8) || more > self.written.position.wrapping_sub(self.read) {
            return Err(POSITION);
        }
        self.read = read;
        Ok(())
    }
}

/// The end that reads.
#[derive(Debug)]
pub struct Consumer {
    read: Cursor,
    /// Up to where the producer has written, as far as we know.
    written: u64,
    room: usize,
}

impl Consumer {
    /// Goes on where the consumer before stopped.
    pub fn resume(cells: &impl Cells) -> Self {
        let room = room(cells.size());
        let read = cells.load_acquire(AT_READ) & !7;
        reached("region.receive.resumed");
        Self { read: Cursor::at(read, room), written: read, room }
    }

    /// Takes the next message, if there is one, and gives its room back to the producer.
    #[inline]
    pub fn receive(&mut self, cells: &impl Cells, into: &mut Vec<u8>) -> Result<bool, Fault> {
        let taken = self.take(cells, into)?;
        if taken {
            self.release(cells);
        }
        Ok(taken)
    }

    /// Takes the next message, if there is one. Its room is the producer's again after
    /// [`release`](Self::release), and until then a consumer that resumes finds it once more.
    #[inline]
    pub fn take(&mut self, cells: &impl Cells, into: &mut Vec<u8>) -> Result<bool, Fault> {
        if self.written == self.read.position {
            self.look(cells)?;
            if self.written == self.read.position {
                return Ok(false);
            }
        }
        reached("region.receive.begin");
        let there = self.written.wrapping_sub(self.read.position);
        let length = unframe(cells.load(HEAD + self.read.index), self.read.position)?;
        let need = WORD + length.next_multiple_of(WORD);
        if need as u64 > there {
            return Err(FRAME);
        }
        reached("region.receive.framed");
        // Bounded by `there`, and that by the ring.
        into.resize(length, 0);
        let body = self.read.after(WORD, self.room);
        let (first, second) = into.split_at_mut(length.min(self.room - body.index));
        cells.copy_out(HEAD + body.index, first);
        reached("region.receive.half");
        if !second.is_empty() {
            cells.copy_out(HEAD, second);
        }
        reached("region.receive.copied");
        self.read = self.read.after(need, self.room);
        Ok(true)
    }

    /// Says that it is about to sleep while the word at [`AT_CONSUMER_SLEEPS`] is 1, and looks once
    /// more: false if the producer has written meanwhile, and then that is taken back.
    pub fn arm_wakeup(&mut self, cells: &impl Cells) -> Result<bool, Fault> {
        cells.store(AT_CONSUMER_SLEEPS, 1);
        cells.barrier();
        let looked = self.look(cells);
        let sleeps = looked.is_ok() && self.written == self.read.position;
        if sleeps {
            reached("region.receive.sleeping");
        } else {
            cells.store(AT_CONSUMER_SLEEPS, 0);
        }
        looked.map(|()| sleeps)
    }

    /// Gives the room of all that was taken back to the producer.
    #[inline]
    pub fn release(&mut self, cells: &impl Cells) {
        cells.store_release(AT_READ, self.read.position);
        reached("region.receive.told");
        cells.barrier();
        if cells.load(AT_PRODUCER_SLEEPS) != 0 {
            cells.store(AT_PRODUCER_SLEEPS, 0);
            reached("region.receive.waking");
            cells.wake(AT_PRODUCER_SLEEPS);
        }
        reached("region.receive.done");
    }

    /// Gives up all that is in the ring and goes on with what comes. Where the producer's position
    /// can't be, nothing helps but its restart.
    pub fn skip(&mut self, cells: &impl Cells) -> Result<(), Fault> {
        self.written = self.read.position;
        self.look(cells)?;
        self.read = Cursor::at(self.written, self.room);
        self.release(cells);
        Ok(())
    }

    /// Spares the producer the call that would wake this end.
    pub fn disarm(&mut self, cells: &impl Cells) {
        cells.store(AT_CONSUMER_SLEEPS, 0);
    }

    /// Learns up to where the producer has written.
    fn look(&mut self, cells: &impl Cells) -> Result<(), Fault> {
        let written = cells.load_acquire(AT_WRITTEN);
        let there = written.wrapping_sub(self.read.position);
        if !written.is_multiple_of(8) || there > self.room as u64 {
            return Err(POSITION);
        }
        self.written = written;
        Ok(())
    }
}

/// A message's first word: its length, and a tag by which bytes of another place don't pass.
fn frame(position: u64, length: usize) -> u64 {
    length as u64 | tag(position) << 32
}

fn unframe(word: u64, position: u64) -> Result<usize, Fault> {
    let length = usize::try_from(word & u64::from(u32::MAX)).map_err(|_| FRAME)?;
    if word >> 32 == tag(position) { Ok(length) } else { Err(FRAME) }
}

fn tag(position: u64) -> u64 {
    (position >> 3) & 0xffff_ffff ^ 0x5a5a_5a5a
}

#[cfg(test)]
mod tests;
