//! The names that conditions may use for numbers, with the running architecture's values.

use std::collections::HashMap;
use std::sync::LazyLock;

/// What a constant is, which decides what `|` may do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    /// One or several bits, to be joined with `|`.
    Flag,
    /// One of several alternatives: `F_GETFD|F_SETFD` would silently be `F_GETFL`.
    Number,
}

/// A constant's value and sort.
pub(super) fn find(name: &str) -> Option<(i64, Sort)> {
    static ALL: LazyLock<HashMap<&'static str, (i64, Sort)>> = LazyLock::new(|| {
        let numbers = NUMBERS.iter().map(|&(name, value)| (name, (value, Sort::Number)));
        numbers.chain(FLAGS.iter().map(|&(name, value)| (name, (value, Sort::Flag)))).collect()
    });
    ALL.get(name).copied()
}

/// The constants whose names begin in one of these ways, with values and sorts. A beginning with `-`
/// leaves a name out.
pub(super) fn beginning(
    beginnings: &'static [&'static str],
) -> impl Iterator<Item = (&'static str, i64, Sort)> {
    let all = || {
        let flags = FLAGS.iter().map(|&(name, value)| (name, value, Sort::Flag));
        flags.chain(NUMBERS.iter().map(|&(name, value)| (name, value, Sort::Number)))
    };
    let is_left_out = |name: &str| {
        beginnings.iter().any(|it| it.strip_prefix('-').is_some_and(|out| out == name))
    };
    let begins = move |it: &'static &str| all().filter(move |(name, ..)| name.starts_with(it));
    beginnings.iter().flat_map(begins).filter(move |(name, ..)| !is_left_out(name))
}

/// Every constant's name.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    FLAGS.iter().chain(NUMBERS).map(|&(name, _)| name)
}

/// The constants of crate `libc` by their own names, and own ones with their values.
macro_rules! constants {
    ($($name:ident)* $(; $($own:ident = $value:expr),* $(,)?)?) => {
        &[$((stringify!($name), libc::$name as i64),)* $($((stringify!($own), $value),)*)?]
    };
}

#[allow(
    clippy::cast_lossless,
    clippy::cast_possible_wrap,
    clippy::unnecessary_cast,
    reason = "libc gives constants of one use several integer types, and all are in range"
)]
const FLAGS: &[(&str, i64)] = constants! {
    // open(2)
    O_WRONLY O_RDWR O_CREAT O_EXCL O_NOCTTY O_TRUNC O_APPEND O_NONBLOCK O_DSYNC O_SYNC O_ASYNC
    O_DIRECT O_DIRECTORY O_NOFOLLOW O_NOATIME O_CLOEXEC O_PATH O_TMPFILE
    // *at(2), statx(2), renameat2(2), memfd_create(2), close_range(2)
    AT_EMPTY_PATH AT_SYMLINK_NOFOLLOW AT_SYMLINK_FOLLOW AT_REMOVEDIR AT_EACCESS AT_NO_AUTOMOUNT
    RENAME_NOREPLACE RENAME_EXCHANGE RENAME_WHITEOUT S_IFMT
    MFD_CLOEXEC MFD_ALLOW_SEALING MFD_HUGETLB
    CLOSE_RANGE_CLOEXEC CLOSE_RANGE_UNSHARE
    FD_CLOEXEC EFD_CLOEXEC EFD_NONBLOCK EFD_SEMAPHORE EPOLL_CLOEXEC
    TFD_CLOEXEC TFD_NONBLOCK SFD_CLOEXEC SFD_NONBLOCK
    // mmap(2), mprotect(2), mremap(2), msync(2)
    PROT_READ PROT_WRITE PROT_EXEC PROT_GROWSDOWN PROT_GROWSUP
    MAP_SHARED MAP_PRIVATE MAP_FIXED MAP_FIXED_NOREPLACE MAP_ANONYMOUS MAP_NORESERVE MAP_STACK
    MAP_POPULATE MAP_LOCKED MAP_HUGETLB MAP_DENYWRITE MAP_GROWSDOWN
    MREMAP_MAYMOVE MREMAP_FIXED MREMAP_DONTUNMAP MS_SYNC MS_ASYNC MS_INVALIDATE
    // clone(2), unshare(2), setns(2)
    CLONE_VM CLONE_FS CLONE_FILES CLONE_SIGHAND CLONE_PIDFD CLONE_PTRACE CLONE_VFORK CLONE_PARENT
    CLONE_THREAD CLONE_NEWNS CLONE_SYSVSEM CLONE_SETTLS CLONE_PARENT_SETTID CLONE_CHILD_CLEARTID
    CLONE_DETACHED CLONE_UNTRACED CLONE_CHILD_SETTID CLONE_NEWCGROUP CLONE_NEWUTS CLONE_NEWIPC
    CLONE_NEWUSER CLONE_NEWPID CLONE_NEWNET CLONE_IO
    // socket(2), send(2), recv(2)
    SOCK_CLOEXEC SOCK_NONBLOCK
    MSG_OOB MSG_PEEK MSG_DONTROUTE MSG_DONTWAIT MSG_EOR MSG_WAITALL MSG_NOSIGNAL MSG_MORE
    MSG_FASTOPEN MSG_TRUNC MSG_CTRUNC MSG_ERRQUEUE MSG_CMSG_CLOEXEC MSG_WAITFORONE
    // flock(2), wait(2), splice(2), fallocate(2), getrandom(2)
    LOCK_SH LOCK_EX LOCK_UN LOCK_NB WNOHANG WUNTRACED WCONTINUED WEXITED WSTOPPED WNOWAIT
    SPLICE_F_MOVE SPLICE_F_NONBLOCK SPLICE_F_MORE SPLICE_F_GIFT
    FALLOC_FL_KEEP_SIZE FALLOC_FL_PUNCH_HOLE GRND_NONBLOCK GRND_RANDOM GRND_INSECURE
    // seccomp(2), futex(2)
    FUTEX_PRIVATE_FLAG FUTEX_CLOCK_REALTIME;
    O_RDONLY = 0,
    O_LARGEFILE = if cfg!(target_arch = "x86_64") { 0o100_000 } else { 0o400_000 },
    FUTEX_CMD_MASK = 0x7f,
    SOCK_TYPE_MASK = 0xf,
    O_ACCMODE = 3,
    MSG_ZEROCOPY = 0x400_0000,
    MFD_NOEXEC_SEAL = 8,
    MFD_EXEC = 16,
    CLONE_NEWTIME = 0x80,
};

#[allow(
    clippy::cast_lossless,
    clippy::cast_possible_wrap,
    clippy::unnecessary_cast,
    reason = "libc gives constants of one use several integer types, and all are in range"
)]
const NUMBERS: &[(&str, i64)] = constants! {
    AT_FDCWD S_IFIFO
    // fcntl(2)
    F_DUPFD F_GETFD F_SETFD F_GETFL F_SETFL F_GETLK F_SETLK F_SETLKW F_SETOWN F_GETOWN
    F_OFD_GETLK F_OFD_SETLK F_OFD_SETLKW
    F_DUPFD_CLOEXEC F_SETPIPE_SZ F_GETPIPE_SZ F_ADD_SEALS F_GET_SEALS F_SETLEASE F_GETLEASE
    F_NOTIFY
    // ioctl(2)
    FIONREAD FIONBIO FIOCLEX FIONCLEX FIOASYNC TCGETS TCSETS TCSETSW TCSETSF TIOCGWINSZ
    TIOCSWINSZ TIOCGPGRP TIOCSPGRP TIOCSCTTY TIOCNOTTY TIOCSTI TIOCLINUX TIOCOUTQ TIOCGPTN
    TIOCSETD TIOCGSID
    // prctl(2)
    PR_SET_PDEATHSIG PR_GET_PDEATHSIG PR_GET_DUMPABLE PR_SET_DUMPABLE PR_SET_NAME PR_GET_NAME
    PR_GET_SECCOMP PR_SET_SECCOMP PR_CAPBSET_READ PR_CAPBSET_DROP PR_GET_SECUREBITS
    PR_SET_SECUREBITS PR_SET_TIMERSLACK PR_GET_TIMERSLACK PR_SET_MM PR_SET_CHILD_SUBREAPER
    PR_GET_CHILD_SUBREAPER PR_SET_NO_NEW_PRIVS PR_GET_NO_NEW_PRIVS PR_GET_TID_ADDRESS
    PR_SET_THP_DISABLE PR_GET_THP_DISABLE PR_CAP_AMBIENT PR_SET_VMA PR_SET_VMA_ANON_NAME
    PR_SET_MDWE PR_GET_MDWE PR_SET_PTRACER PR_SET_KEEPCAPS PR_GET_KEEPCAPS PR_MCE_KILL
    PR_GET_TSC PR_SET_TSC PR_GET_UNALIGN
    // madvise(2), fadvise(2)
    MADV_NORMAL MADV_RANDOM MADV_SEQUENTIAL MADV_WILLNEED MADV_DONTNEED MADV_FREE MADV_REMOVE
    MADV_DONTFORK MADV_DOFORK MADV_HWPOISON MADV_MERGEABLE MADV_UNMERGEABLE MADV_HUGEPAGE
    MADV_NOHUGEPAGE MADV_DONTDUMP MADV_DODUMP MADV_WIPEONFORK MADV_KEEPONFORK MADV_COLD
    MADV_PAGEOUT MADV_POPULATE_READ MADV_POPULATE_WRITE
    // socket(2), setsockopt(2), shutdown(2)
    AF_UNSPEC AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_PACKET AF_ALG AF_VSOCK AF_XDP AF_CAN AF_KEY
    SOCK_STREAM SOCK_DGRAM SOCK_SEQPACKET SOCK_RAW
    IPPROTO_IP IPPROTO_TCP IPPROTO_UDP IPPROTO_ICMP IPPROTO_IPV6 IPPROTO_SCTP IPPROTO_MPTCP
    SOL_SOCKET SOL_TCP SOL_UDP
    SO_DEBUG SO_REUSEADDR SO_TYPE SO_ERROR SO_DONTROUTE SO_BROADCAST SO_SNDBUF SO_RCVBUF
    SO_KEEPALIVE SO_LINGER SO_REUSEPORT SO_PASSCRED SO_PEERCRED SO_RCVTIMEO SO_SNDTIMEO
    SO_ACCEPTCONN SO_PROTOCOL SO_DOMAIN SO_MARK SO_BINDTODEVICE SO_PEERSEC SO_PASSSEC
    SO_INCOMING_CPU SO_COOKIE SO_ATTACH_FILTER SO_ATTACH_BPF SO_ZEROCOPY SO_BUSY_POLL
    SO_SNDBUFFORCE SO_RCVBUFFORCE SO_NETNS_COOKIE
    TCP_NODELAY TCP_MAXSEG TCP_CORK TCP_KEEPIDLE TCP_KEEPINTVL TCP_KEEPCNT TCP_INFO TCP_QUICKACK
    TCP_CONGESTION TCP_USER_TIMEOUT TCP_FASTOPEN TCP_FASTOPEN_CONNECT TCP_REPAIR TCP_ULP
    TCP_NOTSENT_LOWAT TCP_DEFER_ACCEPT TCP_SYNCNT
    IP_TOS IP_TTL IP_MTU_DISCOVER IP_RECVERR IP_PKTINFO IP_RECVTOS IPV6_V6ONLY IPV6_UNICAST_HOPS
    IPV6_RECVPKTINFO IPV6_RECVERR IPV6_TCLASS IPV6_RECVTCLASS IPV6_MTU_DISCOVER
    UDP_SEGMENT UDP_GRO
    SHUT_RD SHUT_WR SHUT_RDWR
    // futex(2), epoll_ctl(2), lseek(2)
    FUTEX_WAIT FUTEX_WAKE FUTEX_FD FUTEX_REQUEUE FUTEX_CMP_REQUEUE FUTEX_WAKE_OP FUTEX_LOCK_PI
    FUTEX_UNLOCK_PI FUTEX_TRYLOCK_PI FUTEX_WAIT_BITSET FUTEX_WAKE_BITSET
    FUTEX_WAIT_REQUEUE_PI FUTEX_CMP_REQUEUE_PI
    EPOLL_CTL_ADD EPOLL_CTL_MOD EPOLL_CTL_DEL
    SEEK_SET SEEK_CUR SEEK_END SEEK_DATA SEEK_HOLE
    // seccomp(2)
    SECCOMP_SET_MODE_STRICT SECCOMP_SET_MODE_FILTER SECCOMP_GET_ACTION_AVAIL
    SECCOMP_GET_NOTIF_SIZES SECCOMP_IOCTL_NOTIF_RECV SECCOMP_IOCTL_NOTIF_SEND
    SECCOMP_IOCTL_NOTIF_ID_VALID SECCOMP_IOCTL_NOTIF_ADDFD
    // clock_gettime(2), getrusage(2)
    CLOCK_REALTIME CLOCK_MONOTONIC CLOCK_PROCESS_CPUTIME_ID CLOCK_THREAD_CPUTIME_ID
    CLOCK_MONOTONIC_RAW CLOCK_REALTIME_COARSE CLOCK_MONOTONIC_COARSE CLOCK_BOOTTIME CLOCK_TAI
    RUSAGE_SELF RUSAGE_THREAD RUSAGE_CHILDREN
    // getrlimit(2)
    RLIMIT_CPU RLIMIT_FSIZE RLIMIT_DATA RLIMIT_STACK RLIMIT_CORE RLIMIT_RSS RLIMIT_NPROC
    RLIMIT_NOFILE RLIMIT_MEMLOCK RLIMIT_AS
    // signal(7)
    SIGHUP SIGINT SIGQUIT SIGILL SIGTRAP SIGABRT SIGBUS SIGFPE SIGKILL SIGUSR1 SIGSEGV SIGUSR2
    SIGPIPE SIGALRM SIGTERM SIGCHLD SIGCONT SIGSTOP SIGTSTP SIGTTIN SIGTTOU SIGURG SIGXCPU
    SIGXFSZ SIGVTALRM SIGPROF SIGWINCH SIGIO SIGPWR SIGSYS
    // wait(2)
    P_ALL P_PID P_PGID P_PIDFD;
    NULL = 0,
    // ioctl_fs(2): whole-file and range clones (_IOW(0x94, 9, int), _IOW(0x94, 13, ...)).
    FICLONE = 0x4004_9409,
    FICLONERANGE = 0x4020_940d,
    // Options and commands that are younger than crate libc's tables.
    SO_PEERPIDFD = 77,
    SO_PASSPIDFD = 76,
    SO_PASSRIGHTS = 83,
    F_DUPFD_QUERY = 1027,
    F_SETSIG = 10,
    F_GETSIG = 11,
    F_SETOWN_EX = 15,
    F_GETOWN_EX = 16,
    // arch_prctl(2), x86-64
    ARCH_SET_GS = 0x1001,
    ARCH_SET_FS = 0x1002,
    ARCH_GET_FS = 0x1003,
    ARCH_GET_GS = 0x1004,
    ARCH_CET_STATUS = 0x3001,
    ARCH_SHSTK_STATUS = 0x5005,
    // ioctl_tty(2): _IOR('T', 0x2a, struct termios2)
    TCGETS2 = 0x802c_542a,
    // madvise(2): huge pages at once, since Linux 6.1; guard pages that are no mappings of their
    // own, since 6.13
    MADV_COLLAPSE = 25,
    MADV_GUARD_INSTALL = 102,
    MADV_GUARD_REMOVE = 103,
    // membarrier(2)
    MEMBARRIER_CMD_QUERY = 0,
    MEMBARRIER_CMD_PRIVATE_EXPEDITED = 8,
    MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED = 16,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_there_once() {
        let mut all: Vec<_> = names().collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn values_are_the_kernels() {
        assert_eq!(find("FIONREAD"), Some((0x541b, Sort::Number)));
        assert_eq!(find("AT_EMPTY_PATH"), Some((0x1000, Sort::Flag)));
        assert_eq!(find("AT_FDCWD"), Some((-100, Sort::Number)));
        assert_eq!(find("SO_PASSRIGHTS"), Some((83, Sort::Number)));
        assert_eq!(find("O_NOSUCH"), None);
    }
}
