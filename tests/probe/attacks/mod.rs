//! The attacks: one table, one file a section of threats.
//!
//! An attack is code that a layer runs once somebody else has taken it over. It uses the kernel's
//! own calls, without a library in between that might fall back to something tamer. Its row says
//! what stops it, twice: by the filter, and, in a layer that is granted every call, by all else.

mod calls;
mod descriptors;
mod files;
mod identity;
mod memory;
mod network;
mod processes;
mod resources;
mod start_state;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use nix::errno::Errno;

/// What an attack comes to: what it achieved, or what the kernel said.
pub(crate) type Outcome = Result<String, Errno>;

/// What the driver of the test knows and an attacker might have learned: process numbers, paths,
/// ports.
pub(crate) type Facts = BTreeMap<String, String>;

/// One attack.
pub(crate) struct Attack {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// Does it.
    pub(crate) run: fn(&Facts) -> Outcome,
    /// How to see that it works where nobody stops it.
    pub(crate) control: Control,
    /// The call that the filter stops, where the layer isn't granted it.
    pub(crate) filter: Filter,
    /// What stops it where every call is granted.
    pub(crate) bulkhead: Bulkhead,
}

/// In which surroundings an attack works.
pub(crate) enum Control {
    /// As any user.
    Anybody,
    /// As root in namespaces of its own.
    Ruler,
    /// As root of the host, since it changes nothing but its own process.
    Root,
    /// It can't be shown here, for this reason.
    Without(&'static str),
}

/// What the filter does.
pub(crate) enum Filter {
    /// Kills at this call.
    Kills(&'static str),
    /// Kills, whatever name the number has.
    KillsUnnamed,
    /// Answers with the errno that the bulkhead gives too.
    Answers,
    /// Lets it pass: the call is harmless or granted to every layer.
    Passes,
}

/// What stops an attack without the filter's help.
pub(crate) enum Bulkhead {
    /// One of these errnos.
    Says(&'static [Errno]),
    /// The filter even so: no policy can grant it.
    Filter,
    /// Nothing, for this reason: who grants the call grants this.
    None(&'static str),
}

use Bulkhead::Says;
use Control::{Anybody, Root, Ruler, Without};
use Errno::{
    E2BIG, EACCES, EADDRNOTAVAIL, EAGAIN, EBADF, ECONNREFUSED, EEXIST, EINVAL, EMFILE, ENETUNREACH,
    ENOENT, ENOEXEC, ENOMEM, ENOSYS, ENOTTY, EOPNOTSUPP, EPERM, EROFS, ESRCH, ETXTBSY, EXDEV,
};
use Filter::{Answers, Kills, KillsUnnamed, Passes};

macro_rules! row {
    ($name:literal, $run:path, $control:expr, $filter:expr, $bulkhead:expr) => {
        Attack { name: $name, run: $run, control: $control, filter: $filter, bulkhead: $bulkhead }
    };
}

/// Every attack whose row says all; others have a test of their own.
pub(crate) const TABLE: &[Attack] = &[
    // A: the filter.
    row!(
        "int80",
        calls::int80,
        Without("a kernel may lack 32-bit calls"),
        KillsUnnamed,
        Bulkhead::Filter
    ),
    row!("x32", calls::x32, Without("most kernels lack x32"), KillsUnnamed, Bulkhead::Filter),
    row!("clone3", calls::clone3, Anybody, Answers, Says(&[ENOSYS])),
    row!("clone3-user", calls::clone3_user, Anybody, Answers, Says(&[ENOSYS])),
    row!(
        "unknown-call",
        calls::unknown,
        Without("the number has no meaning yet"),
        KillsUnnamed,
        Bulkhead::Filter
    ),
    row!(
        "unshare-mount",
        calls::unshare_mount,
        Anybody,
        Kills("unshare"),
        Says(&[EPERM, EACCES, Errno::ENOSPC])
    ),
    row!(
        "clone-user",
        calls::clone_user,
        Anybody,
        Kills("clone"),
        Bulkhead::None(
            "a user namespace by itself reaches nothing; unshare-mount goes on from there"
        )
    ),
    row!("setns", calls::setns, Ruler, Kills("pidfd_open"), Says(&[ESRCH, EPERM, EINVAL])),
    row!("io-uring", calls::io_uring, Anybody, Kills("io_uring_setup"), Bulkhead::Filter),
    row!(
        "bpf",
        calls::bpf,
        Without("it takes a capability on the host"),
        Kills("bpf"),
        Says(&[EPERM])
    ),
    row!(
        "userfaultfd",
        calls::userfaultfd,
        Anybody,
        Kills("userfaultfd"),
        Bulkhead::None("of its own memory only")
    ),
    row!(
        "perf",
        calls::perf,
        Without("perf_event_paranoid decides"),
        Kills("perf_event_open"),
        Says(&[ESRCH, EPERM, EACCES])
    ),
    row!(
        "init-module",
        calls::init_module,
        Without("it would change the machine"),
        Kills("init_module"),
        Says(&[EPERM, ENOSYS])
    ),
    row!(
        "kexec",
        calls::kexec,
        Without("it would change the machine"),
        Kills("kexec_load"),
        Says(&[EPERM, ENOSYS])
    ),
    row!(
        "reboot",
        calls::reboot,
        Without("it would stop the machine"),
        Kills("reboot"),
        Says(&[EPERM])
    ),
    row!(
        "iopl",
        calls::iopl,
        Without("it takes a capability on the host"),
        Kills("iopl"),
        Says(&[EPERM, ENOSYS])
    ),
    row!(
        "syslog-clear",
        calls::syslog_clear,
        Without("it would clear the kernel's log"),
        Kills("syslog"),
        Says(&[EPERM])
    ),
    row!(
        "acct",
        calls::acct,
        Without("it would change the machine"),
        Kills("acct"),
        Says(&[EPERM, ENOSYS])
    ),
    row!(
        "swapon",
        calls::swapon,
        Without("it would change the machine"),
        Kills("swapon"),
        Says(&[EPERM, ENOSYS])
    ),
    row!(
        "settimeofday",
        calls::settimeofday,
        Without("it would change the machine"),
        Kills("settimeofday"),
        Says(&[EPERM])
    ),
    row!("sethostname", calls::sethostname, Ruler, Kills("sethostname"), Says(&[EPERM])),
    row!("fanotify", calls::fanotify, Root, Kills("fanotify_init"), Says(&[EPERM, ENOSYS])),
    row!(
        "personality",
        calls::personality,
        Anybody,
        Kills("personality"),
        Bulkhead::None("PR_SET_MDWE holds whatever the personality is: write-execute tests it")
    ),
    row!(
        "tiocsti",
        calls::tiocsti,
        Without("the test has no terminal"),
        Kills("ioctl"),
        Says(&[ENOTTY, EPERM])
    ),
    row!(
        "tiocsti-high-bit",
        calls::tiocsti_high_bit,
        Without("the test has no terminal"),
        Kills("ioctl"),
        Says(&[ENOTTY, EPERM])
    ),
    // B: other processes.
    row!("ptrace", processes::ptrace, Anybody, Kills("ptrace"), Says(&[ESRCH, EPERM])),
    row!("ptrace-seize", processes::ptrace_seize, Anybody, Kills("ptrace"), Says(&[ESRCH, EPERM])),
    row!("vm-read", processes::vm_read, Anybody, Kills("process_vm_readv"), Says(&[ESRCH, EPERM])),
    row!(
        "vm-write",
        processes::vm_write,
        Anybody,
        Kills("process_vm_writev"),
        Says(&[ESRCH, EPERM])
    ),
    row!(
        "pidfd-getfd",
        processes::pidfd_getfd,
        Anybody,
        Kills("pidfd_open"),
        Says(&[ESRCH, EPERM])
    ),
    row!("kcmp", processes::kcmp, Anybody, Kills("kcmp"), Says(&[ESRCH, EPERM, ENOSYS])),
    row!(
        "process-madvise",
        processes::process_madvise,
        Without("it takes a capability"),
        Kills("pidfd_open"),
        Says(&[ESRCH, EPERM])
    ),
    row!("kill", processes::kill, Anybody, Kills("kill"), Says(&[ESRCH, EPERM])),
    row!(
        "kill-supervisor",
        processes::kill_supervisor,
        Anybody,
        Kills("kill"),
        Says(&[ESRCH, EPERM])
    ),
    row!(
        "kill-everybody",
        processes::kill_everybody,
        Without("it would reach whoever runs the test"),
        Kills("kill"),
        Says(&[ESRCH, EPERM])
    ),
    row!("tgkill", processes::tgkill, Anybody, Kills("tgkill"), Says(&[ESRCH, EPERM])),
    row!(
        "tgkill-abort",
        processes::tgkill_abort,
        Without("kill shows it"),
        Passes,
        Says(&[ESRCH, EPERM])
    ),
    row!("sigqueue", processes::sigqueue, Anybody, Kills("rt_sigqueueinfo"), Says(&[ESRCH, EPERM])),
    row!(
        "pidfd-signal",
        processes::pidfd_signal,
        Anybody,
        Kills("pidfd_open"),
        Says(&[ESRCH, EPERM])
    ),
    row!("owner-signal", processes::owner_signal, Anybody, Kills("fcntl"), Says(&[ESRCH, EPERM])),
    row!("owner-ioctl", processes::owner_ioctl, Anybody, Kills("ioctl"), Says(&[ESRCH, EPERM])),
    row!("prlimit", processes::prlimit, Anybody, Kills("prlimit64"), Says(&[ESRCH, EPERM])),
    row!(
        "affinity",
        processes::affinity,
        Anybody,
        Kills("sched_setaffinity"),
        Says(&[ESRCH, EPERM])
    ),
    row!(
        "priority",
        processes::priority,
        Anybody,
        Kills("setpriority"),
        Says(&[ESRCH, EPERM, EACCES])
    ),
    row!("proc-mem", processes::proc_mem, Anybody, Kills("openat"), Says(&[ENOENT, EACCES])),
    row!(
        "proc-self-mem",
        processes::proc_self_mem,
        Anybody,
        Kills("openat"),
        Says(&[ENOENT, EACCES])
    ),
    row!(
        "proc-environ",
        processes::proc_environ,
        Anybody,
        Kills("openat"),
        Says(&[ENOENT, EACCES])
    ),
    row!("proc-fd", processes::proc_fd, Anybody, Kills("openat"), Says(&[ENOENT, EACCES])),
    // D: descriptors.
    row!(
        "own-program",
        descriptors::own_program,
        Without("the program is root's, or busy"),
        Kills("openat"),
        Says(&[ENOENT, EACCES, EROFS, ETXTBSY])
    ),
    row!(
        "dirfd-escape",
        descriptors::dirfd_escape,
        Anybody,
        Kills("openat"),
        Says(&[ENOENT, EACCES, EXDEV])
    ),
    row!(
        "handle",
        descriptors::handle,
        Root,
        Kills("name_to_handle_at"),
        Says(&[ENOENT, EPERM, EOPNOTSUPP, EACCES])
    ),
    row!(
        "dup-scan",
        descriptors::stray_directory,
        Without("descriptors-layer and -program list them"),
        Passes,
        Says(&[EBADF])
    ),
    // E: files and mounts.
    row!("open", files::open, Anybody, Kills("open"), Says(&[ENOENT, EACCES])),
    row!("openat", files::openat, Anybody, Kills("openat"), Says(&[ENOENT, EACCES])),
    row!("openat2", files::openat2, Anybody, Kills("openat2"), Says(&[ENOENT, EACCES])),
    row!("open-up", files::open_up, Anybody, Kills("openat"), Says(&[ENOENT, EACCES])),
    row!("open-device", files::open_device, Anybody, Kills("openat"), Says(&[ENOENT, EACCES])),
    row!("stat", files::stat, Anybody, Kills("newfstatat"), Says(&[ENOENT, EACCES])),
    row!(
        "write-outside",
        files::write_outside,
        Anybody,
        Kills("openat"),
        Says(&[ENOENT, EACCES, EROFS])
    ),
    row!("truncate", files::truncate, Anybody, Kills("truncate"), Says(&[ENOENT, EACCES, EROFS])),
    row!("make-file", files::make_file, Ruler, Kills("openat"), Says(&[EACCES, EROFS, EPERM])),
    row!(
        "make-directory",
        files::make_directory,
        Ruler,
        Kills("mkdirat"),
        Says(&[EACCES, EROFS, EPERM])
    ),
    row!(
        "make-device",
        files::make_device,
        Without("no namespace allows it"),
        Kills("mknodat"),
        Says(&[EACCES, EROFS, EPERM])
    ),
    row!(
        "symlink",
        files::symlink,
        Ruler,
        Kills("symlinkat"),
        Says(&[EACCES, EROFS, EPERM, EEXIST])
    ),
    row!(
        "chmod-root",
        files::chmod_root,
        Without("it would change the machine"),
        Kills("fchmodat"),
        Says(&[EROFS, EPERM, EACCES])
    ),
    row!("mount", files::mount, Ruler, Kills("mount"), Says(&[EPERM, EACCES])),
    row!(
        "umount",
        files::umount,
        Without("the row `mount` shows it"),
        Kills("umount2"),
        Says(&[EPERM, EACCES, EINVAL])
    ),
    row!("remount", files::remount, Ruler, Kills("mount"), Says(&[EPERM, EACCES])),
    row!("fsopen", files::fsopen, Ruler, Kills("fsopen"), Says(&[EPERM, EACCES])),
    row!("open-tree", files::open_tree, Ruler, Kills("open_tree"), Says(&[EPERM, EACCES])),
    row!(
        "mount-setattr",
        files::mount_setattr,
        Ruler,
        Kills("mount_setattr"),
        Says(&[EPERM, EACCES])
    ),
    row!(
        "pivot-root",
        files::pivot_root,
        Without("the row `mount` shows it"),
        Kills("pivot_root"),
        Says(&[EPERM, EACCES])
    ),
    row!("chroot", files::chroot, Ruler, Kills("chroot"), Says(&[EPERM, EACCES])),
    // Networks.
    row!(
        "tcp-loopback",
        network::tcp_loopback,
        Anybody,
        Kills("socket"),
        Says(&[ENETUNREACH, ECONNREFUSED, EACCES])
    ),
    row!(
        "tcp-fast-open",
        network::tcp_fast_open,
        Anybody,
        Kills("socket"),
        Says(&[ENETUNREACH, ECONNREFUSED, EACCES, EOPNOTSUPP])
    ),
    row!(
        "udp-loopback",
        network::udp_loopback,
        Anybody,
        Kills("socket"),
        Says(&[ENETUNREACH, ECONNREFUSED, EACCES])
    ),
    row!(
        "tcp6-loopback",
        network::tcp6_loopback,
        Anybody,
        Kills("socket"),
        Says(&[ENETUNREACH, ECONNREFUSED, EACCES, EADDRNOTAVAIL])
    ),
    row!(
        "mptcp",
        network::mptcp,
        Without("a kernel may lack MPTCP"),
        Kills("socket"),
        Says(&[ENETUNREACH, ECONNREFUSED, EACCES, Errno::EPROTONOSUPPORT, Errno::ENOPROTOOPT])
    ),
    row!(
        "unix-path",
        network::unix_path,
        Anybody,
        Kills("socket"),
        Says(&[ENOENT, EACCES, ECONNREFUSED])
    ),
    row!(
        "unix-abstract",
        network::unix_abstract,
        Anybody,
        Kills("socket"),
        Says(&[ECONNREFUSED, EPERM, EACCES])
    ),
    row!(
        "raw-socket",
        network::raw_socket,
        Ruler,
        Kills("socket"),
        Says(&[EPERM, Errno::EAFNOSUPPORT])
    ),
    row!(
        "packet-socket",
        network::packet_socket,
        Ruler,
        Kills("socket"),
        Says(&[EPERM, Errno::EAFNOSUPPORT])
    ),
    row!("interface-up", network::interface_up, Ruler, Kills("socket"), Says(&[EPERM])),
    row!(
        "netlink",
        network::netlink,
        Anybody,
        Kills("socket"),
        Bulkhead::None("it shows the layer's own empty network")
    ),
    row!(
        "vsock",
        network::vsock,
        Without("a kernel may lack vsock"),
        Kills("socket"),
        Bulkhead::None("it is not in any namespace before Linux 7.0: only the filter holds it")
    ),
    row!(
        "alg-socket",
        network::alg,
        Without("a kernel may lack AF_ALG"),
        Kills("socket"),
        Bulkhead::None("the kernel's ciphers are nobody's secret")
    ),
    // F: identity.
    row!("setuid", identity::setuid, Root, Kills("setuid"), Says(&[EPERM, EINVAL])),
    row!("setresuid", identity::setresuid, Root, Kills("setresuid"), Says(&[EPERM, EINVAL])),
    row!("setgid", identity::setgid, Root, Kills("setgid"), Says(&[EPERM, EINVAL])),
    row!("setgroups", identity::setgroups, Root, Kills("setgroups"), Says(&[EPERM, EINVAL])),
    row!("capset", identity::capset, Root, Kills("capset"), Says(&[EPERM])),
    row!(
        "ambient",
        identity::ambient,
        Without("it takes an inheritable capability"),
        Kills("prctl"),
        Says(&[EPERM])
    ),
    row!("securebits", identity::securebits, Root, Kills("prctl"), Says(&[EPERM])),
    row!("bounding-set", identity::bounding_set, Root, Kills("prctl"), Says(&[EPERM])),
    row!(
        "new-privileges",
        identity::new_privileges,
        Without("nobody can take it back"),
        Kills("prctl"),
        Says(&[EINVAL])
    ),
    row!(
        "keyring",
        identity::keyring,
        Anybody,
        Kills("keyctl"),
        Says(&[Errno::ENOKEY, EACCES, EPERM, ENOSYS])
    ),
    row!(
        "add-key",
        identity::add_key,
        Anybody,
        Kills("add_key"),
        Bulkhead::None("into a session keyring of its own")
    ),
    row!("shared-memory", identity::shared_memory, Anybody, Kills("shmget"), Says(&[ENOENT])),
    row!(
        "message-queue",
        identity::message_queue,
        Anybody,
        Kills("mq_open"),
        Says(&[ENOENT, EACCES, EMFILE, ENOSYS])
    ),
    // Memory that becomes code.
    row!("write-execute", memory::write_execute, Anybody, Kills("mmap"), Says(&[EACCES, EPERM])),
    row!(
        "write-then-execute",
        memory::write_then_execute,
        Anybody,
        Kills("mprotect"),
        Says(&[EACCES, EPERM])
    ),
    row!(
        "pkey-execute",
        memory::pkey_execute,
        Anybody,
        Kills("pkey_mprotect"),
        Says(&[EACCES, EPERM])
    ),
    row!(
        "memfd-map",
        memory::memfd_map,
        Anybody,
        Kills("memfd_create"),
        Bulkhead::None(
            "a mapping of a file is code that somebody wrote to a file; PR_SET_MDWE does not know which files"
        )
    ),
    row!(
        "memfd-exec",
        memory::memfd_exec,
        Anybody,
        Kills("memfd_create"),
        Bulkhead::None("it stays in the same cage; vm.memfd_noexec could forbid it")
    ),
    row!(
        "exec-shell",
        memory::exec_shell,
        Anybody,
        Kills("clone"),
        Says(&[ENOENT, EACCES, E2BIG, ENOEXEC])
    ),
    // G: resources.
    row!(
        "raise-files",
        resources::raise_files,
        Without("it takes a capability on the host"),
        Kills("prlimit64"),
        Says(&[EPERM])
    ),
    row!(
        "raise-core",
        resources::raise_core,
        Without("it takes a capability on the host"),
        Kills("prlimit64"),
        Says(&[EPERM])
    ),
    row!(
        "nice",
        resources::nice,
        Without("it takes a capability on the host"),
        Kills("setpriority"),
        Says(&[EPERM, EACCES])
    ),
    row!(
        "realtime",
        resources::realtime,
        Without("it takes a capability on the host"),
        Kills("sched_setscheduler"),
        Says(&[EPERM])
    ),
    row!(
        "lock-memory",
        resources::lock_memory,
        Without("a user's own limit may forbid it"),
        Passes,
        Says(&[ENOMEM, EAGAIN, EPERM])
    ),
    row!(
        "descriptors",
        resources::descriptors,
        Without("everybody has a limit"),
        Kills("dup"),
        Says(&[EMFILE])
    ),
];

/// Attacks that succeed, or report something, and are judged by a test of their own.
pub(crate) const OTHERS: &[(&str, fn(&Facts) -> Outcome)] = &[
    ("nothing", |_| Ok("done".to_owned())),
    ("read-clock", calls::read_clock),
    ("fork-bomb", resources::fork_bomb),
    ("memory-hog", resources::memory_hog),
    ("spin", resources::spin),
    ("grandchild", processes::grandchild),
    ("stop-itself", processes::stop_itself),
    ("exit", processes::exit),
    ("flood", resources::flood),
    ("forge-log", resources::forge_log),
    ("control-garbage", descriptors::control_garbage),
    ("control-oversize", descriptors::control_oversize),
    ("control-flood", descriptors::control_flood),
    ("control-descriptors", descriptors::control_descriptors),
    ("control-close", descriptors::control_close),
    ("control-shutdown", descriptors::control_shutdown),
    ("control-empty", descriptors::control_empty),
    ("control-ready-again", descriptors::control_ready_again),
    ("control-deaf", descriptors::control_deaf),
    ("list-descriptors", descriptors::list),
    ("start-state", start_state::start_state),
    ("small-state", start_state::small_state),
    ("thread-call", calls::thread_call),
    ("abort", memory::abort),
];

/// Finds an attack by its name.
pub(crate) fn find(name: &str) -> Option<fn(&Facts) -> Outcome> {
    let row = TABLE.iter().find(|attack| attack.name == name).map(|attack| attack.run);
    row.or_else(|| OTHERS.iter().find(|(other, _)| *other == name).map(|(_, run)| *run))
}

/// The control of an attack in the table.
pub(crate) fn control(name: &str) -> Option<&'static Control> {
    TABLE.iter().find(|attack| attack.name == name).map(|attack| &attack.control)
}

/// One line an attack, for the driver: name, control, filter, bulkhead, parted by tabs.
pub(crate) fn list() -> String {
    let line = |attack: &Attack| {
        let control = match &attack.control {
            Anybody => "anybody".to_owned(),
            Ruler => "ruler".to_owned(),
            Root => "root".to_owned(),
            Without(why) => format!("without {why}"),
        };
        let filter = match attack.filter {
            Kills(call) => format!("kills {call}"),
            KillsUnnamed => "kills".to_owned(),
            Answers => "answers".to_owned(),
            Passes => "passes".to_owned(),
        };
        let bulkhead = match attack.bulkhead {
            Says(errnos) => {
                let names: Vec<_> = errnos.iter().map(|errno| format!("{errno:?}")).collect();
                format!("says {}", names.join(","))
            }
            Bulkhead::Filter => "filter".to_owned(),
            Bulkhead::None(why) => format!("none {why}"),
        };
        format!("{}\t{control}\t{filter}\t{bulkhead}\n", attack.name)
    };
    TABLE.iter().map(line).collect()
}

/// What `--victim` and the supervisor's number are for: the processes to attack.
///
/// In a layer these are all numbers that there can be, but its own and that of the init of its
/// pid namespace: whoever is found is somebody else's.
pub(crate) fn targets(facts: &Facts) -> Vec<i32> {
    let number = |name: &str| facts.get(name).and_then(|text| text.parse::<i32>().ok());
    if let Some(victim) = number("victim") {
        return vec![victim];
    }
    let own = raw(libc::SYS_getpid, [0; 6]).ok().and_then(|pid| i32::try_from(pid).ok());
    let highest = number("pid-max").unwrap_or(32768).min(1 << 16);
    let last = number("supervisor");
    (2..=highest).filter(|pid| Some(*pid) != own).chain(last).collect()
}

/// Tries `act` on every target: the first that is reached ends it, else the last errno.
pub(crate) fn on_any(facts: &Facts, act: impl Fn(i32) -> Result<i64, Errno>) -> Outcome {
    let mut last = Errno::ESRCH;
    for pid in targets(facts) {
        match act(pid) {
            Ok(_) => return Ok(format!("reached process {pid}")),
            Err(errno) => last = errno,
        }
    }
    Err(last)
}

/// A fact, or `EINVAL` if the driver forgot it.
pub(crate) fn fact<'a>(facts: &'a Facts, name: &str) -> Result<&'a str, Errno> {
    facts.get(name).map(String::as_str).ok_or(Errno::EINVAL)
}

/// The fact as text with a zero at its end, kept for ever.
pub(crate) fn path(facts: &Facts, name: &str) -> Result<*const libc::c_char, Errno> {
    static KEPT: OnceLock<std::ffi::CString> = OnceLock::new();
    let text = fact(facts, name)?;
    let kept = KEPT.get_or_init(|| std::ffi::CString::new(text).unwrap_or_default());
    if kept.as_bytes() == text.as_bytes() { Ok(kept.as_ptr()) } else { Err(Errno::EINVAL) }
}

/// A system call as the kernel has it.
pub(crate) fn raw(number: i64, arguments: [i64; 6]) -> Result<i64, Errno> {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: an attacker's call may do anything to this process, that is what it is for. The
    // callers pass pointers to memory that lives during the call, and none asks the kernel to
    // unmap or overwrite memory of this program.
    let answer = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if answer == -1 { Err(Errno::last()) } else { Ok(answer) }
}

/// The address of something, as an argument of a call.
pub(crate) fn at<T: ?Sized>(thing: &T) -> i64 {
    std::ptr::from_ref(thing).cast::<u8>() as i64
}

/// The same of something that the kernel writes to.
pub(crate) fn into<T: ?Sized>(thing: &mut T) -> i64 {
    std::ptr::from_mut(thing).cast::<u8>() as i64
}
