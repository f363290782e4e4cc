//! Acts that a policy refuses, of many kinds, as a foreign program does them.

#![allow(unsafe_code, reason = "what a foreign program does are raw system calls")]

use std::ffi::{CStr, CString};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::ptr::{null, null_mut};

use crate::foreign::{Inside, say};

pub(crate) const INSIDE: [(&str, Inside); 5] = [
    ("acts", inside_acts),
    ("paths", inside_paths),
    ("family", inside_family),
    ("flood", inside_flood),
    ("stubborn", inside_stubborn),
];

/// An act.
pub(crate) struct Act {
    /// What it is called here.
    pub(crate) name: &'static str,
    /// What the log says that it was.
    pub(crate) said: &'static str,
    /// Does it; below 0 it failed.
    run: fn() -> i64,
}

const fn act(name: &'static str, said: &'static str, run: fn() -> i64) -> Act {
    Act { name, said, run }
}

/// One call with plain numbers.
fn call(number: libc::c_long, arguments: &[i64]) -> i64 {
    let at = |place: usize| arguments.get(place).copied().unwrap_or(0);
    // SAFETY: none of the calls below is given a pointer by this, or a null one, which the kernel
    // checks.
    unsafe { libc::syscall(number, at(0), at(1), at(2), at(3), at(4), at(5)) }
}

/// A socket of this program's.
fn tcp() -> i64 {
    call(libc::SYS_socket, &[2, 1])
}

/// 127.0.0.1 and a port, as `struct sockaddr_in`.
fn loopback(port: u16) -> [u8; 16] {
    let [high, low] = port.to_be_bytes();
    [2, 0, high, low, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]
}

/// A call with an address of a socket.
fn address(number: libc::c_long, port: u16) -> i64 {
    let bytes = loopback(port);
    // SAFETY: the kernel reads 16 bytes, which is what there is.
    unsafe { libc::syscall(number, tcp(), bytes.as_ptr(), 16) }
}

fn option(level: i32, option: i32) -> i64 {
    let value = 1_i32;
    // SAFETY: the kernel reads four bytes, which is what there is.
    unsafe { libc::syscall(libc::SYS_setsockopt, tcp(), level, option, &raw const value, 4) }
}

/// What comes with a signal that is queued (`SI_QUEUE`).
fn queued() -> [i32; 32] {
    let mut info = [0; 32];
    (info[0], info[2]) = (libc::SIGCONT, -1);
    info
}

/// A mapping of one page.
fn page() -> i64 {
    call(libc::SYS_mmap, &[0, 4096, 3, 0x22, -1, 0])
}

/// An `int` of the kernel's that is a pointer to nothing.
const NONE: i64 = 0;

/// Thirty of them.
pub(crate) const ACTS: &[Act] = &[
    // By name.
    act("watch files", "inotify_init1(O_RDONLY)", || call(libc::SYS_inotify_init1, &[])),
    act("sync everything", "sync()", || call(libc::SYS_sync, &[])),
    act("make a memory file", "memfd_create(", || {
        // SAFETY: the name is terminated.
        unsafe { libc::syscall(libc::SYS_memfd_create, c"x".as_ptr(), 0) }
    }),
    act("hold a process", "pidfd_open(", || {
        call(libc::SYS_pidfd_open, &[std::process::id().into(), 0])
    }),
    act("make a timer", "timerfd_create(CLOCK_MONOTONIC)", || {
        call(libc::SYS_timerfd_create, &[1, 0])
    }),
    act("compare two processes", "kcmp(", || {
        let own = std::process::id().into();
        call(libc::SYS_kcmp, &[own, own, 0, 0, 0])
    }),
    act("share memory by key", "shmget(0, 4096, 384)", || {
        call(libc::SYS_shmget, &[0, 4096, 0o600])
    }),
    act("make a semaphore by key", "semget(", || call(libc::SYS_semget, &[0, 1, 0o600])),
    act("make a queue by key", "msgget(", || call(libc::SYS_msgget, &[0, 0o600])),
    act("be traced", "ptrace(0, 0)", || call(libc::SYS_ptrace, &[0, 0, 0, 0])),
    act("read its own memory from outside", "process_vm_readv(", || {
        call(libc::SYS_process_vm_readv, &[std::process::id().into(), NONE, 0, NONE, 0, 0])
    }),
    act("move bytes between pipes", "tee(", || {
        let mut ends = [[0; 2]; 2];
        for pair in &mut ends {
            // SAFETY: the kernel writes two numbers.
            unsafe { libc::pipe(pair.as_mut_ptr()) };
            // SAFETY: one byte is there.
            unsafe { libc::write(pair[1], b"x".as_ptr().cast(), 1) };
        }
        call(libc::SYS_tee, &[ends[0][0].into(), ends[1][1].into(), 1, 0])
    }),
    act("stop sharing its files", "unshare(CLONE_FILES)", || call(libc::SYS_unshare, &[0x400])),
    // By arguments.
    act("write into memory by number", "process_vm_writev(", || {
        call(libc::SYS_process_vm_writev, &[std::process::id().into(), 0, 0, 0, 0, 0])
    }),
    act("merge memory", "MADV_MERGEABLE", || call(libc::SYS_madvise, &[page(), 4096, 12])),
    act("be a subreaper", "prctl(PR_SET_CHILD_SUBREAPER, 1)", || {
        call(libc::SYS_prctl, &[libc::PR_SET_CHILD_SUBREAPER.into(), 1])
    }),
    act("ask who it seems to be", "personality(0xffffffff)", || {
        call(libc::SYS_personality, &[0xffff_ffff])
    }),
    act("ask for its turn at the disk", "ioprio_get(", || call(libc::SYS_ioprio_get, &[1, 0])),
    // The least of all: who runs these tests at a lower priority may not go back up.
    act("give way", "setpriority(0, 0, 19)", || call(libc::SYS_setpriority, &[0, 0, 19])),
    // Sockets by family and type.
    act("listen to the kernel", "socket(AF_NETLINK, SOCK_RAW)", || {
        call(libc::SYS_socket, &[16, 3, 0])
    }),
    act("make a socket for packets", "socket(AF_UNIX, SOCK_SEQPACKET)", || {
        call(libc::SYS_socket, &[1, 5, 0])
    }),
    act("make a pair of datagram sockets", "socketpair(AF_UNIX, SOCK_DGRAM)", || {
        let mut pair = [0; 2];
        // SAFETY: the kernel writes two numbers.
        unsafe { libc::syscall(libc::SYS_socketpair, 1, 2, 0, pair.as_mut_ptr()) }
    }),
    act("shout", "SO_BROADCAST", || option(libc::SOL_SOCKET, libc::SO_BROADCAST)),
    act("mark how packets live", "IP_TTL", || option(libc::IPPROTO_IP, libc::IP_TTL)),
    act("bind", "bind(tcp:127.0.0.1:", || address(libc::SYS_bind, port(0))),
    act("connect", "connect(tcp:127.0.0.1:", || address(libc::SYS_connect, port(1))),
    // Signals.
    act("signal with a value", "rt_sigqueueinfo(", || {
        let info = queued();
        // SAFETY: the kernel reads the 128 bytes of a `siginfo_t`.
        unsafe { libc::syscall(libc::SYS_rt_sigqueueinfo, libc::getpid(), 18, info.as_ptr()) }
    }),
    act("signal a thread with a value", "rt_tgsigqueueinfo(", || {
        let (own, info) = (std::process::id(), queued());
        // SAFETY: as above.
        unsafe { libc::syscall(libc::SYS_rt_tgsigqueueinfo, own, own, 18, info.as_ptr()) }
    }),
    // Execution.
    act("become another program", "execve(", || {
        let arguments = [c"true".as_ptr(), null()];
        // SAFETY: path and list are terminated.
        unsafe {
            let (arguments, nothing) = (arguments.as_ptr(), &raw const arguments[1]);
            libc::syscall(libc::SYS_execve, c"/bin/true".as_ptr(), arguments, nothing)
        }
    }),
    act("make memory executable", "mmap(4096, PROT_READ|PROT_EXEC", || {
        call(libc::SYS_mmap, &[0, 4096, 5, 0x21, -1, 0])
    }),
];

/// Acts on paths beneath the directory of the test.
pub(crate) const PATHS: &[PathAct] = &[
    ("data/read", |path| {
        // SAFETY: the path is terminated.
        unsafe { libc::open(path.as_ptr(), libc::O_RDONLY) }
    }),
    ("data/write", |path| {
        // SAFETY: the path is terminated.
        unsafe { libc::open(path.as_ptr(), libc::O_WRONLY) }
    }),
    ("data/cut", |path| {
        // SAFETY: the path is terminated.
        unsafe { libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_TRUNC) }
    }),
    ("data/make/new", |path| {
        // SAFETY: the path is terminated.
        unsafe { libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CREAT, 0o600) }
    }),
    ("data/directories/new", |path| {
        // SAFETY: the path is terminated.
        unsafe { libc::mkdir(path.as_ptr(), 0o700) }
    }),
    ("data/empty/old", |path| {
        // SAFETY: the path is terminated.
        unsafe { libc::rmdir(path.as_ptr()) }
    }),
    ("data/removes/old", |path| {
        // SAFETY: the path is terminated.
        unsafe { libc::unlink(path.as_ptr()) }
    }),
    ("data/renames/old", |path| {
        let to = CString::new([path.to_bytes(), b".new"].concat()).unwrap();
        // SAFETY: the texts and the list are terminated.
        unsafe { libc::rename(path.as_ptr(), to.as_ptr()) }
    }),
    ("data/links/new", |path| {
        // SAFETY: the path is terminated.
        unsafe { libc::symlink(c"x".as_ptr(), path.as_ptr()) }
    }),
    ("data/fifos/new", |path| {
        // SAFETY: the path is terminated.
        unsafe { libc::mkfifo(path.as_ptr(), 0o600) }
    }),
    ("data/run", |path| {
        let arguments = [path.as_ptr(), null()];
        // SAFETY: the texts and the list are terminated.
        unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), &raw const arguments[1]) }
    }),
    ("elsewhere/read", |path| {
        // SAFETY: the path is terminated.
        unsafe { libc::open(path.as_ptr(), libc::O_RDONLY) }
    }),
    ("elsewhere/enter", |path| {
        // SAFETY: the path is terminated.
        unsafe { libc::chdir(path.as_ptr()) }
    }),
];

/// A path, and what is done there; below 0 it failed.
pub(crate) type PathAct = (&'static str, fn(&CStr) -> i32);

/// Puts what the acts on paths need into the directory of the test.
pub(crate) fn prepare_paths(directory: &Path) {
    let everybody = |path: &Path| {
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o777)).unwrap();
    };
    for path in [
        "make",
        "directories",
        "empty/old",
        "removes",
        "renames",
        "links",
        "fifos",
        "../elsewhere/enter",
    ] {
        std::fs::create_dir_all(directory.join("data").join(path)).unwrap();
        everybody(&directory.join("data").join(path));
    }
    for path in ["read", "write", "cut", "removes/old", "renames/old", "../elsewhere/read"] {
        let path = directory.join("data").join(path);
        std::fs::write(&path, "x").unwrap();
        everybody(&path);
    }
    std::fs::copy("/bin/true", directory.join("data/run")).unwrap();
    for path in ["data", "data/empty", "elsewhere", "data/run"] {
        everybody(&directory.join(path));
    }
}

fn inside_paths(arguments: &[String]) {
    for (path, run) in PATHS {
        let whole = CString::new(format!("{}/{path}", arguments[0])).unwrap();
        say(format!("act {path}: {}", in_child(|| run(&whole).into())));
    }
}

/// A port, as the test has said it.
fn port(place: usize) -> u16 {
    let ports = std::env::args().nth(4).unwrap_or_default();
    ports.split(',').nth(place).and_then(|port| port.parse().ok()).unwrap_or(1)
}

/// Runs something in a child, and says how that ended.
fn in_child(run: impl FnOnce() -> i64) -> String {
    // SAFETY: this program has one thread.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let result = run();
        let errno = if result < 0 { std::io::Error::last_os_error().raw_os_error() } else { None };
        // SAFETY: ends this process.
        unsafe { libc::_exit(errno.unwrap_or(0)) };
    }
    let mut status = 0;
    // SAFETY: the kernel writes one number.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    if libc::WIFSIGNALED(status) {
        return format!("ended by signal {}", libc::WTERMSIG(status));
    }
    match libc::WEXITSTATUS(status) {
        0 => "done".to_owned(),
        errno => format!("errno {errno}"),
    }
}

fn inside_acts(_: &[String]) {
    for Act { name, run, .. } in ACTS {
        say(format!("act {name}: {}", in_child(run)));
    }
}

/// A refused call of this process, of a child's, and of a thread of another child's.
fn inside_family(_: &[String]) {
    call(libc::SYS_inotify_init1, &[]);
    say(format!("a child got {}", in_child(|| call(libc::SYS_inotify_init1, &[]))));
    let ended = in_child(|| {
        let thread = std::thread::spawn(|| call(libc::SYS_sync, &[]));
        thread.join().unwrap()
    });
    say(format!("the child was {ended}"));
}

fn inside_flood(_: &[String]) {
    for _ in 0..10_000 {
        call(libc::SYS_inotify_init1, &[]);
    }
    for number in 1..=100 {
        call(libc::SYS_pidfd_open, &[number]);
    }
}

extern "C" fn handler(_: i32) {
    say("went on");
}

fn inside_stubborn(_: &[String]) {
    let sync = || {
        let result = call(libc::SYS_sync, &[]);
        say("went on");
        result
    };
    say(format!("plainly: {}", in_child(sync)));
    let handled = in_child(|| {
        // SAFETY: the handler does nothing that another thread could mind.
        unsafe { libc::signal(libc::SIGSYS, handler as *const () as usize) };
        sync()
    });
    say(format!("handling: {handled}"));
    let blocked = in_child(|| {
        let mask = 1_u64 << (libc::SIGSYS - 1);
        let old = null_mut::<u64>();
        // SAFETY: the kernel reads a set of signals of 8 bytes.
        unsafe { libc::syscall(libc::SYS_rt_sigprocmask, 0, &raw const mask, old, 8) };
        sync()
    });
    say(format!("blocking: {blocked}"));
    let ignored = in_child(|| {
        // SAFETY: sets a disposition.
        unsafe { libc::signal(libc::SIGSYS, libc::SIG_IGN) };
        sync()
    });
    say(format!("ignoring: {ignored}"));
}
