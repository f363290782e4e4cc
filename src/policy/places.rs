//! Where a rule stands in the text of a policy.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::source::line_of;

/// Where the rules of a checked policy stand. Kept beside the plan, which holds no places.
#[derive(Clone, Debug, Default)]
pub struct Places {
    pub(super) name: String,
    pub(super) text: String,
}

/// One place in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its line, from 1.
    pub line: usize,
    /// Its column in characters, from 1.
    pub column: usize,
    /// The file, as messages call it.
    pub file: String,
    /// The line itself, without white space around it.
    pub text: String,
}

impl Places {
    /// The place of a rule, by its dotted path: `layer.parser.syscalls`, `file.key.grant.keeper`.
    /// An item of a list goes by its number or by what it says.
    pub fn find(&self, path: &str) -> Option<Place> {
        let tree = DeTable::parse(&self.text).ok()?;
        let at = in_table(tree.get_ref(), path)?.start;
        let line = line_of(&self.text, at);
        Some(Place {
            line: self.text[..line.start].matches('\n').count() + 1,
            column: self.text.get(line.start..at)?.chars().count() + 1,
            file: self.name.clone(),
            text: self.text.get(line)?.trim().to_owned(),
        })
    }

    /// The place of a rule or, where it isn't written, of the innermost table around it.
    pub fn nearest(&self, path: &str) -> Option<Place> {
        let mut path = path;
        loop {
            if let Some(place) = self.find(path) {
                return Some(place);
            }
            path = path.rsplit_once('.')?.0;
        }
    }
}

fn in_table(table: &DeTable<'_>, path: &str) -> Option<Range<usize>> {
    let (first, rest) = path.split_once('.').map_or((path, None), |(a, b)| (a, Some(b)));
    let (key, value) = table.iter().find(|(key, _)| key.get_ref().as_ref() == first)?;
    match (rest, value.get_ref()) {
        (None, _) => Some(key.span()),
        (Some(rest), DeValue::Table(inner)) => in_table(inner, rest),
        (Some(rest), DeValue::Array(list)) => {
            let says = |item: &DeValue<'_>| item.as_str() == Some(rest);
            list.iter().find(|item| says(item.get_ref())).map(toml::Spanned::span)
        }
        _ => None,
    }
}
