//! The calls that the matrix makes, each with the answer that the plan means.
//!
//! What a plan means is written down here once more, apart from the compiler and the evaluator.

use std::collections::BTreeMap;

use cofferdam::confine::filter::{Arch, Filter, Verdict};
use cofferdam::policy::plan::{CallRule, Compare, Condition, SyscallPlan, Width};
use cofferdam::policy::syscall::{by_name, name_of};

/// One call.
pub struct Case {
    pub number: u32,
    pub arguments: [u64; 6],
    pub expected: Verdict,
}

/// The first number of the x32 interface, which is killed whatever it is.
const X32: u32 = 0x4000_0000;

/// errno(3).
const ENOSYS: u16 = 38;

/// Pass every filter by the kernel's design (threat A7): `uretprobe` and `uprobe`.
const PASS: &[u32] = if cfg!(target_arch = "x86_64") { &[335, 336] } else { &[] };

/// Every number with arguments that nothing accepts, and every rule at its edges.
pub fn all(plans: &[SyscallPlan], filter: &Filter) -> Vec<Case> {
    let plans: BTreeMap<u32, &SyscallPlan> = plans.iter().map(|plan| (plan.number, plan)).collect();
    let mut cases = Vec::new();
    for number in numbers() {
        let plan = plans.get(&number).copied();
        let mut calls = vec![free(number)];
        for rule in plan.iter().flat_map(|plan| &plan.allow) {
            edges(number, rule, &mut calls);
        }
        for arguments in calls {
            let expected = meaning(number, plan, &arguments);
            let predicted = filter.evaluate(Arch::NATIVE.audit(), number, arguments);
            assert_eq!(predicted, expected, "call {number} with {arguments:x?}");
            cases.push(Case { number, arguments, expected });
        }
    }
    cases
}

/// 0 to 600, some that are far off, and on x86-64 those of x32.
fn numbers() -> impl Iterator<Item = u32> {
    let near = (0..=600).filter(|number| !PASS.contains(number));
    let x32 = [0, 1, 39, 59, 231, 512, 520, 547].map(|number| number | X32);
    near.chain([1000, 4095, 0xffff, 0x3fff_ffff]).chain(x32).chain([0x7fff_ffff, 0xffff_fffe])
}

/// Arguments that are neither a descriptor nor an address nor a size. For calls that start
/// processes 0, so that a new thread or process has a stack to end on.
fn free(number: u32) -> [u64; 6] {
    [if Some(number) == by_name("clone") { 0 } else { u64::MAX }; 6]
}

/// Adds calls that just pass a rule, and calls that miss it by one condition.
fn edges(number: u32, rule: &CallRule, calls: &mut Vec<[u64; 6]>) {
    let mut passing = free(number);
    for condition in &rule.0 {
        let argument = usize::from(condition.argument);
        let mut candidates = rule.0.iter().flat_map(|other| near(other.compare));
        let fits = |value: &u64| {
            rule.0
                .iter()
                .filter(|other| other.argument == condition.argument)
                .all(|other| holds(other, *value))
        };
        passing[argument] = candidates.find(fits).expect("a rule that nothing passes");
    }
    // A rule without conditions passes what is there already.
    if !calls.contains(&passing) {
        calls.push(passing);
    }
    for condition in &rule.0 {
        let argument = usize::from(condition.argument);
        let (inside, outside): (Vec<u64>, Vec<u64>) = near(condition.compare)
            .into_iter()
            .flat_map(|value| [value, value ^ 1 << 32, value ^ 1 << 63])
            .partition(|value| holds(condition, *value));
        assert!(!outside.is_empty(), "call {number}: nothing misses {condition:?}");
        for value in inside.into_iter().chain(outside) {
            let mut arguments = passing;
            arguments[argument] = value;
            if !calls.contains(&arguments) {
                calls.push(arguments);
            }
        }
    }
}

/// Values at the edge of a comparison, on both sides.
fn near(compare: Compare) -> Vec<u64> {
    match compare {
        Compare::Masked { mask, value } => {
            let lowest = mask & mask.wrapping_neg();
            let highest = mask.checked_ilog2().map_or(0, |bit| 1 << bit);
            vec![value, value ^ lowest, value ^ highest, value | !mask & 0x7fff_ffff]
        }
        Compare::Eq(value)
        | Compare::Ne(value)
        | Compare::Lt(value)
        | Compare::Le(value)
        | Compare::Gt(value)
        | Compare::Ge(value) => vec![value, value.wrapping_add(1), value.wrapping_sub(1)],
    }
}

/// Whether this build has a name for a number. Those of x32 have names of their own.
fn is_known(number: u32) -> bool {
    number >= X32 || name_of(number).is_some()
}

fn meaning(number: u32, plan: Option<&SyscallPlan>, arguments: &[u64; 6]) -> Verdict {
    let Some(plan) = plan else {
        return if is_known(number) { Verdict::Kill } else { Verdict::Errno(ENOSYS) };
    };
    let passes = |rule: &CallRule| {
        rule.0.iter().all(|condition| holds(condition, arguments[usize::from(condition.argument)]))
    };
    if plan.allow.iter().any(passes) {
        Verdict::Allow
    } else {
        plan.otherwise.map_or(Verdict::Kill, Verdict::Errno)
    }
}

fn holds(condition: &Condition, argument: u64) -> bool {
    let seen = match condition.width {
        Width::Dword => argument & 0xffff_ffff,
        Width::Qword => argument,
    };
    match condition.compare {
        Compare::Eq(value) => seen == value,
        Compare::Ne(value) => seen != value,
        Compare::Lt(value) => seen < value,
        Compare::Le(value) => seen <= value,
        Compare::Gt(value) => seen > value,
        Compare::Ge(value) => seen >= value,
        Compare::Masked { mask, value } => seen & mask == value,
    }
}
