//! A child process: `clone3` with a pidfd and namespaces, then another program by descriptor.
//!
//! The clone is like `vfork`: the child borrows the caller's memory, and the caller's thread goes
//! on once the child has executed its program or exited. So a spawn costs the same however much
//! memory the supervisor holds, and a failure is simply written where the caller finds it: no
//! pipe to read, nothing to wait for later. The supervisor waits for no layer's code: up to the
//! exec, everything that runs is `spawn/child.rs`, a straight line of system calls on our own
//! objects.
//!
//! The price is threat F16: the child must not change what it shares. It has all signals blocked,
//! its own copy of the signal dispositions and descriptors, and changes no credentials that the
//! kernel answers with a change of dumpability (the new user namespace is part of the clone, and
//! sets of capabilities only grow within it), so the caller's handlers, dumpability and descriptors
//! are as before.

mod child;
mod places;

use std::ffi::{CStr, CString, c_char};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use rustix::process::{DumpableBehavior, Pid};
use serde::{Deserialize, Serialize};

use self::places::Places;
use super::clone::{Stack, clone_vfork, clone3_vfork};

/// A program to run, and all that it gets.
#[derive(Clone, Copy)]
pub struct Spawn<'a> {
    /// The program, open with `O_PATH` or for reading. It runs whatever its path names by then.
    pub program: BorrowedFd<'a>,
    /// Its number in the child, for a filter to name; closed by the exec. At least the length of
    /// `fds`, which is also the default.
    pub program_at: Option<RawFd>,
    /// Arguments; the first is the program's name.
    pub argv: &'a [CString],
    /// The whole environment, `NAME=value`. Nothing of ours is inherited.
    pub envp: &'a [CString],
    /// What descriptors 0, 1, 2, ... are in the child.
    pub fds: &'a [BorrowedFd<'a>],
    /// Its other descriptors, by number: all above those of `fds`. There are no more.
    pub others: &'a [(RawFd, BorrowedFd<'a>)],
    /// New namespaces.
    pub namespaces: Namespaces,
    /// A network namespace to enter instead of a new one.
    pub network: Option<BorrowedFd<'a>>,
    /// Who the child is in its new user namespace; needed with [`Namespaces::USER`].
    pub ids: Option<&'a IdMap>,
    /// A cgroup v2 directory to be born in.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Open `tasks` files of cgroup v1 groups to join (not `cgroup.procs`, which stalls every
    /// fork of the machine for milliseconds: threat G10).
    pub tasks: &'a [BorrowedFd<'a>],
    /// A system-call filter to load as the last act before the exec, which it must allow.
    pub filter: Option<&'a [FilterLine]>,
    /// Whether the filter leaves calls to who holds [`Child::listener`]. Then the caller has nothing
    /// open from 3 to the program's number: the child has the caller's table of descriptors until
    /// its exec. No call up to the exec may be one of those, for the caller sleeps meanwhile.
    pub is_observed: bool,
}

impl<'a> Spawn<'a> {
    /// `program` with `argv`, no environment, no descriptors, nothing special.
    pub const fn new(program: BorrowedFd<'a>, argv: &'a [CString]) -> Self {
        Self {
            program,
            program_at: None,
            argv,
            envp: &[],
            fds: &[],
            others: &[],
            namespaces: Namespaces::NONE,
            network: None,
            ids: None,
            cgroup: None,
            tasks: &[],
            filter: None,
            is_observed: false,
        }
    }
}

pub use super::observe::FilterLine;

/// A child that runs its program.
#[derive(Debug)]
pub struct Child {
    /// Readable once the child has ended; see [`pidfd`](crate::sys::pidfd).
    pub pidfd: OwnedFd,
    /// Its number, for log lines only.
    pub pid: Pid,
    /// Where its filter's questions come, if it is observed; see [`notify`](crate::sys::notify).
    pub listener: Option<OwnedFd>,
}

/// A set of namespaces that a clone makes anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespaces(u32);

impl Namespaces {
    /// None: everything is shared.
    pub const NONE: Self = Self(0);
    /// Users, groups and capabilities.
    pub const USER: Self = Self(libc::CLONE_NEWUSER as u32);
    /// Process numbers; the child is number 1, and all others in it die with it.
    pub const PID: Self = Self(libc::CLONE_NEWPID as u32);
    /// Mounts.
    pub const MOUNT: Self = Self(libc::CLONE_NEWNS as u32);
    /// Network: only a loopback device, which is down.
    pub const NET: Self = Self(libc::CLONE_NEWNET as u32);
    /// System V IPC and POSIX message queues.
    pub const IPC: Self = Self(libc::CLONE_NEWIPC as u32);
    /// Host and domain name.
    pub const UTS: Self = Self(libc::CLONE_NEWUTS as u32);

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This set without `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all of `other` is in it.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// The one user and group of a new user namespace, as the bytes that the kernel wants.
#[derive(Clone, Debug)]
pub struct IdMap {
    uid: String,
    gid: String,
}

impl IdMap {
    /// User and group `inside` the namespace are those `outside`. An ordinary user can map only
    /// itself.
    pub fn one(inside: (u32, u32), outside: (u32, u32)) -> Self {
        Self {
            uid: format!("{} {} 1\n", inside.0, outside.0),
            gid: format!("{} {} 1\n", inside.1, outside.1),
        }
    }
}

/// Why there is no child.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// `clone3` failed: `EPERM` for namespaces that this user may not make, `ENOSPC` when there
    /// are too many of them, `EAGAIN` at the limit of tasks.
    #[error("clone3 for the child failed: {0}")]
    Clone(#[source] io::Error),
    /// A step in the child, before the exec, failed.
    #[error("the new child failed to {0}: {1}")]
    Child(Step, #[source] io::Error),
}

/// A step of the child between clone and exec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask to die with its parent.
    ParentDeath,
    /// Reset signal dispositions and mask.
    Signals,
    /// Join the cgroup v1 groups.
    Cgroup,
    /// Write `setgroups`, `gid_map` and `uid_map`.
    IdMap,
    /// Have the capabilities of the new user namespace outlast the exec.
    Ambient,
    /// Enter the network namespace.
    Network,
    /// Put descriptors in their places and close all others.
    Descriptors,
    /// Load the system-call filter.
    Filter,
    /// Execute the program.
    Exec,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::ParentDeath => "ask for its parent-death signal",
            Self::Signals => "reset its signals",
            Self::Cgroup => "join its cgroup",
            Self::IdMap => "write its user and group map",
            Self::Ambient => "keep its user namespace's capabilities",
            Self::Network => "enter its network namespace",
            Self::Descriptors => "arrange its descriptors",
            Self::Filter => "load its system-call filter",
            Self::Exec => "execute its program",
        })
    }
}

/// Starts the program, and returns once it runs.
///
/// The calling thread must outlive the child: the kernel sends the parent-death signal when the
/// *thread* ends (threat B12).
pub fn spawn(order: &Spawn<'_>) -> Result<Child, SpawnError> {
    start(order, Some(order.program))
}

/// Makes a child with these namespaces that does all but run a program: it exits at once, and is
/// reaped. So it says whether they can be had.
pub fn rehearse(namespaces: Namespaces, ids: Option<&IdMap>) -> Result<(), SpawnError> {
    // Never used: any descriptor will do.
    let stderr = io::stderr();
    let order = Spawn { namespaces, ids, ..Spawn::new(stderr.as_fd(), &[]) };
    let child = start(&order, None)?;
    super::pidfd::wait(&child.pidfd).map_err(SpawnError::Clone)?;
    Ok(())
}

fn start(order: &Spawn<'_>, program: Option<BorrowedFd<'_>>) -> Result<Child, SpawnError> {
    let argv = pointers(order.argv);
    let envp = pointers(order.envp);
    let tasks = raw(order.tasks);
    let mut places = Places::of(order);
    let table = order.is_observed.then(|| places.lend()).transpose().map_err(SpawnError::Clone)?;
    let mut stack = Stack::new();
    let mut pidfd: RawFd = -1;

    let mut brief = child::Brief {
        program: program.map(|fd| fd.as_raw_fd()),
        program_at: order.program_at,
        argv: &argv,
        envp: &envp,
        places: &mut places.0,
        shares_table: order.is_observed,
        tasks: &tasks,
        network: order.network.map(|fd| fd.as_raw_fd()),
        maps: order.ids.map(|ids| (ids.uid.as_bytes(), ids.gid.as_bytes())),
        filter: order.filter,
        moved_program: None,
        listener: None,
        fault: None,
    };
    let mut request = clone_args(order, &mut pidfd);

    let dumpable = order.ids.and_then(|_| Dumpable::switch_on());
    let signals = BlockedSignals::new().map_err(SpawnError::Clone)?;
    // SAFETY: the flags hold CLONE_VM and CLONE_VFORK and neither of the forbidden ones, see
    // `clone_args`; all that `brief` points to lives until the end of this function; and `enter`
    // is written for this: no allocation, no lock, no unwinding.
    let mut pid =
        unsafe { clone3_vfork(&mut request, &mut stack, child::enter, (&raw mut brief).cast()) };
    let (procs, joined);
    if pid == -i64::from(libc::ENOSYS) {
        // A filter beneath us, as containers and service managers load them.
        procs = order.cgroup.map(open_procs).transpose().map_err(SpawnError::Clone)?;
        let own = procs.iter().map(AsRawFd::as_raw_fd);
        joined = tasks.iter().copied().chain(own).collect::<Vec<RawFd>>();
        brief.tasks = &joined;
        // SAFETY: as above.
        pid = unsafe { clone_vfork(&request, &mut stack, child::enter, (&raw mut brief).cast()) };
    }
    drop(signals);
    drop(dumpable);
    let (fault, moved_program, listener) = (brief.fault, brief.moved_program, brief.listener);
    // SAFETY: the child has loaded its filter with a listener into the table that it shared with us,
    // and nobody else knows of that descriptor.
    let listener = listener.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    if let Some(table) = table {
        table.take_back(&places, moved_program).map_err(SpawnError::Clone)?;
    }

    // Only a positive number is a pid; the crate's type panics on a negative one.
    let Some(pid) = i32::try_from(pid).ok().filter(|pid| *pid > 0).and_then(Pid::from_raw) else {
        let errno = i32::try_from(-pid).unwrap_or(libc::EINVAL);
        return Err(SpawnError::Clone(io::Error::from_raw_os_error(errno)));
    };
    // SAFETY: the clone succeeded with CLONE_PIDFD, so the kernel made this descriptor for us,
    // and nobody else owns it.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    if let Some((step, errno)) = fault {
        // It has exited, or is about to with nothing left to do: no wait worth the name.
        let _ = super::pidfd::wait(&pidfd);
        return Err(SpawnError::Child(step, io::Error::from_raw_os_error(errno)));
    }
    Ok(Child { pidfd, pid, listener })
}

/// By which a process joins a cgroup of the second version by itself.
fn open_procs(cgroup: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC;
    Ok(rustix::fs::openat(cgroup, "cgroup.procs", flags, rustix::fs::Mode::empty())?)
}

fn clone_args(order: &Spawn<'_>, pidfd: &mut RawFd) -> libc::clone_args {
    // linux/sched.h; libc's constant is an overflowing c_int.
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let base = (libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD).cast_unsigned();
    let mut flags = u64::from(base | order.namespaces.0);
    if order.is_observed {
        flags |= u64::from(libc::CLONE_FILES.cast_unsigned());
    }
    let mut cgroup = 0;
    if let Some(fd) = order.cgroup {
        flags |= CLONE_INTO_CGROUP;
        cgroup = u64::from(fd.as_raw_fd().cast_unsigned());
    }
    libc::clone_args {
        flags,
        pidfd: ptr::from_mut(pidfd) as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: u64::from(libc::SIGCHLD.cast_unsigned()),
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup,
    }
}

/// Pointers to the strings, and a null at the end. They borrow from `strings`.
fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
}

fn raw(fds: &[BorrowedFd<'_>]) -> Vec<RawFd> {
    fds.iter().map(AsRawFd::as_raw_fd).collect()
}

/// The kernel's signal set: 64 bits, not libc's 1024.
type SignalSet = u64;

/// All signals blocked in this thread, those that libc keeps for itself too, until the drop.
/// Otherwise a handler of ours could run in the child, on memory that is ours.
pub(super) struct BlockedSignals(SignalSet);

impl BlockedSignals {
    pub(super) fn new() -> io::Result<Self> {
        let mut before = 0;
        Self::swap(&SignalSet::MAX, &mut before)?;
        Ok(Self(before))
    }

    fn swap(set: &SignalSet, before: &mut SignalSet) -> io::Result<()> {
        // SAFETY: both point to a kernel signal set of the size that is passed.
        let result = unsafe {
            libc::syscall(
                libc::SYS_rt_sigprocmask,
                libc::SIG_SETMASK,
                ptr::from_ref(set),
                ptr::from_mut(before),
                size_of::<SignalSet>(),
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // Setting a mask with valid pointers has no way to fail.
        let _ = Self::swap(&self.0, &mut 0);
    }
}

/// This process made dumpable until the drop. `/proc/self/uid_map` of a process that isn't belongs
/// to root, so an ordinary user's child could not write its map. The child shares our memory and
/// with it this flag, so it lasts for one spawn, some hundred microseconds.
struct Dumpable(DumpableBehavior);

impl Dumpable {
    fn switch_on() -> Option<Self> {
        let before = rustix::process::dumpable_behavior().ok()?;
        rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable).ok()?;
        Some(Self(before))
    }
}

impl Drop for Dumpable {
    fn drop(&mut self) {
        let _ = rustix::process::set_dumpable_behavior(self.0);
    }
}

/// Opens this process's own program, pinned: the same file however the path changes.
pub fn pin_own_program() -> io::Result<OwnedFd> {
    let path: &CStr = c"/proc/self/exe";
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, rustix::fs::Mode::empty())?)
}
