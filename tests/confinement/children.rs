//! Attacks from within the children that prepare a daemon: what each tries that it has no business
//! with, it is refused, and what it is there for it may do.
//!
//! Each test runs this program again, with one thread, which starts the child as the supervisor
//! does.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use cofferdam::policy::syscall::by_name;
use cofferdam::prepare::KINDS;
use cofferdam::prepare::child::{self, Kind};

use super::matrix::raw::call;

crate::support::suite::tests! {
    a_child_is_refused_what_it_is_not_there_for,
    a_child_keeps_no_more_capabilities_than_it_states,
    what_a_child_would_be_refused_works_without_it,
}

/// Names the child, by its place among its kind.
pub(crate) const KIND: &str = "COFFERDAM_PREPARE_CHILD";

const PLANNER: usize = 0;
const LOG_DIRECTORY: usize = 1;
const MAKER: usize = 3;
const LISTENER: usize = 4;

/// A call. Its arguments point to nothing, so where it is let through it changes nothing, and fails
/// otherwise than by `EPERM` if it fails.
struct Attack {
    call: &'static str,
    arguments: [u64; 6],
    /// Whose business it is.
    allowed: &'static [usize],
    /// Whether the kernel itself refuses it to all but root.
    root: bool,
}

impl Attack {
    const fn new(call: &'static str, first: &[u64], allowed: &'static [usize]) -> Self {
        let mut arguments = [0; 6];
        let mut at = 0;
        while at < first.len() {
            arguments[at] = first[at];
            at += 1;
        }
        Self { call, arguments, allowed, root: false }
    }

    const fn of_root(self) -> Self {
        Self { root: true, ..self }
    }

    /// Gives the errno, or 0.
    fn make(&self) -> i32 {
        let answer = call(by_name(self.call).unwrap(), self.arguments);
        i32::try_from(answer).map_or(0, |answer| answer.min(0).abs())
    }
}

/// `AT_FDCWD`, and a descriptor that isn't open.
const HERE: u64 = libc::AT_FDCWD.cast_unsigned() as u64;
const NO_FD: u64 = 999;

/// For the calling process: some are about its parent.
fn attacks() -> Vec<Attack> {
    let parent = std::os::unix::process::parent_id().into();
    let number = |flag: i32| u64::from(flag.cast_unsigned());
    let socket =
        |family, kind, allowed| Attack::new("socket", &[number(family), number(kind)], allowed);
    let read_only = number(libc::O_RDONLY | libc::O_CLOEXEC);
    vec![
        // Other processes.
        Attack::new("execve", &[], &[]),
        Attack::new("execveat", &[HERE], &[]),
        Attack::new("clone", &[number(libc::SIGCHLD)], &[]),
        Attack::new("ptrace", &[number(0)], &[]),
        Attack::new("kill", &[parent, 0], &[]),
        Attack::new("pidfd_open", &[parent], &[]),
        Attack::new("process_vm_readv", &[parent], &[]),
        Attack::new("prlimit64", &[parent, libc::RLIMIT_NOFILE.into()], &[]),
        // Who it is, and what it sees.
        Attack::new("setresuid", &[1, 1, 1], &[]).of_root(),
        Attack::new("unshare", &[number(libc::CLONE_NEWNS)], &[]).of_root(),
        Attack::new("unshare", &[number(libc::CLONE_NEWIPC)], &[MAKER]).of_root(),
        Attack::new("setns", &[NO_FD], &[]),
        Attack::new("mount", &[], &[]),
        Attack::new("chroot", &[], &[]),
        // Sockets.
        socket(libc::AF_NETLINK, libc::SOCK_RAW, &[]),
        socket(libc::AF_INET, libc::SOCK_STREAM, &[MAKER]),
        socket(libc::AF_INET6, libc::SOCK_DGRAM, &[MAKER]),
        socket(libc::AF_UNIX, libc::SOCK_STREAM, &[MAKER, LISTENER]),
        Attack::new("bind", &[NO_FD], &[MAKER, LISTENER]),
        Attack::new("connect", &[NO_FD], &[MAKER, LISTENER]),
        Attack::new("accept4", &[NO_FD], &[]),
        // Files.
        Attack::new("openat", &[HERE, 0, read_only], &[PLANNER, LOG_DIRECTORY, MAKER]),
        Attack::new("openat", &[HERE, 0, number(libc::O_WRONLY)], &[MAKER]),
        Attack::new("mkdirat", &[HERE], &[LOG_DIRECTORY, MAKER]),
        Attack::new("unlinkat", &[HERE], &[MAKER, LISTENER]),
        Attack::new("fchownat", &[HERE, 0, 1, 1], &[MAKER]),
        Attack::new("fchmodat", &[HERE, 0, 0o4755], &[]),
        Attack::new("linkat", &[HERE, 0, HERE], &[]),
    ]
}

/// The process that [`KIND`] asks for: it starts the child, which waits until it was looked at, and
/// attacks. Without a kind it attacks itself, each time in another process.
#[expect(clippy::print_stdout, reason = "the test reads it")]
pub(crate) fn main(kind: &str) {
    let answers = match kind.parse::<usize>() {
        Ok(kind) => attack_as(KINDS[kind]),
        Err(_) => (0..attacks().len()).map(attack_alone).collect(),
    };
    for answer in answers {
        println!("{answer}");
    }
}

#[expect(clippy::print_stdout, reason = "the test reads it")]
fn attack_as(kind: &Kind) -> Vec<i32> {
    let work = |_: &child::Handover| {
        println!("{}", std::process::id());
        let _ = std::io::stdin().read(&mut [0]);
        Ok(attacks().iter().map(Attack::make).collect())
    };
    child::run(kind, 0, work).unwrap().0
}

/// Makes one of the attacks in a process of its own.
fn attack_alone(which: usize) -> i32 {
    // SAFETY: this process has one thread, and the new one ends here.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let answer = attacks()[which].make();
        // SAFETY: ends the process at once.
        unsafe { libc::_exit(answer) }
    }
    let mut status = 0;
    // SAFETY: the status is ours to be written.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    libc::WEXITSTATUS(status)
}

/// Starts it, looks at the child by `look`, and gives the errno of each attack.
fn answers(kind: &str, look: impl FnOnce(&str)) -> Vec<i32> {
    let mut process = Command::new(std::env::current_exe().unwrap())
        .env(KIND, kind)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
    if kind != NONE {
        look(&lines.next().unwrap());
    }
    drop(process.stdin.take());
    let answers = lines.map(|line| line.parse().unwrap()).collect();
    assert!(process.wait().unwrap().success());
    answers
}

/// No child at all.
const NONE: &str = "none";

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn a_child_is_refused_what_it_is_not_there_for() {
    for (place, kind) in KINDS.iter().enumerate() {
        let answers = answers(&place.to_string(), |_| {});
        assert_eq!(answers.len(), attacks().len(), "{kind:?}");
        for (attack, errno) in attacks().iter().zip(answers) {
            let Attack { call, arguments, allowed, root } = attack;
            let is_allowed = allowed.contains(&place) && (!root || is_root());
            let what = format!("{}: {call}{arguments:?}: errno {errno}", kind.does);
            assert_eq!(errno != libc::EPERM, is_allowed, "{what}");
        }
    }
}

fn a_child_keeps_no_more_capabilities_than_it_states() {
    for (place, kind) in KINDS.iter().enumerate() {
        let stated = kind.capabilities.iter().fold(0, |all, one| all | one.bitmask());
        answers(&place.to_string(), |pid| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let value = |key: &str| {
                let line =
                    status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
                line.unwrap().trim().to_owned()
            };
            let capabilities = |key| u64::from_str_radix(&value(key), 16).unwrap();
            for set in ["CapEff", "CapPrm"] {
                assert_eq!(capabilities(set) & !stated, 0, "{}: {set}", kind.does);
            }
            for set in ["CapInh", "CapAmb"] {
                assert_eq!(capabilities(set), 0, "{}: {set}", kind.does);
            }
            if is_root() {
                assert_eq!(capabilities("CapBnd") & !stated, 0, "{}", kind.does);
            }
            assert_eq!((&*value("NoNewPrivs"), &*value("Seccomp")), ("1", "2"), "{}", kind.does);
        });
    }
}

/// Otherwise the refusals would prove nothing.
fn what_a_child_would_be_refused_works_without_it() {
    for (attack, errno) in attacks().iter().zip(answers(NONE, |_| {})) {
        let Attack { call, arguments, root, .. } = attack;
        assert!(errno != libc::EPERM || *root && !is_root(), "{call}{arguments:?}");
    }
}
