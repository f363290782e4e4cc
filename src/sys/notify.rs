//! Calls that a filter leaves to who observes the process: taken and answered (`seccomp_unotify(2)`).
//!
//! What a notification says was copied by the kernel and can't change. What its pointers lead to is
//! the process's own memory, which another thread of it may change at any time: so it is read once,
//! and what is done is done on what was read.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

/// `PIDFD_THREAD` of `linux/pidfd.h`, Linux 6.9: any thread, not the first of its process alone.
const PIDFD_THREAD: u32 = libc::O_EXCL.cast_unsigned();

/// Where the questions of a filter come.
#[derive(Debug)]
pub struct Listener(OwnedFd);

/// A call that waits for its answer.
#[derive(Clone, Copy, Debug)]
pub struct Notification {
    /// Names it among those that wait.
    pub id: u64,
    /// The thread that makes it, as this process sees it.
    pub thread: Pid,
    /// The architecture by whose interface it is made, `AUDIT_ARCH_*` of linux/audit.h.
    pub arch: u32,
    /// The call's number.
    pub number: u32,
    /// Its arguments.
    pub arguments: [u64; 6],
    /// Where in its memory it goes on.
    pub instruction: u64,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It returns 0.
    Done,
    /// It fails with this errno.
    Refused(i32),
    /// The kernel carries it out, with whatever its arguments lead to by then. Only where nothing
    /// that they may lead to is more than the process may do anyway.
    CarriedOut,
}

impl Listener {
    /// Takes the descriptor that a filter was loaded with.
    pub fn new(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Has who makes a call and who answers it take turns on one processor, Linux 6.6: neither works
    /// while it waits for the other, and waking another processor takes longer. `false` where the
    /// kernel doesn't know how.
    pub fn take_turns(&self) -> bool {
        /// linux/seccomp.h: `SECCOMP_IOW(4, __u64)`, and `SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP`.
        const SET_FLAGS: u64 = 0x4008_2104;
        const SYNC_WAKE_UP: u64 = 1;
        // SAFETY: takes a descriptor and two numbers.
        let set =
            unsafe { libc::syscall(libc::SYS_ioctl, self.0.as_raw_fd(), SET_FLAGS, SYNC_WAKE_UP) };
        set == 0
    }

    /// Takes the next call. Only after a poll that found one: it would wait otherwise. `None` if
    /// who made it has ended meanwhile.
    pub fn receive(&self) -> io::Result<Option<Notification>> {
        // SAFETY: a structure of numbers alone, for which all zeros are a value.
        let mut taken: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel writes one `seccomp_notif`, of the size that the request's number
        // holds, into zeros, as it demands.
        let answer = unsafe {
            libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut taken)
        };
        match check(answer) {
            Ok(()) => {}
            Err(Errno::NOENT | Errno::INTR) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        }
        let thread = i32::try_from(taken.pid).ok().and_then(Pid::from_raw);
        // A number of 0 is a process of another namespace, of which there is none.
        Ok(thread.map(|thread| Notification {
            id: taken.id,
            thread,
            arch: taken.data.arch,
            number: taken.data.nr.cast_unsigned(),
            arguments: taken.data.args,
            instruction: taken.data.instruction_pointer,
        }))
    }

    /// Whether the call still waits: then its thread's number meant that thread until now.
    pub fn is_waiting(&self, call: &Notification) -> bool {
        let id = call.id;
        // SAFETY: the kernel reads one number.
        check(unsafe {
            libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const id)
        })
        .is_ok()
    }

    /// Answers a call. That who made it has ended is no error.
    pub fn answer(&self, call: &Notification, reply: Reply) -> io::Result<()> {
        let (error, flags) = match reply {
            Reply::Done => (0, 0),
            Reply::Refused(errno) => (-errno, 0),
            Reply::CarriedOut => (0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE),
        };
        let flags = u32::try_from(flags).map_err(io::Error::other)?;
        let response = libc::seccomp_notif_resp { id: call.id, val: 0, error, flags };
        // SAFETY: the kernel reads one `seccomp_notif_resp`.
        let answer = unsafe {
            libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw const response)
        };
        gone_is_fine(check(answer))
    }

    /// Puts a descriptor at a number of the process that makes a call, in place of what is there.
    /// That who made it has ended is no error.
    pub fn put(
        &self,
        call: &Notification,
        fd: BorrowedFd<'_>,
        at: RawFd,
        close_on_exec: bool,
    ) -> io::Result<()> {
        let number = |fd: i32| u32::try_from(fd).map_err(|_| io::Error::from(Errno::BADF));
        let request = libc::seccomp_notif_addfd {
            id: call.id,
            flags: u32::try_from(libc::SECCOMP_ADDFD_FLAG_SETFD).map_err(io::Error::other)?,
            srcfd: number(fd.as_raw_fd())?,
            newfd: number(at)?,
            newfd_flags: if close_on_exec { number(libc::O_CLOEXEC)? } else { 0 },
        };
        // SAFETY: the kernel reads one `seccomp_notif_addfd`; `fd` is open as long as it is
        // borrowed.
        let put = unsafe {
            libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ADDFD, &raw const request)
        };
        gone_is_fine(check(put))
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Notification {
    /// Reads the memory of who makes the call, once; how many bytes there were.
    ///
    /// Only [`Listener::is_waiting`] afterwards says that it was that thread's.
    pub fn read(&self, address: u64, into: &mut [u8]) -> io::Result<usize> {
        let base = usize::try_from(address).map_err(|_| io::Error::from(Errno::FAULT))?;
        let thread = nix::unistd::Pid::from_raw(self.thread.as_raw_nonzero().get());
        let remote = [RemoteIoVec { base, len: into.len() }];
        Ok(process_vm_readv(thread, &mut [IoSliceMut::new(into)], &remote)?)
    }

    /// A pidfd of the thread that makes the call, as for [`read`](Self::read): a signal to it is that
    /// thread's, and SIGKILL its whole process's. `EINVAL` before Linux 6.9.
    pub fn hold(&self) -> Result<OwnedFd, Errno> {
        pidfd_open(self.thread, PidfdFlags::from_bits_retain(PIDFD_THREAD))
    }

    /// A copy of a descriptor of who makes the call. As for [`read`](Self::read).
    ///
    /// Before Linux 6.9 only the first thread of a process can be asked.
    pub fn descriptor(&self, number: RawFd) -> io::Result<OwnedFd> {
        if number < 0 {
            return Err(Errno::BADF.into());
        }
        let thread = match self.hold() {
            Err(Errno::INVAL) => pidfd_open(self.thread, PidfdFlags::empty()),
            held => held,
        }?;
        Ok(pidfd_getfd(thread, number, PidfdGetfdFlags::empty())?)
    }
}

fn check(answer: libc::c_int) -> Result<(), Errno> {
    if answer >= 0 {
        return Ok(());
    }
    Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO))
}

fn gone_is_fine(done: Result<(), Errno>) -> io::Result<()> {
    match done {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
