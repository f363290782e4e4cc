//! The difference between two texts, as `patch` reads it.
//!
//! Lines are compared by the greedy algorithm of E. Myers, "An O(ND) Difference Algorithm and Its
//! Variations" (1986), up to a bound; texts with more differences are shown as a whole each.

use std::fmt::Write;

/// Lines of context.
const CONTEXT: usize = 3;
/// The most lines that may differ before no smallest difference is looked for.
const MOST: usize = 2_000;

/// What becomes of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Keep,
    Remove,
    Add,
}

/// The difference in unified form; empty if there is none.
pub(super) fn unified(name: &str, old: &str, new: &str) -> String {
    let (before, after): (Vec<&str>, Vec<&str>) =
        (old.split_inclusive('\n').collect(), new.split_inclusive('\n').collect());
    let steps = steps(&before, &after);
    let mut out = String::new();
    let changed: Vec<usize> =
        (0..steps.len()).filter(|&at| steps.get(at) != Some(&Step::Keep)).collect();
    let mut hunks: Vec<(usize, usize)> = Vec::new();
    for at in changed {
        let (from, to) = (at.saturating_sub(CONTEXT), (at + 1 + CONTEXT).min(steps.len()));
        match hunks.last_mut() {
            Some((_, end)) if from <= *end => *end = to,
            _ => hunks.push((from, to)),
        }
    }
    if !hunks.is_empty() {
        let _ = write!(out, "--- {name}\n+++ {name}\n");
    }
    let (mut at, mut left, mut right) = (0, 0, 0);
    for (from, to) in hunks {
        // Between hunks all lines are kept.
        let skipped = from - at;
        (left, right) = (left + skipped, right + skipped);
        let part = &steps[from..to];
        let count = |not| part.iter().filter(|step| **step != not).count();
        let (removed, added) = (count(Step::Add), count(Step::Remove));
        let begin = |line: usize, lines: usize| if lines == 0 { line } else { line + 1 };
        let _ = writeln!(
            out,
            "@@ -{},{removed} +{},{added} @@",
            begin(left, removed),
            begin(right, added)
        );
        for step in part {
            let (mark, line) = match step {
                Step::Keep => (' ', before[left]),
                Step::Remove => ('-', before[left]),
                Step::Add => ('+', after[right]),
            };
            left += usize::from(*step != Step::Add);
            right += usize::from(*step != Step::Remove);
            let end = if line.ends_with('\n') { "" } else { "\n\\ No newline at end of file\n" };
            let _ = write!(out, "{mark}{line}{end}");
        }
        at = to;
    }
    out
}

fn steps(old: &[&str], new: &[&str]) -> Vec<Step> {
    let same = |(a, b): &(&&str, &&str)| a == b;
    let head = old.iter().zip(new).take_while(same).count();
    let (old, new) = (&old[head..], &new[head..]);
    let tail = old.iter().rev().zip(new.iter().rev()).take_while(same).count();
    let (old, new) = (&old[..old.len() - tail], &new[..new.len() - tail]);
    let mut steps = vec![Step::Keep; head];
    steps.extend(between(old, new).unwrap_or_else(|| {
        let mut all = vec![Step::Remove; old.len()];
        all.resize(old.len() + new.len(), Step::Add);
        all
    }));
    steps.resize(steps.len() + tail, Step::Keep);
    steps
}

/// The fewest removals and additions; `None` if they are too many.
fn between(old: &[&str], new: &[&str]) -> Option<Vec<Step>> {
    let most = (old.len() + new.len()).min(MOST);
    // The furthest old line on each diagonal; diagonal `k` is at `k + most + 1`.
    let mut furthest = vec![0_usize; 2 * most + 3];
    let mut trace = Vec::new();
    for edits in 0..=most {
        trace.push(furthest.clone());
        for diagonal in (most + 1 - edits..=most + 1 + edits).step_by(2) {
            let down = diagonal == most + 1 - edits
                || diagonal != most + 1 + edits && furthest[diagonal - 1] < furthest[diagonal + 1];
            let mut x = if down { furthest[diagonal + 1] } else { furthest[diagonal - 1] + 1 };
            let mut y = x + most + 1 - diagonal;
            while x < old.len() && y < new.len() && old[x] == new[y] {
                (x, y) = (x + 1, y + 1);
            }
            furthest[diagonal] = x;
            if x >= old.len() && y >= new.len() {
                return Some(back(&trace, old.len(), new.len(), most));
            }
        }
    }
    None
}

/// The way that led to the end, from its beginning.
fn back(trace: &[Vec<usize>], mut x: usize, mut y: usize, most: usize) -> Vec<Step> {
    let mut steps = Vec::new();
    for (edits, furthest) in trace.iter().enumerate().rev() {
        let diagonal = x + most + 1 - y;
        let down = diagonal == most + 1 - edits
            || diagonal != most + 1 + edits && furthest[diagonal - 1] < furthest[diagonal + 1];
        let before = if down { diagonal + 1 } else { diagonal - 1 };
        let from = if edits == 0 { 0 } else { furthest[before] };
        let from_y = if edits == 0 { 0 } else { from + most + 1 - before };
        while x > from && y > from_y {
            steps.push(Step::Keep);
            (x, y) = (x - 1, y - 1);
        }
        if edits > 0 {
            steps.push(if down { Step::Add } else { Step::Remove });
            (x, y) = (from, from_y);
        }
    }
    steps.reverse();
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(old: &str, new: &str) -> (String, String, usize) {
        let (before, after): (Vec<&str>, Vec<&str>) =
            (old.split_inclusive('\n').collect(), new.split_inclusive('\n').collect());
        let (mut left, mut right) = (before.iter(), after.iter());
        let (mut a, mut b, mut edits) = (String::new(), String::new(), 0);
        for step in steps(&before, &after) {
            match step {
                Step::Keep => {
                    a += left.next().unwrap();
                    b += right.next().unwrap();
                }
                Step::Remove => a += left.next().unwrap(),
                Step::Add => b += right.next().unwrap(),
            }
            edits += usize::from(step != Step::Keep);
        }
        (a, b, edits)
    }

    #[test]
    fn the_steps_make_one_of_the_other() {
        let line = |n: u32| format!("{}\n", n % 5);
        let mut state = 1_u32;
        for _ in 0..300 {
            let mut text = || {
                let mut lines = String::new();
                for _ in 0..state % 12 {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    lines += &line(state >> 16);
                }
                state = state.wrapping_mul(1_664_525).wrapping_add(12_345);
                lines
            };
            let (old, new) = (text(), text());
            let (a, b, _) = made(&old, &new);
            assert_eq!((a, b), (old, new));
        }
        // The example of the paper: five edits make cbabac of abcabba.
        let lines = |text: &str| text.chars().flat_map(|c| [c, '\n']).collect::<String>();
        assert_eq!(made(&lines("abcabba"), &lines("cbabac")).2, 5);
    }

    #[test]
    fn hunks_have_three_lines_around_them() {
        let old = (1..=20).map(|n| n.to_string() + "\n").collect::<Vec<_>>().concat();
        let new = old.replace("\n5\n", "\n").replace("\n18\n", "\nx\n");
        let expected = "--- a\n+++ a\n@@ -2,7 +2,6 @@\n 2\n 3\n 4\n-5\n 6\n 7\n 8\n\
                        @@ -15,6 +14,6 @@\n 15\n 16\n 17\n-18\n+x\n 19\n 20\n";
        assert_eq!(unified("a", &old, &new), expected);
        assert_eq!(unified("a", &old, &old), "");
        assert_eq!(
            unified("a", "b", ""),
            "--- a\n+++ a\n@@ -1,1 +0,0 @@\n-b\n\\ No newline at end of file\n"
        );
    }
}
