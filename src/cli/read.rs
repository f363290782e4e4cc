//! What the verbs that ask questions share: reading a policy, and naming the places of rules.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::daemon::flags::variable;
use crate::daemon::policy_file;
use crate::ident::Name;
use crate::policy::plan::Plan;
use crate::policy::source_map::Location;
use crate::policy::syscall::{by_name, offering};
use crate::policy::ways::{Fact, Step};
use crate::policy::{self, Checked, Inputs};
use crate::review::calls::{entry, expressions};
use crate::review::tighten::{Cut, Tightened, tighten};
use crate::text::neutralise;

/// How a verb reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// For people
    Text,
    /// For programs: one JSON object
    Json,
}

/// Writes a result to standard output, and gives the exit code: `code`, or 3 if it can't be written.
/// Whoever closed the pipe has seen enough.
pub(super) fn give(text: &str, code: u8) -> ExitCode {
    given(
        anstream::stdout().write_all(text.as_bytes()).and_then(|()| anstream::stdout().flush()),
        code,
    )
}

/// The exit code of what was written.
pub(super) fn given(written: std::io::Result<()>, code: u8) -> ExitCode {
    match written {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            let _ = writeln!(anstream::stderr(), "error: can't write the result: {error}");
            ExitCode::from(3)
        }
        _ => ExitCode::from(code),
    }
}

/// What a policy is checked with from outside.
#[derive(Debug, clap::Args)]
pub(super) struct Outside {
    /// Give a variable of the policy's `[vars]` another value
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = variable)]
    pub(super) vars: Vec<(String, String)>,
    /// Refuse what is above this ceiling
    #[arg(long, value_name = "FILE")]
    pub(super) ceiling: Option<PathBuf>,
}

impl Outside {
    /// The same once more, as words of a command line.
    pub(super) fn words(&self) -> Vec<String> {
        let vars = self
            .vars
            .iter()
            .flat_map(|(name, value)| ["--var".to_owned(), format!("{name}={value}")]);
        let ceiling = self.ceiling.iter().flat_map(|path| {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            ["--ceiling".to_owned(), path.to_string_lossy().into_owned()]
        });
        vars.chain(ceiling).collect()
    }
}

/// A policy without mistakes, and its plan.
pub(super) struct Sound {
    /// What it is called in messages: its path.
    pub(super) name: String,
    /// The plan.
    pub(super) plan: Plan,
    checked: Checked,
    vars: Vec<(String, String)>,
    ceiling: Option<(String, Vec<u8>)>,
}

/// Reads a policy to ask about it. Otherwise its mistakes are on standard error, and the answer is
/// the exit code: 1 for mistakes, 3 for a file that can't be read.
///
/// Who may write to the file is not looked at: nothing is run.
pub(super) fn sound(path: &Path, outside: &Outside) -> Result<Sound, ExitCode> {
    let inspect = |path: &Path| policy_file::inspect(path).map(|file| file.bytes);
    let read = |path: &Path| {
        inspect(path).map_err(|error| {
            let text = neutralise(error.to_string().as_bytes());
            let _ = writeln!(anstream::stderr(), "error: {text}");
            ExitCode::from(if error.is_finding() { 1 } else { 3 })
        })
    };
    let bytes = read(path)?;
    let ceiling = match &outside.ceiling {
        Some(path) => Some((path.display().to_string(), read(path)?)),
        None => None,
    };
    let name = path.display().to_string();
    let load = |path: &str| inspect(Path::new(path)).map_err(|error| error.to_string());
    let inputs = Inputs {
        load: Some(&load),
        vars: &outside.vars,
        ceiling: ceiling.as_ref().map(|(name, bytes)| (name.as_str(), bytes.as_slice())),
    };
    let checked = policy::check_with(&name, &bytes, &inputs);
    let Some(plan) = checked.plan.clone() else {
        let _ = write!(anstream::stderr(), "{}", checked.render(true));
        return Err(ExitCode::from(1));
    };
    let vars = outside.vars.clone();
    Ok(Sound { name: neutralise(name.as_bytes()), plan, checked, vars, ceiling })
}

/// The same of a policy that stands in no file.
pub(super) fn sound_text(name: &str, text: &[u8]) -> Result<Sound, ExitCode> {
    let checked = policy::check(name, text);
    let Some(plan) = checked.plan.clone() else {
        let _ = write!(anstream::stderr(), "{}", checked.render(true));
        return Err(ExitCode::from(1));
    };
    Ok(Sound { name: name.to_owned(), plan, checked, vars: Vec::new(), ceiling: None })
}

impl Sound {
    /// The policy without some of its grants; see [`tighten`].
    pub(super) fn tightened(&self, cuts: &[Cut]) -> Tightened {
        let ceiling = self.ceiling.as_ref().map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
        let inputs = Inputs { load: None, vars: &self.vars, ceiling };
        tighten(&self.checked, &inputs, cuts).unwrap_or_default()
    }

    /// Where a rule stands, or the table that it would be in.
    pub(super) fn place(&self, rule: &str) -> Option<Location> {
        let mut place = self.checked.places.nearest(rule)?;
        place.file = neutralise(place.file.as_bytes());
        place.text = neutralise(place.text.as_bytes());
        Some(place)
    }

    /// Where the rule of a fact stands: for a system call, the group or the item that grants it.
    pub(super) fn place_of(&self, fact: &Fact) -> Option<Location> {
        let Some((number, forms)) = self.forms(fact) else {
            return self.place(&fact.rule);
        };
        let groups = offering(number).into_iter().map(|group| format!("@{}", group.name));
        let written = forms.into_iter().chain(groups).find_map(|item| {
            let path = format!("{}.{item}", fact.rule);
            self.checked.places.find(&path).map(|_| path)
        });
        self.place(&written.unwrap_or_else(|| fact.rule.to_string()))
    }

    /// Of a fact about a system call: its number, and the forms in which it may be made.
    pub(super) fn forms(&self, fact: &Fact) -> Option<(u32, Vec<String>)> {
        let number = by_name(fact.object.strip_prefix("syscall.")?)?;
        let entry = entry(self.plan.layer(fact.layer.as_str())?, number)?;
        Some((number, expressions(number, &entry.allow)))
    }

    /// `web.toml:64`, or nothing.
    pub(super) fn line(&self, rule: &str) -> String {
        self.place(rule).map_or_else(String::new, |place| at(&place))
    }

    /// A place for programs.
    pub(super) fn place_json(place: Option<Location>) -> Value {
        place.map_or(
            Value::Null,
            |it| json!({ "file": it.file, "line": it.line, "column": it.column, "text": it.text }),
        )
    }

    /// The steps of a way, numbered, for people.
    pub(super) fn steps(&self, steps: &[Step], indent: &str) -> String {
        let lines = steps
            .iter()
            .enumerate()
            .map(|(at, step)| format!("{indent}{}. {step} ({})\n", at + 1, self.line(&step.rule)));
        lines.collect()
    }

    /// The steps of a way for programs.
    pub(super) fn steps_json(&self, steps: &[Step]) -> Value {
        let step = |step: &Step| {
            json!({
                "layer": step.layer.as_str(),
                "act": step.act.name(),
                "object": step.object,
                "to": step.to.as_ref().map(Name::as_str),
                "rule": step.rule,
                "place": Self::place_json(self.place(&step.rule)),
                "sentence": step.to_string(),
            })
        };
        steps.iter().map(step).collect()
    }
}

/// `web.toml:64`.
pub(super) fn at(place: &Location) -> String {
    format!("{}:{}", place.file, place.line)
}

/// Words in lines of at most 80 columns, the first after `first`, the others after as many spaces.
pub(super) fn wrap(first: &str, words: &str) -> String {
    const WIDTH: usize = 80;
    let indent = " ".repeat(first.chars().count());
    let (mut text, mut column) = (first.to_owned(), first.chars().count());
    let mut fresh = true;
    for word in words.split(' ').filter(|word| !word.is_empty()) {
        let long = word.chars().count();
        if !fresh && column + 1 + long > WIDTH {
            text.push('\n');
            text.push_str(&indent);
            column = indent.len();
            fresh = true;
        }
        if !fresh {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += long;
        fresh = false;
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::wrap;

    #[test]
    fn lines_are_no_longer_than_a_terminal() {
        let text = wrap("  - ", &"word ".repeat(50));
        assert!(text.lines().all(|line| line.len() <= 80));
        assert!(text.lines().skip(1).all(|line| line.starts_with("    word")));
        assert_eq!(wrap("a: ", ""), "a: \n");
    }
}
