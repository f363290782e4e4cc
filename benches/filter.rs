//! What a filter costs a call: by this crate's search tree, by a linear program of the same
//! answers (crate `seccompiler`), and without any.
//!
//! A filter can't be taken off again, so the bench runs itself once for each kind; every run
//! repeats the bare call as its yardstick. All on one core, no other load.

// Only for raw calls.
#![allow(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a bench's result")]

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Instant;

use cofferdam::confine::filter::{Action, Arch, compile_with};
use cofferdam::policy::plan::{Compare, SyscallPlan, Width};
use cofferdam::policy::syscall::{Implied, Item, all, assemble, by_name, parse_item};
use divan::{Bencher, black_box};

fn main() {
    let Ok(kind) = std::env::var("FILTER") else {
        for kind in ["none", "tree", "linear"] {
            println!("filter: {kind}");
            let mut again = Command::new(std::env::current_exe().unwrap());
            let done =
                again.args(std::env::args_os().skip(1)).env("FILTER", kind).status().unwrap();
            assert!(done.success(), "the run with the filter '{kind}' failed");
        }
        return;
    };
    rustix::thread::set_no_new_privs(true).unwrap();
    match kind.as_str() {
        "tree" => tree(),
        "linear" => linear(),
        _ => {}
    }
    divan::main();
}

/// Every call of the architecture, four of them with conditions, three not at all.
fn plans() -> Vec<SyscallPlan> {
    let conditional = [
        "fcntl(_, in {F_GETFD, F_SETFD, F_GETFL, F_DUPFD_CLOEXEC, F_GET_SEALS})",
        "fcntl(_, F_SETFL, & O_ASYNC == 0)",
        "close_range(_, _, 0xff)",
        "madvise(_, _, in {MADV_NORMAL, MADV_DONTNEED, MADV_FREE})",
        "sendmsg(_, _, & MSG_FASTOPEN == 0)",
    ];
    let conditional = conditional.map(|text| parse_item(text).unwrap());
    let has_condition = |name: &str| {
        conditional.iter().any(|item| matches!(item, Item::Call(call) if call.name == name))
    };
    let rest = all()
        .filter(|&(number, name)| number < 450 && !has_condition(name))
        .map(|(_, name)| parse_item(name).unwrap());
    let items: Vec<Item> = conditional.iter().cloned().chain(rest).collect();
    assemble(&items, &[], Implied::Run)
}

fn tree() {
    let filter = compile_with(&plans(), Arch::NATIVE, Action::Errno(38)).unwrap();
    let before = Instant::now();
    filter.load().unwrap();
    println!("{} instructions, loaded in {:?}", filter.len(), before.elapsed());
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
                    _ => unreachable!("the plan above has no other"),
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
    println!("{} instructions, loaded in {:?}", program.len(), before.elapsed());
}

fn call(bencher: Bencher<'_, '_>, name: &str, arguments: [u64; 3]) {
    let number = i64::from(by_name(name).unwrap());
    let [a, b, c] = arguments;
    // SAFETY: the calls below take numbers only, no pointers.
    bencher.bench_local(|| unsafe { libc::syscall(black_box(number), a, b, c) });
}

#[divan::bench]
fn allowed(bencher: Bencher<'_, '_>) {
    call(bencher, "getppid", [0; 3]);
}

#[divan::bench]
fn conditional_low_number(bencher: Bencher<'_, '_>) {
    call(bencher, "fcntl", [99, 1, 0]);
}

#[divan::bench]
fn conditional_last_alternative(bencher: Bencher<'_, '_>) {
    call(bencher, "fcntl", [99, 1034, 0]);
}

#[divan::bench]
fn conditional_high_number(bencher: Bencher<'_, '_>) {
    call(bencher, "close_range", [0, 0, 0xff]);
}

#[divan::bench]
fn refused_by_errno(bencher: Bencher<'_, '_>) {
    call(bencher, "set_mempolicy_home_node", [0; 3]);
}

#[divan::bench]
fn compiling(bencher: Bencher<'_, '_>) {
    let plans = plans();
    bencher.bench_local(|| compile_with(black_box(&plans), Arch::NATIVE, Action::Kill));
}
