//! Where a rule stands in the text of a policy.

use std::sync::Arc;

use super::code::Code;
use super::diagnostic::{Diagnostic, Label, Severity, Span};
use super::texts::{Texts, line_of};
use super::tree::{Node, Table, Value};

/// Where the rules of a checked policy stand. Kept beside the plan, which holds no places.
#[derive(Clone, Debug, Default)]
pub struct SourceMap {
    pub(super) tree: Arc<Table>,
    pub(crate) texts: Arc<Texts>,
}

/// One place in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// Its line, from 1.
    pub line: usize,
    /// Its column in characters, from 1.
    pub column: usize,
    /// The file, as messages call it.
    pub file: String,
    /// The line itself, without white space around it, control characters spelled out.
    pub text: String,
}

impl SourceMap {
    /// The place of a rule, by its dotted path: `layer.parser.syscalls`, `file.key.grant.keeper`,
    /// `channel.sign.methods.sign`, `never.0`.
    ///
    /// An item of a list goes by its number from 0 or, if it is a string, by what it says:
    /// `layer.parser.syscalls.@core`. `None` if the policy has no such line.
    pub fn find(&self, path: &str) -> Option<Location> {
        self.place(&self.span(path)?)
    }

    /// The place of a rule or, where it isn't written, of the innermost table around it.
    pub fn nearest(&self, path: &str) -> Option<Location> {
        self.place(&self.nearest_span(path)?)
    }

    /// A diagnostic about the rule of that path, at its place or at that of the innermost table
    /// around it.
    pub fn about(
        &self,
        path: &str,
        code: Code,
        severity: Severity,
        message: impl Into<String>,
    ) -> Diagnostic {
        let labels = self.nearest_span(path).into_iter();
        let labels = labels.map(|span| Label { span, text: String::new() }).collect();
        Diagnostic { labels, ..Diagnostic::about_file(code, severity, message) }
    }

    fn nearest_span(&self, path: &str) -> Option<Span> {
        let mut path = path;
        loop {
            if let Some(span) = self.span(path) {
                return Some(span);
            }
            path = path.rsplit_once('.')?.0;
        }
    }

    pub(super) fn place(&self, span: &Span) -> Option<Location> {
        let text = self.texts.at(span.start)?;
        let local = text.local(span);
        let (line, column) = text.position(local.start);
        let whole = text.text.get(line_of(&text.text, local.start)).unwrap_or_default();
        let shown = whole.trim().chars().flat_map(spelled).collect();
        Some(Location { line, column, file: text.name.clone(), text: shown })
    }

    pub(super) fn span(&self, path: &str) -> Option<Span> {
        span(&self.tree, path)
    }
}

/// Where a rule stands in a tree.
pub(super) fn span(tree: &Table, path: &str) -> Option<Span> {
    in_table(tree, path)
}

fn in_table(table: &Table, path: &str) -> Option<Span> {
    // A key may hold dots itself, so the whole rest is tried first.
    if let Some(entry) = table.get(path) {
        return Some(entry.key.clone());
    }
    path.match_indices('.')
        .find_map(|(dot, _)| in_value(&table.get(&path[..dot])?.node, &path[dot + 1..]))
}

fn in_value(value: &Node, path: &str) -> Option<Span> {
    match &value.value {
        Value::Table(table) => in_table(table, path),
        Value::List(list) => {
            let says = |item: &&Node| matches!(&item.value, Value::String(text) if text == path);
            if let Some(item) = list.iter().find(says) {
                return Some(item.span.clone());
            }
            let (number, rest) =
                path.split_once('.').map_or((path, None), |(number, rest)| (number, Some(rest)));
            let item = list.get(number.parse::<usize>().ok()?)?;
            match rest {
                Some(rest) => in_value(item, rest),
                None => Some(item.span.clone()),
            }
        }
        _ => None,
    }
}

fn spelled(c: char) -> Vec<char> {
    if c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c) {
        c.escape_default().collect()
    } else {
        vec![c]
    }
}

#[cfg(test)]
mod tests {
    use crate::policy::check;

    #[test]
    fn finds_rules_by_their_path() {
        let text = "cofferdam = 1\nname = \"a\"\n[layer.b]\nrun = \"b\"\nsyscalls = [\"@core\", \
                    \"read\"]\nlimits.memory = \"1MiB\"\n[layer.c]\nrun = \"c\"\n[channel.d]\nfrom \
                    = \"b\"\nto = \"c\"\nmethods = [\"x\"]\n";
        let checked = check("a.toml", text.as_bytes());
        let at = |path: &str| {
            checked.places.find(path).map(|place| (place.line, place.column, place.text))
        };
        assert_eq!(at("name"), Some((2, 1, "name = \"a\"".into())));
        assert_eq!(at("layer.b").map(|at| at.0), Some(3));
        assert_eq!(at("layer.b.syscalls.read").map(|at| (at.0, at.1)), Some((5, 22)));
        assert_eq!(at("layer.b.limits.memory").map(|at| at.0), Some(6));
        assert_eq!(at("channel.d.methods.x").map(|at| at.0), Some(12));
        assert_eq!(at("layer.b.syscalls.openat"), None);
        let near = checked.places.nearest("layer.b.syscalls.openat").unwrap();
        assert_eq!((near.line, near.file.as_str()), (5, "a.toml"));
    }
}
