//! The supervisor's own filter.
//!
//! Filters stack and are inherited: what the supervisor may not do, no layer ever may. So this
//! filter allows the calls that the supervisor, the start of its children and the recipe make,
//! and whatever a layer is granted; conditions are the business of the layers' own filters. All
//! else that is known answers `ENOSYS`, for a supervisor that lives on with an error is better than one
//! that dies with every layer. It does so by the answer that yields to every other one: so what is
//! refused to the program of an `exec` layer comes to its init, and isn't answered here before.

use std::collections::BTreeSet;

use super::{Action, Arch, Filter, FilterError, compile_with};
use crate::policy::plan::{CallRule, SyscallPlan};
use crate::policy::syscall::by_name;

/// Compiles the supervisor's filter out of all calls that it lets through, by number: its own
/// ([`own_calls`]), and those that any layer is granted.
pub fn supervisor_filter(calls: &BTreeSet<u32>) -> Result<Filter, FilterError> {
    let plan = |&number: &u32| {
        let allow = vec![CallRule(Vec::new())];
        SyscallPlan { number, allow, otherwise: None }
    };
    let plans: Vec<SyscallPlan> = calls.iter().map(plan).collect();
    compile_with(&plans, Arch::NATIVE, Action::Trace)
}

/// The numbers of [`OWN`], without those that the running architecture lacks.
pub fn own_calls() -> Vec<u32> {
    OWN.iter().filter_map(|name| by_name(name)).collect()
}

/// The calls that the supervisor's filter has to let through for layers that are granted these.
pub fn let_through<'p>(granted: impl IntoIterator<Item = &'p SyscallPlan>) -> BTreeSet<u32> {
    let granted = granted.into_iter().filter(|plan| !plan.allow.is_empty());
    granted.map(|plan| plan.number).chain(own_calls()).collect()
}

/// What the supervisor itself, the start of its children and the recipe call.
///
/// Not here, so refused to everybody unless a policy grants it: debugging of other processes,
/// `io_uring`, BPF, performance counters, modules, keys beyond one's own keyring, clocks, power.
pub const OWN: &[&str] = &[
    // Bytes and descriptors.
    "personality",
    "read",
    "write",
    "readv",
    "writev",
    "pread64",
    "pwrite64",
    "lseek",
    "close",
    "close_range",
    "dup",
    "dup2",
    "dup3",
    "fcntl",
    "ioctl",
    "pipe",
    "pipe2",
    "memfd_create",
    "memfd_secret",
    "ftruncate",
    // Keys of message queues, from the random device into memory; a message that has to go.
    "sendfile",
    "mq_getsetattr",
    "mq_timedreceive",
    // Waiting.
    "poll",
    "ppoll",
    "select",
    "pselect6",
    "epoll_create1",
    "epoll_ctl",
    "epoll_wait",
    "epoll_pwait",
    "epoll_pwait2",
    "eventfd2",
    "signalfd4",
    "timerfd_create",
    "timerfd_settime",
    "timerfd_gettime",
    "futex",
    "nanosleep",
    "clock_nanosleep",
    "clock_gettime",
    "clock_getres",
    "gettimeofday",
    "time",
    "restart_syscall",
    "sched_yield",
    "sched_getaffinity",
    "sched_setaffinity",
    // Memory.
    "mmap",
    "munmap",
    "mremap",
    "mprotect",
    "madvise",
    "mlock",
    "mlock2",
    "munlock",
    "mseal",
    "brk",
    "membarrier",
    "getrandom",
    // Signals, and threads as libraries start them.
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "rt_sigpending",
    "rt_sigtimedwait",
    "rt_sigsuspend",
    "sigaltstack",
    "tgkill",
    "kill",
    "set_tid_address",
    "set_robust_list",
    "rseq",
    "arch_prctl",
    // Files: the policy, the program, what layers are granted, and /proc and /sys/fs/cgroup.
    "open",
    "openat",
    "openat2",
    "stat",
    "lstat",
    "fstat",
    "newfstatat",
    "statx",
    "access",
    "faccessat",
    "faccessat2",
    "readlink",
    "readlinkat",
    "getcwd",
    "getdents64",
    "statfs",
    "fstatfs",
    "chdir",
    "fchdir",
    "mkdir",
    "mkdirat",
    "rmdir",
    "unlink",
    "unlinkat",
    "linkat",
    "rename",
    "renameat",
    "renameat2",
    "symlink",
    "symlinkat",
    "chmod",
    "fchmod",
    "fchmodat",
    "chown",
    "lchown",
    "fchown",
    "fchownat",
    "umask",
    "flock",
    "fsync",
    "fdatasync",
    "fallocate",
    "fadvise64",
    "mknod",
    "mknodat",
    // Sockets: listeners, channels, control.
    "socket",
    "socketpair",
    "bind",
    "listen",
    "connect",
    "accept",
    "accept4",
    "getsockname",
    "getpeername",
    "getsockopt",
    "setsockopt",
    "shutdown",
    "sendto",
    "sendmsg",
    "sendmmsg",
    "recvfrom",
    "recvmsg",
    "recvmmsg",
    // Children.
    "clone",
    "clone3",
    "fork",
    "vfork",
    "execve",
    "execveat",
    "wait4",
    "waitid",
    "pidfd_open",
    "pidfd_send_signal",
    "exit",
    "exit_group",
    "prlimit64",
    "getrlimit",
    "setrlimit",
    "getrusage",
    "setpriority",
    "sched_getscheduler",
    "sched_setscheduler",
    "ioprio_set",
    "getpriority",
    // Who one is.
    "getpid",
    "getppid",
    "gettid",
    "getpgrp",
    "getpgid",
    "setpgid",
    "getsid",
    "setsid",
    "getuid",
    "geteuid",
    "getgid",
    "getegid",
    "getresuid",
    "getresgid",
    "getgroups",
    "uname",
    "sysinfo",
    "getcpu",
    // The recipe: what makes confinement.
    "prctl",
    "seccomp",
    "landlock_create_ruleset",
    "landlock_add_rule",
    "landlock_restrict_self",
    "capget",
    "capset",
    "setuid",
    "setgid",
    "setreuid",
    "setregid",
    "setresuid",
    "setresgid",
    "setgroups",
    "unshare",
    "setns",
    "sethostname",
    "setdomainname",
    "keyctl",
    "mount",
    "umount2",
    "pivot_root",
    "chroot",
    "open_tree",
    "move_mount",
    "fsopen",
    "fsconfig",
    "fsmount",
    "mount_setattr",
];

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;
    use crate::policy::syscall::{Implied, assemble, parse_item};

    fn verdict(filter: &Filter, name: &str) -> Verdict {
        filter.evaluate(Arch::NATIVE.audit(), by_name(name).unwrap(), [u64::MAX; 6])
    }

    #[test]
    fn every_name_is_a_call_somewhere_and_stands_once() {
        let mut names = OWN.to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), OWN.len());
        // x86-64 has every call that is listed.
        if cfg!(target_arch = "x86_64") {
            assert_eq!(own_calls().len(), OWN.len());
        }
    }

    #[test]
    fn a_layers_grant_is_allowed_and_the_rest_is_unknown() {
        let items =
            [parse_item("inotify_init1").unwrap(), parse_item("ioctl(_, FIONREAD)").unwrap()];
        let layer = assemble(&items, &[(by_name("ptrace").unwrap(), 2)], Implied::Run);
        let filter = supervisor_filter(&let_through(&layer)).unwrap();
        for name in ["inotify_init1", "ioctl", "clone3", "seccomp", "mount"] {
            assert_eq!(verdict(&filter, name), Verdict::Allow, "{name}");
        }
        for name in ["ptrace", "bpf", "io_uring_setup", "init_module", "add_key"] {
            assert_eq!(verdict(&filter, name), Verdict::Trace, "{name}");
        }
        assert_eq!(filter.evaluate(0x4000_0003, 20, [0; 6]), Verdict::Kill);
    }
}
