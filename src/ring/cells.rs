//! The few ways in which slots and rings touch shared memory.
//!
//! They are written against this trait, so that the tests run the same code on memory of another
//! kind: one whose accesses loom reorders, one that remembers what a disk would.

use std::io;
use std::sync::atomic::{Ordering, fence};

use crate::sys::mapping::Mapping;

/// Memory in words of 8 bytes that others read and write meanwhile. Places of words are multiples
/// of 8, in bytes; what isn't within is a mistake of the caller's and panics.
pub trait Cells {
    /// How many bytes there are.
    fn size(&self) -> usize;
    /// Reads a word.
    fn load(&self, at: usize) -> u64;
    /// Reads a word; what is read afterwards isn't older.
    fn load_acquire(&self, at: usize) -> u64;
    /// Writes a word.
    fn store(&self, at: usize, value: u64);
    /// Writes a word; whoever sees it sees all that was written before.
    fn store_release(&self, at: usize, value: u64);
    /// Writes a word if it is `old`.
    fn exchange(&self, at: usize, old: u64, new: u64) -> Result<(), u64>;
    /// What was written before is seen by all before what is read afterwards is read.
    fn barrier(&self) {
        fence(Ordering::SeqCst);
    }
    /// Copies bytes out.
    fn copy_out(&self, offset: usize, into: &mut [u8]);
    /// Copies bytes in.
    fn copy_in(&self, offset: usize, from: &[u8]);
    /// Wakes all who sleep on a word.
    fn wake(&self, at: usize);
    /// Waits until the disk has these bytes.
    fn sync(&self, offset: usize, bytes: usize) -> io::Result<()>;
}

impl Cells for Mapping {
    fn size(&self) -> usize {
        self.size()
    }
    #[inline]
    fn load(&self, at: usize) -> u64 {
        self.load(at)
    }
    #[inline]
    fn load_acquire(&self, at: usize) -> u64 {
        self.load_acquire(at)
    }
    #[inline]
    fn store(&self, at: usize, value: u64) {
        self.store(at, value);
    }
    #[inline]
    fn store_release(&self, at: usize, value: u64) {
        self.store_release(at, value);
    }
    fn exchange(&self, at: usize, old: u64, new: u64) -> Result<(), u64> {
        self.exchange(at, old, new)
    }
    #[inline]
    fn copy_out(&self, offset: usize, into: &mut [u8]) {
        self.copy_out(offset, into);
    }
    #[inline]
    fn copy_in(&self, offset: usize, from: &[u8]) {
        self.copy_in(offset, from);
    }
    fn wake(&self, at: usize) {
        self.wake(at);
    }
    fn sync(&self, offset: usize, bytes: usize) -> io::Result<()> {
        self.sync(offset, bytes)
    }
}
