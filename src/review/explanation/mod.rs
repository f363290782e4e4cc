//! What there is to know about each kind of mistake.

mod audit;
mod facility;
mod layer;
mod text;

use std::fmt;

use crate::policy::code::Code;

/// What there is to know about a kind of mistake. Displays as a text of some lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Why it is one.
    pub why: &'static str,
    /// What to do.
    pub way_out: &'static str,
    /// How it is written well: a piece of a policy, or a command.
    pub example: &'static str,
}

/// Why it is a mistake, the way out, and an example.
pub fn explanation(code: Code) -> Explanation {
    let mut all = text::ALL.iter().chain(layer::ALL).chain(facility::ALL).chain(audit::ALL);
    let found = all.find(|(known, _)| *known == code).map(|(_, about)| *about);
    found.unwrap_or(Explanation { why: code.title(), way_out: "", example: "" })
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n\n{}\n", self.why, self.way_out)?;
        self.example.lines().try_for_each(|line| write!(f, "\n    {line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::{Code, explanation};

    #[test]
    fn every_code_is_explained() {
        for code in Code::ALL {
            let about = explanation(*code);
            assert!(about.why != code.title() && about.why.ends_with('.'), "{code}");
            assert!(about.way_out.ends_with('.') && !about.example.is_empty(), "{code}");
        }
        assert!(explanation(Code::NeverBroken).to_string().contains("\n    [[never]]\n"));
    }
}
