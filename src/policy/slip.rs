//! What was perhaps meant where a text is not TOML.
//!
//! The parser says what it expected. People who slipped need to hear which slip it was.

use super::code::Code;
use super::diagnostic::{Diagnostic, Diagnostics, Span};
use super::texts::line_of;

/// Quotes that editors and web pages put in the place of straight ones.
const CURLY: [char; 7] = ['“', '”', '„', '‘', '’', '«', '»'];

/// Tells one slip; `message` is the parser's.
pub(super) fn tell(text: &str, span: &Span, message: &str, out: &mut Diagnostics) {
    let rule = match message.split_once(", expected") {
        // What a value may be: the parser names only the last thing that it tried.
        Some((rule, _)) if rule.contains("must be quoted") => rule,
        Some(("invalid boolean", _)) if bare_word(text, span).is_some() => {
            "string values must be quoted"
        }
        _ => message,
    };
    let mistake = out.error(Code::Syntax, span, format!("this is not TOML: {rule}"));
    advise(text, span, message, mistake);
}

fn advise(text: &str, span: &Span, message: &str, mistake: &mut Diagnostic) {
    let begins = |start: &str| message.starts_with(start);
    let before = text.get(..span.start).unwrap_or_default().trim_end();
    let from = text.get(span.start..).unwrap_or_default();
    if begins("string values must be quoted") || begins("invalid boolean") {
        value(text, span, mistake);
    } else if begins("key with no value")
        || begins("missing assignment")
        || begins("invalid unquoted key")
    {
        if before.ends_with(':') || from.trim_start().starts_with(':') {
            mistake.label("a key and its value are joined by `=`");
        } else if text[line_of(text, span.start)].trim_start().starts_with("//") {
            mistake.label("a comment begins with `#`");
        } else {
            mistake.label("a line is `KEY = VALUE` or `[TABLE]`");
        }
    } else if begins("invalid key-value pair") {
        mistake.label("a line is `KEY = VALUE` or `[TABLE]`");
    } else if begins("invalid comment") {
        mistake.label("this character is invisible");
    } else if message.contains("visible characters") {
        mistake.label("this character is invisible");
        mistake.help("in a string between double quotes it can be written as `\\u001b`");
    } else if begins("invalid basic string") || begins("invalid literal string") {
        mistake.label("the string has no end in this line");
        mistake.help("a string ends with the quote that it began with");
    } else if begins("invalid multi-line") {
        mistake.label("the file ends within a string");
        let opening = ["\"\"\"", "'''"].iter().filter_map(|quotes| before.rfind(quotes)).max();
        if let Some(at) = opening {
            mistake.also(&(at..at + 3), "it begins here");
        }
    } else if begins("missing escaped value") {
        mistake.help("between single quotes a backslash is a backslash");
    } else if begins("unexpected leading zero") {
        mistake.label("a number does not begin with 0");
        mistake.help("an octal mode is a string, as in `\"0622\"`");
    } else if begins("missing comma") {
        mistake.label("put a comma before this");
    } else if begins("extra assignment") {
        mistake.label("put a comma before this key");
    } else if begins("unexpected key or value") {
        mistake.label("the value ended before this");
    } else if begins("unclosed table") {
        mistake.label("a header ends here, with `]`");
        mistake.help("the parts of a name are joined by dots, as in `[layer.parser]`");
    }
}

/// Where a value should be.
fn value(text: &str, span: &Span, mistake: &mut Diagnostic) {
    let written = text.get(span.clone()).unwrap_or_default();
    if written.trim().is_empty() {
        mistake.label("there is no value");
    } else if written.starts_with(CURLY) {
        let bare = written.trim_matches(CURLY).escape_debug();
        mistake.label("these quotes are not the ones of a keyboard");
        mistake.help(format!("write `\"{bare}\"`"));
    } else if let Some(word) = bare_word(text, span) {
        mistake.help(format!("write `\"{word}\"`"));
    } else {
        let word = word_at(text, span.start).to_ascii_lowercase();
        let meant = match word.as_str() {
            "true" | "yes" | "on" => "true",
            "false" | "no" | "off" => "false",
            _ => return,
        };
        mistake.did_you_mean(Some(meant));
    }
}

/// A text without its quotes: not what was meant to be true or false.
fn bare_word<'t>(text: &'t str, span: &Span) -> Option<&'t str> {
    let word = word_at(text, span.start);
    let truth = ["true", "false", "yes", "no", "on", "off"];
    let plain = !word.is_empty() && !truth.contains(&word.to_ascii_lowercase().as_str());
    (plain && word.len() >= span.end.saturating_sub(span.start)).then_some(word)
}

/// What stands at a place, up to white space or punctuation of TOML.
fn word_at(text: &str, at: usize) -> &str {
    let rest = text.get(at..).unwrap_or_default();
    let inside = |c: char| c.is_ascii_alphanumeric() || "@_-./:*".contains(c);
    let end = rest.find(|c| !inside(c)).unwrap_or(rest.len());
    &rest[..end.min(128)]
}

/// The bracket that opened the list or table in which the parser believes to be, where what it
/// stumbled over begins something new: the bracket was never closed, and every line after it is
/// misread.
pub(super) fn unclosed(text: &str, span: &Span, message: &str) -> Option<Span> {
    let list = message.starts_with("missing comma between array elements");
    let table = message.starts_with("missing key for inline table element");
    let line = line_of(text, span.start);
    let words = text.get(line.clone())?.trim_start();
    let key = words.find(|c: char| !(c.is_ascii_alphanumeric() || "_-.\" ".contains(c)));
    let assigns = key.is_some_and(|at| at > 0 && words[at..].starts_with('='));
    let header = words.starts_with('[') && words.trim_end().ends_with(']');
    if !(list && (assigns || header) || table && header) {
        return None;
    }
    let opening = if list { '[' } else { '{' };
    let mut end = line.start;
    while let Some(before) = end.checked_sub(1) {
        let earlier = line_of(text, before);
        let words = &text[earlier.clone()];
        let assigned = words.find('=').map(|at| (at, words[at + 1..].trim_start()));
        if let Some((_, value)) = assigned.filter(|(_, value)| value.contains(opening)) {
            let at = earlier.end - value.len() + value.find(opening)?;
            return Some(at..at + 1);
        }
        end = earlier.start;
    }
    None
}
