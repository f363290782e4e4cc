//! Opening a file for writing so that nobody can truncate it by that descriptor, ever.
//!
//! The kernel notes with each open file whether the one who opened it could truncate there
//! (Landlock, since Linux 6.2), and holds whoever the descriptor gets to by that. So the open is
//! made by a child in a domain that takes nothing but truncation away. The child borrows our
//! memory, as in [`spawn`](super::spawn), and our descriptors too: what it opens is ours.

use std::ffi::{CStr, c_long, c_void};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::clone::{Stack, clone3_vfork};

/// Makes such descriptors.
#[derive(Debug)]
pub struct Opener {
    ruleset: OwnedFd,
}

/// linux/landlock.h: `struct landlock_ruleset_attr`, as far as its first version goes.
#[repr(C)]
struct RulesetAttr {
    handled_access_fs: u64,
}

const LANDLOCK_ACCESS_FS_TRUNCATE: u64 = 1 << 14;

/// What the child does.
struct Brief<'a> {
    ruleset: RawFd,
    path: &'a CStr,
    flags: i32,
    /// Out: the new descriptor, or the errno.
    result: Result<RawFd, i32>,
}

impl Opener {
    /// `EINVAL`, `ENOSYS` or `EOPNOTSUPP` where the kernel's Landlock is older than version 3,
    /// isn't built in, or is switched off.
    pub fn new() -> io::Result<Self> {
        let attr = RulesetAttr { handled_access_fs: LANDLOCK_ACCESS_FS_TRUNCATE };
        // SAFETY: the kernel reads `attr`, of the size that is passed; the flags are none.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_landlock_create_ruleset,
                &raw const attr,
                size_of::<RulesetAttr>(),
                0_u32,
            )
        };
        match RawFd::try_from(fd) {
            // SAFETY: the kernel has just made this descriptor, close-on-exec, for us alone.
            Ok(fd) if fd >= 0 => Ok(Self { ruleset: unsafe { OwnedFd::from_raw_fd(fd) } }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Opens `path` as open(2) does with `flags`, which must not hold `O_CREAT` or `O_TRUNC`;
    /// close-on-exec. `/proc/self` in it is this process's child, with the same descriptors.
    pub fn open(&self, path: &CStr, flags: i32) -> io::Result<OwnedFd> {
        if flags & (libc::O_CREAT | libc::O_TRUNC) != 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut brief = Brief {
            ruleset: self.ruleset.as_raw_fd(),
            path,
            flags: flags | libc::O_CLOEXEC,
            result: Err(libc::EIO),
        };
        let mut pidfd: RawFd = -1;
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_FILES | libc::CLONE_PIDFD;
        let mut request = libc::clone_args {
            flags: u64::from(flags.cast_unsigned()),
            pidfd: &raw mut pidfd as u64,
            child_tid: 0,
            parent_tid: 0,
            exit_signal: u64::from(libc::SIGCHLD.cast_unsigned()),
            stack: 0,
            stack_size: 0,
            tls: 0,
            set_tid: 0,
            set_tid_size: 0,
            cgroup: 0,
        };
        let signals = super::spawn::BlockedSignals::new()?;
        let mut stack = Stack::new();
        // SAFETY: the flags hold CLONE_VM and CLONE_VFORK and neither of the forbidden ones; all
        // that `brief` points to lives until the end of this function; and `enter` is a straight
        // line of system calls: no allocation, no lock, no unwinding.
        let pid = unsafe { clone3_vfork(&mut request, &mut stack, enter, (&raw mut brief).cast()) };
        drop(signals);
        if pid <= 0 {
            return Err(io::Error::from_raw_os_error(i32::try_from(-pid).unwrap_or(libc::EIO)));
        }
        // SAFETY: the clone succeeded with CLONE_PIDFD, so the kernel made this descriptor for us,
        // and nobody else owns it.
        let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
        // It is past its last instruction: no wait worth the name.
        let _ = super::pidfd::wait(&pidfd);
        match brief.result {
            // SAFETY: the child opened it in the table that we share, and told nobody else.
            Ok(fd) => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
            Err(errno) => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

/// The child's first function.
///
/// # Safety
/// `brief` points to a [`Brief`] that nobody else uses while the child runs.
unsafe extern "C" fn enter(brief: *mut c_void) -> ! {
    // SAFETY: the caller's promise.
    let brief = unsafe { &mut *brief.cast::<Brief<'_>>() };
    brief.result = run(brief);
    loop {
        // SAFETY: ends this process and with it every borrow; no destructor or exit handler of
        // the parent's runs.
        unsafe { libc::syscall(libc::SYS_exit_group, 0) };
    }
}

fn run(brief: &Brief<'_>) -> Result<RawFd, i32> {
    // SAFETY: takes numbers; the attribute is this task's own.
    call(unsafe {
        libc::syscall(
            libc::SYS_prctl,
            libc::PR_SET_NO_NEW_PRIVS,
            1_usize,
            0_usize,
            0_usize,
            0_usize,
        )
    })?;
    // SAFETY: takes numbers; the domain is this task's own.
    call(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, brief.ruleset, 0_u32) })?;
    // SAFETY: the path is terminated and lives in our parent's memory, which waits for us.
    let fd = call(unsafe {
        libc::syscall(libc::SYS_openat, libc::AT_FDCWD, brief.path.as_ptr(), brief.flags, 0)
    })?;
    RawFd::try_from(fd).map_err(|_| libc::EBADF)
}

/// `libc::syscall`'s answer, with the errno, which is our parent's, who isn't reading it.
fn call(result: c_long) -> Result<c_long, i32> {
    if result >= 0 {
        return Ok(result);
    }
    // SAFETY: libc's errno location is valid in every thread, and the child runs with its
    // parent's thread-local storage.
    Err(unsafe { *libc::__errno_location() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{File, OpenOptions};
    use std::io::Write;

    #[test]
    fn what_it_opens_can_be_written_and_not_truncated() {
        let Ok(opener) = Opener::new() else { return };
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "12345").unwrap();
        let path = std::ffi::CString::new(file.path().to_str().unwrap()).unwrap();
        let mut written = File::from(opener.open(&path, libc::O_WRONLY).unwrap());
        written.write_all(b"ab").unwrap();
        assert_eq!(written.set_len(0).unwrap_err().raw_os_error(), Some(libc::EACCES));
        assert_eq!(std::fs::read(file.path()).unwrap(), b"ab345");
        // The domain was the child's, not ours.
        OpenOptions::new().write(true).open(file.path()).unwrap().set_len(1).unwrap();
        assert!(opener.open(&path, libc::O_WRONLY | libc::O_TRUNC).is_err());
        assert!(opener.open(c"/nowhere/at/all", libc::O_WRONLY).is_err());
    }
}
