//! Rules as the expressions of policies.

use std::fmt::Write;

use super::names::show;
use super::shape::{self, Part};
use crate::policy::plan::{CallRule, Compare, Condition};
use crate::policy::syscall::groups::groups;
use crate::policy::syscall::names::name_of;

/// Rules as the expressions of policies: as the groups write them where they do, else one by one.
/// Their alternatives together are the rules.
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

/// One rule as an expression of policies.
fn expression(number: u32, rule: &CallRule) -> String {
    let mut text = name_of(number).map_or_else(|| number.to_string(), str::to_owned);
    let last = rule.0.iter().map(|condition| condition.argument).max();
    let Some(last) = last else { return text };
    let names = names_of(&text, rule);
    let comparison = |condition: &Condition| comparison(condition, &names);
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

/// What the arguments of a rule are, as far as the values that it says decide it.
fn names_of(call: &str, rule: &CallRule) -> Vec<Part> {
    let mut arguments = [0; 6];
    for condition in &rule.0 {
        if let (Compare::Eq(value), Some(argument)) =
            (condition.compare, arguments.get_mut(usize::from(condition.argument)))
        {
            *argument = value;
        }
    }
    shape::of(call, &arguments).unwrap_or_default()
}

/// A condition without its argument: `& 0x4 == 0`.
fn comparison(condition: &Condition, parts: &[Part]) -> String {
    match condition.compare {
        Compare::Eq(value) => match parts.get(usize::from(condition.argument)) {
            Some(Part::Named(names)) => names.write(value),
            _ => show(value),
        },
        Compare::Ne(value) => format!("!= {}", show(value)),
        Compare::Lt(value) => format!("< {}", show(value)),
        Compare::Le(value) => format!("<= {}", show(value)),
        Compare::Gt(value) => format!("> {}", show(value)),
        Compare::Ge(value) => format!(">= {}", show(value)),
        Compare::Masked { mask, value } => format!("& {} == {}", show(mask), show(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::syscall::{Implied, Item, assemble, by_name, name_of, parse_item};

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
        assert_eq!(
            texts,
            [
                "ioctl(_, in {FIONREAD, FIONBIO, FIOCLEX, FIONCLEX})",
                "ioctl(_, in {TCGETS, TCGETS2, TIOCGWINSZ})",
                "ioctl(_, 7)",
            ]
        );
        let (number, allow) = rules(&["socket(AF_INET, SOCK_STREAM|SOCK_CLOEXEC)"], "socket");
        assert_eq!(expressions(number, &allow), ["socket(AF_INET, SOCK_STREAM|SOCK_CLOEXEC)"]);
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
