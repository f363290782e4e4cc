//! `clone3` onto a stack of the child's own, as neither libc nor any crate offers it.
//!
//! glibc's `clone` takes a function and a stack but only 32 bits of flags, and
//! `CLONE_INTO_CGROUP` is bit 33; `syscall(SYS_clone3)` takes all flags, but its child would
//! return onto a stack that it shares with its parent. So these are a dozen instructions of ours.

use std::arch::asm;
use std::ffi::{c_int, c_void};

/// What the child runs, on its own stack, until it executes another program or exits.
pub(super) type Entry = unsafe extern "C" fn(*mut c_void) -> !;

/// The child's stack, in 16-byte units so that it is aligned as both ABIs ask.
pub(super) struct Stack(Vec<u128>);

impl Stack {
    /// 64 KiB: the entry runs a few flat functions, which in an unoptimised build need 4 KiB.
    const UNITS: usize = (64 << 10) / size_of::<u128>();

    /// A stack that no page of is touched yet.
    pub(super) fn new() -> Self {
        Self(Vec::with_capacity(Self::UNITS))
    }
}

/// Calls `clone3(args)`; the child runs `entry(argument)` on `stack`, the parent gets the child's
/// pid, or a negated errno.
///
/// # Safety
/// `args.flags` holds `CLONE_VM | CLONE_VFORK` and neither `CLONE_THREAD` nor `CLONE_SETTLS`, so
/// the caller's thread sleeps while the child uses its memory and thread-local storage. The other
/// pointers of `args` and `argument` are valid for as long as the call lasts. `entry` neither
/// returns nor unwinds, takes no lock and allocates nothing, for other threads of the caller may
/// hold any lock.
pub(super) unsafe fn clone3_vfork(
    args: &mut libc::clone_args,
    stack: &mut Stack,
    entry: Entry,
    argument: *mut c_void,
) -> i64 {
    let base = stack.0.as_mut_ptr();
    args.stack = base as u64;
    args.stack_size = (stack.0.capacity() * size_of::<u128>()) as u64;
    // SAFETY: the kernel reads `args` and, in the child alone, puts the stack pointer at the end
    // of `stack`, which is aligned to 16 and ours alone; `entry` never returns there. The parent
    // goes on behind the label with its own stack pointer, and only the registers named here have
    // changed. Memory may have changed: the block isn't marked `nomem`. The rest is the caller's
    // promise.
    unsafe { raw_clone3(args, entry, argument) }
}

/// The same by `clone(2)`, for where a filter answers `clone3` with `ENOSYS`, since it can't see the
/// flags that are in memory. What needs more than 32 bits of flags (`CLONE_INTO_CGROUP`) is left out.
///
/// # Safety
/// As [`clone3_vfork`].
pub(super) unsafe fn clone_vfork(
    args: &libc::clone_args,
    stack: &mut Stack,
    entry: Entry,
    argument: *mut c_void,
) -> i64 {
    struct Way {
        entry: Entry,
        argument: *mut c_void,
    }
    extern "C" fn begin(way: *mut c_void) -> c_int {
        // SAFETY: it is the `Way` below, whose owner sleeps until the child needs it no more.
        let Way { entry, argument } = unsafe { way.cast::<Way>().read() };
        // SAFETY: the promise of who called `clone_vfork`.
        unsafe { entry(argument) }
    }
    let mut way = Way { entry, argument };
    // All flags but the ones above are among the lower 32 bits; the lowest byte is the signal.
    let lower = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or_default();
    let flags = (lower(args.flags) | lower(args.exit_signal)).cast_signed();
    // SAFETY: the stack is ours alone, aligned, and grows down from its end; libc's wrapper neither
    // allocates nor locks; the kernel writes the pidfd where clone3 would; the rest is the caller's
    // promise.
    let pid = unsafe {
        let end = stack.0.as_mut_ptr().add(stack.0.capacity()).cast();
        libc::clone(begin, end, flags, (&raw mut way).cast(), args.pidfd as *mut c_int)
    };
    if pid < 0 {
        let errno = std::io::Error::last_os_error().raw_os_error();
        return -i64::from(errno.unwrap_or(libc::EINVAL));
    }
    i64::from(pid)
}

#[cfg(target_arch = "x86_64")]
unsafe fn raw_clone3(args: &mut libc::clone_args, entry: Entry, argument: *mut c_void) -> i64 {
    let result: i64;
    // SAFETY: see `clone3_vfork`. System calls clobber rcx and r11; the outermost frame has rbp 0.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, {argument}",
            "call {entry}",
            "ud2",
            "2:",
            argument = in(reg) argument,
            entry = in(reg) entry,
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") std::ptr::from_mut(args),
            in("rsi") size_of::<libc::clone_args>(),
            out("rcx") _,
            out("r11") _,
        );
    }
    result
}

#[cfg(target_arch = "aarch64")]
unsafe fn raw_clone3(args: &mut libc::clone_args, entry: Entry, argument: *mut c_void) -> i64 {
    let result: i64;
    // SAFETY: see `clone3_vfork`. The outermost frame has x29 and x30 at 0.
    unsafe {
        asm!(
            "svc #0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x30, xzr",
            "mov x0, {argument}",
            "blr {entry}",
            "brk #1",
            "2:",
            argument = in(reg) argument,
            entry = in(reg) entry,
            in("x8") libc::SYS_clone3,
            inlateout("x0") std::ptr::from_mut(args) as i64 => result,
            in("x1") size_of::<libc::clone_args>(),
        );
    }
    result
}
