//! Surviving a mapped file that gets shorter.
//!
//! The kernel answers an access to a page of a mapped file that is no longer there, or can't be
//! had, with `SIGBUS`. For ranges that are guarded, the handler puts a page of zeros in its place
//! and notes it; the access goes on and finds zeros, and whoever made it asks afterwards. The
//! handler leaves every other fault to whoever had the signal before.

use std::ffi::{c_int, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// How many ranges can be guarded at once in a process.
const MOST: usize = 256;

/// What a free place has as its start; no mapping begins there.
const FREE: usize = 0;
/// What a place that is being taken has.
const TAKING: usize = usize::MAX;

struct Range {
    start: AtomicUsize,
    end: AtomicUsize,
    faulted: AtomicBool,
}

static RANGES: [Range; MOST] = [const {
    Range {
        start: AtomicUsize::new(FREE),
        end: AtomicUsize::new(0),
        faulted: AtomicBool::new(false),
    }
}; MOST];

/// What had the signal before, or why the handler can't be put in place.
static BEFORE: OnceLock<Result<libc::sigaction, i32>> = OnceLock::new();

static PAGE: AtomicUsize = AtomicUsize::new(4096);

/// Guards a range for as long as it lives.
#[derive(Debug)]
pub(super) struct Guard(usize);

impl Guard {
    /// Guards a range that is mapped now, until the guard is dropped.
    pub(super) fn over(start: usize, bytes: usize) -> io::Result<Self> {
        install()?;
        for (place, range) in RANGES.iter().enumerate() {
            let taken =
                range.start.compare_exchange(FREE, TAKING, Ordering::Acquire, Ordering::Relaxed);
            if taken.is_ok() {
                range.faulted.store(false, Ordering::Relaxed);
                range.end.store(start + bytes, Ordering::Relaxed);
                range.start.store(start, Ordering::Release);
                return Ok(Self(place));
            }
        }
        Err(io::Error::other(format!("{MOST} files are mapped already")))
    }

    /// Whether nothing has been missing so far.
    pub(super) fn is_quiet(&self) -> bool {
        !RANGES[self.0].faulted.load(Ordering::Acquire)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        RANGES[self.0].start.store(FREE, Ordering::Release);
    }
}

/// Puts the handler in place, once in a process.
fn install() -> io::Result<()> {
    let installed = BEFORE.get_or_init(|| {
        PAGE.store(rustix::param::page_size(), Ordering::Relaxed);
        let mut before = MaybeUninit::uninit();
        // SAFETY: all zeros is a valid `sigaction`, and the call writes the former one when it
        // answers 0. The handler does nothing that signal-safety(7) forbids.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = missing as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            if libc::sigaction(libc::SIGBUS, &raw const action, before.as_mut_ptr()) == 0 {
                Ok(before.assume_init())
            } else {
                Err(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL))
            }
        }
    });
    installed.as_ref().map(drop).map_err(|&errno| io::Error::from_raw_os_error(errno))
}

extern "C" fn missing(_: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
    // SAFETY: the kernel gives a handler with SA_SIGINFO a valid `siginfo_t`, and every SIGBUS of
    // its own has an address.
    let at = unsafe { (*info).si_addr() } as usize;
    for range in &RANGES {
        let start = range.start.load(Ordering::Acquire);
        let is_taken = start != FREE && start != TAKING;
        if !is_taken || !(start..range.end.load(Ordering::Relaxed)).contains(&at) {
            continue;
        }
        range.faulted.store(true, Ordering::Release);
        let page = PAGE.load(Ordering::Relaxed);
        let flags = libc::MAP_PRIVATE | libc::MAP_FIXED | libc::MAP_ANONYMOUS;
        // SAFETY: the page lies in a guarded range, which a `Mapping` owns and reads and writes
        // through atomics alone; that its bytes change to zeros is what its users expect.
        let put = unsafe {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            libc::mmap((at & !(page - 1)) as *mut c_void, page, access, flags, -1, 0)
        };
        if put != libc::MAP_FAILED {
            return;
        }
    }
    // Not ours: the instruction runs again, and faults for whoever had the signal before.
    if let Some(Ok(before)) = BEFORE.get() {
        // SAFETY: `before` is what the kernel gave us for this signal.
        unsafe { libc::sigaction(libc::SIGBUS, before, std::ptr::null_mut()) };
    } else {
        // SAFETY: all zeros is the default action.
        unsafe {
            let default: libc::sigaction = std::mem::zeroed();
            libc::sigaction(libc::SIGBUS, &raw const default, std::ptr::null_mut());
        }
    }
}
