//! Questions to the kernel that leave nothing behind.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use caps::{CapSet, Capability};

use super::fork::fork;
use super::pidfd::{self, Ended};

/// Whether memory can be had that the kernel itself doesn't map (`memfd_secret(2)`).
pub fn secret_memory() -> io::Result<()> {
    // SAFETY: takes flags.
    let fd = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel made it just now; nobody else owns it.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
    Ok(())
}

/// A system call with arguments to which every kernel that cofferdam runs on says the same, whoever
/// asks, so that another answer is a filter's.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// The call, and what of it where a filter may tell.
    pub name: &'static str,
    number: libc::c_long,
    arguments: [libc::c_long; 6],
    expected: Expected,
}

/// The kernel's own errno; 0 is success.
#[derive(Clone, Copy, Debug)]
enum Expected {
    /// Whoever asks.
    Always(i32),
    /// For who has `CAP_SYS_ADMIN`. Others are refused as a filter would.
    OfAdmin(i32),
}

/// What came of a [`Question`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The kernel's.
    Kernel,
    /// Another errno, or 0 for success: a filter's.
    Errno(i32),
    /// `SIGSYS`: a filter's.
    Killed,
}

/// What cofferdam can't do without, in groups that filters refuse together.
pub const QUESTIONS: [Question; 17] = {
    use Expected::{Always, OfAdmin};
    const fn ask(
        name: &'static str,
        number: libc::c_long,
        arguments: [libc::c_long; 6],
        expected: Expected,
    ) -> Question {
        Question { name, number, arguments, expected }
    }
    const MOUNT: libc::c_long = libc::CLONE_NEWNS as libc::c_long;
    const RWX: libc::c_long = (libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC) as _;
    const ANONYMOUS: libc::c_long = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as _;
    /// No flag of the calls that it is asked for.
    const NONE: libc::c_long = 0x4000_0000;
    const FS: libc::c_long = libc::CLONE_FS as libc::c_long;
    [
        // A mount namespace with a shared working directory is refused before anything else is
        // looked at (copy_process in kernel/fork.c).
        ask("clone", libc::SYS_clone, [MOUNT | FS, 0, 0, 0, 0, 0], Always(libc::EINVAL)),
        ask("unshare", libc::SYS_unshare, [MOUNT | 1, 0, 0, 0, 0, 0], Always(libc::EINVAL)),
        ask("setns", libc::SYS_setns, [-1, MOUNT, 0, 0, 0, 0], Always(libc::EBADF)),
        ask("mount", libc::SYS_mount, [0, 1, 0, 0, 0, 0], Always(libc::EFAULT)),
        ask("umount2", libc::SYS_umount2, [1, NONE, 0, 0, 0, 0], Always(libc::EINVAL)),
        ask("mount_setattr", libc::SYS_mount_setattr, [-1, 1, NONE, 0, 0, 0], Always(libc::EINVAL)),
        ask("open_tree", libc::SYS_open_tree, [-1, 1, NONE, 0, 0, 0], Always(libc::EINVAL)),
        ask("fsopen", libc::SYS_fsopen, [1, NONE, 0, 0, 0, 0], OfAdmin(libc::EINVAL)),
        ask("move_mount", libc::SYS_move_mount, [-1, 1, -1, 1, NONE, 0], OfAdmin(libc::EINVAL)),
        ask("pivot_root", libc::SYS_pivot_root, [1, 1, 0, 0, 0, 0], OfAdmin(libc::EFAULT)),
        ask("sethostname", libc::SYS_sethostname, [0, -1, 0, 0, 0, 0], OfAdmin(libc::EINVAL)),
        ask("keyctl", libc::SYS_keyctl, [9999, 0, 0, 0, 0, 0], Always(libc::EOPNOTSUPP)),
        ask("openat2", libc::SYS_openat2, [-1, 0, 0, 0, 0, 0], Always(libc::EINVAL)),
        ask("capset", libc::SYS_capset, [1, 1, 0, 0, 0, 0], Always(libc::EFAULT)),
        ask("setresuid", libc::SYS_setresuid, [-1, -1, -1, 0, 0, 0], Always(0)),
        ask("prlimit64", libc::SYS_prlimit64, [0, 999, 0, 0, 0, 0], Always(libc::EINVAL)),
        // Memory that is writable and executable, as `execmem` asks for.
        ask("mmap", libc::SYS_mmap, [0, 4096, RWX, ANONYMOUS, -1, 0], Always(0)),
    ]
};

/// Asks in a child, which a filter may kill.
///
/// # Errors
/// As [`fork`], and as [`pidfd::wait`].
pub fn ask(question: &Question) -> io::Result<Answer> {
    let child = fork(|| {
        let [first, second, third, fourth, fifth, sixth] = question.arguments;
        // SAFETY: as the constants say, the kernel reads no memory of ours for any of these calls
        // before it refuses them, or nobody's; and what it grants goes with this child, which
        // exits at once.
        let result =
            unsafe { libc::syscall(question.number, first, second, third, fourth, fifth, sixth) };
        if result != -1 {
            return 0;
        }
        let errno = io::Error::last_os_error().raw_os_error().unwrap_or(0);
        u8::try_from(errno).unwrap_or(u8::MAX)
    })?;
    let errno = match pidfd::wait(&child)? {
        Ended::Killed(_) => return Ok(Answer::Killed),
        Ended::Exited(errno) => i32::from(errno),
    };
    let is_kernels = match question.expected {
        Expected::Always(expected) => errno == expected,
        Expected::OfAdmin(expected) => {
            let admin = caps::has_cap(None, CapSet::Effective, Capability::CAP_SYS_ADMIN);
            errno == expected || (errno != libc::ENOSYS && !admin.unwrap_or(false))
        }
    };
    Ok(if is_kernels { Answer::Kernel } else { Answer::Errno(errno) })
}
