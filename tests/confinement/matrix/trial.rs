//! Makes the calls of one layer and compares the answers.

#![allow(clippy::print_stdout, reason = "what the caged process tells the test")]

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use cofferdam::confine::filter::{Arch, Filter, Verdict, compile};
use cofferdam::policy::plan::SyscallPlan;
use cofferdam::policy::syscall::by_name;

use super::cases::{self, Case};
use super::raw;

/// Tries every case on a filter; tells those that went otherwise. Returns an exit code.
pub fn run(plans: &[SyscallPlan]) -> i32 {
    let filter = compile(plans, Arch::NATIVE).unwrap();
    let mut cases = cases::all(plans, &filter);
    if std::env::var_os(super::WRONG).is_some() {
        let wrong = cases.iter_mut().find(|case| case.expected == Verdict::Kill).unwrap();
        wrong.expected = Verdict::Errno(1);
    }
    let (killed, returning): (Vec<Case>, Vec<Case>) =
        cases.into_iter().partition(|case| case.expected == Verdict::Kill);
    let mut wrong: Vec<String> = killed.iter().filter_map(|case| verdict(&filter, case)).collect();
    wrong.extend(in_turn(&filter, &returning));
    for line in &wrong {
        println!("{line}");
    }
    let all = killed.len() + returning.len();
    println!("{} of {all} calls were not answered as planned", wrong.len());
    assert!(all > 600 && !returning.is_empty(), "the matrix is not whole");
    i32::from(!wrong.is_empty())
}

/// A call that should end its process, in one of its own.
fn verdict(filter: &Filter, case: &Case) -> Option<String> {
    let ended = child(|| {
        // Whatever waits is ended by SIGALRM, which is a wrong answer.
        nix::unistd::alarm::set(5);
        filter.load().unwrap();
        raw::call(case.number, case.arguments);
    });
    (ended.signal() != Some(libc::SIGSYS)).then(|| tell(case, &format!("{ended:?}")))
}

/// What the calls that should return have answered, in memory that children share.
struct Answers {
    /// How many were begun.
    begun: AtomicUsize,
    /// The answer to the last one that returned.
    answer: [AtomicI64; ANSWERS],
}

/// More than there are calls in any filter.
const ANSWERS: usize = 8192;

/// The place of an answer that never came.
const NONE: i64 = i64::MIN;

/// Calls that return: as many as possible in one process, and the rest in the next one.
fn in_turn(filter: &Filter, cases: &[Case]) -> Vec<String> {
    assert!(cases.len() <= ANSWERS);
    let answers = shared();
    let mut wrong = Vec::new();
    let mut next = 0;
    while next < cases.len() {
        for answer in &answers.answer[next..cases.len()] {
            answer.store(NONE, Ordering::Relaxed);
        }
        answers.begun.store(next, Ordering::Relaxed);
        let ended = child(|| {
            end_by_faults();
            interrupt_what_waits();
            filter.load().unwrap();
            for (index, case) in cases.iter().enumerate().skip(next) {
                answers.begun.store(index + 1, Ordering::Relaxed);
                let answer = raw::call(case.number, case.arguments);
                answers.answer[index].store(answer, Ordering::Relaxed);
            }
        });
        let begun = answers.begun.load(Ordering::Relaxed);
        for (case, answer) in cases[next..begun].iter().zip(&answers.answer[next..begun]) {
            let said = answer.load(Ordering::Relaxed);
            let right = match case.expected {
                Verdict::Errno(errno) => said == -i64::from(errno),
                _ if said == NONE => ends(case, ended),
                _ => true,
            };
            if !right {
                let said = if said == NONE { format!("{ended:?}") } else { said.to_string() };
                wrong.push(tell(case, &said));
            }
        }
        // A child that does not even begin would be tried for ever.
        assert!(begun > next, "no call was made: {ended:?}");
        next = begun;
    }
    wrong
}

/// Whether an allowed call ends its process just so.
fn ends(case: &Case, ended: ExitStatus) -> bool {
    let is = |name| by_name(name) == Some(case.number);
    is("exit") && ended.code() == Some(255)
        || is("exit_group") && ended.code() == Some(255)
        || is("rt_sigreturn") && ended.signal() == Some(libc::SIGSEGV)
}

fn tell(case: &Case, said: &str) -> String {
    format!(
        "call {:#x} ({0}) with {:x?}: expected {:?}, got {said}",
        case.number, case.arguments, case.expected
    )
}

/// Lets a child act, and waits for its end.
fn child(act: impl FnOnce()) -> ExitStatus {
    // SAFETY: this process has one thread; the child ends without running anything of the test's.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
    if pid == 0 {
        act();
        let group = by_name("exit_group").unwrap();
        raw::call(group, [0; 6]);
        std::process::abort();
    }
    let mut status = 0;
    // SAFETY: the status is ours to be written.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    ExitStatus::from_raw(status)
}

/// What the standard library does about faults would hide how the process ends.
fn end_by_faults() {
    // SAFETY: sets the kernel's own handling.
    let before = unsafe { libc::signal(libc::SIGSEGV, libc::SIG_DFL) };
    assert_ne!(before, libc::SIG_ERR);
}

/// Sends this process a signal every 20 ms, of which nothing comes but `EINTR`; ends it after ten
/// seconds.
fn interrupt_what_waits() {
    extern "C" fn tick(_: libc::c_int) {
        static TICKS: AtomicUsize = AtomicUsize::new(0);
        if TICKS.fetch_add(1, Ordering::Relaxed) > 500 {
            raw::call(by_name("exit_group").unwrap_or_default(), [77; 6]);
        }
    }
    // SAFETY: the handler only counts and makes a raw call; all structures are whole.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = tick as extern "C" fn(libc::c_int) as usize;
        assert_eq!(libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut()), 0);
        // Not setitimer(2), which alarm(2) would take away.
        let mut timer = std::ptr::null_mut();
        let (clock, none) = (libc::CLOCK_MONOTONIC, std::ptr::null_mut());
        assert_eq!(libc::timer_create(clock, none, &raw mut timer), 0);
        let step = libc::timespec { tv_sec: 0, tv_nsec: 20_000_000 };
        let often = libc::itimerspec { it_interval: step, it_value: step };
        assert_eq!(libc::timer_settime(timer, 0, &raw const often, std::ptr::null_mut()), 0);
    }
}

/// Memory that children write into.
fn shared() -> &'static Answers {
    let size = std::num::NonZero::new(size_of::<Answers>()).unwrap();
    let rights = nix::sys::mman::ProtFlags::PROT_READ | nix::sys::mman::ProtFlags::PROT_WRITE;
    let flags = nix::sys::mman::MapFlags::MAP_SHARED;
    // SAFETY: new memory, as large as asked, that nothing else has; it is zero, which is a value
    // of every atomic, and stays mapped to the end.
    unsafe { nix::sys::mman::mmap_anonymous(None, size, rights, flags).unwrap().cast().as_ref() }
}
