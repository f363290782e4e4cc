//! What a filter costs a call: by this crate's search tree, by a linear program of the same
//! answers (crate `seccompiler`), by the shortest filter that looks at an argument, and without
//! any. Nanoseconds, medians of several rounds.
//!
//! A filter can't be taken off again, so the bench runs itself once for each kind and round, in
//! turn, so that all meet the same noise. The goal is that the tree adds at most 40 ns to an
//! allowed call, and to one with conditions as little more than `least` as can be: that is what
//! the kernel itself takes to run any filter. Calls allowed without conditions it finds in a
//! bitmap, whatever the filter. "Refused" is without a filter what the call itself says.
//!
//! `cargo bench --bench filter`.

// Only for raw calls.
#![allow(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a bench's result")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::process::Command;
use std::time::{Duration, Instant};

use cofferdam::confine::filter::{Action, Arch, compile_with};
use cofferdam::policy::plan::{Compare, SyscallPlan, Width};
use cofferdam::policy::syscall::{Implied, assemble, by_name, parse_item};

/// How often each kind is measured.
const ROUNDS: usize = 9;
/// How often each call is timed in a round, and how many calls a time is of.
const TIMES: usize = 25;
const CALLS: u32 = 4000;

const KINDS: [&str; 4] = ["none", "least", "tree", "linear"];

/// The calls: what they show, and arguments that do nothing, or fail fast. The descriptor 99 is
/// not open, and the address 1 is no page.
const SHOWN: [(&str, &str, [u64; 6]); 13] = [
    ("allowed", "getppid", [0; 6]),
    ("first of the list", "read", [99, 0, 0, 0, 0, 0]),
    ("last of the list", "rseq", [1, 0, 0, 0, 0, 0]),
    ("condition", "futex", [1, 1, 0, 0, 0, 0]),
    ("condition", "sendmsg", [99, 0, 0, 0, 0, 0]),
    ("condition", "sendto", [99, 0, 0, 0, 0, 0]),
    ("condition", "mmap", [1, 0, 0, 0, 0, 0]),
    ("condition", "mprotect", [1, 0, 0, 0, 0, 0]),
    ("condition", "madvise", [1, 0, 4, 0, 0, 0]),
    ("first alternative", "fcntl", [99, 1, 0, 0, 0, 0]),
    ("last alternative", "fcntl", [99, 1034, 0, 0, 0, 0]),
    ("high number", "prlimit64", [0, 7, 0, 0, 0, 0]),
    ("refused by errno", "mseal", [0; 6]),
];

fn main() {
    if let Ok(kind) = std::env::var("FILTER") {
        return measure(&kind);
    }
    let mut costs: BTreeMap<(usize, &str), Vec<f64>> = BTreeMap::new();
    for round in 0..ROUNDS {
        for kind in KINDS {
            let mut again = Command::new(std::env::current_exe().unwrap());
            let output = again.env("FILTER", kind).output().unwrap();
            assert!(output.status.success(), "the run with the filter '{kind}' failed");
            if round == 0 {
                print!("{}", String::from_utf8_lossy(&output.stderr));
            }
            for (place, line) in String::from_utf8(output.stdout).unwrap().lines().enumerate() {
                costs.entry((place, kind)).or_default().push(line.parse().unwrap());
            }
        }
    }
    print!("{:34}", "ns a call");
    let [none, filters @ ..] = KINDS;
    let heads: String = filters.map(|kind| format!("{:>9}", format!("+{kind}"))).concat();
    println!("{none:>8}{heads}");
    for (place, (shows, call, _)) in SHOWN.iter().enumerate() {
        let [none, filters @ ..] = KINDS.map(|kind| median(&mut costs[&(place, kind)].clone()));
        let added: String = filters.map(|cost| format!("{:9.0}", cost - none)).concat();
        println!("{:34}{none:8.0}{added}", format!("{shows} ({call})"));
    }
}

/// Loads a filter and prints what each call costs.
fn measure(kind: &str) {
    rustix::thread::set_no_new_privs(true).unwrap();
    match kind {
        "tree" => tree(),
        "least" => least(),
        "linear" => linear(),
        _ => {}
    }
    for (_, call, arguments) in SHOWN {
        let number = i64::from(by_name(call).unwrap());
        let mut times: Vec<f64> = (0..TIMES)
            .map(|_| {
                let before = Instant::now();
                for _ in 0..CALLS {
                    call_once(black_box(number), &arguments);
                }
                before.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS)
            })
            .collect();
        println!("{}", median(&mut times));
    }
}

#[inline]
fn call_once(number: i64, [a, b, c, rest @ ..]: &[u64; 6]) {
    // SAFETY: the calls of this bench get addresses that are no memory of this process, so none is
    // written.
    unsafe { libc::syscall(number, *a, *b, *c, rest[0], rest[1], rest[2]) };
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// On standard error, for it is not among the times.
fn note(kind: &str, length: usize, loading: Duration) {
    eprintln!("{kind}: {length} instructions, loaded in {loading:?}");
}

/// Looks at an argument, as a condition must, and allows everything.
fn least() {
    let line = |code, k| seccompiler::sock_filter { code, jt: 0, jf: 0, k };
    // Load the low word of the first argument; return SECCOMP_RET_ALLOW.
    seccompiler::apply_filter(&[line(0x20, 16), line(0x06, 0x7fff_0000)]).unwrap();
}

/// A network layer's calls.
fn plans() -> Vec<SyscallPlan> {
    let items = ["@core", "@net-stream", "@thread", "@file-read", "@time"];
    let items = items.map(|text| parse_item(text).unwrap());
    assemble(&items, &[], Implied::Run)
}

fn tree() {
    let filter = compile_with(&plans(), Arch::NATIVE, Action::Errno(38)).unwrap();
    let before = Instant::now();
    filter.load().unwrap();
    note("tree", filter.len(), before.elapsed());
}

fn linear() {
    use seccompiler::{
        SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition,
        SeccompFilter, SeccompRule,
    };
    let mut rules = BTreeMap::new();
    for plan in plans().into_iter().filter(|plan| !plan.allow.is_empty()) {
        let alternatives = plan.allow.iter().filter(|rule| !rule.0.is_empty()).map(|rule| {
            let conditions = rule.0.iter().map(|condition| {
                let (op, value) = match condition.compare {
                    Compare::Eq(value) => (Op::Eq, value),
                    Compare::Masked { mask, value } => (Op::MaskedEq(mask), value),
                    _ => unreachable!("these groups have no other"),
                };
                let len = if condition.width == Width::Dword { Len::Dword } else { Len::Qword };
                SeccompCondition::new(condition.argument, len, op, value).unwrap()
            });
            SeccompRule::new(conditions.collect()).unwrap()
        });
        rules.insert(i64::from(plan.number), alternatives.collect::<Vec<_>>());
    }
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let filter =
        SeccompFilter::new(rules, SeccompAction::Errno(38), SeccompAction::Allow, arch).unwrap();
    let program: seccompiler::BpfProgram = filter.try_into().unwrap();
    let before = Instant::now();
    seccompiler::apply_filter(&program).unwrap();
    note("linear", program.len(), before.elapsed());
}
