//! Reading `[file.NAME]`.

use super::section::{Section, is_empty, not_twice, strings, word};
use super::{At, FileText, Grant};
use super::{audit, keys};
use crate::policy::code::Code;
use crate::policy::diagnostic::Diagnostics;
use crate::policy::plan::FileRight;
use crate::policy::tree::{Node, Value};

pub(super) fn read(name: At<String>, value: &Node, out: &mut Diagnostics) -> Option<FileText> {
    let file = Section::open(value, &keys::FILE, out)?;
    if !file.has("grant") {
        let message = format!("file `{}` is granted to nobody", name.value.escape_debug());
        out.error(Code::Missing, file.span(), message)
            .help("add `grant = { LAYER = [\"read\"] }`, or take the file out");
    }
    Some(FileText {
        path: file.require("path", "`path = \"/an/absolute/path\"`", out),
        grant: file
            .get("grant")
            .map(|value| (value, At { value: grants(&file, out), span: value.span.clone() }))
            .filter(|(value, grant)| !grant.value.is_empty() || is_empty(value))
            .map(|(_, grant)| grant),
        deny: file.strings("deny", out).map(|list| list.value).unwrap_or_default(),
        max_open: file.integer("max-open", out),
        audit: audit::of(&file, out),
        because: file.string("because", out),
        name,
    })
}

/// `"read", "write"` for `rw`, as people write rights elsewhere.
fn spelled_out(letters: &str) -> Option<String> {
    let right = |letter| match letter {
        'r' => Some("\"read\""),
        'w' => Some("\"write\""),
        'x' => Some("\"execute\""),
        _ => None,
    };
    let rights: Option<Vec<_>> = letters.chars().take(4).map(right).collect();
    rights.filter(|rights| !rights.is_empty()).map(|rights| rights.join(", "))
}

fn grants(file: &Section<'_>, out: &mut Diagnostics) -> Vec<Grant> {
    let mut grants = Vec::new();
    for (layer, value) in file.entries("grant", out) {
        if let Value::String(text) = &value.value
            && let Some(rights) = spelled_out(text)
        {
            let rule = format!("`{}` is a list of rights", layer.value.escape_debug());
            let mistake = out.error(Code::WrongType, &value.span, rule);
            mistake.label("this is a string").help(format!("write `[{rights}]`"));
            continue;
        }
        let Some(list) = strings(value, &layer.value, out) else { continue };
        not_twice(list.value.iter(), out);
        let told = list.value.len();
        let rights: Vec<_> = list.value.iter().filter_map(|text| right(text, out)).collect();
        if told == 0 {
            let message = format!("`{}` is granted nothing", layer.value.escape_debug());
            out.error(Code::Empty, &list.span, message)
                .label("no rights")
                .help("name the rights, as in `[\"read\"]`, or take the layer out");
        }
        grants.push((layer, At { value: rights, span: list.span }));
    }
    grants
}

fn right(text: &At<String>, out: &mut Diagnostics) -> Option<At<FileRight>> {
    let Some(rights) = spelled_out(&text.value) else {
        let words = FileRight::ALL.map(|right| (right.name(), right));
        return word(text, "`grant`", &words, out);
    };
    let message = format!("`grant` does not take `{}`", text.value);
    out.error(Code::UnknownWord, &text.span, message).help(format!("write {rights}"));
    None
}
