//! System calls without a library: nothing but registers is touched.

use cofferdam::policy::syscall::by_name;

/// Makes a call and returns what the kernel says.
///
/// If the call starts a process or a thread, that one ends at once with 255, as `exit` of the
/// caller itself would by its arguments: of a process the last thread tells. It leaves its stack,
/// which it may share with the caller, alone. `rt_sigreturn` gets no stack to return from, so it ends
/// the process by `SIGSEGV`.
pub fn call(number: u32, arguments: [u64; 6]) -> i64 {
    if Some(number) == by_name("rt_sigreturn") {
        sigreturn(number);
    }
    let starts =
        ["fork", "vfork", "clone", "clone3"].iter().any(|name| by_name(name) == Some(number));
    // SAFETY: every register that the kernel changes is declared. The arguments of the tests
    // point to no memory, so the kernel writes none of this process's.
    unsafe { syscall(number, arguments, u64::from(starts), by_name("exit").unwrap_or_default()) }
}

#[cfg(target_arch = "x86_64")]
unsafe fn syscall(number: u32, arguments: [u64; 6], starts: u64, exit: u32) -> i64 {
    let answer;
    // SAFETY: as the caller says; the new process or thread never leaves the loop.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 3f",
            "test r12, r12",
            "jz 3f",
            "2:",
            "mov edi, 255",
            "mov rax, r13",
            "syscall",
            "jmp 2b",
            "3:",
            inlateout("rax") u64::from(number) => answer,
            inlateout("rdi") arguments[0] => _,
            in("rsi") arguments[1], in("rdx") arguments[2], in("r10") arguments[3],
            in("r8") arguments[4], in("r9") arguments[5],
            in("r12") starts, in("r13") u64::from(exit),
            out("rcx") _, out("r11") _,
        );
    }
    answer
}

#[cfg(target_arch = "aarch64")]
unsafe fn syscall(number: u32, arguments: [u64; 6], starts: u64, exit: u32) -> i64 {
    let answer;
    // SAFETY: as the caller says; the new process or thread never leaves the loop.
    unsafe {
        std::arch::asm!(
            "svc #0",
            "cbnz x0, 3f",
            "cbz x10, 3f",
            "2:",
            "mov x0, #255",
            "mov x8, x11",
            "svc #0",
            "b 2b",
            "3:",
            inlateout("x8") u64::from(number) => _,
            inlateout("x0") arguments[0] => answer,
            in("x1") arguments[1], in("x2") arguments[2], in("x3") arguments[3],
            in("x4") arguments[4], in("x5") arguments[5],
            in("x10") starts, in("x11") u64::from(exit),
        );
    }
    answer
}

fn sigreturn(number: u32) -> ! {
    // SAFETY: with a stack pointer of 0 the kernel finds no frame and ends the process; so does
    // the trap, should it not.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        std::arch::asm!("xor esp, esp", "syscall", "ud2", in("rax") u64::from(number), options(noreturn));
        #[cfg(target_arch = "aarch64")]
        std::arch::asm!("mov sp, xzr", "svc #0", "udf #0", in("x8") u64::from(number), options(noreturn));
    }
}
