//! Makes the program.
//!
//! ```text
//! foreign architecture?  kill
//! x32 number?            kill          (x86-64 only)
//! binary search over the numbers, each leaf one of
//!     answer                           for the whole call, or a run of numbers answered alike
//!     rules                            tried in turn; then the answer where none holds
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
        // Every condition takes a comparison, so such a rule has no chance.
        if plan.allow.iter().any(|rule| rule.0.len() > REACH) {
            return Err(FilterError::Rule(plan.number));
        }
        let code = Body::write(&plan.allow, refused).ok_or(FilterError::Rule(plan.number))?;
        Ok(Self { first: plan.number, code, weight: 16 })
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
///
/// Load time goes by the length of a program, so answers are shared: a subtree that comparisons
/// can reach across keeps one copy of each at its end.
fn search(leaves: &[Leaf]) -> Vec<Instruction> {
    let length: usize = leaves.iter().map(|leaf| leaf.code.len() + 1).sum();
    if length < REACH
        && let Some(code) = Near::write(leaves)
    {
        return code;
    }
    let Some(cut) = cut(leaves) else {
        return leaves.first().map(|leaf| leaf.code.clone()).unwrap_or_default();
    };
    let below = search(&leaves[..cut]);
    let first = leaves[cut].first;
    let mut code = match u8::try_from(below.len()) {
        Ok(skip) => vec![test(IF_AT_LEAST, first, skip, 0)],
        Err(_) => vec![test(IF_AT_LEAST, first, 0, 1), jump(below.len())],
    };
    code.extend(below);
    code.extend(search(&leaves[cut..]));
    code
}

/// How far a comparison skips, in instructions; a plain jump reaches all.
const REACH: usize = 255;

/// Where to cut leaves in two, so that both sides weigh about the same. `None` for a single one.
fn cut(leaves: &[Leaf]) -> Option<usize> {
    let total: u32 = leaves.iter().map(|leaf| leaf.weight).sum();
    let mut before = 0;
    (1..leaves.len()).min_by_key(|&at| {
        before += leaves[at - 1].weight;
        before.max(total - before)
    })
}

/// A subtree in which every comparison reaches everything.
#[derive(Default)]
struct Near {
    code: Vec<Instruction>,
    /// Comparisons that lead to an answer: their place, whether when true, and the answer.
    answers: Vec<(usize, bool, Instruction)>,
}

impl Near {
    /// `None` if the leaves are too many for it.
    fn write(leaves: &[Leaf]) -> Option<Vec<Instruction>> {
        let mut near = Self::default();
        near.search(leaves)?;
        near.finish()
    }

    fn search(&mut self, leaves: &[Leaf]) -> Option<()> {
        let Some(cut) = cut(leaves) else {
            self.code.extend(leaves.iter().flat_map(|leaf| &leaf.code));
            return Some(());
        };
        let at = self.code.len();
        self.code.push(test(IF_AT_LEAST, leaves[cut].first, 0, 0));
        for (side, above) in [(&leaves[..cut], false), (&leaves[cut..], true)] {
            if let [Leaf { code, .. }] = side
                && let [answer] = code[..]
            {
                self.answers.push((at, above, answer));
            } else {
                aim(&mut self.code, at, above)?;
                self.search(side)?;
            }
        }
        Some(())
    }

    /// Adds the answers, each once, and leads to them.
    fn finish(mut self) -> Option<Vec<Instruction>> {
        while let Some(&(_, _, answer)) = self.answers.first() {
            for (at, above, _) in self.answers.extract_if(.., |(_, _, other)| *other == answer) {
                aim(&mut self.code, at, above)?;
            }
            self.code.push(answer);
        }
        Some(self.code)
    }
}

/// Leads one way of the comparison at `at` to the end of the code. `None` if that is too far.
fn aim(code: &mut [Instruction], at: usize, if_true: bool) -> Option<()> {
    let skip = u8::try_from(code.len() - at - 1).ok()?;
    let instruction = code.get_mut(at)?;
    *if if_true { &mut instruction.jt } else { &mut instruction.jf } = skip;
    Some(())
}

/// The rules of one call, being written.
#[derive(Default)]
struct Body {
    code: Vec<Instruction>,
    /// The word of `seccomp_data` that the accumulator is known to hold.
    holds: Option<u32>,
    /// Comparisons after which the call is allowed: their place, and whether when true.
    allowing: Vec<(usize, bool)>,
    /// Whether rules share neither answer nor conditions, for what they share would be too far.
    long: bool,
}

/// Where a comparison leads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum To {
    /// The next instruction.
    On,
    /// The end of this condition, which holds.
    Pass,
    /// Past everything that depends on this condition, which doesn't hold.
    Fail,
}

impl Body {
    /// Writes rules and the answer where none holds. `None` if some jump is too far.
    fn write(rules: &[CallRule], refused: Action) -> Option<Vec<Instruction>> {
        let rules: Vec<&[Condition]> = rules.iter().map(|rule| rule.0.as_slice()).collect();
        let written = |long| {
            let mut body = Self { long, ..Self::default() };
            body.any(&rules)?;
            body.code.push(answer(refused));
            for (at, if_true) in std::mem::take(&mut body.allowing) {
                aim(&mut body.code, at, if_true)?;
            }
            if !long {
                body.code.push(answer(Action::Allow));
            }
            Some(body.code)
        };
        written(false).or_else(|| written(true))
    }

    /// Allows if any rule holds, and goes on at the end if none does. Neighbours that begin with
    /// the same condition share it.
    fn any(&mut self, rules: &[&[Condition]]) -> Option<()> {
        let share = !self.long;
        for alike in rules.chunk_by(|a, b| share && a.first() == b.first()) {
            let Some(first) = alike[0].first() else {
                self.code.push(answer(Action::Allow));
                return Some(());
            };
            let rest: Vec<&[Condition]> = alike.iter().map(|rule| &rule[1..]).collect();
            let last = rest.iter().any(|rule| rule.is_empty());
            // What the accumulator holds where the code goes on after these rules.
            let mut after = Vec::new();
            let failing = self.condition(first, last, &mut after)?;
            if !last {
                self.any(&rest)?;
                after.push(self.holds);
            } else if self.long {
                self.code.push(answer(Action::Allow));
            }
            for (at, if_true) in failing {
                aim(&mut self.code, at, if_true)?;
            }
            self.holds = match after.split_first() {
                Some((first, others)) if others.iter().all(|word| word == first) => *first,
                _ => None,
            };
        }
        Some(())
    }

    /// Writes one condition, and returns the comparisons that find it untrue. Where it holds, the
    /// code goes on at its end, or the call is allowed if nothing else is asked (`last`).
    fn condition(
        &mut self,
        condition: &Condition,
        last: bool,
        after: &mut Vec<Option<u32>>,
    ) -> Option<Vec<(usize, bool)>> {
        let (mut failing, mut passing) = (Vec::new(), Vec::new());
        let mut skipped = false;
        let mut steps = steps(condition).into_iter().peekable();
        if steps.peek().is_none() && last && !self.long {
            self.code.push(answer(Action::Allow));
        }
        while let Some(step) = steps.next() {
            self.look(&step);
            let mut tests = step.tests.into_iter().peekable();
            while let Some((code, k, yes, no)) = tests.next() {
                let at = self.code.len();
                self.code.push(test(code, k, 0, 0));
                let decides = steps.peek().is_none() && tests.peek().is_none();
                for (to, if_true) in [(yes, true), (no, false)] {
                    match to {
                        To::Fail => {
                            failing.push((at, if_true));
                            after.push(self.holds);
                        }
                        To::Pass => {
                            skipped = true;
                            passing.push((at, if_true));
                        }
                        To::On if decides => passing.push((at, if_true)),
                        To::On => {}
                    }
                }
            }
        }
        if last && !self.long {
            self.allowing.extend(passing);
        } else {
            for (at, if_true) in passing {
                aim(&mut self.code, at, if_true)?;
            }
            if skipped {
                self.holds = None;
            }
        }
        Some(failing)
    }

    /// Brings a word into the accumulator, unless it is there already.
    fn look(&mut self, step: &Step) {
        if self.holds != Some(step.word) {
            self.code.push(load(step.word));
            self.holds = Some(step.word);
        }
        if let Some(mask) = step.mask {
            self.code.push(Instruction { code: AND, jt: 0, jf: 0, k: mask });
            self.holds = None;
        }
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
