//! What the child does between clone and exec.
//!
//! It runs in its parent's memory while the parent's thread sleeps, so: raw system calls only,
//! nothing allocates, takes a lock, panics or unwinds. Loops go over iterators, not indices.

use std::ffi::{CStr, c_char, c_long, c_ulong, c_void};
use std::os::fd::RawFd;

use super::places::Place;
use super::{FilterLine, SignalSet, Step};
use crate::sys::observe;

/// All that the child needs, prepared by its parent.
pub(super) struct Brief<'a> {
    /// `None`: exit once everything else is done.
    pub(super) program: Option<RawFd>,
    pub(super) program_at: Option<RawFd>,
    /// Ends with a null, as does `envp`.
    pub(super) argv: &'a [*const c_char],
    pub(super) envp: &'a [*const c_char],
    /// By rising number. Out: the sources, as they were moved.
    pub(super) places: &'a mut [Place],
    /// Whether its table of descriptors is its parent's until the exec.
    pub(super) shares_table: bool,
    pub(super) tasks: &'a [RawFd],
    pub(super) network: Option<RawFd>,
    /// `uid_map` and `gid_map`.
    pub(super) maps: Option<(&'a [u8], &'a [u8])>,
    pub(super) filter: Option<&'a [FilterLine]>,
    /// Out: the program, as it was moved.
    pub(super) moved_program: Option<RawFd>,
    /// Out: the filter's listener, where the table is shared.
    pub(super) listener: Option<RawFd>,
    /// Out: what failed, and the errno.
    pub(super) fault: Option<(Step, i32)>,
}

type Fault = (Step, i32);

/// The child's first function.
///
/// # Safety
/// `brief` points to a [`Brief`] that nobody else uses while the child runs.
pub(super) unsafe extern "C" fn enter(brief: *mut c_void) -> ! {
    // SAFETY: the caller's promise.
    let brief = unsafe { &mut *brief.cast::<Brief<'_>>() };
    brief.fault = run(brief).err();
    loop {
        // SAFETY: ends this process and with it every borrow; no destructor or exit handler of
        // the parent's runs. The code is looked at by nobody.
        unsafe { libc::syscall(libc::SYS_exit_group, 127) };
    }
}

/// Comes back only with a fault, or when there is no program to execute.
fn run(brief: &mut Brief<'_>) -> Result<(), Fault> {
    // First, so that there is no moment in which the parent's death goes unnoticed for long; the
    // recipe looks for one that came even earlier.
    // SAFETY: PR_SET_PDEATHSIG takes a number.
    call(Step::ParentDeath, unsafe {
        libc::syscall(
            libc::SYS_prctl,
            libc::PR_SET_PDEATHSIG,
            c_long::from(libc::SIGKILL),
            0_usize,
            0_usize,
            0_usize,
        )
    })?;

    default_dispositions()?;

    // Before the descriptors move. "0" is whoever writes it.
    for tasks in brief.tasks {
        write_all(Step::Cgroup, *tasks, b"0")?;
    }

    // Without "deny" an unprivileged process may not write its gid_map: user_namespaces(7).
    if let Some((uid_map, gid_map)) = brief.maps {
        write_file(c"/proc/self/setgroups", b"deny")?;
        write_file(c"/proc/self/gid_map", gid_map)?;
        write_file(c"/proc/self/uid_map", uid_map)?;
        keep_capabilities()?;
    }

    if let Some(network) = brief.network {
        // SAFETY: setns takes a descriptor and a number.
        call(Step::Network, unsafe {
            libc::syscall(libc::SYS_setns, network, libc::CLONE_NEWNET)
        })?;
    }

    let Some(program) = brief.program else { return Ok(()) };
    let program = arrange_descriptors(brief, program)?;

    unblock_signals()?;
    if let Some(filter) = brief.filter {
        brief.listener = load(filter, brief.shares_table)?;
    }

    // SAFETY: both vectors end with a null and their strings live in the parent's memory, which
    // waits for us; the path is an empty string.
    call(Step::Exec, unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program,
            c"".as_ptr(),
            brief.argv.as_ptr(),
            brief.envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    })?;
    // A successful exec doesn't return, and a failed one has left above.
    Err((Step::Exec, libc::ENOEXEC))
}

/// Has all capabilities that the new user namespace gave outlast the exec, which takes them from
/// every user but 0 of the namespace (capabilities(7), "Transformation of capabilities during
/// execve"). The recipe needs some of them to confine the process, and then drops all.
fn keep_capabilities() -> Result<(), Fault> {
    /// linux/capability.h: `_LINUX_CAPABILITY_VERSION_3`, whose sets have two words each.
    const HEADER: [u32; 2] = [0x2008_0522, 0];
    let mut sets = [[0_u32; 3]; 2];
    // SAFETY: the kernel reads a header of a version and a process, 0 being the caller, and writes
    // the three sets of that version, of two words each; it reads the same when they are set.
    call(Step::Ambient, unsafe {
        libc::syscall(libc::SYS_capget, HEADER.as_ptr(), sets.as_mut_ptr())
    })?;
    for [_, permitted, inheritable] in &mut sets {
        *inheritable = *permitted;
    }
    // SAFETY: as above.
    call(Step::Ambient, unsafe {
        libc::syscall(libc::SYS_capset, HEADER.as_ptr(), sets.as_ptr())
    })?;
    for capability in 0..64_usize {
        // SAFETY: takes numbers.
        let raised = call(Step::Ambient, unsafe {
            libc::syscall(
                libc::SYS_prctl,
                libc::PR_CAP_AMBIENT,
                libc::PR_CAP_AMBIENT_RAISE as usize,
                capability,
                0_usize,
                0_usize,
            )
        });
        match raised {
            Ok(_) => {}
            // Past the kernel's last one.
            Err((_, libc::EINVAL)) => break,
            Err(fault) => return Err(fault),
        }
    }
    Ok(())
}

/// Every signal at its default: an exec resets handlers, but what the parent ignored stays ignored.
fn default_dispositions() -> Result<(), Fault> {
    /// The kernel's `struct sigaction`, on every architecture at most this long.
    const DEFAULT: [u64; 4] = [0; 4];
    for signal in 1..=64 {
        if signal == libc::SIGKILL || signal == libc::SIGSTOP {
            continue;
        }
        // SAFETY: the kernel reads a `struct sigaction`, which all zeros make `SIG_DFL` without
        // flags; the old one isn't asked for. Without CLONE_SIGHAND the table is our own copy.
        call(Step::Signals, unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                DEFAULT.as_ptr(),
                0_usize,
                size_of::<SignalSet>(),
            )
        })?;
    }
    Ok(())
}

/// Puts the descriptors in their places and the program where it should be, and sees to it that no
/// other one is open after the exec.
///
/// Everything first moves above the places, for a source may have the number of another's place.
/// Returns the program's new number.
fn arrange_descriptors(brief: &mut Brief<'_>, program: RawFd) -> Result<RawFd, Fault> {
    let free = brief.places.last().map_or(0, |place| place.at.saturating_add(1));
    let program_at = brief.program_at.unwrap_or(free).max(free);
    let above = program_at.saturating_add(1);
    for place in brief.places.iter_mut() {
        place.source = duplicate_above(place.source, above)?;
    }
    let program = duplicate_above(program, above)?;
    brief.moved_program = Some(program);

    let shared = brief.shares_table;
    let mut next = 0;
    for place in brief.places.iter() {
        if place.at > next {
            close_range(next, place.at - 1, shared)?;
        }
        put(place.source, place.at, 0)?;
        next = place.at.saturating_add(1);
    }
    put(program, program_at, libc::O_CLOEXEC)?;
    if program_at > next {
        close_range(next, program_at - 1, shared)?;
    }
    close_range(above, RawFd::MAX, shared)?;
    Ok(program_at)
}

/// The descriptors are our copies: without `CLONE_FILES` none of the parent's closes. With it the
/// exec closes them, in a table that is ours alone by then.
fn close_range(first: RawFd, last: RawFd, shared: bool) -> Result<(), Fault> {
    let flags = if shared { libc::CLOSE_RANGE_CLOEXEC } else { 0 };
    // SAFETY: takes numbers.
    call(Step::Descriptors, unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) })
        .map(drop)
}

fn duplicate_above(fd: RawFd, above: RawFd) -> Result<RawFd, Fault> {
    // SAFETY: takes numbers.
    let new = call(Step::Descriptors, unsafe {
        libc::syscall(libc::SYS_fcntl, fd, libc::F_DUPFD_CLOEXEC, c_long::from(above))
    })?;
    RawFd::try_from(new).map_err(|_| (Step::Descriptors, libc::EBADF))
}

fn put(fd: RawFd, place: RawFd, flags: i32) -> Result<(), Fault> {
    // SAFETY: takes numbers. What was at `place` has been moved above.
    call(Step::Descriptors, unsafe { libc::syscall(libc::SYS_dup3, fd, place, flags) }).map(drop)
}

fn unblock_signals() -> Result<(), Fault> {
    let none: SignalSet = 0;
    // SAFETY: the kernel reads one signal set of the size that is passed.
    call(Step::Signals, unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const none,
            0_usize,
            size_of::<SignalSet>(),
        )
    })
    .map(drop)
}

/// Loads the filter; with a listener where the table of descriptors is shared, for the parent to
/// find it there.
fn load(filter: &[FilterLine], listens: bool) -> Result<Option<RawFd>, Fault> {
    let flags = if listens { LISTENING } else { 0 };
    let loaded = call(Step::Filter, observe::set(filter, flags))?;
    let listener = RawFd::try_from(loaded).map_err(|_| (Step::Filter, libc::EBADF))?;
    Ok(listens.then_some(listener))
}

/// A call whose notification was taken waits for its answer, whatever signal comes meanwhile but one
/// that kills: so none is answered twice.
const LISTENING: c_ulong =
    libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;

fn write_file(path: &CStr, bytes: &[u8]) -> Result<(), Fault> {
    // SAFETY: the path is terminated.
    let fd = call(Step::IdMap, unsafe {
        libc::syscall(
            libc::SYS_openat,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::O_WRONLY | libc::O_CLOEXEC,
            0,
        )
    })?;
    let fd = RawFd::try_from(fd).map_err(|_| (Step::IdMap, libc::EBADF))?;
    write_all(Step::IdMap, fd, bytes)
    // Closed with all others.
}

/// These files take a value in one write or not at all.
fn write_all(step: Step, fd: RawFd, bytes: &[u8]) -> Result<(), Fault> {
    // SAFETY: the kernel reads `bytes` and no more.
    let written =
        call(step, unsafe { libc::syscall(libc::SYS_write, fd, bytes.as_ptr(), bytes.len()) })?;
    if usize::try_from(written) == Ok(bytes.len()) { Ok(()) } else { Err((step, libc::EIO)) }
}

/// `libc::syscall`'s answer, with the errno. That errno is the parent's thread-local variable,
/// which the parent, asleep, isn't reading.
fn call(step: Step, result: c_long) -> Result<c_long, Fault> {
    if result >= 0 {
        return Ok(result);
    }
    // SAFETY: libc's errno location is valid in every thread, and the child runs with its
    // parent's thread-local storage.
    Err((step, unsafe { *libc::__errno_location() }))
}
