//! Makes the program.
//!
//! ```text
//! foreign architecture?  kill
//! x32 number?            kill          (elsewhere such a number is none)
//! binary search over the numbers, each leaf one of
//!     answer                           for the whole call, or a run of numbers answered alike
//!     rules                            tried in turn; then the answer where none holds
//! ```
//!
//! A number that this program has no name for answers `ENOSYS`, as from a kernel that lacks the
//! call: a library newer than this program then does without it.
//!
//! The kernel finds out at load time which numbers a filter allows whatever the arguments, and
//! never runs it for those again (its bitmap cache, `seccomp_cache_prepare`). So the search tree
//! is balanced for the calls that do run it: those with conditions, and those that answer errors.

use std::collections::{BTreeMap, BTreeSet};

use super::emit::{aim, answer, jump, load, test};
use super::evaluate::{ARCH, IF_AT_LEAST, IF_EQUAL, NUMBER};
use super::rules::Body;
use super::{Action, Answers, Arch, FilterError, Instruction};
use crate::policy::plan::{Compare, Condition, SyscallPlan};
use crate::policy::syscall::meaning::bits;

/// The bit that marks a call of the x32 interface.
const X32: u32 = 0x4000_0000;

/// The highest number that can be planned.
pub(super) const LAST_NUMBER: u32 = X32 - 1;

/// Translates plan entries.
pub(super) fn link(
    plans: &[SyscallPlan],
    arch: Arch,
    answers: Answers<'_>,
) -> Result<Vec<Instruction>, FilterError> {
    let leaves = leaves(plans, arch, answers)?;
    let foreign = answer(answers.refused(None, Action::Kill));
    let mut program = vec![load(ARCH), test(IF_EQUAL, arch.audit(), 1, 0), foreign, load(NUMBER)];
    program.extend([test(IF_AT_LEAST, X32, 0, 1), foreign]);
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
fn leaves(
    plans: &[SyscallPlan],
    arch: Arch,
    answers: Answers<'_>,
) -> Result<Vec<Leaf>, FilterError> {
    let mut planned = BTreeMap::new();
    for plan in plans {
        if plan.number > LAST_NUMBER {
            return Err(FilterError::Number(plan.number));
        }
        if planned.insert(plan.number, Leaf::planned(plan, answers)?).is_some() {
            return Err(FilterError::Twice(plan.number));
        }
    }
    // The answer changes at the ends of what is known, and after each planned number.
    let mut firsts: BTreeSet<u32> = planned.keys().map(|number| number + 1).collect();
    firsts.extend(arch.edges());
    let between = |&first: &u32| {
        let answer = arch.unplanned(first, answers.unlisted);
        (first, Leaf::of(first, answers.refused(Some(first), answer)))
    };
    let mut leaves: BTreeMap<u32, Leaf> = firsts.iter().map(between).collect();
    leaves.extend(planned);
    let mut leaves: Vec<Leaf> = leaves.into_values().collect();
    leaves.dedup_by(|leaf, before| leaf.code == before.code);
    Ok(leaves)
}

impl Leaf {
    fn of(first: u32, action: Action) -> Self {
        // Allowed calls don't run the filter, and killed ones run it once.
        let weight = if matches!(action, Action::Errno(_) | Action::Notify) { 16 } else { 1 };
        Self { first, code: vec![answer(action)], weight }
    }

    fn planned(plan: &SyscallPlan, answers: Answers<'_>) -> Result<Self, FilterError> {
        let granted = answers.granted(plan.number);
        let refused = match plan.otherwise {
            None => answers.unmet(),
            Some(errno @ 1..=4095) => Action::Errno(errno),
            Some(errno) => return Err(FilterError::Errno(plan.number, errno)),
        };
        let refused = answers.refused(Some(plan.number), refused);
        for condition in plan.allow.iter().flat_map(|rule| &rule.0) {
            sound(condition, plan.number)?;
        }
        if plan.allow.is_empty() {
            return Ok(Self::of(plan.number, refused));
        }
        if plan.allow.iter().any(|rule| rule.0.is_empty()) {
            return Ok(Self::of(plan.number, granted));
        }
        // Every condition takes a comparison, so such a rule has no chance.
        if plan.allow.iter().any(|rule| rule.0.len() > REACH) {
            return Err(FilterError::Rule(plan.number));
        }
        let code =
            Body::write(&plan.allow, granted, refused).ok_or(FilterError::Rule(plan.number))?;
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
    let Some(middle) = middle(leaves) else {
        return leaves.first().map(|leaf| leaf.code.clone()).unwrap_or_default();
    };
    let below = search(&leaves[..middle]);
    let first = leaves[middle].first;
    let mut code = match u8::try_from(below.len()) {
        Ok(skip) => vec![test(IF_AT_LEAST, first, skip, 0)],
        Err(_) => vec![test(IF_AT_LEAST, first, 0, 1), jump(below.len())],
    };
    code.extend(below);
    code.extend(search(&leaves[middle..]));
    code
}

/// How far a comparison skips, in instructions; a plain jump reaches all.
const REACH: usize = 255;

/// Where to cut leaves in two, so that both sides weigh about the same. `None` for a single one.
fn middle(leaves: &[Leaf]) -> Option<usize> {
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
        let Some(middle) = middle(leaves) else {
            self.code.extend(leaves.iter().flat_map(|leaf| &leaf.code));
            return Some(());
        };
        let at = self.code.len();
        self.code.push(test(IF_AT_LEAST, leaves[middle].first, 0, 0));
        for (side, above) in [(&leaves[..middle], false), (&leaves[middle..], true)] {
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
