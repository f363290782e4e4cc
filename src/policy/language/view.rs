//! What a layer sees: the key `view`.

use super::{At, Kind, Section, Takes};
use crate::policy::code::Code;
use crate::policy::diagnostic::Diagnostics;
use crate::policy::nearest::nearest;
use crate::policy::plan::{View, ViewPart};
use crate::policy::tree::Value;
use crate::policy::value;

/// `"empty"`, `"system"`, or a list of parts.
pub(crate) struct Seen;

impl Takes for Seen {
    type Text = Option<At<View>>;
    const KIND: Kind =
        Kind::Either(&Kind::Word(|| vec!["empty", "system"]), &Kind::List(&Kind::ViewPart, true));

    fn read(layer: &Section<'_>, key: &'static str, out: &mut Diagnostics) -> Self::Text {
        let node = layer.get(key)?;
        let span = node.span.clone();
        if let Value::String(word) = &node.value {
            let words = [("empty", View::default()), ("system", View::system())];
            if let Some((_, view)) = words.into_iter().find(|(known, _)| known == word) {
                return Some(At { value: view, span });
            }
            let mistake = out.error(
                Code::UnknownWord,
                &node.span,
                format!("`view` does not take `{}`", word.escape_debug()),
            );
            match (value::view_part(word), nearest(word, ["empty", "system"])) {
                (Ok(_), _) => {
                    mistake.help(format!("write a list: `[\"{word}\"]`"));
                }
                (Err(_), Some(near)) => {
                    mistake.did_you_mean(Some(near));
                }
                (Err(_), None) => {
                    mistake.help(
                        "write `\"empty\"`, `\"system\"`, or a list of parts, as in \
                         `[\"system\", \"tls\"]`",
                    );
                }
            }
            return None;
        }
        let list = layer.strings(key, out)?;
        if list.value.is_empty() {
            out.error(Code::Empty, &list.span, "a view without parts")
                .label("the list is empty")
                .help("write `view = \"empty\"`, or name the parts");
        }
        let mut parts: Vec<(ViewPart, &At<String>)> = Vec::new();
        for text in &list.value {
            let Some(part) = view_part(text, out) else { continue };
            let twin = parts.iter().find(|(other, _)| other.name() == part.name());
            if let Some((_, first)) = twin.filter(|(_, first)| first.value != text.value) {
                let message = format!("`{}` is listed twice", part.name());
                out.error(Code::Repeated, &text.span, message)
                    .label("again here")
                    .also(&first.span, "first");
            }
            parts.push((part, text));
        }
        Some(At { value: View::of(parts.into_iter().map(|(part, _)| part)), span })
    }
}

fn view_part(text: &At<String>, out: &mut Diagnostics) -> Option<ViewPart> {
    let why = match value::view_part(&text.value) {
        Ok(part) => return Some(part),
        Err(_) if text.value == "empty" => "it stands alone: `view = \"empty\"`".to_owned(),
        Err(why) => why,
    };
    let message = format!("`{}` is not a part of a view", text.value.escape_debug());
    out.error(Code::UnknownWord, &text.span, message).label(why);
    None
}
