//! Text in a picture: made harmless, and its width guessed.

/// Escapes what XML would take for markup, and replaces what XML 1.0 can't hold at all.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// The width of a text in the fixed-width font of this size, in pixels. Wide characters count
/// double.
pub(super) fn mono(text: &str, size: f64) -> f64 {
    let wide = |c: char| {
        if u32::from(c) >= 0x1100 && !('\u{2000}'..'\u{2e80}').contains(&c) { 2.0 } else { 1.0 }
    };
    text.chars().map(wide).sum::<f64>() * size * 0.605
}

/// The width of a bold text in the other font: a guess at the widest of the usual fonts, for a
/// viewer may not have the first one of the list.
pub(super) fn sans(text: &str, size: f64) -> f64 {
    let width = |c: char| match c {
        'i' | 'j' | 'l' | '.' | ',' | ':' | '|' | '\'' | ' ' => 0.38,
        'f' | 't' | 'r' | '-' | '/' => 0.46,
        'm' | 'w' | 'M' | 'W' => 1.02,
        'A'..='Z' => 0.8,
        c if u32::from(c) >= 0x1100 => 1.0,
        _ => 0.7,
    };
    text.chars().map(width).sum::<f64>() * size
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_is_text() {
        assert_eq!(escape("<a b=\"c\">&'\u{1}"), "&lt;a b=&quot;c&quot;&gt;&amp;&#39;\u{fffd}");
    }
}
