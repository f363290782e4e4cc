//! Text as HTML, and tables of it.

use std::fmt::Write;

use crate::text::neutralise;

/// Text that is only text: what a terminal, a reader or HTML could take for more is spelled out.
pub(super) fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in neutralise(text.as_bytes()).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// The same, of bytes, and at most so many characters.
pub(super) fn excerpt(bytes: &[u8], most: usize) -> String {
    let whole = neutralise(bytes.get(..most.saturating_mul(4)).unwrap_or(bytes));
    let mut short: String = whole.chars().take(most).collect();
    if whole.chars().nth(most).is_some() {
        short.push('…');
    }
    text(&short)
}

/// A cell of a table.
pub(super) enum Cell {
    /// Text.
    Text(String),
    /// A number, shown at the right; the second one is what it is sorted by.
    Number(String, u64),
    /// The same, and a reason to look.
    Alarm(String, u64),
}

/// A table with a head. Its cells are made harmless here.
pub(super) struct Table {
    out: String,
}

impl Table {
    /// Columns whose name begins with `#` hold numbers.
    pub(super) fn new(columns: &[&str]) -> Self {
        let mut out = String::from("<div class=\"wide\"><table><thead><tr>");
        for column in columns {
            let class = if column.starts_with('#') { " class=\"n\"" } else { "" };
            let name = text(column.trim_start_matches('#'));
            let _ = write!(out, "<th scope=\"col\"{class}>{name}</th>");
        }
        out.push_str("</tr></thead><tbody>\n");
        Self { out }
    }

    pub(super) fn row(&mut self, class: &str, cells: impl IntoIterator<Item = Cell>) {
        let _ = write!(
            self.out,
            "<tr{}>",
            if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") }
        );
        for cell in cells {
            let (class, shown, value) = match cell {
                Cell::Text(shown) => {
                    let _ = write!(self.out, "<td>{}</td>", text(&shown));
                    continue;
                }
                Cell::Number(shown, value) => ("n", shown, value),
                Cell::Alarm(shown, value) => ("n bad", shown, value),
            };
            let _ =
                write!(self.out, "<td class=\"{class}\" data-v=\"{value}\">{}</td>", text(&shown));
        }
        self.out.push_str("</tr>\n");
    }

    /// The rows as they are, to add one whose cells are harmless already.
    pub(super) fn raw(&mut self) -> &mut String {
        &mut self.out
    }

    pub(super) fn end(mut self) -> String {
        self.out.push_str("</tbody></table></div>\n");
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_more_than_text() {
        assert_eq!(
            text("<script a=\"b\" c='d'>\u{202e}&\u{1b}[0m"),
            "&lt;script a=&quot;b&quot; c=&#39;d&#39;&gt;\\u{202e}&amp;\\x1b[0m"
        );
        assert_eq!(excerpt(b"abcdef", 3), "abc…");
        assert_eq!(excerpt(b"abc", 3), "abc");
    }
}
