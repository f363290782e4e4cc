//! A table being read: its keys are known, its values have types, and each slip is told.

use std::time::Duration;

use super::{At, TABLES, Table as Rows, Written};
use crate::policy::code::Code;
use crate::policy::diagnostic::{Diagnostics, Span};
use crate::policy::nearest::{nearest, one_of};
use crate::policy::tree::{Node, Table, Value};
use crate::policy::value::{self, RateText};

/// The most entries of a list or of a table of names.
pub(crate) const MAX_ENTRIES: usize = 1024;

/// One table of the text. Opening it tells its unknown keys.
pub(crate) struct Section<'a> {
    entries: Vec<(At<String>, &'a Node)>,
    table: &'static Rows,
    span: Span,
    name: Option<At<String>>,
    /// Known keys that unknown ones were taken for.
    meant: Vec<&'static str>,
}

impl<'a> Section<'a> {
    /// The whole policy.
    pub(crate) fn root(tree: &'a Table, table: &'static Rows, out: &mut Diagnostics) -> Self {
        Self::with(tree, table, 0..0, out)
    }

    /// A table inside it; `None` if the value is no table.
    pub(crate) fn open(
        value: &'a Node,
        table: &'static Rows,
        out: &mut Diagnostics,
    ) -> Option<Self> {
        let Value::Table(tree) = &value.value else {
            return wrong_type(value, &format!("{} is a table", table.what), out);
        };
        Some(Self::with(tree, table, value.span.clone(), out))
    }

    /// A table that only has a name.
    pub(crate) fn empty(name: At<String>, table: &'static Rows) -> Self {
        Self::none(table).called(name)
    }

    /// A table that isn't written.
    pub(crate) fn none(table: &'static Rows) -> Self {
        Self { entries: Vec::new(), table, span: 0..0, name: None, meant: Vec::new() }
    }

    fn with(tree: &'a Table, table: &'static Rows, span: Span, out: &mut Diagnostics) -> Self {
        let entries = in_order(tree);
        let unknown = entries.iter().filter(|(key, _)| !table.has(&key.value));
        let meant = unknown.filter_map(|(key, _)| unknown_key(key, table, out)).collect();
        Self { entries, table, span, name: None, meant }
    }

    /// The same under a name, as `[layer.NAME]`.
    pub(crate) fn called(self, name: At<String>) -> Self {
        Self { name: Some(name), ..self }
    }

    /// Its name; the table's own, where it has none.
    pub(crate) fn name(&self) -> At<String> {
        let table = || At { value: self.table.name.to_owned(), span: self.span.clone() };
        self.name.clone().unwrap_or_else(table)
    }

    /// What it says.
    pub(crate) fn read<T: Written>(&self, out: &mut Diagnostics) -> T {
        T::read(self, out)
    }

    /// Where a key that is missing would have been.
    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    /// Whether the key is there, whatever its value, or one was mistyped that was meant to be.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.get(key).is_some() || self.meant.contains(&key)
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &str) -> Option<&'a Node> {
        debug_assert!(self.table.has(key), "{key} is not in its table of keys");
        self.entries.iter().find(|(name, _)| name.value == key).map(|(_, value)| *value)
    }

    pub(crate) fn string(&self, key: &str, out: &mut Diagnostics) -> Option<At<String>> {
        self.get(key).and_then(|value| string(value, key, out))
    }

    /// Tells a key that must be there and isn't; `example` says what to write.
    pub(crate) fn demand(&self, key: &str, example: &str, out: &mut Diagnostics) {
        if !self.has(key) {
            out.error(Code::Missing, &self.span, format!("{} needs `{key}`", self.table.what))
                .help(format!("add {example}"));
        }
    }

    /// How often: `"500/s"`, `"1MiB/s"`.
    pub(crate) fn rate(&self, key: &str, out: &mut Diagnostics) -> Option<At<RateText>> {
        let value = self.get(key)?;
        let Value::String(text) = &value.value else {
            return wrong_type(value, &format!("`{key}` is a rate, as in `\"500/s\"`"), out);
        };
        match value::rate(text) {
            Ok(rate) => Some(At { value: rate, span: value.span.clone() }),
            Err(why) => {
                let message = format!("`{}` is not a rate", text.escape_debug());
                out.error(Code::BadRate, &value.span, message).label(why);
                None
            }
        }
    }

    pub(crate) fn boolean(&self, key: &str, out: &mut Diagnostics) -> Option<At<bool>> {
        let value = self.get(key)?;
        match &value.value {
            Value::Boolean(yes) => Some(At { value: *yes, span: value.span.clone() }),
            _ => wrong_type(value, &format!("`{key}` is `true` or `false`"), out),
        }
    }

    /// A size: a number of bytes, or a string with a unit.
    pub(crate) fn size(&self, key: &str, out: &mut Diagnostics) -> Option<At<u64>> {
        let value = self.get(key)?;
        match &value.value {
            Value::String(text) => match value::size(text) {
                Ok(size) => Some(At { value: size, span: value.span.clone() }),
                Err(why) => {
                    let message = format!("`{}` is not a size", text.escape_debug());
                    out.error(Code::BadSize, &value.span, message).label(why);
                    None
                }
            },
            Value::Integer(number) => {
                let size = number.and_then(|number| u64::try_from(number).ok());
                if size.is_none() {
                    out.error(Code::BadSize, &value.span, "this number is no size")
                        .label("a size is from 0 to 2^64 - 1 bytes");
                }
                size.map(|size| At { value: size, span: value.span.clone() })
            }
            _ => wrong_type(value, &format!("`{key}` is a size, as in `\"64KiB\"`"), out),
        }
    }

    pub(crate) fn duration(&self, key: &str, out: &mut Diagnostics) -> Option<At<Duration>> {
        let value = self.get(key)?;
        let Value::String(text) = &value.value else {
            return wrong_type(value, &format!("`{key}` is a duration, as in `\"5s\"`"), out);
        };
        match value::duration(text) {
            Ok(duration) => Some(At { value: duration, span: value.span.clone() }),
            Err(why) => {
                let message = format!("`{}` is not a duration", text.escape_debug());
                out.error(Code::BadDuration, &value.span, message).label(why);
                None
            }
        }
    }

    /// A list of strings, in which none is twice.
    pub(crate) fn strings(&self, key: &str, out: &mut Diagnostics) -> Option<At<Vec<At<String>>>> {
        let list = self.get(key).and_then(|value| strings(value, key, out))?;
        not_twice(list.value.iter(), out);
        Some(list)
    }

    /// A table from names to values, in the order of the text.
    pub(crate) fn entries(&self, key: &str, out: &mut Diagnostics) -> Vec<(At<String>, &'a Node)> {
        let Some(value) = self.get(key) else { return Vec::new() };
        match &value.value {
            Value::Table(table) if table.len() <= MAX_ENTRIES => in_order(table),
            Value::Table(table) => {
                too_many(&value.span, key, table.len(), out);
                Vec::new()
            }
            _ => {
                let rule = format!("`{key}` is a table, as in `{key} = {{ NAME = ... }}`");
                wrong_type(value, &rule, out).unwrap_or_default()
            }
        }
    }
}

/// One of a few words.
pub(crate) fn word<T: Copy>(
    text: &At<String>,
    what: &str,
    words: &[(&'static str, T)],
    out: &mut Diagnostics,
) -> Option<At<T>> {
    if let Some((_, value)) = words.iter().find(|(name, _)| *name == text.value) {
        return Some(At { value: *value, span: text.span.clone() });
    }
    let names = words.iter().map(|(name, _)| *name);
    let message = format!("{what} does not take `{}`", text.value.escape_debug());
    out.error(Code::UnknownWord, &text.span, message)
        .label(format!("it takes {}", one_of(names.clone())))
        .did_you_mean(nearest(&text.value, names));
    None
}

/// Whether nothing is in a table, rather than nothing that could be read.
pub(crate) fn is_empty(value: &Node) -> bool {
    matches!(&value.value, Value::Table(table) if table.is_empty())
}

/// A list of strings.
pub(crate) fn strings(
    value: &Node,
    key: &str,
    out: &mut Diagnostics,
) -> Option<At<Vec<At<String>>>> {
    match &value.value {
        Value::List(list) if list.len() > MAX_ENTRIES => {
            too_many(&value.span, key, list.len(), out);
            None
        }
        Value::List(list) => {
            let items = list.iter().filter_map(|item| string(item, key, out)).collect();
            Some(At { value: items, span: value.span.clone() })
        }
        Value::String(text) => {
            // One string is most often one item, and a command line its words.
            let words: Vec<_> = text.split_whitespace().map(|word| format!("{word:?}")).collect();
            let rule = format!("`{}` is a list of strings", key.escape_debug());
            let mistake = out.error(Code::WrongType, &value.span, rule);
            mistake.label("this is a string");
            if !words.is_empty() && text.len() <= 64 {
                mistake.help(format!("write `[{}]`", words.join(", ")));
            }
            None
        }
        _ => wrong_type(value, &format!("`{}` is a list of strings", key.escape_debug()), out),
    }
}

/// A whole number.
pub(crate) fn integer_of(value: &Node, key: &str, out: &mut Diagnostics) -> Option<At<i128>> {
    match &value.value {
        // What does not fit in 128 bits is out of every range.
        Value::Integer(number) => {
            Some(At { value: number.unwrap_or(i128::MAX), span: value.span.clone() })
        }
        _ => wrong_type(value, &format!("`{key}` is a whole number"), out),
    }
}

/// A string.
pub(crate) fn string(value: &Node, key: &str, out: &mut Diagnostics) -> Option<At<String>> {
    match &value.value {
        Value::String(text) => Some(At { value: text.clone(), span: value.span.clone() }),
        _ => wrong_type(value, &format!("`{}` takes a string", key.escape_debug()), out),
    }
}

/// Tells items that are in a list twice, at both places.
pub(crate) fn not_twice<'a>(items: impl Iterator<Item = &'a At<String>>, out: &mut Diagnostics) {
    let mut seen = std::collections::BTreeMap::new();
    for item in items {
        if let Some(first) = seen.insert(&item.value, &item.span) {
            let message = format!("`{}` is listed twice", item.value.escape_debug());
            out.error(Code::Repeated, &item.span, message).label("again here").also(first, "first");
        }
    }
}

/// Tells that a value is of the wrong type; always `None`.
pub(crate) fn wrong_type<T>(value: &Node, rule: &str, out: &mut Diagnostics) -> Option<T> {
    let is = match &value.value {
        Value::String(_) => "a string",
        Value::Integer(_) => "a whole number",
        Value::Float => "a decimal number",
        Value::Boolean(_) => "a truth value",
        Value::Datetime => "a date or time",
        Value::List(_) => "a list",
        Value::Table(_) => "a table",
    };
    let mistake = out.error(Code::WrongType, &value.span, rule);
    mistake.label(format!("this is {is}"));
    match &value.value {
        Value::String(text) if rule.ends_with(" is a whole number") => {
            let number = text.trim().trim_end_matches('%');
            if number.len() < 20 && number.parse::<i128>().is_ok() {
                mistake.help(format!("write `{number}`"));
            }
        }
        Value::Integer(Some(number)) if rule.ends_with(" takes a string") => {
            mistake.help(format!("write `\"{number}\"`"));
        }
        Value::List(_) if rule.ends_with(" is a table") => {
            mistake.help("one pair of brackets begins a table, two begin an item of a list");
        }
        _ => {}
    }
    None
}

fn too_many(span: &Span, key: &str, count: usize, out: &mut Diagnostics) {
    let message = format!("`{}` has {count} entries", key.escape_debug());
    out.error(Code::OutOfRange, span, message).label(format!("at most {MAX_ENTRIES} are read"));
}

fn in_order(table: &Table) -> Vec<(At<String>, &Node)> {
    let mut entries: Vec<_> = table
        .iter()
        .map(|(key, entry)| (At { value: key.clone(), span: entry.key.clone() }, &entry.node))
        .collect();
    entries.sort_by_key(|(key, _)| key.span.start);
    entries
}

/// Tells an unknown key; gives the known one that was meant.
fn unknown_key(key: &At<String>, table: &Rows, out: &mut Diagnostics) -> Option<&'static str> {
    let name = key.value.as_str();
    if table.will_have(name) {
        out.error(Code::NotBuiltYet, &key.span, format!("`{name}` is not built yet"))
            .label("part of the policy language, but nothing would enforce it")
            .help("take it out for now");
        return None;
    }
    let only_counted = out.is_full();
    let message = format!("{} has no key `{}`", table.what, name.escape_debug());
    let mistake = out.error(Code::UnknownKey, &key.span, message);
    if only_counted {
        return None;
    }
    let home = TABLES.iter().find(|other| other.has(name));
    let near = nearest(name, table.names());
    mistake.label("unknown key");
    match (home, near) {
        (Some(home), _) => mistake.help(format!("`{name}` is a key of {}", home.what)),
        (None, Some(_)) => mistake.did_you_mean(near),
        (None, None) => mistake.help(format!("its keys are {}", one_of(table.names()))),
    };
    near
}
