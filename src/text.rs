//! Text that came from somebody else, made harmless to show.

use std::fmt::Write;

/// Escapes everything in `bytes` that a terminal or a log reader could take for more than text.
///
/// Control characters (C0, DEL, C1), invalid UTF-8, and the characters that reorder or hide text
/// (Unicode's bidirectional controls, zero-width ones, line and paragraph separators) come out as
/// `\xNN` or `\u{NNNN}`. A tab is kept. A backslash is kept too, so what is shown is safe but not
/// always reversible.
pub fn neutralise(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '\t' || !is_deceptive(c) {
                out.push(c);
            } else if c.is_ascii() {
                let _ = write!(out, "\\x{:02x}", c as u32);
            } else {
                let _ = write!(out, "\\u{{{:04x}}}", c as u32);
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{00ad}' | '\u{061c}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

/// `1 task`, `4 tasks`.
pub(crate) fn counted(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_stays() {
        assert_eq!(neutralise("a\tb é 漢 \\n".as_bytes()), "a\tb é 漢 \\n");
    }

    #[test]
    fn nothing_reaches_the_terminal() {
        assert_eq!(neutralise(b"\x1b]0;x\x07\r\nFAKE"), "\\x1b]0;x\\x07\\x0d\\x0aFAKE");
        assert_eq!(neutralise(b"\xff\xfe"), "\\xff\\xfe");
        assert_eq!(neutralise("\u{202e}\u{200b}\u{9b}".as_bytes()), "\\u{202e}\\u{200b}\\u{009b}");
    }
}
