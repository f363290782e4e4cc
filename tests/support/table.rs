//! The table of attacks, as the probe prints it, and the judge of their outcomes.

use std::process::Command;

use super::daemon::Outcome;

/// One attack.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) control: String,
    filter: String,
    bulkhead: String,
}

/// What stands between the attacker and the goal.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Behind<'a> {
    /// The filter.
    Filter {
        /// Calls that attacks begin with and that this layer is granted, at least in part.
        granted: &'a [&'a str],
        /// Calls that it answers with an errno instead of killing.
        refused: &'a [(&'a str, &'a str)],
    },
    /// Everything but the filter.
    Bulkhead,
}

/// Every attack.
pub(crate) fn rows() -> Vec<Row> {
    let output = Command::new(super::probe()).arg("--list").output().expect("the probe runs");
    let text = String::from_utf8(output.stdout).expect("text");
    let row = |line: &str| {
        let parts: Vec<&str> = line.split('\t').collect();
        let [name, control, filter, bulkhead] = parts[..] else { panic!("{line}") };
        let [name, control, filter, bulkhead] =
            [name, control, filter, bulkhead].map(str::to_owned);
        Row { name, control, filter, bulkhead }
    };
    let rows: Vec<Row> = text.lines().map(row).collect();
    assert!(rows.len() > 90, "the table has only {} rows", rows.len());
    rows
}

impl Row {
    /// Whether anything but the filter is supposed to stop it.
    pub(crate) fn has_bulkhead(&self) -> bool {
        !self.bulkhead.starts_with("none ")
    }

    /// Whether the outcome is what the table says; else what is wrong.
    pub(crate) fn judge(&self, behind: Behind<'_>, outcome: &Outcome) -> Result<(), String> {
        let wrong = |expected: &str| {
            Err(format!("{}: expected {expected}, behind {behind:?}: {outcome:?}", self.name))
        };
        let begins_with = self.filter.strip_prefix("kills").map(str::trim);
        let filtered_at = match (behind, begins_with) {
            (Behind::Filter { granted, .. }, Some(call)) if granted.contains(&call) => {
                // Perhaps not with these arguments.
                match outcome {
                    Outcome::Filtered(named)
                        if named.as_deref().is_none_or(|name| name == call) =>
                    {
                        return Ok(());
                    }
                    _ => None,
                }
            }
            (Behind::Filter { refused, .. }, Some(call))
                if let Some((_, errno)) = refused.iter().find(|(one, _)| *one == call) =>
            {
                let is_refused = *outcome == Outcome::Errno((*errno).to_owned());
                return if is_refused { Ok(()) } else { wrong(errno) };
            }
            (Behind::Filter { .. }, call) => call,
            (Behind::Bulkhead, _) if self.bulkhead == "filter" => Some(""),
            (Behind::Bulkhead, _) => None,
        };
        match (filtered_at, outcome) {
            // The number of another architecture's call, or of none, has no name that matters.
            (Some(""), Outcome::Filtered(_)) | (Some(_), Outcome::Filtered(None)) => Ok(()),
            (Some(call), Outcome::Filtered(Some(named))) if call == named => Ok(()),
            (Some(call), _) => wrong(&format!("the filter to kill at {call:?}")),
            (None, Outcome::Errno(errno)) => {
                let allowed = self.bulkhead.strip_prefix("says ").unwrap_or_default();
                let is_allowed = allowed.split(',').any(|one| one == errno);
                if is_allowed { Ok(()) } else { wrong(&format!("one of {allowed}")) }
            }
            (None, _) => wrong("an errno"),
        }
    }
}
