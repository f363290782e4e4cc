//! The words, numbers and signs of a call expression.

use std::ops::Range;

use super::error::{Fault, ItemError};

/// One piece of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A name: of a call, of a constant, `_`, `in`, `subset`, `of`.
    Word(&'a str),
    /// A number without a sign.
    Number(u64),
    /// Punctuation.
    Sign(&'static str),
    /// Nothing is left.
    End,
}

/// Longest first, so that `<=` isn't read as `<`.
const SIGNS: [&str; 16] =
    ["==", "!=", "<=", ">=", "<", ">", "(", ")", "{", "}", ",", "|", "&", "~", "-", "="];

/// Walks over an expression.
pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// How far the expression was read, in bytes.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// The text of a place.
    pub(super) fn text(&self, span: &Range<usize>) -> &'a str {
        self.text.get(span.clone()).unwrap_or_default()
    }

    /// The next token, which stays where it is.
    pub(super) fn peek(&self) -> Result<(Token<'a>, Range<usize>), ItemError> {
        Scanner { ..*self }.next()
    }

    /// The next token and its place.
    pub(super) fn next(&mut self) -> Result<(Token<'a>, Range<usize>), ItemError> {
        let rest = &self.text[self.at..];
        let trimmed = rest.trim_start();
        let start = self.at + rest.len() - trimmed.len();
        let Some(first) = trimmed.chars().next() else {
            self.at = self.text.len();
            return Ok((Token::End, self.at..self.at));
        };
        if let Some(sign) = SIGNS.into_iter().find(|sign| trimmed.starts_with(sign)) {
            self.at = start + sign.len();
            return Ok((Token::Sign(sign), start..self.at));
        }
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let length = trimmed.find(|c| !word(c)).unwrap_or(trimmed.len());
        if length == 0 {
            let span = start..start + first.len_utf8();
            return Err(ItemError::new(Fault::Expected("a name, a number or a sign"), span));
        }
        self.at = start + length;
        let (span, word) = (start..self.at, &trimmed[..length]);
        if !first.is_ascii_digit() {
            return Ok((Token::Word(word), span));
        }
        let Some(value) = number(word) else {
            let what = "a number of at most 64 bits (12, 0x1f or 0o17)";
            return Err(ItemError::new(Fault::Expected(what), span));
        };
        Ok((Token::Number(value), span))
    }

    /// Takes one certain token and tells its place.
    pub(super) fn expect(
        &mut self,
        token: Token<'_>,
        what: &'static str,
    ) -> Result<Range<usize>, ItemError> {
        match self.next()? {
            (found, span) if found == token => Ok(span),
            (_, span) => Err(ItemError::new(Fault::Expected(what), span)),
        }
    }
}

fn number(word: &str) -> Option<u64> {
    if let Some(digits) = word.strip_prefix("0x") {
        u64::from_str_radix(digits, 16).ok()
    } else if let Some(digits) = word.strip_prefix("0o") {
        u64::from_str_radix(digits, 8).ok()
    } else if word.len() > 1 && word.starts_with('0') {
        // C reads 010 as 8, people as 10: neither is meant here.
        None
    } else {
        word.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<Token<'_>> {
        let mut tokens = Scanner::new(text);
        std::iter::from_fn(|| tokens.next().ok().map(|(token, _)| token))
            .take_while(|token| *token != Token::End)
            .collect()
    }

    #[test]
    fn splits_without_spaces() {
        use Token::{Number, Sign, Word};
        let tokens = [Word("a"), Sign("("), Word("_"), Sign(","), Sign("<="), Number(31)];
        assert_eq!(all("a(_,<=0x1f"), tokens);
        assert_eq!(all("0o17 | B"), [Number(15), Sign("|"), Word("B")]);
    }

    #[test]
    fn refuses_what_is_no_token() {
        for text in ["é", "$", "010", "0xg", "18446744073709551616", "12ab", "\"x\""] {
            assert!(Scanner::new(text).next().is_err(), "{text}");
        }
    }
}
