//! Opening what a descriptor holds once more: the same file, whatever its name leads to by now,
//! with flags and rights of its own (`proc_pid_fd(5)`). The one place for it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use landlock::{
    AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreated, RulesetStatus,
};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

/// The path by which the kernel gives what `fd` holds, in this process alone. Needs `/proc`.
pub fn path_of(fd: impl AsFd) -> String {
    format!("/proc/{}", beneath_proc(fd))
}

/// Opens it once more; close-on-exec. Needs `/proc`.
pub fn reopen(fd: impl AsFd, flags: OFlags) -> io::Result<OwnedFd> {
    open(CWD, path_of(fd), flags)
}

/// Opens it once more so that nobody truncates the file by the new descriptor, whoever gets it and
/// whatever he may call.
///
/// The kernel notes with each open file whether the one who opened it could truncate there
/// (Landlock version 3, Linux 6.2). So a thread that lives for nothing else enters a domain that
/// takes only truncation away, and opens it. `EOPNOTSUPP` where the kernel has no such right.
pub fn reopen_untruncatable(fd: impl AsFd, flags: OFlags) -> io::Result<OwnedFd> {
    untruncatable(CWD, &path_of(fd), flags)
}

/// `/proc` by a descriptor, for a process that sees none in its root.
#[derive(Debug)]
pub struct Proc(OwnedFd);

impl Proc {
    /// A handle on a proc file system in which this process has a number, its own or that of an
    /// outer pid namespace.
    pub const fn new(proc: OwnedFd) -> Self {
        Self(proc)
    }

    /// The directory, and the path in it by which the kernel gives what `fd` holds.
    pub fn path_of(&self, fd: impl AsFd) -> (BorrowedFd<'_>, String) {
        (self.0.as_fd(), beneath_proc(fd))
    }

    /// As [`reopen()`].
    pub fn reopen(&self, fd: impl AsFd, flags: OFlags) -> io::Result<OwnedFd> {
        open(self.0.as_fd(), beneath_proc(fd), flags)
    }

    /// As [`reopen_untruncatable`].
    pub fn reopen_untruncatable(&self, fd: impl AsFd, flags: OFlags) -> io::Result<OwnedFd> {
        untruncatable(self.0.as_fd(), &beneath_proc(fd), flags)
    }
}

/// `self` is the thread group, whichever thread asks: they share their descriptors.
fn beneath_proc(fd: impl AsFd) -> String {
    format!("self/fd/{}", fd.as_fd().as_raw_fd())
}

fn open(proc: BorrowedFd<'_>, path: String, flags: OFlags) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(proc, path, flags | OFlags::CLOEXEC, Mode::empty())?)
}

fn untruncatable(proc: BorrowedFd<'_>, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
    // Opening with it is truncating, which the thread's domain refuses with `EACCES`.
    if flags.intersects(OFlags::CREATE | OFlags::TRUNC) {
        return Err(Errno::INVAL.into());
    }
    std::thread::scope(|scope| {
        // All that it does is two system calls and an open.
        let opener = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, || {
            give_up_truncation()?;
            open(proc, path.to_owned(), flags)
        })?;
        opener.join().unwrap_or_else(|_| Err(Errno::IO.into()))
    })
}

const STACK: usize = 64 << 10;

/// For the calling thread, for ever.
fn give_up_truncation() -> io::Result<()> {
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::Truncate)
        .and_then(Ruleset::create)
        .and_then(RulesetCreated::restrict_self);
    match status {
        Ok(status) if status.ruleset == RulesetStatus::FullyEnforced => Ok(()),
        _ => Err(Errno::OPNOTSUPP.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{File, OpenOptions};
    use std::io::Write;

    #[test]
    fn what_it_opens_can_be_written_and_not_truncated() {
        if crate::sys::process::landlock_abi().is_ok_and(|abi| abi < 3) {
            return;
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "12345").unwrap();
        let pinned = rustix::fs::open(file.path(), OFlags::PATH, Mode::empty()).unwrap();
        let proc = rustix::fs::open("/proc", OFlags::PATH, Mode::empty()).unwrap();
        let by_descriptor = Proc::new(proc).reopen_untruncatable(&pinned, OFlags::WRONLY);
        for opened in [reopen_untruncatable(&pinned, OFlags::WRONLY), by_descriptor] {
            let mut written = File::from(opened.unwrap());
            written.write_all(b"ab").unwrap();
            assert_eq!(written.set_len(0).unwrap_err().raw_os_error(), Some(libc::EACCES));
        }
        assert_eq!(std::fs::read(file.path()).unwrap(), b"ab345");
        assert!(reopen_untruncatable(&pinned, OFlags::WRONLY | OFlags::TRUNC).is_err());
        // The domain was the thread's, not ours.
        OpenOptions::new().write(true).open(file.path()).unwrap().set_len(1).unwrap();
        assert!(reopen(&pinned, OFlags::WRONLY).is_ok());
    }
}
