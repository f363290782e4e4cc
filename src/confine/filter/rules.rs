//! The rules of one call: conditions on arguments as comparisons of 32-bit words.
//!
//! ```text
//! condition, condition, ...    untrue: on to the next rule; all true: to the last line
//! ...
//! answer where none holds
//! answer where one does
//! ```

use super::emit::{aim, answer, load, test};
use super::evaluate::{AND, ARGUMENTS, IF_ABOVE, IF_ANY_BIT, IF_AT_LEAST, IF_EQUAL, low};
use super::{Action, Instruction};
use crate::policy::plan::{CallRule, Compare, Condition, Width};

/// The rules of one call, being written.
pub(super) struct Body {
    code: Vec<Instruction>,
    /// The word of `seccomp_data` that the accumulator is known to hold.
    holds: Option<u32>,
    /// Comparisons after which the call is allowed: their place, and whether when true.
    allowing: Vec<(usize, bool)>,
    /// Whether rules share neither answer nor conditions, for what they share would be too far.
    long: bool,
    /// What is answered where a rule holds.
    granted: Action,
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
    /// Writes rules, the answer where one holds and the one where none does. `None` if some jump is
    /// too far.
    pub(super) fn write(
        rules: &[CallRule],
        granted: Action,
        refused: Action,
    ) -> Option<Vec<Instruction>> {
        let rules: Vec<&[Condition]> = rules.iter().map(|rule| rule.0.as_slice()).collect();
        let written = |long| {
            let (code, allowing) = (Vec::new(), Vec::new());
            let mut body = Self { code, holds: None, allowing, long, granted };
            body.any(&rules)?;
            body.code.push(answer(refused));
            for (at, if_true) in std::mem::take(&mut body.allowing) {
                aim(&mut body.code, at, if_true)?;
            }
            if !long {
                body.code.push(answer(granted));
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
                self.code.push(answer(self.granted));
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
                self.code.push(answer(self.granted));
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
            self.code.push(answer(self.granted));
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
