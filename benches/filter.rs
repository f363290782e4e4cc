//! What a filter costs a call: by this crate's search tree, by a linear program of the same
//! answers (crate `seccompiler`), and without any.
//!
//! A filter can't be taken off again, so the bench runs itself once for each kind. Compare one
//! line over the kinds: the calls themselves cost differently. `refused_by_errno` is without a
//! filter what the call itself says.

// Only for raw calls.
#![allow(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a bench's result")]

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Instant;

use cofferdam::confine::filter::{Action, Arch, compile_with};
use cofferdam::policy::plan::{Compare, SyscallPlan, Width};
use cofferdam::policy::syscall::{Implied, assemble, by_name, parse_item};
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
    println!("{} instructions, loaded in {:?}", program.len(), before.elapsed());
}

fn call(bencher: Bencher<'_, '_>, name: &str, arguments: [u64; 3]) {
    let number = i64::from(by_name(name).unwrap());
    let [a, b, c] = arguments;
    // SAFETY: the calls below take numbers only, no pointers.
    bencher.bench_local(|| unsafe { libc::syscall(black_box(number), a, b, c) });
}

#[divan::bench(sample_size = 2000)]
fn allowed(bencher: Bencher<'_, '_>) {
    call(bencher, "getppid", [0; 3]);
}

#[divan::bench(sample_size = 2000)]
fn conditional_low_number(bencher: Bencher<'_, '_>) {
    call(bencher, "fcntl", [99, 1, 0]);
}

#[divan::bench(sample_size = 2000)]
fn conditional_last_alternative(bencher: Bencher<'_, '_>) {
    call(bencher, "fcntl", [99, 1034, 0]);
}

#[divan::bench(sample_size = 2000)]
fn conditional_high_number(bencher: Bencher<'_, '_>) {
    call(bencher, "prlimit64", [0, 7, 0]);
}

#[divan::bench(sample_size = 2000)]
fn refused_by_errno(bencher: Bencher<'_, '_>) {
    call(bencher, "mseal", [0; 3]);
}

#[divan::bench(sample_size = 10)]
fn compiling(bencher: Bencher<'_, '_>) {
    let plans = plans();
    bencher.bench_local(|| compile_with(black_box(&plans), Arch::NATIVE, Action::Kill));
}
