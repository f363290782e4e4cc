//! What a process asks of the kernel for itself, where `nix` and `rustix` have no call.

use std::io;

/// Turns on memory-deny-write-execute for good (`PR_SET_MDWE`, Linux 6.3): writable memory never
/// becomes executable in this process, its children, and what they execute.
pub fn deny_write_execute() -> io::Result<()> {
    let flags = libc::c_ulong::from(libc::PR_MDWE_REFUSE_EXEC_GAIN);
    // SAFETY: PR_SET_MDWE takes one number of flags and three zeros, and touches no memory of ours.
    check(unsafe { libc::prctl(libc::PR_SET_MDWE, flags, 0_u64, 0_u64, 0_u64) }.into())
}

/// Whether [`deny_write_execute`] holds.
pub fn denies_write_execute() -> bool {
    // SAFETY: PR_GET_MDWE takes four zeros and returns its flags.
    let flags = unsafe { libc::prctl(libc::PR_GET_MDWE, 0_u64, 0_u64, 0_u64, 0_u64) };
    flags > 0 && flags.cast_unsigned() & libc::PR_MDWE_REFUSE_EXEC_GAIN != 0
}

/// Leaves the session keyring that was inherited, for a new and empty one.
pub fn join_new_session_keyring() -> io::Result<()> {
    /// From linux/keyctl.h.
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: a null name asks for an anonymous keyring; nothing of ours is read or written.
    check(unsafe {
        libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, 0_u64, 0_u64, 0_u64, 0_u64)
    })
}

/// Resets the execution domain to plain Linux: no `READ_IMPLIES_EXEC`, no fixed addresses.
pub fn reset_personality() -> io::Result<()> {
    // SAFETY: takes a number; 0 is `PER_LINUX` without flags.
    check(unsafe { libc::personality(0) }.into())
}

/// Has the calling thread, and what it makes, share the processors as everybody does
/// (`SCHED_OTHER`), ask for the disk without a class of its own, and be woken with the kernel's own
/// slack, whatever the parent had (sched(7), `ioprio_set(2)`, `PR_SET_TIMERSLACK`).
///
/// Giving up real time needs no right. Who is at the other end (`SCHED_IDLE`) may not be able to
/// leave it, which harms nobody: then this is no error.
pub fn reset_scheduling() -> io::Result<()> {
    /// From linux/ioprio.h: the calling thread.
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    /// The kernel's default, in nanoseconds (`init/init_task.c`).
    const SLACK: libc::c_ulong = 50_000;
    let ordinary = libc::sched_param { sched_priority: 0 };
    // SAFETY: 0 is the calling thread, and the kernel reads one `sched_param`.
    let set = unsafe { libc::sched_setscheduler(0, libc::SCHED_OTHER, &raw const ordinary) };
    if let Err(error) = check(set.into()) {
        // SAFETY: takes a number; 0 is the calling thread.
        let policy = unsafe { libc::sched_getscheduler(0) };
        if policy != libc::SCHED_IDLE && policy != libc::SCHED_BATCH {
            return Err(error);
        }
    }
    // SAFETY: takes numbers; class and level 0 follow the nice value.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, 0) })?;
    // SAFETY: takes numbers.
    check(unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, SLACK, 0_u64, 0_u64, 0_u64) }.into())
}

/// Asks beforehand what glibc's malloc would ask of the system later, when several threads use it and a
/// filter kills whoever opens a file: how many processors there are, when the ninth thread
/// allocates (`/sys/devices/system/cpu/online`), and how memory is committed, when a thread other
/// than the first gives much back (`/proc/sys/vm/overcommit_memory`).
///
/// Makes a thread for a moment; where none can be made, the layer has no use for this.
#[cfg(target_env = "gnu")]
pub fn prepare_malloc() {
    /// As many heaps as glibc makes before it asks.
    const HEAPS: libc::c_int = 8;
    /// Together more than twice the 128 KiB from which on memory is given back, each too small for
    /// a mapping of its own.
    const BLOCKS: [usize; 8] = [64 << 10; 8];
    // SAFETY: takes two numbers; glibc locks its own state.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, HEAPS) };
    let give_back = || drop(std::hint::black_box(BLOCKS.map(Vec::<u8>::with_capacity)));
    if let Ok(thread) = std::thread::Builder::new().spawn(give_back) {
        let _ = thread.join();
    }
}

/// The version of Landlock that the kernel has: 1 and up, or the errno that says why not
/// (`ENOSYS`: not built in; `EOPNOTSUPP`: switched off at boot).
pub fn landlock_abi() -> io::Result<u32> {
    /// From linux/landlock.h.
    const LANDLOCK_CREATE_RULESET_VERSION: u32 = 1;
    // SAFETY: with this flag the kernel demands a null pointer and size 0, and reads nothing.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u8>(),
            0_usize,
            LANDLOCK_CREATE_RULESET_VERSION,
        )
    };
    u32::try_from(version).map_err(|_| io::Error::last_os_error())
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
