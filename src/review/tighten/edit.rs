//! Taking things out of a text of TOML, with what white space and comments belong to them.

use toml_edit::{Array, Decor, DocumentMut, InlineTable, Item, RawString, Table, Value};

use crate::policy::plan::{FileRight, Grantable};

/// The word for several rights, of which one may go.
const OWNER: &str = "owner";

/// Takes out what stands at a path, and each table and list that is left empty around it. A string
/// `rw` loses its `w` by the path of its key and `write`. `false` if there is nothing at the path.
pub(super) fn take(document: &mut DocumentMut, path: &[&str]) -> bool {
    let mut comments = String::new();
    let mut behind = None;
    let taken = from_table(document.as_table_mut(), path, &mut comments, &mut behind);
    if let Some(position) = behind.filter(|_| !comments.is_empty()) {
        if let Some(table) = next_table(document.as_table_mut(), position) {
            prepend(table.decor_mut(), &comments);
        } else {
            let trailing = document.trailing().as_str().unwrap_or_default();
            document.set_trailing(format!("{comments}{trailing}"));
        }
    }
    taken.is_some()
}

/// Takes out every `[[never]]` that is about one of these objects.
pub(super) fn take_guards(document: &mut DocumentMut, objects: &[String]) {
    let about = |reach: &str| {
        objects.iter().any(|object| {
            reach
                .strip_prefix(object.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    };
    let Some(Item::ArrayOfTables(guards)) = document.get_mut("never") else { return };
    guards.retain(|guard| !guard.get("reach").and_then(Item::as_str).is_some_and(about));
    if guards.is_empty() {
        document.remove("never");
    }
}

/// The variables of a file, with its name.
pub(super) fn variables((file, document): (&String, &DocumentMut)) -> Vec<(String, String)> {
    let vars = document.get("vars").and_then(Item::as_table_like);
    let names = vars.into_iter().flat_map(|vars| vars.iter());
    names.map(|(name, _)| (file.clone(), name.to_owned())).collect()
}

/// Whether the table is empty now; `None` if nothing was at the path.
fn from_table(
    table: &mut Table,
    path: &[&str],
    comments: &mut String,
    behind: &mut Option<isize>,
) -> Option<bool> {
    let (head, rest) = path.split_first()?;
    let empty = rest.is_empty() || from_item(table.get_mut(head)?, rest, comments, behind)?;
    if empty && let Item::Table(gone) = table.remove(head)? {
        // A comment with an empty line behind it is a heading, not about this table alone.
        let above = gone.decor().prefix().and_then(RawString::as_str).unwrap_or_default();
        if let Some(end) = above.rfind("\n\n").filter(|end| above[..*end].contains('#')) {
            comments.insert_str(0, &above[..=end]);
        }
        *behind = gone.position().or(*behind);
    }
    Some(empty && table.is_empty())
}

fn from_item(
    item: &mut Item,
    path: &[&str],
    comments: &mut String,
    behind: &mut Option<isize>,
) -> Option<bool> {
    match item {
        Item::Table(table) => from_table(table, path, comments, behind),
        Item::Value(value) => from_value(value, path),
        _ => None,
    }
}

fn from_value(value: &mut Value, path: &[&str]) -> Option<bool> {
    let (head, rest) = path.split_first()?;
    match value {
        Value::InlineTable(table) => {
            let empty = rest.is_empty() || from_value(table.get_mut(head)?, rest)?;
            if empty {
                from_inline(table, head)?;
            }
            Some(empty && table.is_empty())
        }
        Value::Array(list) if rest.is_empty() => {
            let place = |list: &Array, word| list.iter().position(|it| it.as_str() == Some(word));
            if place(list, head).is_none() {
                spell_out(list, place(list, OWNER)?);
            }
            from_list(list, place(list, head)?);
            Some(list.is_empty())
        }
        Value::String(rights) if rest.is_empty() && *head == "write" && rights.value() == "rw" => {
            let decor = rights.decor().clone();
            *value = Value::from("r");
            *value.decor_mut() = decor;
            Some(false)
        }
        _ => None,
    }
}

/// Puts the rights that `owner` stands for in its place, those that aren't there by themselves.
fn spell_out(list: &mut Array, at: usize) {
    let decor = list.get(at).map(|owner| owner.decor().clone());
    list.remove(at);
    let held: Vec<String> =
        list.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect();
    let new = Grantable::Owner.rights().into_iter().map(FileRight::name);
    let new = new.filter(|name| !held.iter().any(|held| held == name));
    for (offset, name) in new.enumerate() {
        let mut item = Value::from(name);
        match decor.as_ref().filter(|_| offset == 0) {
            Some(decor) => *item.decor_mut() = decor.clone(),
            None => item.decor_mut().set_prefix(" "),
        }
        list.insert_formatted(at + offset, item);
    }
}

/// Takes an entry out of `{ a = 1, b = 2 }`. The space before the brace stays.
fn from_inline(table: &mut InlineTable, key: &str) -> Option<()> {
    let last = table.iter().last().is_some_and(|(name, _)| name == key);
    let (_, gone) = table.remove_entry(key)?;
    let end = gone.decor().suffix().cloned();
    let names: Vec<String> = table.iter().map(|(name, _)| name.to_owned()).collect();
    if let Some(now_last) = names.last().filter(|_| last)
        && let (Some(value), Some(end)) = (table.get_mut(now_last), end)
    {
        value.decor_mut().set_suffix(end);
    }
    Some(())
}

/// Takes an item out of a list. A comment behind an item belongs to that, one above to the next.
fn from_list(list: &mut Array, at: usize) {
    let gone = list.remove(at);
    let text =
        |raw: Option<&RawString>| raw.and_then(RawString::as_str).unwrap_or_default().to_owned();
    let before = text(gone.decor().prefix());
    let join = |after: &str| match (before.split_once('\n'), after.split_once('\n')) {
        (Some((line, _)), Some((_, rest))) => format!("{line}\n{rest}"),
        // In one line, the first item has no space before it.
        _ if at == 0 => before.clone(),
        _ => after.to_owned(),
    };
    if let Some(next) = list.get_mut(at) {
        let after = join(&text(next.decor().prefix()));
        next.decor_mut().set_prefix(after);
    } else {
        let after = text(Some(list.trailing()));
        let end = text(gone.decor().suffix());
        let several = before.contains('\n') && after.contains('\n');
        if several {
            list.set_trailing(join(&after));
        }
        if let Some(last) = at.checked_sub(1).and_then(|at| list.get_mut(at)).filter(|_| !several) {
            last.decor_mut().set_suffix(end);
        }
    }
}

/// The table that stands first behind a position in the text.
fn next_table(table: &mut Table, position: isize) -> Option<&mut Table> {
    fn least(table: &Table, position: isize) -> Option<isize> {
        let own = table.position().filter(|own| *own > position && !table.is_implicit());
        let inner = tables(table).filter_map(|inner| least(inner, position)).min();
        own.into_iter().chain(inner).min()
    }
    fn tables(table: &Table) -> impl Iterator<Item = &Table> {
        table.iter().flat_map(|(_, item)| {
            let many = item.as_array_of_tables().into_iter().flat_map(|all| all.iter());
            item.as_table().into_iter().chain(many)
        })
    }
    fn at(table: &mut Table, position: isize) -> Option<&mut Table> {
        if table.position() == Some(position) && !table.is_implicit() {
            return Some(table);
        }
        table.iter_mut().find_map(|(_, item)| match item {
            Item::Table(inner) => at(inner, position),
            Item::ArrayOfTables(all) => all.iter_mut().find_map(|inner| at(inner, position)),
            _ => None,
        })
    }
    let least = least(table, position)?;
    at(table, least)
}

fn prepend(decor: &mut Decor, comments: &str) {
    let own = decor.prefix().and_then(RawString::as_str).unwrap_or_default();
    decor.set_prefix(format!("{comments}{own}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_is_taken_from_those_of_an_owner() {
        let text = "[file.f]\npath = \"/srv\"\ngrant = { a = [\"execute\", \"owner\"] }\n";
        let mut document: DocumentMut = text.parse().unwrap();
        for right in FileRight::OWNER.into_iter().skip(2) {
            assert!(take(&mut document, &["file", "f", "grant", "a", right.name()]), "{right:?}");
        }
        let left = text.replace("\"owner\"", "\"read\", \"write\"");
        assert_eq!(document.to_string(), left);
    }
}
