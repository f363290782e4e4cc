//! Makes the program.
//!
//! ```text
//! foreign architecture?  kill
//! x32 number?            kill          (x86-64 only)
//! binary search over the numbers, each leaf one of
//!     RET                              the whole call, or a run of numbers answered alike
//!     rules                            tried in turn; the answer where none holds
//! ```
//!
//! The kernel finds out at load time which numbers a filter allows whatever the arguments, and
//! never runs it for those again (its bitmap cache, `seccomp_cache_prepare`). So the search tree
//! is balanced for the calls that do run it: those with conditions, and those that answer errors.

use super::evaluate::{
    AND, ARCH, ARGUMENTS, IF_ABOVE, IF_ANY_BIT, IF_AT_LEAST, IF_EQUAL, JUMP, LOAD, NUMBER,
    RET_ALLOW, RET_ERRNO, RET_KILL, RETURN, low,
};
use super::{Action, Arch, FilterError, Instruction};
use crate::policy::plan::{CallRule, Compare, Condition, SyscallPlan, Width};
use crate::policy::syscall::meaning::bits;

/// The bit that marks a call of the x32 interface.
const X32: u32 = 0x4000_0000;

/// The highest number that can be planned.
pub(super) const LAST_NUMBER: u32 = X32 - 1;

/// Translates plan entries.
pub(super) fn link(
    plans: &[SyscallPlan],
    arch: Arch,
    unlisted: Action,
) -> Result<Vec<Instruction>, FilterError> {
    let leaves = leaves(plans, unlisted)?;
    let mut program =
        vec![load(ARCH), test(IF_EQUAL, arch.audit(), 1, 0), answer(Action::Kill), load(NUMBER)];
    if arch == Arch::X86_64 {
        program.extend([test(IF_AT_LEAST, X32, 0, 1), answer(Action::Kill)]);
    }
    program.extend(search(&leaves));
    Ok(program)
}

/// A run of numbers that share their answer.
struct Leaf {
    /// The first number; it ends where the next leaf begins.
    first: u32,
    /// What is done there.
    code: Vec<Instruction>,
    /// How much a short way to it counts.
    weight: u32,
}

/// Cuts the numbers into leaves.
fn leaves(plans: &[SyscallPlan], unlisted: Action) -> Result<Vec<Leaf>, FilterError> {
    let mut sorted: Vec<&SyscallPlan> = plans.iter().collect();
    sorted.sort_by_key(|plan| plan.number);
    let mut leaves = vec![Leaf::of(0, unlisted)];
    let mut next = 0;
    for plan in sorted {
        match plan.number {
            number if number > LAST_NUMBER => return Err(FilterError::Number(number)),
            number if number < next => return Err(FilterError::Twice(number)),
            number => next = number + 1,
        }
        leaves.push(Leaf::planned(plan)?);
        leaves.push(Leaf::of(next, unlisted));
    }
    // Of two leaves for the same first number the later one counts; equal neighbours are one.
    let mut merged: Vec<Leaf> = Vec::with_capacity(leaves.len());
    for leaf in leaves {
        if merged.last().is_some_and(|last| last.first == leaf.first) {
            merged.pop();
        }
        if merged.last().is_none_or(|last| last.code != leaf.code) {
            merged.push(leaf);
        }
    }
    Ok(merged)
}

impl Leaf {
    fn of(first: u32, action: Action) -> Self {
        // Allowed calls don't run the filter, and killed ones run it once.
        let weight = if matches!(action, Action::Errno(_)) { 16 } else { 1 };
        Self { first, code: vec![answer(action)], weight }
    }

    fn planned(plan: &SyscallPlan) -> Result<Self, FilterError> {
        let refused = match plan.otherwise {
            None => Action::Kill,
            Some(errno @ 1..=4095) => Action::Errno(errno),
            Some(errno) => return Err(FilterError::Errno(plan.number, errno)),
        };
        for condition in plan.allow.iter().flat_map(|rule| &rule.0) {
            sound(condition, plan.number)?;
        }
        if plan.allow.is_empty() {
            return Ok(Self::of(plan.number, refused));
        }
        if plan.allow.iter().any(|rule| rule.0.is_empty()) {
            return Ok(Self::of(plan.number, Action::Allow));
        }
        let mut body = Body::default();
        for rule in &plan.allow {
            body.rule(rule).ok_or(FilterError::Rule(plan.number))?;
        }
        body.code.push(answer(refused));
        Ok(Self { first: plan.number, code: body.code, weight: 16 })
    }
}

/// Refuses a condition that would be translated into something else than it says.
fn sound(condition: &Condition, number: u32) -> Result<(), FilterError> {
    if condition.argument > 5 {
        return Err(FilterError::Argument(number, condition.argument));
    }
    let (value, seen) = match condition.compare {
        Compare::Masked { mask, value } if mask & !bits(condition.width) == 0 => (value, mask),
        Compare::Masked { mask, .. } => (mask, bits(condition.width)),
        Compare::Eq(value)
        | Compare::Ne(value)
        | Compare::Lt(value)
        | Compare::Le(value)
        | Compare::Gt(value)
        | Compare::Ge(value) => (value, bits(condition.width)),
    };
    if value & !seen == 0 { Ok(()) } else { Err(FilterError::Value(number, value)) }
}

/// Joins leaves under a search tree, halving the weight at every step.
fn search(leaves: &[Leaf]) -> Vec<Instruction> {
    let total: u32 = leaves.iter().map(|leaf| leaf.weight).sum();
    let mut before = 0;
    let cut = (1..leaves.len()).min_by_key(|&at| {
        before += leaves[at - 1].weight;
        before.max(total - before)
    });
    let Some(cut) = cut else {
        return leaves.first().map(|leaf| leaf.code.clone()).unwrap_or_default();
    };
    let below = search(&leaves[..cut]);
    let first = leaves[cut].first;
    let mut code = match u8::try_from(below.len()) {
        Ok(skip) => vec![test(IF_AT_LEAST, first, skip, 0)],
        // A comparison reaches 255 instructions, a plain jump reaches all.
        Err(_) => vec![test(IF_AT_LEAST, first, 0, 1), jump(below.len())],
    };
    code.extend(below);
    code.extend(search(&leaves[cut..]));
    code
}

/// The rules of one call, being written.
#[derive(Default)]
struct Body {
    code: Vec<Instruction>,
    /// The word of `seccomp_data` that the accumulator is known to hold.
    holds: Option<u32>,
}

/// Where a comparison leads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum To {
    /// The next instruction.
    On,
    /// The end of this condition, which holds.
    Pass,
    /// The end of this rule, which doesn't hold.
    Fail,
}

impl Body {
    /// Writes one rule: every condition in turn, then `RET ALLOW`. `None` if a jump is too far.
    fn rule(&mut self, rule: &CallRule) -> Option<()> {
        let mut tests: Vec<(usize, To, To)> = Vec::new();
        // What the accumulator holds wherever the rule may be left.
        let mut left_with: Option<Option<u32>> = None;
        for condition in &rule.0 {
            let from = tests.len();
            for step in steps(condition) {
                if self.holds != Some(step.word) {
                    self.code.push(load(step.word));
                    self.holds = Some(step.word);
                }
                if let Some(mask) = step.mask {
                    self.code.push(Instruction { code: AND, jt: 0, jf: 0, k: mask });
                    self.holds = None;
                }
                for (code, k, yes, no) in step.tests {
                    tests.push((self.code.len(), yes, no));
                    self.code.push(test(code, k, 0, 0));
                    if yes == To::Fail || no == To::Fail {
                        left_with = Some(match left_with {
                            None => self.holds,
                            Some(word) if word == self.holds => word,
                            Some(_) => None,
                        });
                    }
                }
            }
            let end = self.code.len();
            for (at, yes, no) in &mut tests[from..] {
                for (to, skip) in [(yes, true), (no, false)] {
                    if *to == To::Pass {
                        self.aim(*at, skip, end)?;
                        *to = To::On;
                        self.holds = None;
                    }
                }
            }
        }
        self.code.push(answer(Action::Allow));
        let end = self.code.len();
        for (at, yes, no) in tests {
            if yes == To::Fail {
                self.aim(at, true, end)?;
            }
            if no == To::Fail {
                self.aim(at, false, end)?;
            }
        }
        self.holds = left_with.flatten();
        Some(())
    }

    /// Sets one way of the comparison at `at` to lead to `target`.
    fn aim(&mut self, at: usize, if_true: bool, target: usize) -> Option<()> {
        let skip = u8::try_from(target - at - 1).ok()?;
        let instruction = self.code.get_mut(at)?;
        *if if_true { &mut instruction.jt } else { &mut instruction.jf } = skip;
        Some(())
    }
}

/// A look at one word of an argument.
struct Step {
    word: u32,
    mask: Option<u32>,
    tests: Vec<(u16, u32, To, To)>,
}

/// Translates a condition into looks at its words, the high one first.
fn steps(condition: &Condition) -> Vec<Step> {
    use To::{Fail, On, Pass};
    let at = ARGUMENTS + 8 * u32::from(condition.argument);
    let look =
        |offset: u32, tests: Vec<(u16, u32, To, To)>| Step { word: at + offset, mask: None, tests };
    let (code, value, yes, no) = match condition.compare {
        Compare::Eq(value) => (IF_EQUAL, value, On, Fail),
        Compare::Ne(value) => (IF_EQUAL, value, Fail, On),
        Compare::Lt(value) => (IF_AT_LEAST, value, Fail, On),
        Compare::Le(value) => (IF_ABOVE, value, Fail, On),
        Compare::Gt(value) => (IF_ABOVE, value, On, Fail),
        Compare::Ge(value) => (IF_AT_LEAST, value, On, Fail),
        Compare::Masked { mask, value } => {
            return [(4, mask >> 32, value >> 32), (0, mask, value)]
                .into_iter()
                .filter(|&(_, mask, _)| low(mask) != 0)
                .map(|(offset, mask, value)| masked(at + offset, low(mask), low(value)))
                .collect();
        }
    };
    let low_word = look(0, vec![(code, low(value), yes, no)]);
    if condition.width == Width::Dword {
        return vec![low_word];
    }
    let high = low(value >> 32);
    let decide = match condition.compare {
        Compare::Ne(_) => vec![(IF_EQUAL, high, On, Pass)],
        Compare::Lt(_) | Compare::Le(_) => {
            vec![(IF_ABOVE, high, Fail, On), (IF_EQUAL, high, On, Pass)]
        }
        Compare::Gt(_) | Compare::Ge(_) => {
            vec![(IF_ABOVE, high, Pass, On), (IF_EQUAL, high, On, Fail)]
        }
        Compare::Eq(_) | Compare::Masked { .. } => vec![(IF_EQUAL, high, On, Fail)],
    };
    vec![look(4, decide), low_word]
}

/// `word & mask == value`, without changing the accumulator where one comparison can say it.
fn masked(word: u32, mask: u32, value: u32) -> Step {
    let test = |code, k, yes, no| vec![(code, k, yes, no)];
    match value {
        _ if mask == u32::MAX => {
            Step { word, mask: None, tests: test(IF_EQUAL, value, To::On, To::Fail) }
        }
        0 => Step { word, mask: None, tests: test(IF_ANY_BIT, mask, To::Fail, To::On) },
        _ if value == mask && mask.is_power_of_two() => {
            Step { word, mask: None, tests: test(IF_ANY_BIT, mask, To::On, To::Fail) }
        }
        _ => Step { word, mask: Some(mask), tests: test(IF_EQUAL, value, To::On, To::Fail) },
    }
}

fn load(offset: u32) -> Instruction {
    Instruction { code: LOAD, jt: 0, jf: 0, k: offset }
}

fn test(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}

fn jump(skip: usize) -> Instruction {
    // A program this long is refused by its caller.
    Instruction { code: JUMP, jt: 0, jf: 0, k: u32::try_from(skip).unwrap_or(u32::MAX) }
}

fn answer(action: Action) -> Instruction {
    let k = match action {
        Action::Allow => RET_ALLOW,
        Action::Errno(number) => RET_ERRNO | u32::from(number),
        Action::Kill => RET_KILL,
    };
    Instruction { code: RETURN, jt: 0, jf: 0, k }
}
