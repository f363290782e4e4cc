//! A policy's tables and values, each with its place, in one tree for all its files.

use std::collections::BTreeMap;

use serde_spanned::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::Span;

/// A table: its entries by key.
pub(crate) type Table = BTreeMap<String, Entry>;

/// What a key of a table says.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Where the key is.
    pub(crate) key: Span,
    /// Its value.
    pub(crate) node: Node,
}

/// A value and its place.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// The value.
    pub(crate) value: Value,
    /// Where it is.
    pub(crate) span: Span,
}

/// What TOML has.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    String(String),
    /// `None` does not fit in 128 bits.
    Integer(Option<i128>),
    Float,
    Boolean(bool),
    Datetime,
    List(Vec<Node>),
    Table(Table),
}

/// A tree of its own, every place moved by `base`.
pub(crate) fn moved(tree: &DeTable<'_>, base: usize) -> Table {
    tree.iter()
        .map(|(name, value)| {
            let entry = Entry { key: by(name.span(), base), node: node(value, base) };
            (name.get_ref().to_string(), entry)
        })
        .collect()
}

fn node(value: &Spanned<DeValue<'_>>, base: usize) -> Node {
    let own = match value.get_ref() {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => {
            Value::Integer(i128::from_str_radix(number.as_str(), number.radix()).ok())
        }
        DeValue::Float(_) => Value::Float,
        DeValue::Boolean(yes) => Value::Boolean(*yes),
        DeValue::Datetime(_) => Value::Datetime,
        DeValue::Array(list) => Value::List(list.iter().map(|item| node(item, base)).collect()),
        DeValue::Table(table) => Value::Table(moved(table, base)),
    };
    Node { value: own, span: by(value.span(), base) }
}

fn by(span: Span, base: usize) -> Span {
    span.start + base..span.end + base
}

/// The entries of a table in the order of the text.
pub(crate) fn in_order(table: Table) -> Vec<(String, Entry)> {
    let mut entries: Vec<_> = table.into_iter().collect();
    entries.sort_by_key(|(_, entry)| entry.key.start);
    entries
}
