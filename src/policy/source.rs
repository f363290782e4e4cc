//! From bytes to a TOML tree: encoding, size and syntax, every mistake told at once.

use std::borrow::Cow;

use serde_spanned::Spanned;
use toml::de::{DeTable, DeValue};

use super::code::Code;
use super::diagnostic::{Diagnostics, Span};
use super::slip;
use super::texts::line_of;
use super::tree::{Table, moved};

/// The largest policy file, in bytes. The largest sensible policy is a hundredth of it.
pub const MAX_SIZE: usize = 1 << 20;

/// The text of a policy, whatever its bytes were.
///
/// What is not UTF-8 is replaced and told, so the rest can still be checked. `false` beside the
/// text says that nothing in it is worth checking.
pub(crate) fn decode<'b>(bytes: &'b [u8], out: &mut Diagnostics) -> (Cow<'b, str>, bool) {
    if bytes.len() > MAX_SIZE {
        out.error(Code::TooLarge, &(0..0), "the policy file is too large")
            .label(format!("{} bytes, and at most {MAX_SIZE} are read", bytes.len()))
            .help("is this the right file?");
        return (Cow::Borrowed(""), false);
    }
    let text = String::from_utf8_lossy(bytes);
    let wide = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
    if let Cow::Owned(_) = text {
        let at = std::str::from_utf8(bytes).err().map_or(0, |error| error.valid_up_to());
        let value = bytes.get(at).copied().unwrap_or_default();
        // The text before the first wrong byte is unchanged, so its place is the same in both.
        out.error(Code::NotUtf8, &(at..at + '\u{fffd}'.len_utf8()), "the file is not UTF-8")
            .label(format!("the byte {value:#04x} can't be here"))
            .help(if wide {
                "this looks like UTF-16: save the file as UTF-8"
            } else {
                "save the file as UTF-8"
            });
    }
    if text.starts_with('\u{feff}') {
        out.error(Code::ByteOrderMark, &(0..3), "the file begins with a byte order mark")
            .help("save it as UTF-8 without one");
    }
    (text, !wide)
}

/// The tree, its places moved by `base`, and the lines in which its syntax is wrong.
///
/// Where the syntax is wrong the tree holds what could be made of it.
pub(crate) fn parse(text: &str, base: usize, out: &mut Diagnostics) -> (Table, Vec<Span>) {
    let (tree, mut errors) = DeTable::parse_recoverable(text);
    let without = without_dead_ends(text, &errors);
    let Some(without) = without else {
        let wrong = tell(text, tree.get_ref(), &errors, out);
        return (moved(tree.get_ref(), base), wrong);
    };
    let (tree, more) = DeTable::parse_recoverable(&without);
    errors.extend(more);
    let wrong = tell(text, tree.get_ref(), &errors, out);
    (moved(tree.get_ref(), base), wrong)
}

/// The text with white space for the lines after which the parser gives up, so that what stands
/// behind them is checked as well; `None` if there are none.
fn without_dead_ends(text: &str, errors: &[toml::de::Error]) -> Option<String> {
    let dead_end = |error: &&toml::de::Error| {
        ["key with no value", "invalid key-value pair"]
            .iter()
            .any(|it| error.message().starts_with(it))
    };
    let lines: Vec<Span> = errors
        .iter()
        .filter(dead_end)
        .take(Diagnostics::LIMIT)
        .filter_map(|error| Some(line_of(text, error.span()?.start)))
        .collect();
    let mut bytes = (!lines.is_empty()).then(|| text.as_bytes().to_vec())?;
    for line in lines {
        bytes[line].fill(b' ');
    }
    String::from_utf8(bytes).ok()
}

/// Tells what is not TOML; the lines of it.
fn tell(
    text: &str,
    tree: &DeTable<'_>,
    errors: &[toml::de::Error],
    out: &mut Diagnostics,
) -> Vec<Span> {
    let mut wrong: Vec<Span> = Vec::new();
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        // One slip often makes several errors in its line; the first one tells it best.
        let told = |at: usize| wrong.iter().any(|line| line.start <= at && at <= line.end);
        if told(span.start) {
            continue;
        }
        // To find the line, and the other place, costs a look at the text before it. Who made
        // more mistakes than are shown gets the rest told once these are mended.
        if wrong.len() > Diagnostics::LIMIT {
            out.error(Code::Syntax, &span, "this is not TOML either");
            continue;
        }
        if let Some(opening) = slip::unclosed(text, &span, error.message()) {
            if !told(opening.start) {
                let list = text.get(opening.clone()) == Some("[");
                let (name, close) = if list { ("list", ']') } else { ("table", '}') };
                out.error(Code::Syntax, &opening, format!("this is not TOML: an unclosed {name}"))
                    .label(format!("no `{close}` ends it"))
                    .also(&span, "something new begins here")
                    .help("what follows is checked once this is mended");
            }
            wrong.push(opening.start..text.len());
            break;
        }
        wrong.push(line_of(text, span.start));
        if error.message() == "duplicate key" {
            duplicate(text, tree, &span, out);
        } else {
            slip::tell(text, &span, error.message(), out);
        }
    }
    wrong
}

fn duplicate(text: &str, tree: &DeTable<'_>, span: &Span, out: &mut Diagnostics) {
    let line = line_of(text, span.start);
    let header = first_header(text, &line);
    if header.is_none() && first_header(text, &section_of(text, line.start)).is_some() {
        // The whole section is a second definition, which is told where it begins.
        return;
    }
    let (word, place) = match header {
        Some(_) => (
            text[line.clone()].trim_end(),
            line.start..line.start + text[line.clone()].trim_end().len(),
        ),
        None => (text.get(span.clone()).unwrap_or_default(), span.clone()),
    };
    let message = format!("`{}` is defined twice", word.escape_debug());
    let mistake = out.error(Code::Duplicate, &place, message);
    mistake.label("here again");
    if let Some(first) = header.or_else(|| first_key(text, tree, word, span)) {
        mistake.also(&first, "first defined here");
    }
    mistake.help("write it once: a second definition is never merged into the first");
}

/// The line of the table header before `at`, empty if there is none.
fn section_of(text: &str, at: usize) -> Span {
    text[..at].rfind("\n[").map_or(0..0, |newline| line_of(text, newline + 1))
}

/// The earlier table header that says the same as the one in `line`.
fn first_header(text: &str, line: &Span) -> Option<Span> {
    let bare = |line: &str| -> Option<String> {
        let line = line.trim_start();
        let path = line.strip_prefix('[')?.split(']').next()?;
        Some(path.chars().filter(|c| !c.is_whitespace() && !"\"'".contains(*c)).collect())
    };
    let wanted = bare(&text[line.clone()])?;
    let mut start = 0;
    for earlier in text[..line.start].split_inclusive('\n') {
        if bare(earlier).as_ref() == Some(&wanted) {
            let indent = earlier.len() - earlier.trim_start().len();
            return Some(start + indent..start + earlier.trim_end().len());
        }
        start += earlier.len();
    }
    None
}

/// The key of the same word before `span`, in the same section and as little nested as possible.
fn first_key(text: &str, tree: &DeTable<'_>, word: &str, span: &Span) -> Option<Span> {
    let section = section_of(text, span.start).start;
    let mut found: Option<(usize, Span)> = None;
    let mut waiting = vec![(0_usize, tree)];
    while let Some((depth, table)) = waiting.pop() {
        for (key, value) in table {
            let at = key.span();
            let earlier = (section..span.start).contains(&at.start);
            if earlier && text.get(at.clone()) == Some(word) {
                let encloses = (value.span().start..value.span().end).contains(&span.start);
                let better = found.as_ref().is_none_or(|(best, _)| depth < *best);
                if better && !encloses {
                    found = Some((depth, at));
                }
            }
            tables_in(value, depth + 1, &mut waiting);
        }
    }
    found.map(|(_, at)| at)
}

fn tables_in<'a, 't>(
    value: &'a Spanned<DeValue<'t>>,
    depth: usize,
    waiting: &mut Vec<(usize, &'a DeTable<'t>)>,
) {
    match value.get_ref() {
        DeValue::Table(table) => waiting.push((depth, table)),
        DeValue::Array(list) => list.iter().for_each(|item| tables_in(item, depth, waiting)),
        _ => {}
    }
}
