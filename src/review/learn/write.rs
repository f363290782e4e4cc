//! Proposals written into a policy's text. Comments and layout of what is there stay.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use toml_edit::{Array, DocumentMut, InlineTable, Item, Table, Value};

use super::Proposal;
use super::proposal::{amount, part_word};
use crate::ident::Name;
use crate::policy::plan::{FileRight, Word as _};
use crate::text::neutralise;

/// The layer that a new policy is for.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Its name.
    pub name: Name,
    /// The program and its arguments.
    pub exec: Vec<String>,
    /// Its environment.
    pub env: Vec<(String, String)>,
    /// Its user, where that is fixed.
    pub uid: Option<u32>,
}

/// A policy with one layer that has nothing yet but what programs always get.
pub fn start(layer: &Layer) -> DocumentMut {
    let mut document = DocumentMut::new();
    document.insert("cofferdam", value(1));
    document.insert("name", value(layer.name.as_str()));
    document.decor_mut().set_prefix(HEAD);
    let mut table = Table::new();
    table.insert("exec", Item::Value(Value::Array(layer.exec.iter().collect())));
    let mut calls = Array::new();
    push(&mut calls, super::ALWAYS, "what every layer needs");
    table.insert("syscalls", Item::Value(Value::Array(calls)));
    if !layer.env.is_empty() {
        let env: InlineTable =
            layer.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        table.insert("env", Item::Value(Value::InlineTable(env)));
    }
    if let Some(uid) = layer.uid {
        table.insert("uid", value(i64::from(uid)));
    }
    let mut restart = InlineTable::new();
    restart.insert("on", "never".into());
    table.insert("restart", Item::Value(Value::InlineTable(restart)));
    let mut layers = Table::new();
    layers.set_implicit(true);
    layers.insert(layer.name.as_str(), Item::Table(table));
    document.insert("layer", Item::Table(layers));
    document
}

const HEAD: &str = "\
# Learned from what the program did while it was watched: what it didn't do then, it may not do.
# Above each grant stands how often it was used, and by which program first. Read it, then run it.
";

/// Writes what can be granted into the table of a layer; `false` if the policy has no such layer,
/// or something else than a table where one belongs.
pub fn apply(document: &mut DocumentMut, layer: &str, proposals: &[Proposal]) -> bool {
    proposals.iter().all(|proposal| one(document, layer, proposal).is_some())
}

/// Writes what isn't granted behind the policy, as comments.
pub fn remark(document: &mut DocumentMut, proposals: &[Proposal]) {
    let mut text = String::new();
    for proposal in proposals.iter().filter(|proposal| !proposal.is_grant()) {
        let heading = match proposal {
            Proposal::Question { .. } => "QUESTION: is this to be granted? It needs a `because`.",
            _ => "Left out:",
        };
        let lines = [heading, &proposal.to_string(), &proposal.comment()];
        text.push('\n');
        for line in lines {
            let _ = writeln!(text, "# {}", neutralise(line.as_bytes()));
        }
    }
    let before = document.trailing().as_str().unwrap_or_default();
    document.set_trailing(format!("{before}{text}"));
}

fn one(document: &mut DocumentMut, layer: &str, proposal: &Proposal) -> Option<()> {
    match proposal {
        Proposal::File { path, rights, .. } => {
            file(document, layer, path, rights, &proposal.comment())
        }
        Proposal::Call { item, .. } => {
            let calls = own(document, layer)?
                .entry("syscalls")
                .or_insert_with(|| Item::Value(Value::Array(Array::new())))
                .as_array_mut()?;
            push(calls, item, &proposal.comment());
            Some(())
        }
        Proposal::Refuse { call, errno, .. } => {
            inline(document, layer, "refuse")?.insert(call, value(*errno));
            let line = format!("{call}, which is asked below: {}", proposal.comment());
            above(own(document, layer)?, "refuse", &line);
            Some(())
        }
        Proposal::User { uid, .. } => {
            let table = own(document, layer)?;
            table.insert("uid", value(i64::from(*uid)));
            above(table, "uid", &proposal.comment());
            Some(())
        }
        Proposal::View { part, .. } => {
            let table = own(document, layer)?;
            let view = table.entry("view").or_insert_with(|| value("system"));
            if let Some(word) = view.as_str() {
                let parts = [word].into_iter().filter(|word| *word != "empty");
                *view = Item::Value(Value::Array(parts.collect()));
            }
            view.as_array_mut()?.push(part_word(*part));
            above(table, "view", &format!("{}: {}", part.name(), proposal.comment()));
            Some(())
        }
        Proposal::Directory { key, path, .. } => single(document, layer, key, path, proposal),
        Proposal::Cwd { path, .. } => single(document, layer, "cwd", path, proposal),
        Proposal::Execmem { .. } => single(document, layer, "execmem", true, proposal),
        Proposal::Because { reason } => {
            single(document, layer, "because", reason.as_str(), proposal)
        }
        Proposal::Stream { key, .. } => single(document, layer, key, "inherit", proposal),
        Proposal::Limit { key, value: limit, bytes, .. } => {
            let limits = inline(document, layer, "limits")?;
            let limit = match i64::try_from(*limit) {
                Ok(number) if !bytes => value(number),
                _ => value(amount(*limit, *bytes)),
            };
            limits.insert(key, limit);
            let line = format!("{key}: {}", proposal.comment());
            above(own(document, layer)?, "limits", &line);
            Some(())
        }
        Proposal::Socket { key, address, .. } => {
            let sockets = inline(document, layer, key)?;
            let name = unused(address, |name| sockets.contains_key(name));
            sockets.insert(&name, value(address.as_str()));
            let line = format!("{address}: {}", proposal.comment());
            above(own(document, layer)?, key, &line);
            Some(())
        }
        Proposal::Question { .. } | Proposal::LeftOut { .. } => Some(()),
    }
}

/// A key that has one value; `None` if it has another one.
fn single(
    document: &mut DocumentMut,
    layer: &str,
    key: &str,
    new: impl Into<Value>,
    proposal: &Proposal,
) -> Option<()> {
    let table = own(document, layer)?;
    if table.contains_key(key) {
        // A reason that is given already goes for this as well.
        return (key == "because").then_some(());
    }
    table.insert(key, value(new));
    above(table, key, &proposal.comment());
    Some(())
}

fn own<'d>(document: &'d mut DocumentMut, layer: &str) -> Option<&'d mut Table> {
    document.get_mut("layer")?.as_table_mut()?.get_mut(layer)?.as_table_mut()
}

fn inline<'d>(
    document: &'d mut DocumentMut,
    layer: &str,
    key: &str,
) -> Option<&'d mut dyn toml_edit::TableLike> {
    own(document, layer)?
        .entry(key)
        .or_insert_with(|| Item::Value(Value::InlineTable(InlineTable::new())))
        .as_table_like_mut()
}

/// Grants a path to the layer, in the table that the path has already or in a new one.
fn file(
    document: &mut DocumentMut,
    layer: &str,
    path: &str,
    rights: &BTreeSet<FileRight>,
    comment: &str,
) -> Option<()> {
    let files = document.entry("file").or_insert_with(|| {
        let mut files = Table::new();
        files.set_implicit(true);
        Item::Table(files)
    });
    let files = files.as_table_mut()?;
    let known = files
        .iter()
        .find(|(_, item)| item.get("path").and_then(Item::as_str) == Some(path))
        .map(|(name, _)| name.to_owned());
    if let Some(name) = known {
        let grants = files
            .get_mut(&name)?
            .as_table_like_mut()?
            .entry("grant")
            .or_insert_with(|| Item::Value(Value::InlineTable(InlineTable::new())))
            .as_table_like_mut()?;
        let held = grants
            .entry(layer)
            .or_insert_with(|| Item::Value(Value::Array(Array::new())))
            .as_array_mut()?;
        let has: Vec<String> =
            held.iter().filter_map(|it| it.as_str().map(str::to_owned)).collect();
        for right in rights.iter().filter(|right| !has.iter().any(|word| word == right.word())) {
            held.push(right.word());
        }
        return Some(());
    }
    let name = unused(path, |name| files.contains_key(name));
    let mut grants = InlineTable::new();
    grants.insert(layer, Value::Array(rights.iter().map(|right| right.word()).collect()));
    let mut table = Table::new();
    table.insert("path", value(path));
    table.insert("grant", Item::Value(Value::InlineTable(grants)));
    table.decor_mut().set_prefix(format!("\n# {}\n", neutralise(comment.as_bytes())));
    files.insert(&name, Item::Table(table));
    Some(())
}

/// An item on a line of its own, beneath its comment.
fn push(list: &mut Array, item: &str, comment: &str) {
    let mut item = Value::from(item);
    item.decor_mut().set_prefix(format!("\n  # {}\n  ", neutralise(comment.as_bytes())));
    list.push_formatted(item);
    list.set_trailing_comma(true);
    list.set_trailing("\n");
}

/// A line of comment above a key.
fn above(table: &mut Table, key: &str, comment: &str) {
    let Some(mut key) = table.key_mut(key) else { return };
    let decor = key.leaf_decor_mut();
    let before = decor.prefix().and_then(|text| text.as_str()).unwrap_or_default();
    decor.set_prefix(format!("{before}# {}\n", neutralise(comment.as_bytes())));
}

/// A name made of a path or an address that nothing else has: its last parts, as far as they fit.
fn unused(text: &str, is_taken: impl Fn(&str) -> bool) -> String {
    let plain: String = text
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .collect();
    let parts: Vec<&str> = plain.split('-').filter(|part| !part.is_empty()).collect();
    // Room for a number behind it, and a letter before it.
    let fits = |from: &usize| parts[*from..].join("-").len() <= Name::MAX - 6;
    let from = (0..parts.len()).find(fits).unwrap_or(parts.len());
    let mut name = parts[from..].join("-");
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        name.insert_str(0, "p-");
    }
    let name = name.trim_end_matches('-').to_owned();
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    std::iter::once(name.clone()).chain(numbered).find(|name| !is_taken(name)).unwrap_or(name)
}

fn value(value: impl Into<Value>) -> Item {
    Item::Value(value.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_of_paths() {
        let free = |text| unused(text, |_| false);
        assert_eq!(free("/srv/www"), "srv-www");
        assert_eq!(free("/9"), "p-9");
        assert_eq!(free("/\u{e9}"), "p");
        assert_eq!(unused("/srv/www", |name| name == "srv-www"), "srv-www-2");
        for text in ["/\u{e9}", &format!("/a/{}", "x".repeat(90)), "tcp:127.0.0.1:80", "/9/8"] {
            let name = free(text);
            assert!(Name::new(&name).is_ok(), "{text}: {name}");
        }
    }
}
