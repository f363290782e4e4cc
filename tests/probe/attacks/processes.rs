//! Section B: the supervisor, the siblings, and whoever else runs on the host.

use nix::errno::Errno;
use nix::errno::Errno::{EACCES, ENOENT, ENOSYS, EPERM, ESRCH};

use super::{Attack, Facts, Outcome, at, fact, into, on_any, raw, row, targets};

/// Every attack here.
pub(super) const ROWS: &[Attack] = &[
    row("ptrace", ptrace).killed_at("ptrace").says(&[ESRCH, EPERM]),
    row("ptrace-seize", ptrace_seize).killed_at("ptrace").says(&[ESRCH, EPERM]),
    row("vm-read", vm_read).killed_at("process_vm_readv").says(&[ESRCH, EPERM]),
    row("vm-write", vm_write).killed_at("process_vm_writev").says(&[ESRCH, EPERM]),
    row("pidfd-getfd", pidfd_getfd).killed_at("pidfd_open").says(&[ESRCH, EPERM]),
    row("kcmp", kcmp).killed_at("kcmp").says(&[ESRCH, EPERM, ENOSYS]),
    row("process-madvise", process_madvise)
        .without("it takes a capability")
        .killed_at("pidfd_open")
        .says(&[ESRCH, EPERM]),
    row("kill", kill).killed_at("kill").says(&[ESRCH, EPERM]),
    row("kill-supervisor", kill_supervisor).killed_at("kill").says(&[ESRCH, EPERM]),
    row("kill-everybody", kill_everybody)
        .without("it would reach whoever runs the test")
        .killed_at("kill")
        .says(&[ESRCH, EPERM]),
    row("tgkill", tgkill).killed_at("tgkill").says(&[ESRCH, EPERM]),
    row("tgkill-abort", tgkill_abort).without("kill shows it").says(&[ESRCH, EPERM]),
    row("sigqueue", sigqueue).killed_at("rt_sigqueueinfo").says(&[ESRCH, EPERM]),
    row("pidfd-signal", pidfd_signal).killed_at("pidfd_open").says(&[ESRCH, EPERM]),
    row("owner-signal", owner_signal).killed_at("fcntl").says(&[ESRCH, EPERM]),
    row("owner-ioctl", owner_ioctl).killed_at("ioctl").says(&[ESRCH, EPERM]),
    row("prlimit", prlimit).killed_at("prlimit64").says(&[ESRCH, EPERM]),
    row("affinity", affinity).killed_at("sched_setaffinity").says(&[ESRCH, EPERM]),
    row("priority", priority).killed_at("setpriority").says(&[ESRCH, EPERM, EACCES]),
    row("proc-mem", proc_mem).killed_at("openat").says(&[ENOENT, EACCES]),
    row("proc-self-mem", proc_self_mem).killed_at("openat").says(&[ENOENT, EACCES]),
    row("proc-environ", proc_environ).killed_at("openat").says(&[ENOENT, EACCES]),
    row("proc-fd", proc_fd).killed_at("openat").says(&[ENOENT, EACCES]),
];

fn pidfd(pid: i32) -> Result<i64, Errno> {
    raw(libc::SYS_pidfd_open, [pid.into(), 0, 0, 0, 0, 0])
}

pub(super) fn ptrace(facts: &Facts) -> Outcome {
    on_any(facts, |pid| raw(libc::SYS_ptrace, [libc::PTRACE_ATTACH.into(), pid.into(), 0, 0, 0, 0]))
}

pub(super) fn ptrace_seize(facts: &Facts) -> Outcome {
    on_any(facts, |pid| raw(libc::SYS_ptrace, [libc::PTRACE_SEIZE.into(), pid.into(), 0, 0, 0, 0]))
}

pub(super) fn vm_read(facts: &Facts) -> Outcome {
    let mut memory = [0_u8; 8];
    vm(facts, libc::SYS_process_vm_readv, into(&mut memory))
}

pub(super) fn vm_write(facts: &Facts) -> Outcome {
    let mut memory = TARGET.to_ne_bytes();
    vm(facts, libc::SYS_process_vm_writev, into(&mut memory))
}

/// At the same address in the victim of the control, which is our own fork.
static TARGET: u64 = 0x746e_6f20_6d65_6d6f;

fn vm(facts: &Facts, call: i64, buffer: i64) -> Outcome {
    // Writable in the victim: its stack, where ours is.
    let local = [buffer, 8];
    let remote = [buffer, 8];
    on_any(facts, |pid| raw(call, [pid.into(), at(&local), 1, at(&remote), 1, 0]))
}

pub(super) fn pidfd_getfd(facts: &Facts) -> Outcome {
    on_any(facts, |pid| raw(libc::SYS_pidfd_getfd, [pidfd(pid)?, 1, 0, 0, 0, 0]))
}

pub(super) fn kcmp(facts: &Facts) -> Outcome {
    // KCMP_VM
    let own = raw(libc::SYS_getpid, [0; 6])?;
    on_any(facts, |pid| raw(libc::SYS_kcmp, [own, pid.into(), 1, 0, 0, 0]))
}

pub(super) fn process_madvise(facts: &Facts) -> Outcome {
    let memory = Box::new([0_u8; 16384]);
    let page = (at(&*memory) + 4095) & !4095;
    let range = [page, 4096];
    // MADV_COLD
    on_any(facts, |pid| raw(libc::SYS_process_madvise, [pidfd(pid)?, at(&range), 1, 20, 0, 0]))
}

/// Signal 0 asks whether one could.
pub(super) fn kill(facts: &Facts) -> Outcome {
    on_any(facts, |pid| raw(libc::SYS_kill, [pid.into(), 0, 0, 0, 0, 0]))
}

/// And this does.
pub(super) fn kill_supervisor(facts: &Facts) -> Outcome {
    let pid = targets(facts).pop().ok_or(Errno::ESRCH)?;
    raw(libc::SYS_kill, [pid.into(), libc::SIGKILL.into(), 0, 0, 0, 0])?;
    Ok(format!("killed {pid}"))
}

/// Everybody whom one may signal, and one's own group.
pub(super) fn kill_everybody(_: &Facts) -> Outcome {
    raw(libc::SYS_kill, [-1, 0, 0, 0, 0, 0])?;
    Ok("reached somebody".to_owned())
}

pub(super) fn tgkill(facts: &Facts) -> Outcome {
    on_any(facts, |pid| {
        raw(libc::SYS_tgkill, [pid.into(), pid.into(), libc::SIGUSR2.into(), 0, 0, 0])
    })
}

/// The one signal that every layer may send, to be able to abort: to others too?
pub(super) fn tgkill_abort(facts: &Facts) -> Outcome {
    on_any(facts, |pid| {
        raw(libc::SYS_tgkill, [pid.into(), pid.into(), libc::SIGABRT.into(), 0, 0, 0])
    })
}

pub(super) fn sigqueue(facts: &Facts) -> Outcome {
    let mut info = [0_i32; 32];
    info[0] = libc::SIGUSR2;
    info[2] = -1; // SI_QUEUE
    on_any(facts, |pid| {
        raw(libc::SYS_rt_sigqueueinfo, [pid.into(), libc::SIGUSR2.into(), at(&info), 0, 0, 0])
    })
}

pub(super) fn pidfd_signal(facts: &Facts) -> Outcome {
    on_any(facts, |pid| raw(libc::SYS_pidfd_send_signal, [pidfd(pid)?, 0, 0, 0, 0, 0]))
}

/// A signal without sending one: the kernel sends it for the owner of a socket (B6).
pub(super) fn owner_signal(facts: &Facts) -> Outcome {
    let (near, far) = sockets()?;
    let owned = on_any(facts, |pid| fcntl(near, libc::F_SETOWN, pid.into()))?;
    fcntl(near, 10, libc::SIGKILL.into())?; // F_SETSIG
    fcntl(near, libc::F_SETFL, libc::O_ASYNC.into())?;
    raw(libc::SYS_write, [far, at(b"x"), 1, 0, 0, 0])?;
    Ok(owned)
}

pub(super) fn owner_ioctl(facts: &Facts) -> Outcome {
    let (near, _) = sockets()?;
    // FIOSETOWN
    on_any(facts, |pid| raw(libc::SYS_ioctl, [near, 0x8901, at(&pid), 0, 0, 0]))
}

fn fcntl(fd: i64, command: i32, argument: i64) -> Result<i64, Errno> {
    raw(libc::SYS_fcntl, [fd, command.into(), argument, 0, 0, 0])
}

fn sockets() -> Result<(i64, i64), Errno> {
    let mut pair = [0_i32; 2];
    let (family, kind) = (libc::AF_UNIX.into(), libc::SOCK_STREAM.into());
    raw(libc::SYS_socketpair, [family, kind, 0, into(&mut pair), 0, 0])?;
    Ok((pair[0].into(), pair[1].into()))
}

/// A second of processor time for the sibling (B4).
pub(super) fn prlimit(facts: &Facts) -> Outcome {
    let limit = [1_u64, 1];
    let resource = i64::from(libc::RLIMIT_CPU);
    on_any(facts, |pid| raw(libc::SYS_prlimit64, [pid.into(), resource, at(&limit), 0, 0, 0]))
}

pub(super) fn affinity(facts: &Facts) -> Outcome {
    let set = [1_u64];
    on_any(facts, |pid| raw(libc::SYS_sched_setaffinity, [pid.into(), 8, at(&set), 0, 0, 0]))
}

pub(super) fn priority(facts: &Facts) -> Outcome {
    on_any(facts, |pid| raw(libc::SYS_setpriority, [0, pid.into(), 19, 0, 0, 0]))
}

pub(super) fn proc_mem(facts: &Facts) -> Outcome {
    open_of_any(facts, "mem")
}

pub(super) fn proc_environ(facts: &Facts) -> Outcome {
    open_of_any(facts, "environ")
}

pub(super) fn proc_fd(facts: &Facts) -> Outcome {
    open_of_any(facts, "fd")
}

fn open_of_any(facts: &Facts, what: &str) -> Outcome {
    on_any(facts, |pid| {
        let path = format!("/proc/{pid}/{what}\0");
        raw(libc::SYS_openat, [libc::AT_FDCWD.into(), at(path.as_bytes()), 0, 0, 0, 0])
    })
}

/// Writing to memory that is write-protected (B3).
pub(super) fn proc_self_mem(_: &Facts) -> Outcome {
    let path = at(c"/proc/self/mem");
    let fd = raw(libc::SYS_openat, [libc::AT_FDCWD.into(), path, libc::O_RDWR.into(), 0, 0, 0])?;
    Ok(format!("descriptor {fd}"))
}

/// Leaves a process behind that has left everything that it can leave (B11).
pub(super) fn grandchild(_: &Facts) -> Outcome {
    let fork = || raw(libc::SYS_clone, [libc::SIGCHLD.into(), 0, 0, 0, 0, 0]);
    if fork()? == 0 {
        let _ = raw(libc::SYS_setsid, [0; 6]);
        if fork().is_ok_and(|pid| pid == 0) {
            // Nothing ends it but a signal.
            let _ = raw(libc::SYS_prctl, [libc::PR_SET_PDEATHSIG.into(), 0, 0, 0, 0, 0]);
            loop {
                let _ = raw(libc::SYS_nanosleep, [at(&[1_i64, 0]), 0, 0, 0, 0, 0]);
            }
        }
        let _ = raw(libc::SYS_exit_group, [0; 6]);
    }
    Ok("left one behind".to_owned())
}

/// Takes back what ends a layer with its supervisor (B12): the signal, and the socket that hangs
/// up.
pub(super) fn immortal(_: &Facts) -> Outcome {
    raw(libc::SYS_prctl, [libc::PR_SET_PDEATHSIG.into(), 0, 0, 0, 0, 0])?;
    raw(libc::SYS_close, [4, 0, 0, 0, 0, 0])?;
    let _ = raw(libc::SYS_rt_sigaction, [0; 6]);
    crate::say("RESULT immortal worked: nothing is left that ends it");
    loop {
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
}

/// The init of an `exec` layer, which is the same user and in the same namespaces: its control
/// socket is the way to the supervisor.
pub(super) fn init_ptrace(_: &Facts) -> Outcome {
    raw(libc::SYS_ptrace, [libc::PTRACE_SEIZE.into(), 1, 0, 0, 0, 0]).map(|_| "traced".to_owned())
}

pub(super) fn init_memory(_: &Facts) -> Outcome {
    let mut memory = [0_u8; 8];
    let local = [into(&mut memory), 8];
    let remote = [into(&mut memory), 8];
    // EFAULT, unlike EPERM, is said to who may read.
    match raw(libc::SYS_process_vm_readv, [1, at(&local), 1, at(&remote), 1, 0]) {
        Ok(_) | Err(Errno::EFAULT) => Ok("readable".to_owned()),
        Err(errno) => Err(errno),
    }
}

pub(super) fn init_descriptor(_: &Facts) -> Outcome {
    raw(libc::SYS_pidfd_getfd, [pidfd(1)?, 4, 0, 0, 0, 0]).map(|fd| format!("descriptor {fd}"))
}

/// The kernel spares the first process of a namespace what comes from inside.
pub(super) fn init_kill(_: &Facts) -> Outcome {
    for signal in [libc::SIGKILL, libc::SIGSTOP, libc::SIGSEGV] {
        raw(libc::SYS_kill, [1, signal.into(), 0, 0, 0, 0])?;
    }
    std::thread::sleep(std::time::Duration::from_millis(200));
    Err(Errno::EPERM)
}

/// Looks stopped, so that nobody takes it for dead (B14).
pub(super) fn stop_itself(_: &Facts) -> Outcome {
    let own = raw(libc::SYS_getpid, [0; 6])?;
    raw(libc::SYS_kill, [own, libc::SIGSTOP.into(), 0, 0, 0, 0])?;
    Ok("went on".to_owned())
}

/// Ends with the code that it is told.
pub(super) fn exit(facts: &Facts) -> Outcome {
    let code: i64 = fact(facts, "code")?.parse().map_err(|_| Errno::EINVAL)?;
    raw(libc::SYS_exit_group, [code, 0, 0, 0, 0, 0]).map(|_| "stayed".to_owned())
}
