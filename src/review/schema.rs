//! The language as a JSON Schema, for editors.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::reference::kind as in_words;
use crate::policy::language::{Default, Key, Kind, TABLES, Table};
use crate::policy::plan::{Protection, ViewPart};
use crate::policy::syscall;

const NAME: &str = "^[a-z][a-z0-9_-]{0,47}$";
/// No policy's layer is called as the framework's own are.
const LAYER: &str = "^(?!cofferdam-)[a-z][a-z0-9_-]{0,47}$";
/// The same, perhaps with the name of a host.
const END: &str = "^(?!cofferdam-)[a-z][a-z0-9_-]{0,47}(@[a-z][a-z0-9_-]{0,47})?$";
const UNITS: &str = "(B|[KMGT]iB|[KMGT]B)";
const TIME: &str = "(ms|s|m|h|d)";
/// A string that holds a variable can't be judged before that is put in.
const VARIABLE: &str = r"\$\{";

/// The schema of policies: JSON Schema, draft 2020-12.
///
/// It tells unknown keys, wrong types, words and ranges. What takes more than one key to judge
/// (layers that don't exist, grants without a reason) is left to `cofferdam check`.
pub fn schema() -> Value {
    let tables = TABLES.iter().filter(|table| !is_root(table) && table.name != "ceiling");
    let defs: Map<_, _> =
        tables.map(|table| (table.name.to_owned(), table_schema(table))).collect();
    let mut root = table_schema(TABLES[0]);
    root["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    root["title"] = json!("cofferdam policy");
    // Layers may stand in an included file.
    root["required"] = json!(["cofferdam", "name"]);
    root["anyOf"] = json!([{ "required": ["layer"] }, { "required": ["include"] }]);
    root["$defs"] = Value::Object(defs);
    root
}

fn is_root(table: &Table) -> bool {
    table.name == TABLES[0].name
}

fn table_schema(table: &Table) -> Value {
    let required: Vec<_> = table
        .keys
        .iter()
        .filter(|key| matches!(key.default, Default::Required))
        .map(|key| key.name)
        .collect();
    let properties: Map<_, _> =
        table.keys.iter().map(|key| (key.name.to_owned(), key_schema(key))).collect();
    let mut schema = json!({
        "type": "object",
        "description": table.meaning,
        "additionalProperties": false,
        "properties": properties,
    });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    if table.name == "layer" {
        schema["oneOf"] = json!([{ "required": ["run"] }, { "required": ["exec"] }]);
    }
    schema
}

fn key_schema(key: &Key) -> Value {
    let mut schema = value_schema(&key.kind);
    let mut description = key.meaning.to_owned();
    match key.default {
        Default::Required => {}
        Default::Value(text) => {
            let text = text();
            schema["default"] = serde_json::from_str(&text).unwrap_or_else(|_| json!(text));
            let _ = write!(description, "\n\nDefault: `{text}`.");
        }
        Default::Said(text) => {
            let _ = write!(description, "\n\nDefault: {text}.");
        }
    }
    if !key.kernel.is_empty() {
        let _ = write!(description, "\n\nBy: {}", key.kernel);
    }
    schema["description"] = json!(description);
    schema
}

fn value_schema(kind: &Kind) -> Value {
    match kind {
        Kind::Version => json!({ "const": 1 }),
        Kind::Name => pattern(NAME, kind),
        Kind::Layer => pattern(LAYER, kind),
        Kind::End => pattern(END, kind),
        Kind::Pipe => pattern(r"^(pipe\.[a-z][a-z0-9_-]{0,47}|inherit)$", kind),
        Kind::Text => json!({ "type": "string" }),
        Kind::Reason => json!({ "type": "string", "pattern": r"\S" }),
        Kind::Boolean => json!({ "type": "boolean" }),
        Kind::Integer(least, most) => {
            json!({ "type": "integer", "minimum": least, "maximum": most })
        }
        Kind::Size(least, most) => {
            let mut size = pattern(&format!("^[0-9]+ *{UNITS}$"), kind);
            size["type"] = json!(["string", "integer"]);
            size["minimum"] = json!(least);
            size["maximum"] = json!(most);
            size
        }
        Kind::Duration(..) | Kind::Age(_) => pattern(&format!("^[0-9]+ *{TIME}$"), kind),
        Kind::Rate => pattern(&format!("^[0-9]+/([0-9]+ *)?{TIME}$"), kind),
        Kind::ByteRate => pattern(&format!("^[0-9]+ *{UNITS}?/([0-9]+ *)?{TIME}$"), kind),
        Kind::PublicKey => pattern("^[0-9a-fA-F]{64}$", kind),
        Kind::Path => pattern(r"^/$|^(/(?!\.{1,2}(/|$))[^/\x00-\x1f\x7f]+)+$", kind),
        Kind::Address => {
            pattern(r"^(tcp|udp):([0-9.]+|\[[0-9a-fA-F:.%]+\]):[0-9]{1,5}$|^unix:/.+$", kind)
        }
        Kind::Target => {
            pattern(r"^(tcp|udp):([^:/]+|\[[0-9a-fA-F:.]+\]):[0-9]{1,5}$|^unix:/.+$", kind)
        }
        Kind::Mode => pattern("^[0-7]{1,4}$", kind),
        Kind::Errno => words((1..=133).filter_map(syscall::errno_name)),
        Kind::Call => {
            // One alternative, for an editor tells of each that a mistake doesn't fit.
            let groups = syscall::groups();
            let names: Vec<_> = groups.iter().map(|group| format!("@{}", group.name)).collect();
            let titles: Vec<_> = groups.iter().map(|group| &group.title).collect();
            let call = pattern(r"^[a-z_][a-z0-9_]*(\(.*\))?$", kind);
            json!({ "anyOf": [{ "enum": names, "enumDescriptions": titles }, call] })
        }
        Kind::Signal => words(crate::policy::signal::SIGNALS.iter().copied()),
        Kind::Capability => {
            let mut names: Vec<_> = caps::all().iter().map(ToString::to_string).collect();
            names.sort_unstable();
            words(names.iter().map(String::as_str))
        }
        Kind::Protection => {
            let names = Protection::ALL.into_iter().map(Protection::name);
            let families = ["cgroup", "landlock", "namespace"];
            words(families.into_iter().chain(names))
        }
        Kind::ViewPart => {
            let (sized, plain): (Vec<_>, Vec<_>) =
                ViewPart::WORDS.into_iter().partition(|(_, is_sized)| *is_sized);
            let either = |words: &[(&str, bool)]| {
                words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join("|")
            };
            let (plain, sized) = (either(&plain), either(&sized));
            pattern(&format!("^({plain})$|^({sized})=[0-9]+ *{UNITS}$"), kind)
        }
        Kind::Object => pattern(r"^[a-z-]+(\.[A-Za-z0-9_-]+){1,2}$", kind),
        Kind::Word(list) => words(list().into_iter()),
        Kind::List(of, filled) => {
            let mut list = json!({ "type": "array", "items": value_schema(of) });
            if *filled {
                list["minItems"] = json!(1);
            }
            list
        }
        Kind::Names(of) => json!({
            "type": "object",
            "propertyNames": { "pattern": NAME },
            "additionalProperties": value_schema(of),
        }),
        Kind::Texts(of) => json!({ "type": "object", "additionalProperties": value_schema(of) }),
        Kind::Table(table) => reference(table),
        Kind::Tables(table) => json!({
            "type": "object",
            "propertyNames": { "pattern": if table.name == "layer" { LAYER } else { NAME } },
            "additionalProperties": reference(table),
        }),
        Kind::Array(table) => json!({ "type": "array", "items": reference(table) }),
        Kind::Either(one, other) => {
            json!({ "anyOf": [value_schema(one), value_schema(other)] })
        }
    }
}

fn reference(table: &Table) -> Value {
    json!({ "$ref": format!("#/$defs/{}", table.name) })
}

/// A string of this form, or one with a variable in it.
fn pattern(pattern: &str, kind: &Kind) -> Value {
    json!({
        "type": "string",
        "pattern": format!("{pattern}|{VARIABLE}"),
        "description": in_words(kind),
    })
}

/// One of these words, or a string with a variable in it.
fn words<'a>(list: impl Iterator<Item = &'a str>) -> Value {
    json!({ "anyOf": [
        { "enum": list.collect::<Vec<_>>() },
        { "type": "string", "pattern": VARIABLE },
    ] })
}
