//! What rules mean: the semantics that compiled filters are checked against.

use crate::policy::plan::{CallRule, Compare, Condition, SyscallPlan, Width};

/// Whether a plan entry allows a call with these arguments.
pub fn permits(plan: &SyscallPlan, arguments: &[u64; 6]) -> bool {
    plan.allow.iter().any(|rule| rule.0.iter().all(|condition| holds(condition, arguments)))
}

/// Whether a condition holds; one on an argument that no call has never does.
pub fn holds(condition: &Condition, arguments: &[u64; 6]) -> bool {
    arguments
        .get(usize::from(condition.argument))
        .is_some_and(|&value| compare(condition.compare, value & bits(condition.width)))
}

/// The bits of an argument that count.
pub fn bits(width: Width) -> u64 {
    match width {
        Width::Dword => u64::from(u32::MAX),
        Width::Qword => u64::MAX,
    }
}

fn compare(compare: Compare, argument: u64) -> bool {
    match compare {
        Compare::Eq(value) => argument == value,
        Compare::Ne(value) => argument != value,
        Compare::Lt(value) => argument < value,
        Compare::Le(value) => argument <= value,
        Compare::Gt(value) => argument > value,
        Compare::Ge(value) => argument >= value,
        Compare::Masked { mask, value } => argument & mask == value,
    }
}

/// Whether every call that `narrow` allows is allowed by `wide` too.
///
/// May say no where the truth is yes (conditions are looked at one by one), never the reverse.
pub fn implies(narrow: &CallRule, wide: &CallRule) -> bool {
    wide.0.iter().all(|goal| narrow.0.iter().any(|fact| follows(fact, goal)))
}

/// Whether `goal` holds wherever `fact` does.
fn follows(fact: &Condition, goal: &Condition) -> bool {
    if fact == goal {
        return true;
    }
    if fact.argument != goal.argument || fact.width != goal.width {
        return false;
    }
    match (fact.compare, goal.compare) {
        (Compare::Eq(value), goal) => compare(goal, value),
        (
            Compare::Masked { mask: known, value },
            Compare::Masked { mask: asked, value: wanted },
        ) => asked & !known == 0 && value & asked == wanted,
        (Compare::Lt(fact), Compare::Lt(goal))
        | (Compare::Le(fact), Compare::Le(goal) | Compare::Lt(goal))
            if fact < goal =>
        {
            true
        }
        (Compare::Gt(fact), Compare::Gt(goal))
        | (Compare::Ge(fact), Compare::Ge(goal) | Compare::Gt(goal))
            if fact > goal =>
        {
            true
        }
        _ => false,
    }
}

/// Whether some call is allowed by both.
///
/// May say yes where the truth is no (conditions are looked at two by two), never the reverse.
pub(crate) fn overlap(one: &CallRule, other: &CallRule) -> bool {
    one.0.iter().all(|here| other.0.iter().all(|there| agree(here, there)))
}

/// Whether both may hold at once.
fn agree(one: &Condition, other: &Condition) -> bool {
    if one.argument != other.argument || one.width != other.width {
        return true;
    }
    match (one.compare, other.compare) {
        (Compare::Eq(value), goal) | (goal, Compare::Eq(value)) => compare(goal, value),
        (
            Compare::Masked { mask: here, value: one },
            Compare::Masked { mask: there, value: other },
        ) => one & there == other & here,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPARES: [fn(u64) -> Compare; 6] =
        [Compare::Eq, Compare::Ne, Compare::Lt, Compare::Le, Compare::Gt, Compare::Ge];

    #[test]
    fn what_follows_is_true_of_every_value() {
        let mut all: Vec<Compare> = COMPARES.iter().flat_map(|make| (0..8).map(make)).collect();
        all.extend((0..8).flat_map(|mask| {
            (0..8)
                .filter(move |value| value & !mask == 0)
                .map(move |value| Compare::Masked { mask, value })
        }));
        let condition = |compare| Condition { argument: 0, width: Width::Qword, compare };
        for &fact in &all {
            for &goal in &all {
                let both = (0..16).any(|value| compare(fact, value) && compare(goal, value));
                assert!(!both || agree(&condition(fact), &condition(goal)), "{fact:?} {goal:?}");
                if follows(&condition(fact), &condition(goal)) {
                    for value in 0..16 {
                        assert!(
                            !compare(fact, value) || compare(goal, value),
                            "{fact:?} {goal:?} {value}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn only_the_width_counts() {
        let rule = |width| Condition { argument: 1, width, compare: Compare::Eq(5) };
        let arguments = [0, 5 | 1 << 32, 0, 0, 0, 0];
        assert!(holds(&rule(Width::Dword), &arguments));
        assert!(!holds(&rule(Width::Qword), &arguments));
    }
}
