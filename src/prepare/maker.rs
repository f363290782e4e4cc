//! The child that makes the objects, and the hand-over of their descriptors.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::thread::CapabilitySet;

use super::{FifoAtPath, mapped_file, queue, region};
use crate::confine::filter::supervisor::supervisor_filter;
use crate::ident::Name;
use crate::policy::plan::{FifoPlan, Plan};
use crate::policy::syscall::by_name;
use crate::sys::fork::fork;
use crate::sys::pidfd::{self, Ended};

/// The longest text of a failure, in bytes; a longer one is cut.
const LONGEST: usize = 4096;

/// What the child says. Each is a datagram: this byte, then the text of a failure.
const MADE: u8 = 1;
const DONE: u8 = 2;
const FAILED: u8 = 3;

/// What root's child keeps (capabilities(7)).
const CAPABILITIES: [CapabilitySet; 6] = [
    // The way to a plan's path, and files and directories of other users there.
    CapabilitySet::DAC_OVERRIDE,
    CapabilitySet::DAC_READ_SEARCH,
    // A FIFO's owner and mode.
    CapabilitySet::CHOWN,
    CapabilitySet::FOWNER,
    // A namespace for message queues, and more bytes in them than an ordinary user has.
    CapabilitySet::SYS_ADMIN,
    CapabilitySet::SYS_RESOURCE,
];

/// What the child calls; all else answers `EPERM`.
const CALLS: &[&str] = &[
    // Files at the plan's paths.
    "open",
    "openat",
    "openat2",
    "mknod",
    "mknodat",
    "unlinkat",
    "fchmod",
    "fchown",
    "flock",
    "fallocate",
    "ftruncate",
    "pread64",
    "pwrite64",
    "read",
    "write",
    "lseek",
    "fsync",
    "stat",
    "lstat",
    "fstat",
    "newfstatat",
    "statx",
    "fcntl",
    "close",
    "readlink",
    "readlinkat",
    // Memory files, queues, and the domain in which a file is opened that can't be truncated.
    "memfd_create",
    "mq_open",
    "mq_unlink",
    "mq_getsetattr",
    "unshare",
    "prlimit64",
    "getrlimit",
    "setrlimit",
    "landlock_create_ruleset",
    "landlock_restrict_self",
    "prctl",
    "clone3",
    "waitid",
    // The hand-over.
    "sendmsg",
    // Whatever a process does.
    "brk",
    "mmap",
    "munmap",
    "mremap",
    "mprotect",
    "madvise",
    "getrandom",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sigaltstack",
    "futex",
    "geteuid",
    "getuid",
    "getpid",
    "gettid",
    "getppid",
    "clock_gettime",
    "nanosleep",
    "clock_nanosleep",
    "exit",
    "exit_group",
    "tgkill",
    "restart_syscall",
];

/// Why objects can't be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrepareError {
    /// An object can't be made: the place in the policy, and what the system said.
    #[error("{0}")]
    Object(String),
    /// There is no child to make them.
    #[error("the process that makes the daemon's objects can't be started: {0}")]
    Fork(io::Error),
    /// The child ended before it had handed all over.
    #[error("the process that makes the daemon's objects {0} before it had made all of them")]
    Died(Ended),
    /// It can't be listened to.
    #[error("the process that makes the daemon's objects can't be heard: {0}")]
    System(io::Error),
}

/// The descriptors that were made, in the order of [`all`].
pub(crate) type Descriptors = std::vec::IntoIter<OwnedFd>;

/// Makes every object of `plan`: of each queue the ends of its lanes, of each mapped file what
/// [`mapped_file::make`] says, of each region the memory for writing and for reading, of each FIFO
/// itself and its directory.
///
/// # Errors
/// Nothing is left behind at the plan's paths, except where the child was killed: what it leaves
/// then is cleared away by the daemon's next start.
pub(crate) fn make(plan: &Plan) -> Result<Descriptors, PrepareError> {
    let expected = expected(plan);
    if expected == 0 {
        return Ok(Vec::new().into_iter());
    }
    let flags = SocketFlags::CLOEXEC;
    let (near, far) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .map_err(|errno| PrepareError::System(errno.into()))?;
    let child = fork(|| u8::from(run(plan, &far).is_err())).map_err(PrepareError::Fork)?;
    drop(far);
    let taken = take(&near, expected);
    let ended = pidfd::wait(&child).map_err(PrepareError::System)?;
    Ok(taken?.ok_or(PrepareError::Died(ended))?.into_iter())
}

/// How many descriptors a plan needs.
fn expected(plan: &Plan) -> usize {
    let all = &plan.facilities;
    let queues: usize = all.queues.iter().map(|plan| 2 * usize::from(plan.lanes())).sum();
    let mapped_files: usize = all.mapped_files.iter().map(mapped_file::descriptors).sum();
    queues + mapped_files + 2 * all.regions.len() + 2 * all.fifos.len()
}

/// Takes the descriptors; `None` if the child ends before it is done.
fn take(socket: &OwnedFd, expected: usize) -> Result<Option<Vec<OwnedFd>>, PrepareError> {
    let mut made = Vec::with_capacity(expected);
    let mut text = [0; LONGEST];
    loop {
        let (length, fd) = receive(socket, &mut text).map_err(PrepareError::System)?;
        match (&text[..length], fd) {
            ([MADE], Some(fd)) if made.len() < expected => made.push(fd),
            ([DONE], None) if made.len() == expected => return Ok(Some(made)),
            ([FAILED, why @ ..], None) => {
                return Err(PrepareError::Object(String::from_utf8_lossy(why).into_owned()));
            }
            // Its end, or nothing that it would say in its right mind.
            _ => return Ok(None),
        }
    }
}

fn receive(socket: &OwnedFd, text: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    // Room for two: with room for one, alignment would let a second one in unseen.
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let length = loop {
        let into = &mut [IoSliceMut::new(text)];
        match recvmsg(socket, into, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            got => break got?.bytes,
        }
    };
    let mut fds = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    let fds: Vec<OwnedFd> = fds.by_ref().flatten().collect();
    let mut fds = fds.into_iter();
    let first = fds.next();
    match fds.next() {
        Some(_) => Err(io::ErrorKind::InvalidData.into()),
        None => Ok((length, first)),
    }
}

/// The child.
fn run(plan: &Plan, socket: &OwnedFd) -> io::Result<()> {
    let made = confine()
        .map_err(|error| format!("objects can't be made: the child's confinement: {error}"))
        .and_then(|()| all(plan));
    match made {
        Ok((fds, mut fifos)) => {
            let fifos = fifos.iter_mut().flat_map(FifoAtPath::give_away);
            for fd in fds.iter().map(AsFd::as_fd).chain(fifos) {
                say(socket, &[MADE], Some(fd))?;
            }
            say(socket, &[DONE], None)
        }
        Err(text) => {
            let mut message = vec![FAILED];
            message.extend_from_slice(text.as_bytes());
            message.truncate(LONGEST);
            say(socket, &message, None)
        }
    }
}

fn say(socket: &OwnedFd, message: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
    if !fds.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    }
    sendmsg(socket, &[IoSlice::new(message)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Takes from the child what making objects doesn't need.
fn confine() -> io::Result<()> {
    if rustix::process::geteuid().is_root() {
        let kept = CAPABILITIES.into_iter().fold(CapabilitySet::empty(), |all, one| all | one);
        let mut sets = rustix::thread::capabilities(None)?;
        sets.permitted &= kept;
        sets.effective &= kept;
        sets.inheritable = CapabilitySet::empty();
        rustix::thread::set_capabilities(None, sets)?;
    }
    rustix::thread::set_no_new_privs(true)?;
    let calls: Vec<u32> = CALLS.iter().filter_map(|name| by_name(name)).collect();
    let filter = supervisor_filter(std::iter::empty(), &calls).map_err(io::Error::other)?;
    filter.load().map_err(io::Error::other)
}

/// Makes everything; a failure names its place in the policy. FIFOs come apart, for somebody else
/// sees them: dropped, they are removed again.
fn all(plan: &Plan) -> Result<(Vec<OwnedFd>, Vec<FifoAtPath>), String> {
    let all = &plan.facilities;
    let mut fds = Vec::new();
    let lifted = queue::lift_limits(&all.queues);
    for plan in &all.queues {
        fds.extend(queue::make(plan).map_err(|error| blame("queue", &plan.name, &error))?);
    }
    drop(lifted);
    for plan in &all.mapped_files {
        let made = mapped_file::make(plan);
        fds.extend(made.map_err(|error| blame("mapped-file", &plan.name, &error))?);
    }
    for plan in &all.regions {
        fds.extend(region::make(plan).map_err(|error| blame("region", &plan.name, &error))?);
    }
    let make =
        |plan: &FifoPlan| FifoAtPath::make(plan).map_err(|error| blame("fifo", &plan.name, &error));
    let fifos = all.fifos.iter().map(make).collect::<Result<Vec<_>, _>>()?;
    Ok((fds, fifos))
}

fn blame(kind: &str, name: &Name, error: &io::Error) -> String {
    format!("[{kind}.{name}] {error}")
}
