//! The language as tables of Markdown.

use std::fmt::Write;
use std::time::Duration;

use crate::policy::language::{Default, Kind, TABLES};
use crate::policy::plan::ViewPart;
use crate::policy::value::{show_duration, show_size};

/// The reference: a table for each kind of table.
pub fn reference() -> String {
    let mut out = String::new();
    for table in TABLES {
        let _ = write!(
            out,
            "### `{}`\n\n{}\n\n| key | value | default | meaning | by |\n|---|---|---|---|---|\n",
            table.header, table.meaning
        );
        for key in table.keys {
            let default = match key.default {
                Default::Required => "**required**".to_owned(),
                Default::Value(text) => format!("`{}`", text()),
                Default::Said(text) => text.to_owned(),
            };
            let cells = [kind(&key.kind), default, key.meaning.to_owned(), key.kernel.to_owned()];
            let cells: Vec<_> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
            let _ = writeln!(out, "| `{}` | {} |", key.name, cells.join(" | "));
        }
        out.push('\n');
    }
    out
}

/// What a value is, in few words.
pub(super) fn kind(kind: &Kind) -> String {
    match kind {
        Kind::Version => "`1`".to_owned(),
        Kind::Name => "a name".to_owned(),
        Kind::Layer => "a layer".to_owned(),
        Kind::End => "a layer, or `LAYER@HOST`".to_owned(),
        Kind::Pipe => "`pipe.NAME` or `inherit`".to_owned(),
        Kind::Text => "text".to_owned(),
        Kind::Reason => "a reason".to_owned(),
        Kind::Boolean => "`true` or `false`".to_owned(),
        Kind::Integer(least, most) => format!("{least} to {most}"),
        Kind::Size(least, most) => {
            format!("size, {} to {}", show_size(*least), show_size(*most))
        }
        Kind::Duration(least, most) => {
            let time = |millis| show_duration(Duration::from_millis(millis));
            format!("duration, {} to {}", time(*least), time(*most))
        }
        Kind::Age(range) => format!("duration, {range}"),
        Kind::Rate => "rate, as `500/s`".to_owned(),
        Kind::ByteRate => "rate, as `1MiB/s`".to_owned(),
        Kind::PublicKey => "64 hex digits".to_owned(),
        Kind::Path => "a path".to_owned(),
        Kind::Address => "`tcp:IP:PORT`, `udp:IP:PORT` or `unix:PATH`".to_owned(),
        Kind::Target => "`tcp:HOST:PORT`, `udp:HOST:PORT` or `unix:PATH`".to_owned(),
        Kind::Mode => "octal text, as `\"0622\"`".to_owned(),
        Kind::Errno => "an error's name, as `\"ENOENT\"`".to_owned(),
        Kind::Call => "system calls".to_owned(),
        Kind::Signal => "signals".to_owned(),
        Kind::Capability => "capabilities".to_owned(),
        Kind::Protection => "protections".to_owned(),
        Kind::ViewPart => {
            let part = |(word, is_sized): &(&str, bool)| {
                format!("`\"{word}{}\"`", if *is_sized { "=SIZE" } else { "" })
            };
            ViewPart::WORDS.iter().map(part).collect::<Vec<_>>().join(", ")
        }
        Kind::Object => "an object".to_owned(),
        Kind::Word(words) => {
            words().iter().map(|word| format!("`\"{word}\"`")).collect::<Vec<_>>().join(", ")
        }
        Kind::List(of, _) => format!("list: {}", self::kind(of)),
        Kind::Names(of) | Kind::Texts(of) => format!("table of {}", self::kind(of)),
        Kind::Table(table) => format!("[table](#{})", anchor(table.header)),
        Kind::Tables(table) | Kind::Array(table) => format!("[tables](#{})", anchor(table.header)),
        Kind::Either(one, other) => format!("{}, or {}", self::kind(one), self::kind(other)),
    }
}

/// How viewers of Markdown name a heading: letters, digits and hyphens, spaces as hyphens.
fn anchor(header: &str) -> String {
    let kept = header.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, ' ' | '-'));
    kept.collect::<String>().to_ascii_lowercase().replace(' ', "-")
}
