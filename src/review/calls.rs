//! What a layer's filter answers to a system call, in words.
//!
//! The answers are those of [`permits`](crate::policy::syscall::meaning::permits), which compiled
//! filters are checked against.

use std::fmt;
use std::fmt::Write;

use crate::policy::plan::{CallRule, Compare, Condition, LayerPlan, SyscallPlan};
use crate::policy::syscall::{errno_name, groups, name_of};

/// What a filter answers to a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is carried out.
    Allow,
    /// It is carried out where one of its rules holds; elsewhere the other answer is given.
    Conditional(Refusal),
    /// It never is.
    Refused(Refusal),
}

/// What happens instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The call returns this error.
    Errno(u16),
    /// The process ends with `SIGSYS`.
    Kill,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill => f.write_str("kill"),
            Self::Errno(number) => match errno_name(*number) {
                Some(name) => write!(f, "errno:{name}"),
                None => write!(f, "errno:{number}"),
            },
        }
    }
}

impl fmt::Display for Verdict {
    /// `allow`, `conditional`, `errno:EPERM` or `kill`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allow => f.write_str("allow"),
            Self::Conditional(_) => f.write_str("conditional"),
            Self::Refused(refusal) => refusal.fmt(f),
        }
    }
}

/// What a layer's filter answers to the call of this number. What no rule names ends the process,
/// and a number without a name is no call.
pub fn verdict(layer: &LayerPlan, number: u32) -> Verdict {
    match entry(layer, number) {
        Some(entry) => entry_verdict(entry),
        None if name_of(number).is_none() => Verdict::Refused(Refusal::Errno(ENOSYS)),
        None => Verdict::Refused(Refusal::Kill),
    }
}

/// errno(3).
const ENOSYS: u16 = 38;

/// The rules on a call of this number.
pub fn entry(layer: &LayerPlan, number: u32) -> Option<&SyscallPlan> {
    let at = layer.syscalls.binary_search_by_key(&number, |entry| entry.number).ok()?;
    Some(&layer.syscalls[at])
}

fn entry_verdict(entry: &SyscallPlan) -> Verdict {
    let refusal = entry.otherwise.map_or(Refusal::Kill, Refusal::Errno);
    if entry.allow.iter().any(|rule| rule.0.is_empty()) {
        Verdict::Allow
    } else if entry.allow.is_empty() {
        Verdict::Refused(refusal)
    } else {
        Verdict::Conditional(refusal)
    }
}

/// Rules as the expressions of policies: as the groups write them where they do, else with
/// numbers. Their alternatives together are the rules.
pub fn expressions(number: u32, rules: &[CallRule]) -> Vec<String> {
    let sorted = |rule: &CallRule| {
        let mut conditions = rule.0.clone();
        conditions.sort_unstable();
        CallRule(conditions)
    };
    let rules: Vec<CallRule> = rules.iter().map(sorted).collect();
    let mut told = vec![false; rules.len()];
    let mut texts = Vec::new();
    let members = groups().iter().flat_map(|group| &group.members);
    for member in members.filter(|member| member.call.number == number) {
        let places: Option<Vec<usize>> = member
            .call
            .rules
            .iter()
            .map(|rule| rules.iter().position(|known| *known == sorted(rule)))
            .collect();
        let Some(places) = places else { continue };
        if places.iter().any(|&at| !told[at]) {
            texts.push(member.text.clone());
        }
        for at in places {
            told[at] = true;
        }
    }
    let rest = rules.iter().zip(told).filter(|(_, told)| !told);
    texts.extend(rest.map(|(rule, _)| expression(number, rule)));
    texts
}

/// One rule as an expression of policies, with numbers for names.
fn expression(number: u32, rule: &CallRule) -> String {
    let mut text = name_of(number).map_or_else(|| number.to_string(), str::to_owned);
    let last = rule.0.iter().map(|condition| condition.argument).max();
    let Some(last) = last else { return text };
    text.push('(');
    for argument in 0..=last {
        if argument > 0 {
            text.push_str(", ");
        }
        let mut checks = rule.0.iter().filter(|condition| condition.argument == argument);
        match checks.next() {
            Some(check) => text.push_str(&comparison(check)),
            None => text.push('_'),
        }
        // Two conditions on one argument come of no expression; they are shown all the same.
        for more in checks {
            let _ = write!(text, " and {}", comparison(more));
        }
    }
    text.push(')');
    text
}

/// A condition without its argument: `& 0x4 == 0`.
pub fn comparison(condition: &Condition) -> String {
    match condition.compare {
        Compare::Eq(value) => show(value),
        Compare::Ne(value) => format!("!= {}", show(value)),
        Compare::Lt(value) => format!("< {}", show(value)),
        Compare::Le(value) => format!("<= {}", show(value)),
        Compare::Gt(value) => format!("> {}", show(value)),
        Compare::Ge(value) => format!(">= {}", show(value)),
        Compare::Masked { mask, value } => format!("& {} == {}", show(mask), show(value)),
    }
}

fn show(value: u64) -> String {
    if value < 10 { value.to_string() } else { format!("{value:#x}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::syscall::{Implied, Item, assemble, by_name, parse_item};

    fn rules(items: &[&str], call: &str) -> (u32, Vec<CallRule>) {
        let items: Vec<Item> = items.iter().map(|text| parse_item(text).unwrap()).collect();
        let number = by_name(call).unwrap();
        let plan = assemble(&items, &[], Implied::Run);
        (number, plan.into_iter().find(|entry| entry.number == number).unwrap().allow)
    }

    #[test]
    fn expressions_are_those_of_the_groups() {
        let (number, allow) = rules(&["@core"], "mmap");
        assert_eq!(expressions(number, &allow), ["mmap(_, _, & PROT_EXEC == 0)"]);
        let (number, allow) = rules(&["@core", "ioctl(_, 7)"], "ioctl");
        let texts = expressions(number, &allow);
        assert_eq!(texts, ["ioctl(_, in {FIONREAD, FIONBIO, FIOCLEX, FIONCLEX})", "ioctl(_, 7)"]);
    }

    #[test]
    fn an_expression_says_the_same_when_read_again() {
        for text in ["dup(<= 77)", "mmap(_, _, & 4 == 0, _, != 4096)", "read"] {
            let (number, allow) = rules(&[text], text.split('(').next().unwrap());
            for shown in expressions(number, &allow) {
                assert_eq!(rules(&[&shown], name_of(number).unwrap()).1, allow, "{shown}");
            }
        }
    }
}
