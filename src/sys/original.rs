//! Knowing whether this process is a copy that `fork(2)` has made.
//!
//! A copy has the keys and counters of the process that it was copied from. Going on from there,
//! both would seal different things under the same key and number, which gives both away.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

/// Not zero in the process that made it. The kernel clears it in every copy (`MADV_WIPEONFORK`,
/// madvise(2)); threads are no copies.
static MARK: OnceLock<&'static AtomicU8> = OnceLock::new();

/// Has this process known from its copies. Once is enough; a copy can't pass for the original.
///
/// The error is the kernel's, which had no memory.
pub fn remember() -> io::Result<()> {
    if MARK.get().is_none() {
        let mark = make()?;
        MARK.get_or_init(|| mark);
    }
    Ok(())
}

/// Whether this process is a copy of one that has called [`remember`]. Costs a look at memory.
pub fn is_copy() -> bool {
    MARK.get().is_some_and(|mark| mark.load(Ordering::Relaxed) == 0)
}

/// A page that is never unmapped; a second one is made at most when two threads are first.
fn make() -> io::Result<&'static AtomicU8> {
    let length = rustix::param::page_size();
    let (access, flags) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a null hint without MAP_FIXED replaces no mapping that exists.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), length, access, flags, -1, 0) };
    if page == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the range is the mapping just made; the advice changes it in copies only.
    if unsafe { libc::madvise(page, length, libc::MADV_WIPEONFORK) } != 0 {
        let error = io::Error::last_os_error();
        // SAFETY: as above, and nobody points into it.
        unsafe { libc::munmap(page, length) };
        return Err(error);
    }
    // SAFETY: the mapping is readable and writable, zeroed, never unmapped from here on, and
    // nobody else has a pointer to it; the kernel clears it only in a process that has just
    // begun.
    let mark = unsafe { AtomicU8::from_ptr(page.cast()) };
    mark.store(1, Ordering::Relaxed);
    Ok(mark)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_knows_that_it_is_one_and_a_thread_is_none() {
        assert!(!is_copy());
        remember().unwrap();
        assert!(!is_copy());
        assert!(!std::thread::spawn(is_copy).join().unwrap());
        // SAFETY: the child reads memory and ends, and touches nothing that a lock guards.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let knows = is_copy() && remember().is_ok() && is_copy();
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(i32::from(!knows)) };
        }
        let mut status = 0;
        // SAFETY: the status is ours to be written.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
        assert_eq!(status, 0);
        assert!(!is_copy());
    }
}
