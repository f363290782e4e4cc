//! Printing `syscalls` and `refuse`: groups where the whole group is granted, else call by call.

use super::{Text, inline, list, quote};
use crate::policy::plan::{CallRule, Compare, LayerPlan, Program, SyscallPlan};
use crate::policy::syscall::meaning::implies;
use crate::policy::syscall::{self, Group, Implied, Item};

pub(super) fn print(layer: &LayerPlan, out: &mut Text) {
    let implied = match layer.program {
        Program::Run(_) => Implied::Run,
        Program::Exec(_) => Implied::Exec,
    };
    let whole = &layer.syscalls;
    let groups: Vec<&'static Group> =
        syscall::groups().iter().filter(|group| is_granted(group, whole)).collect();
    let items: Vec<Item> = groups.iter().map(|group| Item::Group(group)).collect();
    let by_groups = syscall::assemble(&items, &[], implied);
    let known = |number| by_groups.iter().find(|plan| plan.number == number);
    let mut words: Vec<String> = groups.iter().map(|group| format!("@{}", group.name)).collect();
    let mut refuse = Vec::new();
    for plan in whole {
        let Some(name) = syscall::name_of(plan.number) else { continue };
        let granted = known(plan.number).map(|plan| plan.allow.as_slice()).unwrap_or_default();
        let missing = plan.allow.iter().filter(|rule| !granted.contains(rule));
        words.extend(missing.map(|rule| expression(name, rule)));
        if known(plan.number).and_then(|plan| plan.otherwise) != plan.otherwise {
            let errno = plan.otherwise.and_then(syscall::errno_name);
            refuse.extend(errno.map(|errno| (name, quote(errno))));
        }
    }
    out.line("syscalls", list(words));
    if !refuse.is_empty() {
        out.line("refuse", inline(refuse));
    }
}

/// Whether naming the group adds nothing to the plan but answers, which can be named after it.
fn is_granted(group: &Group, whole: &[SyscallPlan]) -> bool {
    let find = |number| whole.iter().find(|plan| plan.number == number);
    group.members.iter().all(|member| {
        find(member.call.number).is_some_and(|plan| {
            let covered = |rule| plan.allow.iter().any(|wider| implies(rule, wider));
            member.call.rules.iter().all(covered)
        })
    }) && group.refuse.iter().all(|(number, _)| {
        let always = |plan: &SyscallPlan| plan.allow.iter().any(|rule| rule.0.is_empty());
        find(*number).is_some_and(|plan| plan.otherwise.is_some() || always(plan))
    })
}

/// The call expression of one rule.
fn expression(name: &str, rule: &CallRule) -> String {
    let Some(last) = rule.0.iter().map(|condition| condition.argument).max() else {
        return name.to_owned();
    };
    let argument = |number: u8| {
        let condition = rule.0.iter().find(|condition| condition.argument == number);
        condition.map_or_else(|| "_".to_owned(), |condition| check(condition.compare))
    };
    let arguments: Vec<_> = (0..=last).map(argument).collect();
    format!("{name}({})", arguments.join(", "))
}

fn check(compare: Compare) -> String {
    match compare {
        Compare::Eq(value) => format!("{value:#x}"),
        Compare::Ne(value) => format!("!= {value:#x}"),
        Compare::Lt(value) => format!("< {value:#x}"),
        Compare::Le(value) => format!("<= {value:#x}"),
        Compare::Gt(value) => format!("> {value:#x}"),
        Compare::Ge(value) => format!(">= {value:#x}"),
        Compare::Masked { mask, value } => format!("& {mask:#x} == {value:#x}"),
    }
}
