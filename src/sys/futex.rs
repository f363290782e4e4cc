//! Sleeping on several words at once (`futex_waitv(2)`, Linux 5.16).

use std::io;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use super::mapping::Mapping;

/// The most words of shared memory that [`wait_any`] takes: the kernel's 128, less the private one.
pub const MOST: usize = 127;

/// A word of shared memory: the low half of the one at `at`, and what is expected there.
#[derive(Clone, Copy, Debug)]
pub struct Word<'a> {
    /// Where it is mapped.
    pub memory: &'a Mapping,
    /// Its place in bytes, a multiple of 8.
    pub at: usize,
    /// Its value while there is nothing to wake up for.
    pub expected: u32,
}

/// The kernel's `struct futex_waitv`.
#[repr(C)]
struct Waiter {
    value: u64,
    address: u64,
    flags: u32,
    reserved: u32,
}

/// `FUTEX2_SIZE_U32` and `FUTEX2_PRIVATE`.
const SIZE_U32: u32 = 2;
const PRIVATE: u32 = 128;

/// Sleeps until somebody wakes one of the words ([`Mapping::wake`]) or the private one ([`wake`]),
/// or for as long as `time`; `Some` is the place of a shared one that was woken. Returns at once if
/// any is not as expected, and may return early.
///
/// An error says that this can't be done here at all. At most [`MOST`] words.
pub fn wait_any(
    private: &AtomicU32,
    expected: u32,
    words: &[Word<'_>],
    time: Option<Duration>,
) -> io::Result<Option<usize>> {
    let waiter = |address: *const u32, expected: u32, flags| Waiter {
        value: expected.into(),
        address: address as u64,
        flags,
        reserved: 0,
    };
    let mut waiters = vec![waiter(private.as_ptr(), expected, SIZE_U32 | PRIVATE)];
    let shared = |word: &Word<'_>| waiter(word.memory.low_half(word.at), word.expected, SIZE_U32);
    waiters.extend(words.iter().map(shared));
    let until = time.map(after);
    // SAFETY: the pointer and count name `waiters`, whose addresses lie in memory that is borrowed
    // until the call returns and which the kernel only reads; the time is none or is `until`.
    let answer = unsafe {
        let until = until.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        let (first, count) = (waiters.as_ptr(), waiters.len());
        libc::syscall(libc::SYS_futex_waitv, first, count, 0, until, libc::CLOCK_MONOTONIC)
    };
    if answer >= 0 {
        return Ok(usize::try_from(answer).ok().and_then(|place| place.checked_sub(1)));
    }
    match io::Error::last_os_error() {
        error
            if matches!(
                error.raw_os_error(),
                Some(libc::EAGAIN | libc::EINTR | libc::ETIMEDOUT)
            ) =>
        {
            Ok(None)
        }
        error => Err(error),
    }
}

/// The time of `CLOCK_MONOTONIC` after that long.
fn after(time: Duration) -> libc::timespec {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let nanoseconds = now.tv_nsec + i64::from(time.subsec_nanos());
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    libc::timespec {
        tv_sec: now.tv_sec.saturating_add(seconds).saturating_add(nanoseconds / 1_000_000_000),
        tv_nsec: nanoseconds % 1_000_000_000,
    }
}

/// Wakes who sleeps on a private word.
pub fn wake(private: &AtomicU32) {
    // SAFETY: FUTEX_WAKE takes an address and a count, and doesn't touch the memory.
    unsafe {
        let act = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
        libc::syscall(libc::SYS_futex, private.as_ptr(), act, libc::c_int::MAX);
    }
}
