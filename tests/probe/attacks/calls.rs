//! Section A: around the filter, and calls that reach into the kernel.

use nix::errno::Errno;
use nix::errno::Errno::{EACCES, EINVAL, ENOENT, ENOSPC, ENOSYS, ENOTTY, EPERM, ESRCH};

use super::{Attack, Facts, Outcome, at, into, path, raw, row, targets};

/// Every attack here.
pub(super) const ROWS: &[Attack] = &[
    row("int80", int80).without("a kernel may lack 32-bit calls").killed(),
    row("x32", x32).without("most kernels lack x32").killed(),
    row("clone3", clone3).answered().says(&[ENOSYS]),
    row("clone3-user", clone3_user).answered().says(&[ENOSYS]),
    row("unknown-call", unknown)
        .without("the number has no meaning yet")
        .answered()
        .says(&[ENOSYS]),
    row("unshare-mount", unshare_mount).killed_at("unshare").says(&[EPERM, EACCES, ENOSPC]),
    row("clone-user", clone_user)
        .killed_at("clone")
        .harmless("a user namespace by itself reaches nothing; unshare-mount goes on from there"),
    row("setns", setns).ruler().killed_at("pidfd_open").says(&[ESRCH, EPERM, EINVAL]),
    row("io-uring", io_uring)
        .killed_at("io_uring_setup")
        .harmless("what it carries out is bounded: io-uring-open shows it"),
    row("io-uring-open", io_uring_open).killed_at("io_uring_setup").says(&[ENOENT, EACCES]),
    row("bpf", bpf).without("it takes a capability on the host").killed_at("bpf").says(&[EPERM]),
    row("userfaultfd", userfaultfd).killed_at("userfaultfd").harmless("of its own memory only"),
    row("perf", perf)
        .without("perf_event_paranoid decides")
        .killed_at("perf_event_open")
        .says(&[ESRCH, EPERM, EACCES]),
    row("init-module", init_module)
        .without("it would change the machine")
        .killed_at("init_module")
        .says(&[EPERM, ENOSYS]),
    row("kexec", kexec)
        .without("it would change the machine")
        .killed_at("kexec_load")
        .says(&[EPERM, ENOSYS]),
    row("reboot", reboot).without("it would stop the machine").killed_at("reboot").says(&[EPERM]),
    row("iopl", iopl)
        .without("it takes a capability on the host")
        .killed_at("iopl")
        .says(&[EPERM, ENOSYS]),
    row("syslog-clear", syslog_clear)
        .without("it would clear the kernel's log")
        .killed_at("syslog")
        .says(&[EPERM]),
    row("acct", acct)
        .without("it would change the machine")
        .killed_at("acct")
        .says(&[EPERM, ENOSYS]),
    row("swapon", swapon)
        .without("it would change the machine")
        .killed_at("swapon")
        .says(&[EPERM, ENOSYS]),
    row("settimeofday", settimeofday)
        .without("it would change the machine")
        .killed_at("settimeofday")
        .says(&[EPERM]),
    row("sethostname", sethostname).ruler().killed_at("sethostname").says(&[EPERM]),
    row("fanotify", fanotify).root().killed_at("fanotify_init").says(&[EPERM, ENOSYS]),
    row("personality", personality)
        .killed_at("personality")
        .harmless("PR_SET_MDWE holds whatever the personality is: write-execute tests it"),
    row("tiocsti", tiocsti)
        .without("the test has no terminal")
        .killed_at("ioctl")
        .says(&[ENOTTY, EPERM]),
    row("tiocsti-high-bit", tiocsti_high_bit)
        .without("the test has no terminal")
        .killed_at("ioctl")
        .says(&[ENOTTY, EPERM]),
];

/// A 32-bit call: another architecture, whose numbers mean something else (A1).
#[cfg(target_arch = "x86_64")]
pub(super) fn int80(_: &Facts) -> Outcome {
    let answer: i32;
    // SAFETY: 20 is getpid there, which takes nothing and touches no memory. The kernel keeps all
    // registers but rax, and clears r8 to r11, which are named.
    unsafe {
        std::arch::asm!(
            "int 0x80",
            inlateout("eax") 20 => answer,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    if answer < 0 { Err(Errno::from_raw(-answer)) } else { Ok(format!("pid {answer}")) }
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) fn int80(_: &Facts) -> Outcome {
    Err(Errno::ENOSYS)
}

/// The x32 twin of getpid: same architecture to the filter, other numbers (A2).
pub(super) fn x32(_: &Facts) -> Outcome {
    raw(0x4000_0000 + 39, [0; 6]).map(|pid| format!("pid {pid}"))
}

/// A number that no kernel has yet (A10).
pub(super) fn unknown(_: &Facts) -> Outcome {
    raw(999, [0; 6]).map(|answer| format!("answer {answer}"))
}

/// Flags in memory, where no filter looks (A4).
pub(super) fn clone3(_: &Facts) -> Outcome {
    clone3_with(0)
}

/// The same, into a user namespace.
pub(super) fn clone3_user(_: &Facts) -> Outcome {
    clone3_with(libc::CLONE_NEWUSER)
}

fn clone3_with(flags: i32) -> Outcome {
    let mut arguments = [0_u64; 8];
    arguments[0] = u64::from(flags.cast_unsigned());
    arguments[4] = u64::from(libc::SIGCHLD.cast_unsigned());
    forked(raw(libc::SYS_clone3, [at(&arguments), 64, 0, 0, 0, 0])?)
}

pub(super) fn clone_user(_: &Facts) -> Outcome {
    let flags = i64::from(libc::CLONE_NEWUSER | libc::SIGCHLD);
    forked(raw(libc::SYS_clone, [flags, 0, 0, 0, 0, 0])?)
}

/// Ends the child at once, and waits for it.
fn forked(pid: i64) -> Outcome {
    if pid == 0 {
        let _ = raw(libc::SYS_exit_group, [0; 6]);
    }
    let _ = raw(libc::SYS_wait4, [pid, 0, 0, 0, 0, 0]);
    Ok(format!("process {pid}"))
}

/// Capabilities by a user namespace, and with them the mounts (A5).
pub(super) fn unshare_mount(_: &Facts) -> Outcome {
    let flags = i64::from(libc::CLONE_NEWUSER | libc::CLONE_NEWNS);
    raw(libc::SYS_unshare, [flags, 0, 0, 0, 0, 0])?;
    let all = i64::try_from(libc::MS_REC | libc::MS_PRIVATE).unwrap_or(0);
    raw(libc::SYS_mount, [0, at(c"/"), 0, all, 0, 0])?;
    raw(libc::SYS_mount, [at(c"none"), at(c"/"), at(c"tmpfs"), 0, 0, 0])?;
    Ok("mounted".to_owned())
}

/// Into the network of somebody else.
pub(super) fn setns(facts: &Facts) -> Outcome {
    let mut last = Errno::ESRCH;
    for pid in targets(facts) {
        match raw(libc::SYS_pidfd_open, [pid.into(), 0, 0, 0, 0, 0]) {
            Ok(fd) => {
                raw(libc::SYS_setns, [fd, libc::CLONE_NEWNET.into(), 0, 0, 0, 0])?;
                return Ok(format!("in the network of {pid}"));
            }
            Err(errno) => last = errno,
        }
    }
    Err(last)
}

/// Calls that the kernel makes for us, unseen by any filter (A6).
pub(super) fn io_uring(_: &Facts) -> Outcome {
    let mut parameters = [0_u64; 15];
    let fd = raw(libc::SYS_io_uring_setup, [4, into(&mut parameters), 0, 0, 0, 0])?;
    Ok(format!("descriptor {fd}"))
}

/// One of them: an open of a file that isn't granted.
#[allow(clippy::cast_ptr_alignment, reason = "the kernel has aligned the fields")]
fn io_uring_open(facts: &Facts) -> Outcome {
    const OPENAT: u64 = 18;
    let mut parameters = [0_u32; 30];
    let ring = raw(libc::SYS_io_uring_setup, [1, into(&mut parameters), 0, 0, 0, 0])?;
    // Where things are in the shared memory (io_uring_setup(2)): sq_off from the tenth word on,
    // cq_off from the twentieth.
    let [tail, array] = [parameters[11], parameters[16]];
    let [answers, count] = [parameters[25], parameters[1]];
    let flags = i64::from(libc::MAP_SHARED | libc::MAP_POPULATE);
    let mode = i64::from(libc::PROT_READ | libc::PROT_WRITE);
    let map = |size: u32, offset| raw(libc::SYS_mmap, [0, size.into(), mode, flags, ring, offset]);
    let shared = map((answers + 16 * count).max(array + 4), 0)? as *mut u8;
    let entry = map(64, 0x1000_0000)? as *mut u64;
    let path = path(facts, "secret")?.cast::<u8>() as u64;
    let here = u64::from(libc::AT_FDCWD.cast_unsigned());
    // SAFETY: the kernel has mapped both, an entry of 64 bytes and rings with these fields, which
    // are aligned; nobody else touches them before the call below.
    unsafe {
        entry.write(OPENAT | here << 32);
        entry.add(2).write(path);
        shared.add(array as usize).cast::<u32>().write(0);
        shared.add(tail as usize).cast::<u32>().write(1);
    }
    // One to submit, one to wait for (IORING_ENTER_GETEVENTS).
    raw(libc::SYS_io_uring_enter, [ring, 1, 1, 1, 0, 0])?;
    // SAFETY: the answer is there: its second word from the eighth byte on.
    let answer = unsafe { shared.add(answers as usize + 8).cast::<i32>().read() };
    if answer < 0 { Err(Errno::from_raw(-answer)) } else { Ok(format!("descriptor {answer}")) }
}

pub(super) fn bpf(_: &Facts) -> Outcome {
    // BPF_MAP_CREATE of a hash, which takes CAP_BPF: type, key, value, entries.
    let attributes = [1_u32, 4, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    raw(libc::SYS_bpf, [0, at(&attributes), 72, 0, 0, 0]).map(|fd| format!("descriptor {fd}"))
}

pub(super) fn userfaultfd(_: &Facts) -> Outcome {
    // UFFD_USER_MODE_ONLY
    raw(libc::SYS_userfaultfd, [1, 0, 0, 0, 0, 0]).map(|fd| format!("descriptor {fd}"))
}

/// Watches the supervisor.
pub(super) fn perf(facts: &Facts) -> Outcome {
    let mut attributes = [0_u64; 16];
    attributes[0] = 1 | 128 << 32;
    let pid = targets(facts).pop().unwrap_or(1);
    raw(libc::SYS_perf_event_open, [at(&attributes), pid.into(), -1, -1, 0, 0])
        .map(|fd| format!("descriptor {fd}"))
}

pub(super) fn init_module(_: &Facts) -> Outcome {
    raw(libc::SYS_init_module, [at(b"no module"), 9, at(c""), 0, 0, 0]).map(|_| "loaded".to_owned())
}

pub(super) fn kexec(_: &Facts) -> Outcome {
    raw(libc::SYS_kexec_load, [0, 0, 0, 0, 0, 0]).map(|_| "loaded".to_owned())
}

/// With numbers that the kernel refuses, but only whoever may reboot at all.
pub(super) fn reboot(_: &Facts) -> Outcome {
    raw(libc::SYS_reboot, [1, 2, 3, 0, 0, 0]).map(|_| "rebooted".to_owned())
}

#[cfg(target_arch = "x86_64")]
pub(super) fn iopl(_: &Facts) -> Outcome {
    raw(libc::SYS_iopl, [3, 0, 0, 0, 0, 0]).map(|_| "ports".to_owned())
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) fn iopl(_: &Facts) -> Outcome {
    Err(Errno::ENOSYS)
}

pub(super) fn syslog_clear(_: &Facts) -> Outcome {
    raw(libc::SYS_syslog, [5, 0, 0, 0, 0, 0]).map(|_| "cleared".to_owned())
}

pub(super) fn acct(_: &Facts) -> Outcome {
    raw(libc::SYS_acct, [0; 6]).map(|_| "accounting".to_owned())
}

pub(super) fn swapon(_: &Facts) -> Outcome {
    raw(libc::SYS_swapon, [at(c"/swap"), 0, 0, 0, 0, 0]).map(|_| "swap".to_owned())
}

/// A wrong time: refused by the capability first, and by its value for whoever has that.
pub(super) fn settimeofday(_: &Facts) -> Outcome {
    let zone = [0_i32; 2];
    raw(libc::SYS_settimeofday, [0, at(&zone), 0, 0, 0, 0]).map(|_| "time".to_owned())
}

pub(super) fn sethostname(_: &Facts) -> Outcome {
    raw(libc::SYS_sethostname, [at(c"taken"), 5, 0, 0, 0, 0]).map(|_| "renamed".to_owned())
}

/// FAN_CLASS_CONTENT: every open of the host asks us.
pub(super) fn fanotify(_: &Facts) -> Outcome {
    raw(libc::SYS_fanotify_init, [4, 0, 0, 0, 0, 0]).map(|fd| format!("descriptor {fd}"))
}

/// READ_IMPLIES_EXEC
pub(super) fn personality(_: &Facts) -> Outcome {
    raw(libc::SYS_personality, [0x0040_0000, 0, 0, 0, 0, 0]).map(|old| format!("was {old:x}"))
}

/// Characters into the terminal of whoever started the daemon (E12).
pub(super) fn tiocsti(_: &Facts) -> Outcome {
    push(i64::try_from(libc::TIOCSTI).unwrap_or(0))
}

/// The same with a bit that the kernel doesn't look at (A3).
pub(super) fn tiocsti_high_bit(_: &Facts) -> Outcome {
    push(i64::try_from(libc::TIOCSTI).unwrap_or(0) | 1 << 32)
}

fn push(request: i64) -> Outcome {
    let mut last = Errno::ENOTTY;
    for fd in 0..3 {
        match raw(libc::SYS_ioctl, [fd, request, at(b"x"), 0, 0, 0]) {
            Ok(_) => return Ok(format!("pushed into descriptor {fd}")),
            Err(errno) => last = errno,
        }
    }
    Err(last)
}

/// No attack: what every layer may do.
pub(super) fn read_clock(_: &Facts) -> Outcome {
    let mut time = [0_i64; 2];
    raw(libc::SYS_clock_gettime, [0, into(&mut time), 0, 0, 0, 0])?;
    Ok(format!("time {}", time[0]))
}

/// A forbidden call from a second thread (A8, A9): the whole process must go.
pub(super) fn thread_call(_: &Facts) -> Outcome {
    let call = || raw(libc::SYS_ptrace, [0; 6]).map(|_| "traced".to_owned());
    let thread = std::thread::Builder::new().spawn(call);
    match thread {
        Ok(thread) => thread.join().unwrap_or(Err(Errno::ECANCELED)),
        Err(error) => Err(Errno::from_raw(error.raw_os_error().unwrap_or(0))),
    }
}
