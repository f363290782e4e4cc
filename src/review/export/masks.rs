//! Rules as alternatives of masks: what libseccomp can say exactly.
//!
//! Its comparisons look at all 64 bits of an argument, where the kernel looks at 32 of an `int`:
//! "not 5" would let `5 | 1 << 32` pass, which the kernel takes for 5. And two conditions on one
//! argument become alternatives in container runtimes, which is the opposite of what is meant.
//! Masks have neither fault, so such conditions are written as alternatives of masks.

use crate::policy::plan::{CallRule, Compare, Condition, Width};
use crate::policy::syscall::meaning::bits;

/// The most alternatives of one rule. More are no profile that a person could review.
const MOST: usize = 256;

/// A condition on one argument, as libseccomp has it: over all 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Test {
    pub(super) argument: u8,
    pub(super) compare: Compare,
}

/// Alternatives that together are the rule: each has at most one test an argument. `None` if
/// there would be too many.
pub(super) fn alternatives(rule: &CallRule) -> Option<Vec<Vec<Test>>> {
    let mut all = vec![Vec::new()];
    for argument in 0..6 {
        let own: Vec<_> = rule.0.iter().filter(|one| one.argument == argument).collect();
        let choices: Vec<Compare> = match own.as_slice() {
            [] => continue,
            [Condition { width: Width::Qword, compare, .. }] => vec![*compare],
            several => {
                let mut masks = vec![(0, 0)];
                for condition in several {
                    masks = both(&masks, &as_masks(condition));
                    if masks.len() > MOST {
                        return None;
                    }
                }
                masks.into_iter().map(|(mask, value)| Compare::Masked { mask, value }).collect()
            }
        };
        if all.len() * choices.len() > MOST {
            return None;
        }
        let with = |tests: &Vec<Test>, compare: &Compare| {
            let mut tests = tests.clone();
            tests.push(Test { argument, compare: *compare });
            tests
        };
        all =
            all.iter().flat_map(|tests| choices.iter().map(move |one| with(tests, one))).collect();
    }
    Some(all)
}

/// A mask, and what must be found beneath it.
type Mask = (u64, u64);

/// What holds where one of each side holds.
fn both(left: &[Mask], right: &[Mask]) -> Vec<Mask> {
    let join = |a: &Mask, b: &Mask| (a.1 & b.0 == b.1 & a.0).then_some((a.0 | b.0, a.1 | b.1));
    left.iter().flat_map(|a| right.iter().filter_map(move |b| join(a, b))).collect()
}

/// A condition as alternatives of masks.
fn as_masks(condition: &Condition) -> Vec<Mask> {
    let all = bits(condition.width);
    match condition.compare {
        Compare::Eq(value) => vec![(all, value)],
        Compare::Masked { mask, value } => vec![(mask & all, value)],
        // In each alternative the first bit that differs is another one.
        Compare::Ne(value) => prefixes(all, value, |_| true),
        Compare::Lt(value) => prefixes(all, value, |bit| value & bit != 0),
        Compare::Gt(value) => prefixes(all, value, |bit| value & bit == 0),
        Compare::Le(value) => {
            let mut masks = prefixes(all, value, |bit| value & bit != 0);
            masks.push((all, value));
            masks
        }
        Compare::Ge(value) => {
            let mut masks = prefixes(all, value, |bit| value & bit == 0);
            masks.push((all, value));
            masks
        }
    }
}

/// Numbers whose bits are those of `value` down to one that differs, for each bit that is wanted.
fn prefixes(all: u64, value: u64, wanted: impl Fn(u64) -> bool) -> Vec<Mask> {
    (0..all.count_ones())
        .map(|at| 1_u64 << at)
        .filter(|&bit| wanted(bit))
        .map(|bit| {
            let mask = all & !(bit - 1);
            (mask, (value ^ bit) & mask)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::syscall::meaning::holds;

    fn says(alternatives: &[Vec<Test>], argument: u64) -> bool {
        alternatives.iter().any(|tests| {
            tests.iter().all(|test| match test.compare {
                Compare::Masked { mask, value } => argument & mask == value,
                Compare::Eq(value) => argument == value,
                other => panic!("{other:?}"),
            })
        })
    }

    #[test]
    fn masks_say_the_same_as_comparisons() {
        let mut compares = vec![Compare::Masked { mask: 6, value: 4 }];
        for value in [0, 1, 2, 5, 7, 8, 0xffff_ffff] {
            compares.extend([Compare::Eq(value), Compare::Ne(value), Compare::Lt(value)]);
            compares.extend([Compare::Le(value), Compare::Gt(value), Compare::Ge(value)]);
        }
        let condition = |compare| Condition { argument: 0, width: Width::Dword, compare };
        for &one in &compares {
            for &other in &compares {
                let rule = CallRule(vec![condition(one), condition(other)]);
                let Some(alternatives) = alternatives(&rule) else { continue };
                for low in (0..10).chain([0x7fff_ffff, 0xffff_fffe, 0xffff_ffff]) {
                    for argument in [low, low | 1 << 32, low | 1 << 63] {
                        let meant = rule.0.iter().all(|one| holds(one, &[argument; 6]));
                        assert_eq!(says(&alternatives, argument), meant, "{rule:?} {argument:#x}");
                    }
                }
            }
        }
    }

    #[test]
    fn too_many_alternatives_are_none() {
        let not = |argument| Condition { argument, width: Width::Dword, compare: Compare::Ne(5) };
        assert_eq!(alternatives(&CallRule(vec![not(0)])).unwrap().len(), 32);
        assert_eq!(alternatives(&CallRule(vec![not(0), not(1)])), None);
    }
}
