//! The names of numbers and flags: those that conditions of policies may use, and no others, so
//! that what is shown can be written into a policy.

use super::super::constants::{Sort, beginning};

/// What the numbers of one kind of argument are called.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Names {
    /// How the names of alternatives begin, and in which bits of the argument one is.
    number: Option<(u64, &'static [&'static str])>,
    /// How the names of flags begin.
    flags: &'static [&'static str],
    /// Whether 0 says nothing, so that it is left out at the end.
    quiet: bool,
}

/// Alternatives.
const fn number(beginnings: &'static [&'static str]) -> Names {
    Names { number: Some((u64::MAX, beginnings)), flags: &[], quiet: false }
}

/// Flags.
const fn flags(beginnings: &'static [&'static str]) -> Names {
    Names { number: None, flags: beginnings, quiet: true }
}

/// An alternative in some of the bits, and flags in the others.
const fn both(
    bits: u64,
    beginnings: &'static [&'static str],
    flags: &'static [&'static str],
) -> Names {
    Names { number: Some((bits, beginnings)), flags, quiet: false }
}

/// The kinds, by the words of [`super::shape`].
const KINDS: &[(&str, Names)] = &[
    ("open", both(3, &["O_RDONLY", "O_WRONLY", "O_RDWR"], &["O_"])),
    ("at-flags", flags(&["AT_", "-AT_REMOVEDIR", "-AT_EACCESS"])),
    ("unlink-flags", flags(&["AT_REMOVEDIR"])),
    ("access-flags", flags(&["AT_EACCESS", "AT_SYMLINK_NOFOLLOW", "AT_EMPTY_PATH"])),
    ("family", number(&["AF_"])),
    (
        "type",
        both(
            0xf,
            &["SOCK_STREAM", "SOCK_DGRAM", "SOCK_SEQPACKET", "SOCK_RAW"],
            &["SOCK_CLOEXEC", "SOCK_NONBLOCK"],
        ),
    ),
    ("sock-flags", flags(&["SOCK_CLOEXEC", "SOCK_NONBLOCK"])),
    ("protocol", Names { quiet: true, ..number(&["IPPROTO_"]) }),
    ("level", number(&["SOL_SOCKET", "IPPROTO_"])),
    ("so", number(&["SO_"])),
    ("tcp", number(&["TCP_"])),
    ("ip", number(&["IP_"])),
    ("ipv6", number(&["IPV6_"])),
    ("udp", number(&["UDP_"])),
    ("message", flags(&["MSG_"])),
    ("shut", number(&["SHUT_"])),
    ("fcntl", number(&["F_"])),
    ("fd-flags", flags(&["FD_"])),
    ("ioctl", number(&["FIO", "FICLONE", "TCGET", "TCSET", "TIO"])),
    ("prctl", number(&["PR_", "-PR_SET_VMA_ANON_NAME"])),
    ("vma", number(&["PR_SET_VMA_ANON_NAME"])),
    ("prot", Names { quiet: false, ..flags(&["PROT_"]) }),
    ("map", flags(&["MAP_"])),
    ("remap", flags(&["MREMAP_"])),
    ("sync", flags(&["MS_"])),
    ("advice", number(&["MADV_"])),
    ("clone", both(0xff, &["SIG"], &["CLONE_"])),
    ("new", flags(&["CLONE_"])),
    ("signal", number(&["SIG"])),
    ("futex", both(0x7f, &["FUTEX_"], &["FUTEX_PRIVATE_FLAG", "FUTEX_CLOCK_REALTIME"])),
    ("limit", number(&["RLIMIT_"])),
    ("usage", number(&["RUSAGE_"])),
    ("clock", number(&["CLOCK_"])),
    ("seek", number(&["SEEK_"])),
    ("epoll", number(&["EPOLL_CTL_"])),
    ("epoll-flags", flags(&["EPOLL_CLOEXEC"])),
    ("event-flags", flags(&["EFD_"])),
    ("timer-flags", flags(&["TFD_"])),
    ("signal-flags", flags(&["SFD_"])),
    ("lock", flags(&["LOCK_"])),
    ("wait", flags(&["WNOHANG", "WUNTRACED", "WCONTINUED", "WEXITED", "WNOWAIT"])),
    ("whom", number(&["P_"])),
    ("memory-file", flags(&["MFD_"])),
    ("close-flags", flags(&["CLOSE_RANGE_"])),
    ("rename", flags(&["RENAME_"])),
    ("falloc", flags(&["FALLOC_FL_"])),
    ("splice", flags(&["SPLICE_F_"])),
    ("random", flags(&["GRND_"])),
    ("seccomp", number(&["SECCOMP_"])),
    ("barrier", number(&["MEMBARRIER_CMD_"])),
    ("arch", number(&["ARCH_"])),
];

/// The kind of that word.
pub(super) fn find(word: &str) -> Option<&'static Names> {
    KINDS.iter().find(|(kind, _)| *kind == word).map(|(_, names)| names)
}

impl Names {
    /// Whether a value says nothing where it is the last.
    pub(super) fn is_quiet(&self, value: u64) -> bool {
        self.quiet && value == 0
    }

    /// A value as conditions of policies write it.
    pub(super) fn write(&self, value: u64) -> String {
        if self.is_quiet(value) {
            return "0".to_owned();
        }
        let (bits, beginnings) = self.number.unwrap_or((0, &[]));
        let (number, rest) = (value & bits, value & !bits);
        // A constant below 0 fills the argument, however wide that is.
        let narrow = bits == u64::MAX && u32::try_from(value).is_ok();
        let seen = if narrow { u64::from(u32::MAX) } else { u64::MAX };
        let is_it = |(name, known, _): &(&str, i64, Sort)| {
            known.cast_unsigned() & seen == number && !name.ends_with("MASK")
        };
        match (beginning(beginnings).find(is_it), rest) {
            (Some((name, ..)), 0) => name.to_owned(),
            (Some((name, ..)), _) => self.join(rest, vec![name.to_owned()]),
            (None, 0) => show(number),
            (None, _) if number == 0 => self.join(rest, Vec::new()),
            (None, _) => self.join(rest, vec![show(number)]),
        }
    }

    /// Flags by name, those of several bits first, and what has no name as a number.
    fn join(&self, value: u64, mut words: Vec<String>) -> String {
        let mut known: Vec<(&str, u64)> = beginning(self.flags)
            .filter(|(_, _, sort)| *sort == Sort::Flag)
            .filter_map(|(name, bits, _)| Some((name, u64::try_from(bits).ok()?)))
            .filter(|(name, bits)| *bits != 0 && !name.ends_with("MASK") && *name != "O_ACCMODE")
            .collect();
        known.sort_by_key(|(_, bits)| std::cmp::Reverse(bits.count_ones()));
        let mut left = value;
        for (name, bits) in known {
            if left & bits == bits {
                left &= !bits;
                words.push(name.to_owned());
            }
        }
        if left != 0 {
            words.push(show(left));
        }
        words.join("|")
    }
}

/// A number without a name.
pub(super) fn show(value: u64) -> String {
    if value < 4096 { value.to_string() } else { format!("{value:#x}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_flags_have_their_names() {
        let write = |kind, value| find(kind).unwrap().write(value);
        assert_eq!(write("open", 0), "O_RDONLY");
        assert_eq!(write("open", 0o2_001_101), "O_WRONLY|O_CREAT|O_TRUNC|O_CLOEXEC");
        assert_eq!(write("type", 0o2_000_001), "SOCK_STREAM|SOCK_CLOEXEC");
        assert_eq!(write("clone", 17), "SIGCHLD");
        assert_eq!(write("clone", 0x4111), "SIGCHLD|CLONE_VM|CLONE_VFORK");
        assert_eq!(write("futex", 128 | 9), "FUTEX_WAIT_BITSET|FUTEX_PRIVATE_FLAG");
        assert_eq!(write("futex", 256), "FUTEX_WAIT|FUTEX_CLOCK_REALTIME");
        assert_eq!(write("protocol", 0), "0");
        assert_eq!(write("prctl", 41), "PR_SET_THP_DISABLE");
        assert_eq!(write("prctl", 0), "0");
        assert_eq!(write("usage", 0xffff_ffff), "RUSAGE_CHILDREN");
        assert_eq!(write("prot", 0), "0");
        assert_eq!(write("message", 0x4000_4000), "MSG_NOSIGNAL|MSG_CMSG_CLOEXEC");
        assert_eq!(write("advice", 4099), "0x1003");
    }
}
