//! The texts of one policy: its file and those that it includes, in one space of places.
//!
//! Each text follows the one before it with a gap of one, so that a place names its text too, and
//! a [`Span`] is enough to point into any of them.

use super::diagnostic::Span;

/// All texts, the policy's own first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Texts(Vec<Source>);

/// One file's text.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// What messages call the file.
    pub(crate) name: String,
    /// What it says.
    pub(crate) text: String,
    /// Where its first byte is.
    pub(crate) base: usize,
}

impl Texts {
    /// Adds a text; gives where its first byte is.
    pub(crate) fn add(&mut self, name: &str, text: String) -> usize {
        let base = self.0.last().map_or(0, |last| last.base + last.text.len() + 1);
        self.0.push(Source { name: name.to_owned(), text, base });
        base
    }

    /// The text in which a place is; `None` if there is no text at all.
    pub(crate) fn at(&self, place: usize) -> Option<&Source> {
        let after = self.0.partition_point(|text| text.base <= place);
        self.0.get(after.checked_sub(1)?)
    }

    /// Whether a file of this name is among them, and where.
    pub(crate) fn named(&self, name: &str) -> Option<&Source> {
        self.0.iter().find(|text| text.name == name)
    }

    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Source> {
        self.0.iter()
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Bytes of all of them.
    pub(crate) fn size(&self) -> usize {
        self.0.iter().map(|text| text.text.len()).sum()
    }
}

impl Source {
    /// A span of the common space as one of this text.
    pub(crate) fn local(&self, span: &Span) -> Span {
        let inside = |at: usize| at.saturating_sub(self.base).min(self.text.len());
        inside(span.start)..inside(span.end).max(inside(span.start))
    }

    /// Line and column of a place in this text, from 1, columns in characters.
    pub(crate) fn position(&self, at: usize) -> (usize, usize) {
        let at = self.text.floor_char_boundary(at);
        let start = line_of(&self.text, at).start;
        let lines = self.text[..start].bytes().filter(|byte| *byte == b'\n').count();
        (lines + 1, self.text[start..at].chars().count() + 1)
    }
}

/// The line around `at`, without its newline.
pub(crate) fn line_of(text: &str, at: usize) -> Span {
    let bytes = text.as_bytes();
    let at = at.min(bytes.len());
    let start = bytes[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |n| n + 1);
    let end = bytes[at..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |n| at + n);
    start..end
}

#[cfg(test)]
mod tests {
    use super::Texts;

    #[test]
    fn each_place_is_in_one_text() {
        let mut texts = Texts::default();
        assert!(texts.at(0).is_none());
        assert_eq!((texts.add("a", "one".into()), texts.add("b", "a\ntwo".into())), (0, 4));
        let name = |place| texts.at(place).unwrap().name.as_str();
        assert_eq!((name(0), name(3), name(4), name(99)), ("a", "a", "b", "b"));
        let second = texts.at(4).unwrap();
        assert_eq!(second.local(&(6..9)), 2..5);
        assert_eq!(second.position(3), (2, 2));
    }
}
