//! Memory that other processes map as well.
//!
//! Whoever else maps it may change any byte at any instant, so nothing here ever lends it out: a
//! `&[u8]` into it would be unsound, for Rust takes what is behind a shared reference to be still.
//! It is read and written word by word through atomics, into and out of memory of one's own.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Duration;

use super::fault::Guard;

/// The size of a word: offsets that aren't said to be in bytes of any kind are multiples of it.
pub const WORD: usize = 8;

/// A shared mapping of a whole descriptor (mmap(2), `MAP_SHARED`). It is unmapped when dropped.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<u64>,
    bytes: usize,
    writable: bool,
    guard: Option<Guard>,
}

// SAFETY: the mapping belongs to the process, not to a thread, and every access to it is atomic.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `bytes` bytes of memory whose size nobody can change: a memfd that is sealed against
    /// shrinking. `bytes` is a multiple of the page's size.
    pub fn sealed(fd: BorrowedFd<'_>, bytes: usize, writable: bool) -> io::Result<Self> {
        if bytes == 0 || !bytes.is_multiple_of(WORD) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let access = if writable { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
        // SAFETY: a new mapping where the kernel likes, so no memory in use is touched; the
        // descriptor is open for the call.
        let start = unsafe {
            let none = std::ptr::null_mut();
            libc::mmap(none, bytes, access, libc::MAP_SHARED, fd.as_raw_fd(), 0)
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, bytes, writable, guard: None })
    }

    /// Maps a file that somebody may cut while it is mapped, or whose disk may fail or be full.
    /// An access to what isn't there would be a `SIGBUS`; here it finds zeros, and from then on
    /// [`is_whole`](Self::is_whole) is false.
    pub fn guarded(fd: BorrowedFd<'_>, bytes: usize, writable: bool) -> io::Result<Self> {
        let mut mapping = Self::sealed(fd, bytes, writable)?;
        mapping.guard = Some(Guard::over(mapping.start.as_ptr() as usize, bytes)?);
        Ok(mapping)
    }

    /// How many bytes there are.
    pub fn size(&self) -> usize {
        self.bytes
    }

    /// Whether it may be written.
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// Whether every access so far found the memory that it was meant for.
    pub fn is_whole(&self) -> bool {
        self.guard.as_ref().is_none_or(Guard::is_quiet)
    }

    /// Reads a word.
    ///
    /// # Panics
    /// If `at` is no multiple of [`WORD`] or lies outside.
    #[inline]
    pub fn load(&self, at: usize) -> u64 {
        self.word(at).load(Ordering::Relaxed)
    }

    /// Reads a word; what is read afterwards isn't older than it.
    ///
    /// # Panics
    /// As [`load`](Self::load).
    #[inline]
    pub fn load_acquire(&self, at: usize) -> u64 {
        // On memory that is mapped for reading alone, only relaxed loads are allowed.
        let word = self.word(at).load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        word
    }

    /// Writes a word.
    ///
    /// # Panics
    /// As [`load`](Self::load), and if the mapping isn't writable.
    #[inline]
    pub fn store(&self, at: usize, value: u64) {
        self.writable_word(at).store(value, Ordering::Relaxed);
    }

    /// Writes a word; whoever sees it sees all that was written before.
    ///
    /// # Panics
    /// As [`store`](Self::store).
    #[inline]
    pub fn store_release(&self, at: usize, value: u64) {
        self.writable_word(at).store(value, Ordering::Release);
    }

    /// Writes a word if it is `old`; otherwise the error is what it is.
    ///
    /// # Panics
    /// As [`store`](Self::store).
    pub fn exchange(&self, at: usize, old: u64, new: u64) -> Result<(), u64> {
        let word = self.writable_word(at);
        word.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst).map(drop)
    }

    /// Copies bytes out, from any offset.
    ///
    /// # Panics
    /// If they aren't all within.
    #[inline]
    pub fn copy_out(&self, offset: usize, into: &mut [u8]) {
        self.assert_within(offset, into.len());
        let (edge, words) = into.split_at_mut(edge(offset, into.len()));
        self.bytes_out(offset, edge);
        let mut at = offset + edge.len();
        let mut words = words.chunks_exact_mut(WORD);
        for word in &mut words {
            // SAFETY: `at` is a multiple of WORD by `edge`, and within, as asserted above.
            let value = unsafe { self.word_unchecked(at) }.load(Ordering::Relaxed);
            word.copy_from_slice(&value.to_ne_bytes());
            at += WORD;
        }
        self.bytes_out(at, words.into_remainder());
    }

    /// Copies bytes in, to any offset. Bytes beside them stay as they are, whoever writes those.
    ///
    /// # Panics
    /// If they aren't all within, or the mapping isn't writable.
    #[inline]
    pub fn copy_in(&self, offset: usize, from: &[u8]) {
        assert!(self.writable, "the mapping is for reading");
        self.assert_within(offset, from.len());
        let (edge, words) = from.split_at(edge(offset, from.len()));
        self.bytes_in(offset, edge);
        let mut at = offset + edge.len();
        let (words, rest) = words.as_chunks::<WORD>();
        for word in words {
            // SAFETY: as in `copy_out`; and the mapping is writable.
            let place = unsafe { self.word_unchecked(at) };
            place.store(u64::from_ne_bytes(*word), Ordering::Relaxed);
            at += WORD;
        }
        self.bytes_in(at, rest);
    }

    /// Sleeps while the low half of a word is `expected`, until [`wake`](Self::wake) or for as
    /// long as `time`. May return early. Reading rights are enough (futex(2), `FUTEX_WAIT`, shared).
    pub fn wait(&self, at: usize, expected: u32, time: Duration) {
        let time = libc::timespec {
            tv_sec: time.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_nsec: time.subsec_nanos().into(),
        };
        // SAFETY: the address is within the mapping and aligned, the time is on our stack, and
        // FUTEX_WAIT takes nothing else.
        unsafe {
            let at = self.low_half(at);
            libc::syscall(libc::SYS_futex, at, libc::FUTEX_WAIT, expected, &raw const time);
        }
    }

    /// Wakes all who sleep on the word, in whatever process.
    pub fn wake(&self, at: usize) {
        // SAFETY: the address is within the mapping and aligned; FUTEX_WAKE takes only a count
        // besides, and doesn't touch the memory.
        unsafe {
            let at = self.low_half(at);
            libc::syscall(libc::SYS_futex, at, libc::FUTEX_WAKE, libc::c_int::MAX);
        }
    }

    /// Has the kernel write a range of bytes to the file, and waits until the disk has it
    /// (msync(2), `MS_SYNC`).
    pub fn sync(&self, offset: usize, bytes: usize) -> io::Result<()> {
        self.assert_within(offset, bytes);
        // The call takes whole pages; 64 KiB is the largest that there is.
        let begin = offset & !0xffff;
        // SAFETY: the range is within the mapping, begins with a page of it, and is only read.
        let done = unsafe {
            let start = self.start.as_ptr().cast::<u8>().add(begin);
            libc::msync(start.cast(), offset - begin + bytes, libc::MS_SYNC)
        };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at.is_multiple_of(WORD), "a word at {at}");
        self.assert_within(at, WORD);
        // SAFETY: asserted just now.
        unsafe { self.word_unchecked(at) }
    }

    fn writable_word(&self, at: usize) -> &AtomicU64 {
        assert!(self.writable, "the mapping is for reading");
        self.word(at)
    }

    /// # Safety
    /// `at` is a multiple of `WORD`, and the word there is within.
    unsafe fn word_unchecked(&self, at: usize) -> &AtomicU64 {
        // SAFETY: the caller answers for the place, the mapping begins with a page and lives as
        // long as `self`, and all of us access it as atomic words. Where it is read-only, the
        // callers do relaxed loads of one word alone, which std::sync::atomic allows there.
        unsafe { AtomicU64::from_ptr(self.start.as_ptr().add(at / WORD)) }
    }

    pub(super) fn low_half(&self, at: usize) -> *const u32 {
        let word = std::ptr::from_ref(self.word(at)).cast::<u32>();
        if cfg!(target_endian = "big") { word.wrapping_add(1) } else { word }
    }

    /// Copies what lies within one word out.
    fn bytes_out(&self, at: usize, into: &mut [u8]) {
        if !into.is_empty() {
            let skip = at % WORD;
            let word = self.load(at - skip).to_ne_bytes();
            into.copy_from_slice(&word[skip..skip + into.len()]);
        }
    }

    /// Copies what lies within one word in, and leaves the word's other bytes to whoever has them.
    fn bytes_in(&self, at: usize, from: &[u8]) {
        if !from.is_empty() {
            let skip = at % WORD;
            let _ =
                self.word(at - skip).fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| {
                    let mut word = old.to_ne_bytes();
                    word[skip..skip + from.len()].copy_from_slice(from);
                    Some(u64::from_ne_bytes(word))
                });
        }
    }

    fn assert_within(&self, offset: usize, bytes: usize) {
        let end = offset.checked_add(bytes);
        assert!(end.is_some_and(|end| end <= self.bytes), "{bytes} bytes at {offset}");
    }
}

/// How many of `bytes` bytes at `offset` lie before the first whole word.
fn edge(offset: usize, bytes: usize) -> usize {
    (offset.next_multiple_of(WORD) - offset).min(bytes)
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // The range is free for others once it is unmapped, so nobody may guard it any longer.
        self.guard = None;
        // SAFETY: the range is ours, and nothing that was lent out of it outlives `self`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}
