//! One page of memory for key material: out of dumps, wiped on fork, and hidden from the rest of
//! the kernel where that can be had.

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr::NonNull;

use zeroize::Zeroize;

/// One private page. It is zeroed when made and wiped when dropped.
///
/// The page is never in a core dump (`MADV_DONTDUMP`) and is all zeroes in a forked child
/// (`MADV_WIPEONFORK`, or, for `memfd_secret`, not mapped at all: `MADV_DONTFORK`). Look at
/// [`is_copy`] before a page that may not be there.
///
/// [`is_copy`]: super::original::is_copy
pub struct SecretPage {
    start: NonNull<u8>,
    mapped: usize,
}

/// How well a [`SecretPage`] is hidden. See `memfd_secret(2)` and `mlock(2)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `memfd_secret`: not in the kernel's direct map, so not even root reads it by ordinary means.
    Secret,
    /// Ordinary memory, locked so that it never reaches swap.
    Locked,
    /// Ordinary memory that could not be locked (`RLIMIT_MEMLOCK`).
    Plain,
}

impl SecretPage {
    /// Bytes that a page holds for its user; mapped memory is at least that.
    pub const SIZE: usize = 4096;

    /// Maps a page, as well hidden as this kernel allows.
    ///
    /// An error says that not even ordinary memory could be had, or that the kernel refused to
    /// keep it out of dumps or children.
    pub fn new() -> io::Result<(Self, Kind)> {
        super::original::remember()?;
        if let Ok(page) = Self::secret() {
            return Ok((page, Kind::Secret));
        }
        let page = Self::map(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)?;
        page.advise(libc::MADV_DONTDUMP)?;
        page.advise(libc::MADV_WIPEONFORK)?;
        // SAFETY: the range is the mapping that `page` owns.
        let locked = unsafe { libc::mlock(page.start.as_ptr().cast(), page.mapped) } == 0;
        Ok((page, if locked { Kind::Locked } else { Kind::Plain }))
    }

    /// What the page holds.
    pub fn bytes(&self) -> &[u8; Self::SIZE] {
        // SAFETY: the mapping is readable, at least SIZE bytes long, initialised by the kernel
        // with zeroes, aligned for bytes, and lives as long as `self`; nobody else has a pointer
        // to it, so `&self` excludes writers.
        unsafe { self.start.cast().as_ref() }
    }

    /// What the page holds, to be changed.
    pub fn bytes_mut(&mut self) -> &mut [u8; Self::SIZE] {
        // SAFETY: as in `bytes`, and writable; `&mut self` excludes every other reference.
        unsafe { self.start.cast().as_mut() }
    }

    fn secret() -> io::Result<Self> {
        // SAFETY: the call takes one integer, and no memory of ours.
        let fd = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) };
        let fd = i32::try_from(fd).map_err(io::Error::other)?;
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just gave us this descriptor, and nothing else owns it.
        let file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
        file.set_len(page_size() as u64)?;
        let page = Self::map(libc::MAP_SHARED, fd)?;
        page.advise(libc::MADV_DONTDUMP)?;
        // WIPEONFORK is for private anonymous memory alone; this one is shared, so a child
        // doesn't get it at all.
        page.advise(libc::MADV_DONTFORK)?;
        Ok(page)
    }

    fn map(flags: i32, fd: i32) -> io::Result<Self> {
        let mapped = page_size();
        // SAFETY: a null hint without MAP_FIXED replaces no mapping that exists.
        let start = unsafe {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            libc::mmap(std::ptr::null_mut(), mapped, access, flags, fd, 0)
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, mapped })
    }

    fn advise(&self, advice: i32) -> io::Result<()> {
        // SAFETY: the range is the mapping that `self` owns, and none of the advices used here
        // changes its contents in this process.
        match unsafe { libc::madvise(self.start.as_ptr().cast(), self.mapped, advice) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for SecretPage {
    fn drop(&mut self) {
        self.bytes_mut().zeroize();
        let start: *mut c_void = self.start.as_ptr().cast();
        // SAFETY: `self` owns the whole mapping, and no reference to it outlives `self`.
        unsafe { libc::munmap(start, self.mapped) };
    }
}

// SAFETY: the page is plain memory owned by this value alone; it is tied to no thread.
unsafe impl Send for SecretPage {}
// SAFETY: `&SecretPage` gives only shared reads of memory that nobody writes meanwhile.
unsafe impl Sync for SecretPage {}

fn page_size() -> usize {
    rustix::param::page_size().max(SecretPage::SIZE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_begins_zeroed_and_keeps_what_is_written() {
        let (mut page, _) = SecretPage::new().unwrap();
        assert!(page.bytes().iter().all(|&byte| byte == 0));
        page.bytes_mut()[..4].copy_from_slice(b"keep");
        assert_eq!(&page.bytes()[..4], b"keep");
    }

    #[test]
    fn the_kernel_marks_a_page_as_kept_out_of_dumps() {
        let (page, kind) = SecretPage::new().unwrap();
        let start = format!("{:x}-", page.start.as_ptr() as usize);
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let flags = smaps
            .lines()
            .skip_while(|line| !line.starts_with(&start))
            .find(|line| line.starts_with("VmFlags:"))
            .unwrap();
        assert!(flags.contains(" dd"), "in dumps: {flags}");
        let child = if kind == Kind::Secret { " dc" } else { " wf" };
        assert!(flags.contains(child), "kept by children: {flags}");
    }
}
