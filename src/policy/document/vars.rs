//! `[vars]`: strings with names, put in where `${name}` is written.

use crate::ident::Name;
use crate::policy::code::Code;
use crate::policy::diagnostic::{Diagnostic, Diagnostics, Severity, Span};
use crate::policy::language::string;
use crate::policy::nearest::nearest;
use crate::policy::tree::{Node, Table, Value};

/// A string may become this long, in bytes: longer than any value of the language.
const MAX_LENGTH: usize = 8 << 10;

/// One variable.
struct Var {
    name: String,
    value: String,
    span: Span,
    used: bool,
}

/// Puts every variable in. `given` are values from outside, which only replace declared ones.
///
/// Gives the strings in which something was wrong. `$${` is a `${` that is none.
pub(super) fn fill_in(
    tree: &mut Table,
    given: &[(String, String)],
    out: &mut Diagnostics,
) -> Vec<Span> {
    let mut wrong = Vec::new();
    let mut vars = declared(tree, out);
    for (name, value) in given {
        if let Some(var) = vars.iter_mut().find(|var| var.name == *name) {
            var.value.clone_from(value);
        } else {
            let near = nearest(name, vars.iter().map(|var| var.name.as_str()));
            let message = format!("the policy has no variable `{}`", name.escape_debug());
            let mut mistake =
                Diagnostic::about_file(Code::UndefinedVariable, Severity::Error, message);
            mistake.did_you_mean(near).help("declare it: `[vars]` with `NAME = \"value\"`");
            out.push(mistake);
        }
    }
    for (key, entry) in tree.iter_mut() {
        if key != "vars" {
            in_node(&mut entry.node, &mut vars, &mut wrong, out);
        }
    }
    read_by_layers(tree, &mut vars, out);
    // From here on the table has the values that hold.
    if let Some(Value::Table(table)) = tree.get_mut("vars").map(|entry| &mut entry.node.value) {
        for var in &vars {
            if let Some(Value::String(text)) =
                table.get_mut(&var.name).map(|entry| &mut entry.node.value)
            {
                text.clone_from(&var.value);
            }
        }
    }
    for var in vars.iter().filter(|var| !var.used) {
        let message = format!("nothing uses the variable `{}`", var.name.escape_debug());
        out.warning(Code::UnusedVariable, &var.span, message)
            .help(format!("write `${{{}}}` inside a string, or take it out", var.name))
            .help(format!("or let a layer's code read it: `vars = [\"{}\"]`", var.name));
    }
    wrong
}

fn declared(tree: &Table, out: &mut Diagnostics) -> Vec<Var> {
    let Some(entry) = tree.get("vars") else { return Vec::new() };
    let Value::Table(table) = &entry.node.value else {
        // The document tells that it is no table.
        return Vec::new();
    };
    let mut vars = Vec::new();
    for (name, entry) in table {
        let span = entry.key.clone();
        if let Err(why) = Name::new(name) {
            let message = format!("`{}` can't be the name of a variable", name.escape_debug());
            out.error(Code::BadName, &span, message).label(why.to_string());
            continue;
        }
        // One whose value is wrong is still declared.
        let value = string(&entry.node, name, out).map(|text| text.value).unwrap_or_default();
        vars.push(Var { name: name.clone(), value, span, used: false });
    }
    vars
}

/// Looks for the variables that layers name in their own `vars`, for their code to read.
fn read_by_layers(tree: &Table, vars: &mut [Var], out: &mut Diagnostics) {
    let Some(Value::Table(layers)) = tree.get("layer").map(|entry| &entry.node.value) else {
        return;
    };
    for layer in layers.values() {
        let Value::Table(layer) = &layer.node.value else { continue };
        let Some(Value::List(list)) = layer.get("vars").map(|entry| &entry.node.value) else {
            continue;
        };
        for item in list {
            let Value::String(name) = &item.value else { continue };
            if let Some(var) = vars.iter_mut().find(|var| var.name == *name) {
                var.used = true;
                continue;
            }
            let near = nearest(name, vars.iter().map(|var| var.name.as_str()));
            let message = format!("there is no variable `{}`", name.escape_debug());
            out.error(Code::UndefinedVariable, &item.span, message)
                .did_you_mean(near)
                .help("declare it: `[vars]` with `NAME = \"value\"`");
        }
    }
}

fn in_node(node: &mut Node, vars: &mut [Var], wrong: &mut Vec<Span>, out: &mut Diagnostics) {
    match &mut node.value {
        Value::String(text) if text.contains("${") => match filled(text, &node.span, vars, out) {
            Some(filled) => *text = filled,
            None => wrong.push(node.span.clone()),
        },
        Value::List(list) => list.iter_mut().for_each(|item| in_node(item, vars, wrong, out)),
        Value::Table(table) => {
            for entry in table.values_mut() {
                in_node(&mut entry.node, vars, wrong, out);
            }
        }
        _ => {}
    }
}

/// The text with its variables put in. What is put in is not looked at again.
fn filled(text: &str, span: &Span, vars: &mut [Var], out: &mut Diagnostics) -> Option<String> {
    let mut whole = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if let Some(before) = rest[..at].strip_suffix('$') {
            whole.push_str(before);
            whole.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        whole.push_str(&rest[..at]);
        let Some(end) = rest[at..].find('}') else {
            out.error(Code::UndefinedVariable, span, "a variable's name does not end")
                .label("`${` without `}`")
                .help("write `${name}`");
            return None;
        };
        let name = &rest[at + 2..at + end];
        let Some(var) = vars.iter_mut().find(|var| var.name == name) else {
            let names = vars.iter().map(|var| var.name.as_str());
            let message = format!("there is no variable `{}`", name.escape_debug());
            out.error(Code::UndefinedVariable, span, message)
                .did_you_mean(nearest(name, names))
                .help("declare it: `[vars]` with `NAME = \"value\"`");
            return None;
        };
        var.used = true;
        whole.push_str(&var.value);
        rest = &rest[at + end + 1..];
        if whole.len() > MAX_LENGTH {
            out.error(Code::OutOfRange, span, "with its variables, the string is too long")
                .label(format!("at most {MAX_LENGTH} bytes"));
            return None;
        }
    }
    whole.push_str(rest);
    Some(whole)
}
