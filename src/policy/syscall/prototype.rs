//! How wide the kernel takes each argument of the calls on which conditions make sense.
//!
//! A condition that looks at more bits than the kernel does is a hole: the caller sets a high
//! bit, passes an inequality, and the kernel ignores the bit (CVE-2019-10063 and its kin). So
//! conditions are accepted only where this table says the width, taken from the kernel's
//! `SYSCALL_DEFINE` lines.

/// How the kernel takes one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `int`, `unsigned int`, `pid_t`: 32 bits.
    Int,
    /// `unsigned long`, `size_t`, `loff_t`: 64 bits.
    Long,
    /// `unsigned long`, but cut to 32 bits for some uses: only comparisons that stay true to
    /// their meaning when the high half is ignored.
    Vague,
    /// An address: its contents can't be looked at, only whether it is null.
    Pointer,
    /// Narrower than 32 bits, or of no use in a condition.
    Opaque,
}

/// The arguments of a call, in order; `None` if its widths are not known here.
pub(super) fn of(call: &str) -> Option<impl ExactSizeIterator<Item = Kind> + Clone> {
    let index = TABLE.binary_search_by_key(&call, |&(name, _)| name).ok()?;
    Some(TABLE[index].1.as_bytes().iter().map(|letter| match letter {
        b'i' => Kind::Int,
        b'l' => Kind::Long,
        b'v' => Kind::Vague,
        b'p' => Kind::Pointer,
        _ => Kind::Opaque,
    }))
}

/// One letter an argument: `i`nt, `l`ong, `v`ague, `p`ointer, `-` opaque. Sorted by name.
const TABLE: &[(&str, &str)] = &[
    ("accept4", "ippi"),
    ("access", "pi"),
    ("arch_prctl", "il"),
    ("bind", "ipi"),
    ("bpf", "ipi"),
    ("chmod", "pi"),
    ("clock_gettime", "ip"),
    ("clock_nanosleep", "iipp"),
    ("clone", "vpppl"),
    ("close_range", "iii"),
    ("connect", "ipi"),
    ("copy_file_range", "ipipli"),
    ("dup", "i"),
    ("dup2", "ii"),
    ("dup3", "iii"),
    ("epoll_create1", "i"),
    ("epoll_ctl", "iiip"),
    ("eventfd2", "ii"),
    ("execveat", "ipppi"),
    ("faccessat2", "ipii"),
    ("fadvise64", "illi"),
    ("fallocate", "iill"),
    ("fchmod", "ii"),
    ("fchmodat", "ipi"),
    ("fchownat", "ipiii"),
    ("fcntl", "iiv"),
    ("flock", "ii"),
    ("ftruncate", "il"),
    ("futex", "piippi"),
    ("get_robust_list", "ipp"),
    ("getpriority", "ii"),
    ("getrandom", "pli"),
    ("getrusage", "ip"),
    ("getsockopt", "iiipp"),
    ("inotify_init1", "i"),
    ("io_uring_setup", "ip"),
    ("ioctl", "iiv"),
    ("kcmp", "iiill"),
    ("keyctl", "ivvvv"),
    ("kill", "ii"),
    ("linkat", "ipipi"),
    ("listen", "ii"),
    ("lseek", "ili"),
    ("madvise", "lli"),
    ("membarrier", "iii"),
    ("memfd_create", "pi"),
    ("memfd_secret", "i"),
    // A mode of a file is 16 bits wide; of those, no comparison looks past what it names.
    ("mknod", "pvi"),
    ("mknodat", "ipvi"),
    ("mlock2", "lli"),
    ("mlockall", "i"),
    ("mmap", "lllvil"),
    ("mount", "pppvp"),
    ("mprotect", "lll"),
    ("mremap", "lllvl"),
    ("msync", "lli"),
    ("name_to_handle_at", "ipppi"),
    ("newfstatat", "ippi"),
    ("open", "pi-"),
    ("openat", "ipi-"),
    ("perf_event_open", "piiil"),
    ("personality", "i"),
    ("pidfd_getfd", "iii"),
    ("pidfd_open", "ii"),
    ("pidfd_send_signal", "iipi"),
    ("pipe2", "pi"),
    ("pkey_mprotect", "llli"),
    ("poll", "pii"),
    ("prctl", "ivvvv"),
    ("preadv2", "lpllli"),
    ("prlimit64", "iipp"),
    ("ptrace", "vvvv"),
    ("pwritev2", "lpllli"),
    ("readlinkat", "ippi"),
    ("recvfrom", "iplipp"),
    ("recvmsg", "ipi"),
    ("renameat2", "ipipi"),
    ("rt_sigprocmask", "ippl"),
    ("rt_sigqueueinfo", "iip"),
    ("sched_getaffinity", "iip"),
    ("sched_getparam", "ip"),
    ("sched_getscheduler", "i"),
    ("sched_setaffinity", "iip"),
    ("sched_setscheduler", "iip"),
    ("seccomp", "iip"),
    ("sendfile", "iipl"),
    ("sendmmsg", "ipii"),
    ("sendmsg", "ipi"),
    ("sendto", "iplipi"),
    ("setns", "ii"),
    ("setpgid", "ii"),
    ("setpriority", "iii"),
    ("setsockopt", "iiipi"),
    ("shmget", "ili"),
    ("shutdown", "ii"),
    ("signalfd4", "ipli"),
    ("socket", "iii"),
    ("socketpair", "iiip"),
    ("splice", "ipipli"),
    ("statx", "ipiip"),
    ("tgkill", "iii"),
    ("timerfd_create", "ii"),
    ("timerfd_settime", "iipp"),
    ("tkill", "ii"),
    ("truncate", "pl"),
    ("umask", "i"),
    ("umount2", "pi"),
    ("unlinkat", "ipi"),
    ("unshare", "v"),
    ("userfaultfd", "i"),
    ("utimensat", "ippi"),
    ("wait4", "ipip"),
    ("waitid", "iipip"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_its_names_exist() {
        assert!(TABLE.is_sorted_by(|a, b| a.0 < b.0));
        for (name, arguments) in TABLE {
            assert!(super::super::names::exists_elsewhere(name), "{name}");
            assert!(arguments.len() <= 6 && arguments.bytes().all(|b| b"ilvp-".contains(&b)));
        }
    }
}
