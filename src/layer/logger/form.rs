//! The forms of a line: text for people, JSON for programs, the native protocol of the journal
//! (`systemd.io/JOURNAL_NATIVE_PROTOCOL`).
//!
//! Whatever the form, nothing in it came from a layer unchanged: what a terminal or a reader could
//! take for more than text is escaped, names of fields included.

use std::collections::BTreeMap;
use std::fmt::Write;

use rustix::time::ClockId;
use serde::Serialize;

use crate::calendar::rfc3339;
use crate::ident::Instance;
use crate::policy::plan::LogLevel;
use crate::sys::clock::nanoseconds;
use crate::text::neutralise;
use crate::wire::control::LogFormat;
use crate::wire::event::{Event, Span, Value};

/// What the supervisor's own lines begin with.
const OWN: &str = "cofferdam: ";

/// The longest name of a field in the journal, in bytes (`journal_field_valid` in systemd).
const FIELD: usize = 64;

/// Whose line it is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Who<'a> {
    /// The daemon's own.
    Daemon,
    /// It stands for itself, such as a checker's drawing.
    Nobody,
    /// A layer's.
    Layer(&'a Instance),
}

/// What is said.
#[derive(Clone, Copy, Debug)]
pub(super) enum What<'a> {
    /// A line, and how much it matters.
    Line(LogLevel, &'a [u8]),
    /// An event.
    Event(&'a Event),
}

impl What<'_> {
    /// Its bytes, of an event about.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Line(_, line) => line.len(),
            Self::Event(event) => {
                let value = |(key, value): &(String, Value)| {
                    key.len() + if let Value::Text(text) = value { text.len() } else { 8 }
                };
                let fields = event.spans.iter().flat_map(|span| &span.fields).chain(&event.fields);
                event.message.len() + event.target.len() + fields.map(value).sum::<usize>()
            }
        }
    }

    /// How many lines of 256 bytes it counts for.
    pub(super) fn units(&self) -> u32 {
        u32::try_from(1 + self.bytes() / 256).unwrap_or(u32::MAX)
    }
}

/// A line in its form, with the newline at its end where the form has one.
pub(super) fn form(format: LogFormat, daemon: &str, who: Who<'_>, what: What<'_>) -> Vec<u8> {
    match format {
        LogFormat::Text => text(who, what).into_bytes(),
        LogFormat::Json => json(daemon, who, what),
        LogFormat::Journal => journal(daemon, who, what),
    }
}

fn text(who: Who<'_>, what: What<'_>) -> String {
    let mut out = match who {
        Who::Daemon => OWN.to_owned(),
        Who::Nobody => String::new(),
        Who::Layer(instance) => format!("{instance}: "),
    };
    match what {
        What::Line(_, line) => out.push_str(&neutralise(line)),
        What::Event(event) => out.push_str(&told(event)),
    }
    out.push('\n');
    out
}

/// An event in a line: `WARN request{id=7}: store: the disk is nearly full free=3`.
pub(crate) fn told(event: &Event) -> String {
    let mut out = event.level.name().to_ascii_uppercase();
    out.push(' ');
    for Span { name, fields } in &event.spans {
        out.push_str(&neutralise(name.as_bytes()));
        if !fields.is_empty() {
            out.push('{');
            pairs(&mut out, fields, "");
            out.push('}');
        }
        out.push_str(": ");
    }
    let _ = write!(out, "{}: {}", name(&event.target), neutralise(event.message.as_bytes()));
    if !event.fields.is_empty() {
        pairs(&mut out, &event.fields, " ");
    }
    if event.cut {
        out.push_str(" (cut)");
    }
    if event.lost > 0 {
        let _ = write!(out, " ({} events before it were lost)", event.lost);
    }
    out
}

fn pairs(out: &mut String, fields: &[(String, Value)], before: &str) {
    let mut separator = before;
    for (key, value) in fields {
        let _ = write!(out, "{separator}{}={}", name(key), shown(value));
        separator = " ";
    }
}

/// A name, in which no space or `=` may pass for the end of it.
fn name(text: &str) -> String {
    neutralise(text.as_bytes()).replace([' ', '=', '"'], "_")
}

/// A value; a text that isn't one word in quotes.
fn shown(value: &Value) -> String {
    match value {
        Value::Text(text) => {
            let text = neutralise(text.as_bytes());
            let is_word = !text.is_empty()
                && text.chars().all(|c| c.is_alphanumeric() || "-_./:@+%".contains(c));
            if is_word { text } else { format!("\"{}\"", text.replace('"', "\\\"")) }
        }
        Value::Signed(number) => number.to_string(),
        Value::Unsigned(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Bool(yes) => yes.to_string(),
    }
}

/// Text whose lines stay lines, and in which nothing else is left that isn't text.
fn lines(text: &[u8]) -> String {
    let lines = text.split(|&byte| byte == b'\n').map(neutralise).collect::<Vec<_>>();
    lines.join("\n")
}

/// A line as an object of JSON, with its keys in this order.
#[derive(Serialize)]
struct Object<'a> {
    time: String,
    level: &'static str,
    daemon: &'a str,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    layer: Option<Place<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    message: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    fields: BTreeMap<String, serde_json::Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    spans: Vec<ObjectSpan>,
    #[serde(skip_serializing_if = "is_none")]
    lost: u32,
    #[serde(skip_serializing_if = "is_no")]
    cut: bool,
}

#[derive(Serialize)]
struct Place<'a> {
    layer: &'a str,
    instance: u16,
    generation: u64,
}

#[derive(Serialize)]
struct ObjectSpan {
    name: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    fields: BTreeMap<String, serde_json::Value>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "so serde asks")]
fn is_none(number: &u32) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "so serde asks")]
fn is_no(yes: &bool) -> bool {
    !yes
}

fn json(daemon: &str, who: Who<'_>, what: What<'_>) -> Vec<u8> {
    let layer = match who {
        Who::Layer(Instance { layer, index, generation }) => {
            Some(Place { layer: layer.as_str(), instance: *index, generation: *generation })
        }
        Who::Daemon | Who::Nobody => None,
    };
    let empty = Object {
        time: rfc3339(nanoseconds(ClockId::Realtime)),
        level: LogLevel::Info.name(),
        daemon,
        layer,
        target: None,
        message: String::new(),
        fields: BTreeMap::new(),
        spans: Vec::new(),
        lost: 0,
        cut: false,
    };
    let object = match what {
        What::Line(level, line) => Object { level: level.name(), message: lines(line), ..empty },
        What::Event(event) => {
            let spans = event.spans.iter().map(|span| ObjectSpan {
                name: neutralise(span.name.as_bytes()),
                fields: values(&span.fields),
            });
            Object {
                level: event.level.name(),
                target: Some(neutralise(event.target.as_bytes())),
                message: lines(event.message.as_bytes()),
                fields: values(&event.fields),
                spans: spans.collect(),
                lost: event.lost,
                cut: event.cut,
                ..empty
            }
        }
    };
    // Texts and numbers always have a form.
    let mut bytes = serde_json::to_vec(&object).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

fn values(fields: &[(String, Value)]) -> BTreeMap<String, serde_json::Value> {
    let value = |value: &Value| match value {
        Value::Text(text) => lines(text.as_bytes()).into(),
        Value::Signed(number) => (*number).into(),
        Value::Unsigned(number) => (*number).into(),
        // One that JSON has no number for becomes null.
        Value::Float(number) => (*number).into(),
        Value::Bool(yes) => (*yes).into(),
    };
    fields.iter().map(|(key, it)| (neutralise(key.as_bytes()), value(it))).collect()
}

/// A datagram for the journal.
fn journal(daemon: &str, who: Who<'_>, what: What<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let (level, message) = match what {
        What::Line(level, line) => (level, lines(line)),
        What::Event(event) => (event.level, lines(event.message.as_bytes())),
    };
    field(&mut out, "MESSAGE", &message);
    // syslog(3).
    let priority = match level {
        LogLevel::Error => "3",
        LogLevel::Warn => "4",
        LogLevel::Info => "6",
        LogLevel::Debug | LogLevel::Trace => "7",
    };
    field(&mut out, "PRIORITY", priority);
    field(&mut out, "SYSLOG_IDENTIFIER", daemon);
    if let Who::Layer(instance) = who {
        field(&mut out, "COFFERDAM_LAYER", instance.layer.as_str());
        field(&mut out, "COFFERDAM_INSTANCE", &instance.to_string());
        field(&mut out, "COFFERDAM_GENERATION", &instance.generation.to_string());
    }
    if let What::Event(event) = what {
        field(&mut out, "TARGET", &lines(event.target.as_bytes()));
        for span in &event.spans {
            field(&mut out, "SPAN_NAME", &lines(span.name.as_bytes()));
        }
        let spans = event.spans.iter().flat_map(|span| &span.fields);
        for (key, value) in spans.chain(&event.fields) {
            let value = match value {
                Value::Text(text) => lines(text.as_bytes()),
                other => shown(other),
            };
            field(&mut out, &field_name(key), &value);
        }
        if event.lost > 0 {
            field(&mut out, "COFFERDAM_LOST", &event.lost.to_string());
        }
    }
    out
}

/// A layer's name of a field as one of the journal's. It begins so that it is none that the journal
/// or anybody else gives a meaning.
fn field_name(name: &str) -> String {
    let plain = name.chars().map(|c| c.to_ascii_uppercase());
    let plain = plain.map(|c| if c.is_ascii_alphanumeric() { c } else { '_' });
    "F_".chars().chain(plain).take(FIELD).collect()
}

/// A field: `KEY=value`, or with its length where the value has several lines.
fn field(out: &mut Vec<u8>, key: &str, value: &str) {
    out.extend_from_slice(key.as_bytes());
    if value.contains('\n') {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value.as_bytes());
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ident::Name;

    fn event() -> Event {
        let field = |name: &str, value| (name.to_owned(), value);
        Event {
            level: LogLevel::Warn,
            target: "keeper::store".to_owned(),
            message: "nearly\x1b[2J full\nsecond".to_owned(),
            fields: vec![
                field("free", Value::Unsigned(3)),
                field("a b=", Value::Text("x \"y\"\nz".to_owned())),
                field("MESSAGE", Value::Bool(true)),
            ],
            spans: vec![Span {
                name: "request".to_owned(),
                fields: vec![field("id", Value::Signed(-7))],
            }],
            lost: 2,
            cut: false,
        }
    }

    fn formed(format: LogFormat, what: What<'_>) -> String {
        let instance = Instance { layer: Name::new("a").unwrap(), index: 1, generation: 2 };
        String::from_utf8(form(format, "d", Who::Layer(&instance), what)).unwrap()
    }

    #[test]
    fn an_event_is_one_line_of_text() {
        assert_eq!(
            formed(LogFormat::Text, What::Event(&event())),
            "a/1.g2: WARN request{id=-7}: keeper::store: nearly\\x1b[2J full\\x0asecond free=3 \
             a_b_=\"x \\\"y\\\"\\x0az\" MESSAGE=true (2 events before it were lost)\n"
        );
    }

    #[test]
    fn an_event_is_an_object_of_json() {
        let text = formed(LogFormat::Json, What::Event(&event()));
        assert_eq!(text.lines().count(), 1);
        let mut object: serde_json::Value = serde_json::from_str(&text).unwrap();
        let time = object.as_object_mut().unwrap().remove("time").unwrap();
        assert!(time.as_str().unwrap().ends_with('Z'));
        let expected = serde_json::json!({
            "level": "warn", "daemon": "d", "layer": "a", "instance": 1, "generation": 2,
            "target": "keeper::store", "message": "nearly\\x1b[2J full\nsecond",
            "fields": { "free": 3, "a b=": "x \"y\"\nz", "MESSAGE": true },
            "spans": [{ "name": "request", "fields": { "id": -7 } }], "lost": 2
        });
        assert_eq!(object, expected);
        let line: serde_json::Value =
            serde_json::from_str(&formed(LogFormat::Json, What::Line(LogLevel::Info, b"\"\xff")))
                .unwrap();
        assert_eq!(line["message"], "\"\\xff");
    }

    #[test]
    fn the_journal_gets_fields_and_no_layer_chooses_their_meaning() {
        let text = formed(LogFormat::Journal, What::Event(&event()));
        let long = "nearly\\x1b[2J full\nsecond";
        assert!(
            text.starts_with(&format!("MESSAGE\n{}\0\0\0\0\0\0\0{long}\n", '\u{19}')),
            "{text:?}"
        );
        for line in [
            "PRIORITY=4",
            "SYSLOG_IDENTIFIER=d",
            "COFFERDAM_INSTANCE=a/1.g2",
            "TARGET=keeper::store",
            "F_FREE=3",
            "F_MESSAGE=true",
            "F_ID=-7",
            "SPAN_NAME=request",
            "COFFERDAM_LOST=2",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}: {text:?}");
        }
        assert!(text.contains("F_A_B_\n"), "{text:?}");
    }
}
