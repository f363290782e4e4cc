//! Rules: `alarm when refused > 10/s on channel.sign of parser`.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use clap::Parser as _;

use super::alarm::{Alarm, Cause};
use crate::audit::entry::{Facility, Kind, Record};
use crate::audit::runs;
use crate::cli::audit::Failure;
use crate::cli::audit::filter::{Sieve, Wanted};
use crate::cli::audit::names::Names;
use crate::policy::value::duration;
use crate::text::neutralise;

/// In how many parts the time of a rule is counted.
const PARTS: u64 = 64;

/// What a rule counts, and the words of a query that means the same.
const COUNTED: [(&str, &[&str]); 8] = [
    ("records", &[]),
    ("messages", &["--kind", "use"]),
    ("refused", &["--verdict", "refused"]),
    ("failed", &["--verdict", "failed"]),
    ("denied", &["--kind", "denial"]),
    ("lost", &["--kind", "loss"]),
    ("alarms", &["--kind", "alarm"]),
    ("ends", &["--kind", "exit"]),
];

/// A query's words.
#[derive(clap::Parser)]
struct Words {
    #[command(flatten)]
    wanted: Wanted,
}

/// A rule, and what it has counted.
#[derive(Debug)]
pub(super) struct Rule {
    text: String,
    meant: Sieve,
    /// More than so many raise the alarm,
    most: u64,
    /// within so long, in nanoseconds.
    within: u64,
    /// How many came from which moment on, the oldest first: [`PARTS`] at most.
    counts: VecDeque<(u64, u64)>,
    sum: u64,
    /// The last record that counted.
    last: u64,
    is_raised: bool,
}

/// Reads a file of rules: one on each line, and comments behind `#`.
pub(super) fn read(path: &Path) -> Result<Vec<Rule>, Failure> {
    let name = neutralise(path.display().to_string().as_bytes());
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::system(format!("can't read the rules {name}: {error}")))?;
    let lines = (1..).zip(text.lines()).map(|(number, line)| {
        (number, line.split_once('#').map_or(line, |(before, _)| before).trim())
    });
    lines
        .filter(|(_, line)| !line.is_empty())
        .map(|(number, line)| {
            Rule::parse(line).map_err(|why| {
                let line = neutralise(line.as_bytes());
                Failure::usage(format!("{name}:{number}: `{line}`: {why}"))
            })
        })
        .collect()
}

impl Rule {
    fn parse(text: &str) -> Result<Self, String> {
        const FORM: &str =
            "write a rule as in `alarm when refused > 10/s on channel.sign of parser`";
        let words: Vec<&str> = text.split_whitespace().collect();
        let ["alarm", "when", what, ">", rate, rest @ ..] = words.as_slice() else {
            return Err(FORM.to_owned());
        };
        let Some((_, asked)) = COUNTED.iter().find(|(name, _)| name == what) else {
            let all = COUNTED.map(|(name, _)| name).join(", ");
            return Err(format!("nothing counts `{}`; there are {all}", what.escape_debug()));
        };
        let (most, within) = rate.split_once('/').ok_or(FORM)?;
        let most = most.parse().map_err(|_| FORM)?;
        let within = match within {
            "s" | "m" | "h" => duration(&format!("1{within}"))?,
            other => duration(other)?,
        };
        if !(Duration::from_millis(100)..=Duration::from_hours(24)).contains(&within) {
            return Err("a rule's time is 100ms to 24h".to_owned());
        }
        let mut query = vec!["rule"];
        query.extend(*asked);
        for pair in rest.chunks(2) {
            match pair {
                ["on", edge] => query.extend(["--edge", edge]),
                ["of", layer] => query.extend(["--layer", layer]),
                _ => return Err(FORM.to_owned()),
            }
        }
        let wanted = Words::try_parse_from(query).map_err(|error| {
            let said = error.to_string();
            said.lines().next().unwrap_or(FORM).trim_start_matches("error: ").to_owned()
        })?;
        Ok(Self {
            text: words[2..].join(" "),
            meant: Sieve::new(wanted.wanted),
            most,
            within: u64::try_from(within.as_nanos()).unwrap_or(u64::MAX),
            counts: VecDeque::new(),
            sum: 0,
            last: 0,
            is_raised: false,
        })
    }

    /// Counts a record, if the rule is about it.
    pub(super) fn count(&mut self, names: &Names, record: &Record) {
        if !self.meant.accepts(names, record) {
            return;
        }
        let entry = &record.entry;
        let messages = entry.kind == Kind::Use && entry.facility == Facility::Channel;
        let many = if messages {
            runs::of(entry).iter().map(|run| u64::from(run.messages)).sum()
        } else {
            1
        };
        let now = record.at.real;
        self.last = record.index;
        self.sum += many;
        match self.counts.back_mut() {
            Some((from, count)) if now.saturating_sub(*from) < self.within / PARTS => {
                *count += many;
            }
            _ => self.counts.push_back((now, many)),
        }
        self.forget(now);
    }

    /// Whether the alarm begins at a moment, or is over.
    pub(super) fn judge(&mut self, now: u64) -> Option<Alarm> {
        self.forget(now);
        let was = std::mem::replace(&mut self.is_raised, self.sum > self.most);
        let alarm = |words: &str| Alarm::new(Cause::Rule, words).at(now);
        match (was, self.is_raised) {
            (false, true) => {
                Some(alarm(&format!("{}: {} came", self.text, self.sum)).about(self.last))
            }
            (true, false) => Some(alarm(&self.text).over()),
            _ => None,
        }
    }

    fn forget(&mut self, now: u64) {
        while let Some(&(from, count)) = self.counts.front()
            && now.saturating_sub(from) > self.within
        {
            self.sum -= count;
            self.counts.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_rule_is_told_with_what_is_one() {
        for (text, why) in [
            ("alarm", "write a rule as in"),
            ("alarm when refused > ten/s", "write a rule as in"),
            ("alarm when wishes > 1/s", "there are records, messages"),
            ("alarm when refused > 1/s on the.moon", "there are"),
            ("alarm when refused > 1/s at noon", "write a rule as in"),
            ("alarm when refused > 1/1ms", "100ms to 24h"),
            ("alarm when refused > 1/s of parser/x", "write a layer as in"),
        ] {
            let told = Rule::parse(text).unwrap_err();
            assert!(told.contains(why), "{text}: {told}");
        }
        for text in
            ["alarm when refused > 10/s on channel.sign", "alarm when ends > 0/1h of a/0.g2"]
        {
            Rule::parse(text).unwrap();
        }
    }
}
