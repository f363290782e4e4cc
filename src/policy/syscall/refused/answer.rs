//! The errno that does the least harm to who made a call.

use crate::policy::syscall::groups::groups;
use crate::policy::syscall::names::{by_name, errno_name, name_of};

/// The errno with which libraries go on without a call: what a kernel says that lacks it, or that
/// doesn't have what was asked for. What the groups answer is said by them.
pub fn answer(number: u32) -> &'static str {
    let in_groups = groups().iter().flat_map(|group| &group.refuse).find(|(one, _)| *one == number);
    if let Some(name) = in_groups.and_then(|(_, errno)| errno_name(*errno)) {
        return name;
    }
    // Whoever tries a call that is younger than Linux 3.14 reckons with kernels that lack it: numbers
    // are given out in order.
    if by_name("sched_setattr").is_some_and(|first| number >= first) {
        return "ENOSYS";
    }
    match name_of(number).unwrap_or_default() {
        "setsockopt" | "getsockopt" => "ENOPROTOOPT",
        "access" | "faccessat" | "lstat" | "chdir" | "statfs" => "ENOENT",
        name if name.ends_with("xattr") => "EOPNOTSUPP",
        _ => "EPERM",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// EPERM would keep libraries from the older way.
    #[test]
    fn what_is_only_tried_answers_as_a_kernel_without_it() {
        let of = |call| answer(by_name(call).unwrap());
        for call in [
            "fchmodat2",
            "faccessat2",
            "clone3",
            "openat2",
            "rseq",
            "close_range",
            "mseal",
            "pkey_alloc",
            "io_uring_setup",
            "getrandom",
            "memfd_create",
            "renameat2",
        ] {
            assert_eq!(of(call), "ENOSYS", "{call}");
        }
        assert_eq!(of("ioctl"), "ENOTTY");
        assert_eq!(of("openat"), "ENOENT");
        assert_eq!(of("lgetxattr"), "EOPNOTSUPP");
        assert_eq!(of("setsockopt"), "ENOPROTOOPT");
        assert_eq!(of("ptrace"), "EPERM");
    }
}
