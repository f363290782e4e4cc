//! The numbers of call expressions: constants, flags joined with `|`, and what fits an argument.

use std::ops::Range;

use super::constants::{self, Sort};
use super::error::{Fault, ItemError};
use super::prototype::Kind;
use super::scan::{Scanner, Token};

/// How deep `~` and parentheses nest.
pub(super) const MAX_DEPTH: usize = 16;

/// Reads a value and cuts it to the argument's width.
pub(super) fn number(
    tokens: &mut Scanner<'_>,
    kind: Kind,
) -> Result<(u64, Range<usize>), ItemError> {
    let (value, span) = value(tokens, 0)?;
    fit(value, kind, &span).map(|value| (value, span))
}

/// Reads a value that may not be negative, for there is no order in which it would be.
pub(super) fn unsigned(
    tokens: &mut Scanner<'_>,
    kind: Kind,
) -> Result<(u64, Range<usize>), ItemError> {
    let (value, span) = value(tokens, 0)?;
    if value < 0 {
        return Err(ItemError::new(Fault::Negative, span));
    }
    fit(value, kind, &span).map(|value| (value, span))
}

/// Terms with `|` between them.
fn value(tokens: &mut Scanner<'_>, depth: usize) -> Result<(i128, Range<usize>), ItemError> {
    let (mut total, mut sort, mut span) = term(tokens, depth)?;
    while tokens.peek()?.0 == Token::Sign("|") {
        let (_, bar) = tokens.next()?;
        let (more, other, at) = term(tokens, depth)?;
        // One number may carry flags, as in SOCK_STREAM|SOCK_CLOEXEC; two numbers mean a slip.
        if sort == Sort::Number && other == Sort::Number {
            let name = tokens.text(&at).to_owned();
            return Err(ItemError::new(Fault::NotFlags(name), bar.start..at.end));
        }
        if other == Sort::Number {
            sort = Sort::Number;
        }
        total |= more;
        span.end = at.end;
    }
    Ok((total, span))
}

fn term(tokens: &mut Scanner<'_>, depth: usize) -> Result<(i128, Sort, Range<usize>), ItemError> {
    let (token, span) = tokens.next()?;
    if depth > MAX_DEPTH {
        return Err(ItemError::new(Fault::TooDeep(MAX_DEPTH), span));
    }
    match token {
        Token::Number(value) => Ok((value.into(), Sort::Flag, span)),
        Token::Sign("-") => match tokens.next()? {
            (Token::Number(value), end) => {
                Ok((-i128::from(value), Sort::Number, span.start..end.end))
            }
            (_, span) => Err(ItemError::new(Fault::Expected("a number after '-'"), span)),
        },
        Token::Sign("~") => {
            let (value, _, end) = term(tokens, depth + 1)?;
            Ok((!value, Sort::Flag, span.start..end.end))
        }
        Token::Sign("(") => {
            let (value, _) = value(tokens, depth + 1)?;
            let end = tokens.expect(Token::Sign(")"), "')'")?;
            Ok((value, Sort::Flag, span.start..end.end))
        }
        Token::Word(name) => match constants::find(name) {
            Some((value, sort)) => Ok((value.into(), sort, span)),
            None => Err(ItemError::new(Fault::UnknownConstant(name.to_owned()), span)
                .suggest(name, constants::names())),
        },
        _ => Err(ItemError::new(Fault::Expected("a number, a constant or '_'"), span)),
    }
}

/// The value as the kernel sees it in an argument of this kind.
fn fit(value: i128, kind: Kind, span: &Range<usize>) -> Result<u64, ItemError> {
    let bits: u8 = if kind == Kind::Int { 32 } else { 64 };
    if value >= 1 << bits || value < -(1 << (bits - 1)) {
        return Err(ItemError::new(Fault::TooWide(bits), span.clone()));
    }
    // Two's complement: -1 becomes all ones of that width.
    Ok(u64::try_from(value & ((1 << bits) - 1)).unwrap_or(u64::MAX))
}

/// The largest value of an argument of this kind.
pub(super) fn all_bits(kind: Kind) -> u64 {
    if kind == Kind::Int { u64::from(u32::MAX) } else { u64::MAX }
}

/// Refuses what makes no sense of an address.
pub(super) fn not_a_pointer(kind: Kind, span: &Range<usize>) -> Result<(), ItemError> {
    if kind == Kind::Pointer {
        return Err(ItemError::new(Fault::Pointer, span.clone()));
    }
    Ok(())
}

/// Refuses to compare an address with anything but 0.
pub(super) fn null_only(kind: Kind, value: u64, span: &Range<usize>) -> Result<(), ItemError> {
    if value == 0 { Ok(()) } else { not_a_pointer(kind, span) }
}
