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
    /// The filter of a layer that is granted these of the calls that attacks begin with.
    Filter(&'a [&'a str]),
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
        let [name, control, filter, bulkhead] = [name, control, filter, bulkhead].map(str::to_owned);
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
        let filtered_at = match (behind, self.filter.split_once(' ')) {
            (Behind::Filter(granted), Some(("kills", call))) if granted.contains(&call) => None,
            (Behind::Filter(_), Some(("kills", call))) => Some(Some(call)),
            (Behind::Filter(_), _) if self.filter == "kills" => Some(None),
            (Behind::Bulkhead, _) if self.bulkhead == "filter" => Some(None),
            _ => None,
        };
        match (filtered_at, outcome) {
            (Some(Some(call)), Outcome::Filtered(Some(named))) if call != named => {
                wrong(&format!("the filter to kill at {call}"))
            }
            (Some(_), Outcome::Filtered(_)) => Ok(()),
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
