//! Call expressions: a system call and what its arguments may be.
//!
//! ```text
//! call    = name [ "(" check { "," check } ")" ]        arguments left out may be anything
//! check   = "_"                                         anything
//!         | value                                       equal
//!         | ("!=" | "<" | "<=" | ">" | ">=") value      unsigned comparison
//!         | "in" set                                    one of several values
//!         | "subset" "of" value                         no bit is set outside of value
//!         | "&" value ("==" value | "in" set)           the bits of the first value that are set
//! set     = "{" value { "," value } "}"
//! value   = term { "|" term }                           flags joined
//! term    = ["-"] number | NAME | "~" term | "(" value ")"
//! number  = decimal | 0x hexadecimal | 0o octal
//! ```
//!
//! All conditions of one expression must hold; several expressions for one call are alternatives.
//!
//! ```text
//! ioctl(_, FIONREAD)
//! fcntl(_, in {F_GETFD, F_SETFD})
//! openat(_, _, subset of O_CLOEXEC|O_DIRECTORY)
//! mmap(_, _, & PROT_EXEC == 0)
//! socket(in {AF_INET, AF_INET6}, & SOCK_TYPE_MASK == SOCK_STREAM)
//! prlimit64(0, _, 0)
//! ```
//!
//! The `|` joins bits and nothing else, so it refuses names that are alternatives rather than
//! flags. Which arguments can be conditions, and how many of their bits count, comes from the
//! kernel's prototypes; a pointer can only be compared with 0, for what it points to may change
//! between the check and the use.

use std::ops::Range;

use super::error::{Fault, ItemError};
use super::names;
use super::number::{all_bits, not_a_pointer, null_only, number, unsigned};
use super::prototype::{self, Kind};
use super::scan::{Scanner, Token};
use crate::policy::plan::{CallRule, Compare, Condition, Width};

/// A system call, and when it is granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallItem {
    /// The number on the running architecture.
    pub number: u32,
    /// The name.
    pub name: &'static str,
    /// The alternatives that the expression stands for: one, or more where it says `in`. A single
    /// rule without a condition is the whole call.
    pub rules: Vec<CallRule>,
}

/// The longest expression, in bytes.
const MAX_TEXT: usize = 1024;

/// The most alternatives of one expression; several `in` multiply.
const MAX_RULES: usize = 128;

/// Reads one call expression.
pub(super) fn parse(text: &str) -> Result<CallItem, ItemError> {
    if text.len() > MAX_TEXT {
        return Err(ItemError::new(Fault::TooLong(MAX_TEXT), 0..text.len()));
    }
    let mut tokens = Scanner::new(text);
    let (token, span) = tokens.next()?;
    let Token::Word(word) = token else {
        return Err(ItemError::new(Fault::Expected("the name of a system call"), span));
    };
    let Some((number, name)) =
        names::by_name(word).and_then(|number| Some((number, names::name_of(number)?)))
    else {
        return Err(unknown_call(word, span));
    };

    let mut rules = vec![CallRule(Vec::new())];
    match tokens.next()? {
        (Token::End, _) => return Ok(CallItem { number, name, rules }),
        (Token::Sign("("), _) => {}
        (_, span) => return Err(ItemError::new(Fault::Expected("'(' or the end"), span)),
    }
    let Some(kinds) = prototype::of(name) else {
        return Err(ItemError::new(Fault::NoConditions(name), span));
    };
    let has = kinds.len();
    for (argument, kind) in kinds.map(Some).chain(std::iter::repeat(None)).enumerate() {
        let start = tokens.peek()?.1.start;
        let compares = check(&mut tokens, kind)?;
        let span = start..tokens.position();
        match (compares, kind) {
            (None, _) => {}
            (Some(_), None) => {
                return Err(ItemError::new(Fault::TooManyArguments { call: name, has }, span));
            }
            (Some(_), Some(Kind::Opaque)) => {
                return Err(ItemError::new(
                    Fault::ArgumentNotChecked { call: name, argument },
                    span,
                ));
            }
            (Some(compares), _) if rules.len() * compares.len() > MAX_RULES => {
                return Err(ItemError::new(Fault::TooManyRules(MAX_RULES), span));
            }
            (Some(compares), Some(kind)) => rules = multiply(rules, argument, kind, &compares),
        }
        match tokens.next()? {
            (Token::Sign(","), span) if argument + 1 >= has => {
                return Err(ItemError::new(Fault::TooManyArguments { call: name, has }, span));
            }
            (Token::Sign(","), _) => {}
            (Token::Sign(")"), _) => break,
            (_, span) => return Err(ItemError::new(Fault::Expected("',' or ')'"), span)),
        }
    }
    match tokens.next()? {
        (Token::End, _) => Ok(CallItem { number, name, rules }),
        (_, span) => Err(ItemError::new(Fault::Expected("the end after ')'"), span)),
    }
}

fn unknown_call(word: &str, span: Range<usize>) -> ItemError {
    if names::exists_elsewhere(word) {
        return ItemError::new(Fault::ElsewhereCall(word.to_owned()), span);
    }
    let known = names::all().map(|(_, name)| name);
    ItemError::new(Fault::UnknownCall(word.to_owned()), span).suggest(word, known)
}

/// Adds a condition to every rule, once for each alternative.
fn multiply(
    rules: Vec<CallRule>,
    argument: usize,
    kind: Kind,
    compares: &[Compare],
) -> Vec<CallRule> {
    let width = if kind == Kind::Int { Width::Dword } else { Width::Qword };
    let argument = u8::try_from(argument).unwrap_or(u8::MAX);
    rules
        .into_iter()
        .flat_map(|rule| {
            compares.iter().map(move |&compare| {
                let mut conditions = rule.0.clone();
                conditions.push(Condition { argument, width, compare });
                CallRule(conditions)
            })
        })
        .collect()
}

/// Reads the check of one argument: `None` is anything, otherwise the alternatives.
fn check(tokens: &mut Scanner<'_>, kind: Option<Kind>) -> Result<Option<Vec<Compare>>, ItemError> {
    let kind = kind.unwrap_or(Kind::Opaque);
    let (token, span) = tokens.peek()?;
    match token {
        Token::Word("_") => {
            tokens.next()?;
            return Ok(None);
        }
        Token::Word("in") => {
            tokens.next()?;
            let values = set(tokens, kind)?;
            return Ok(Some(values.into_iter().map(|(value, _)| Compare::Eq(value)).collect()));
        }
        Token::Word("subset") => {
            tokens.next()?;
            tokens.expect(Token::Word("of"), "'of' after 'subset'")?;
            let (allowed, span) = number(tokens, kind)?;
            not_a_pointer(kind, &span)?;
            return match all_bits(kind) & !allowed {
                0 => Err(ItemError::new(Fault::AlwaysTrue, span)),
                mask => Ok(Some(vec![Compare::Masked { mask, value: 0 }])),
            };
        }
        Token::Sign("&") => {
            tokens.next()?;
            return masked(tokens, kind).map(Some);
        }
        _ => {}
    }
    let Token::Sign(sign @ ("!=" | "<" | "<=" | ">" | ">=")) = token else {
        let (value, span) = number(tokens, kind)?;
        null_only(kind, value, &span)?;
        return Ok(Some(vec![Compare::Eq(value)]));
    };
    tokens.next()?;
    if kind == Kind::Vague && matches!(sign, "!=" | ">" | ">=") {
        return Err(ItemError::new(Fault::AmbiguousWidth, span));
    }
    let (value, at) = if sign == "!=" { number(tokens, kind)? } else { unsigned(tokens, kind)? };
    if sign != "!=" {
        not_a_pointer(kind, &at)?;
    }
    null_only(kind, value, &at)?;
    let whole = span.start..at.end;
    match (sign, value) {
        ("<", 0) => Err(ItemError::new(Fault::NeverTrue, whole)),
        (">=", 0) => Err(ItemError::new(Fault::AlwaysTrue, whole)),
        (">", value) if value == all_bits(kind) => Err(ItemError::new(Fault::NeverTrue, whole)),
        ("<=", value) if value == all_bits(kind) => Err(ItemError::new(Fault::AlwaysTrue, whole)),
        ("!=", value) => Ok(Some(vec![Compare::Ne(value)])),
        ("<", value) => Ok(Some(vec![Compare::Lt(value)])),
        ("<=", value) => Ok(Some(vec![Compare::Le(value)])),
        (">", value) => Ok(Some(vec![Compare::Gt(value)])),
        (_, value) => Ok(Some(vec![Compare::Ge(value)])),
    }
}

/// Reads what follows `&`.
fn masked(tokens: &mut Scanner<'_>, kind: Kind) -> Result<Vec<Compare>, ItemError> {
    let (mask, span) = number(tokens, kind)?;
    not_a_pointer(kind, &span)?;
    if mask == 0 {
        return Err(ItemError::new(Fault::AlwaysTrue, span));
    }
    let values = if tokens.peek()?.0 == Token::Word("in") {
        tokens.next()?;
        set(tokens, kind)?
    } else {
        tokens.expect(Token::Sign("=="), "'==' or 'in' after the mask")?;
        vec![number(tokens, kind)?]
    };
    values
        .into_iter()
        .map(|(value, span)| match value & !mask {
            0 => Ok(Compare::Masked { mask, value }),
            _ => Err(ItemError::new(Fault::OutsideMask, span)),
        })
        .collect()
}

/// Reads a set of values.
fn set(tokens: &mut Scanner<'_>, kind: Kind) -> Result<Vec<(u64, Range<usize>)>, ItemError> {
    tokens.expect(Token::Sign("{"), "'{' after 'in'")?;
    let mut values = Vec::new();
    loop {
        let (value, span) = number(tokens, kind)?;
        null_only(kind, value, &span)?;
        values.push((value, span));
        match tokens.next()? {
            (Token::Sign(","), _) => {}
            (Token::Sign("}"), _) => return Ok(values),
            (_, span) => return Err(ItemError::new(Fault::Expected("',' or '}'"), span)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::number::MAX_DEPTH;
    use super::*;

    fn rule(text: &str) -> Vec<(u8, Width, Compare)> {
        let item = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(item.rules.len(), 1, "{text}");
        item.rules[0].0.iter().map(|c| (c.argument, c.width, c.compare)).collect()
    }

    fn fault(text: &str) -> (Fault, String) {
        let error = parse(text).expect_err(text);
        (error.fault.clone(), text[error.span()].to_owned())
    }

    #[test]
    fn a_bare_name_is_the_whole_call() {
        let item = parse(" read ").unwrap();
        assert_eq!((item.name, item.rules), ("read", vec![CallRule(vec![])]));
    }

    #[test]
    fn every_form_means_what_it_says() {
        use Compare::{Eq, Ge, Gt, Le, Lt, Masked, Ne};
        use Width::{Dword, Qword};
        assert_eq!(rule("ioctl(_, FIONREAD)"), [(1, Dword, Eq(0x541b))]);
        assert_eq!(rule("ioctl(_,_,_)"), []);
        assert_eq!(rule("kill(-1, 0x0f)"), [(0, Dword, Eq(0xffff_ffff)), (1, Dword, Eq(15))]);
        assert_eq!(rule("kill(!= 0o17)"), [(0, Dword, Ne(15))]);
        assert_eq!(rule("ftruncate(_, < 1)"), [(1, Qword, Lt(1))]);
        assert_eq!(rule("ftruncate(_, <= 5)"), [(1, Qword, Le(5))]);
        assert_eq!(rule("ftruncate(_, > 5)"), [(1, Qword, Gt(5))]);
        assert_eq!(rule("ftruncate(_, >= 5)"), [(1, Qword, Ge(5))]);
        assert_eq!(rule("prlimit64(0, _, 0)"), [(0, Dword, Eq(0)), (2, Qword, Eq(0))]);
        let exec = Masked { mask: 4, value: 0 };
        assert_eq!(rule("mmap(_, _, & PROT_EXEC == 0)"), [(2, Qword, exec)]);
        let both = Masked { mask: 0xffff_ffff ^ 3, value: 0 };
        assert_eq!(rule("kill(_, subset of 1|2)"), [(1, Dword, both)]);
        let but = Masked { mask: 0xffff_fffc, value: 8 };
        assert_eq!(rule("kill(_, & ~(1|2) == 8)"), [(1, Dword, but)]);
    }

    #[test]
    fn alternatives_are_rules_of_their_own() {
        let item = parse("socket(in {AF_INET, AF_INET6}, & 0xf in {SOCK_STREAM, SOCK_DGRAM})");
        let rules = item.unwrap().rules;
        assert_eq!(rules.len(), 4);
        assert!(rules.iter().all(|rule| rule.0.len() == 2));
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        let none = |fault, at: &str| (fault, at.to_owned());
        assert_eq!(fault("raed"), none(Fault::UnknownCall("raed".into()), "raed"));
        assert_eq!(parse("raed").unwrap_err().nearest().as_deref(), Some("read"));
        let error = parse("ioctl(_, FIONRAED)").unwrap_err();
        assert_eq!(error.nearest().as_deref(), Some("FIONREAD"));
        assert_eq!(&"ioctl(_, FIONRAED)"[error.span()], "FIONRAED");
        assert_eq!(fault("read(3)").0, Fault::NoConditions("read"));
        assert_eq!(fault("dup(1, 2)").0, Fault::TooManyArguments { call: "dup", has: 1 });
        assert_eq!(fault("openat(_, 5)"), none(Fault::Pointer, "5"));
        assert_eq!(fault("openat(_, & 1 == 0)"), none(Fault::Pointer, "1"));
        assert_eq!(
            fault("openat(_, _, _, 0)").0,
            Fault::ArgumentNotChecked { call: "openat", argument: 3 }
        );
        assert_eq!(fault("kill(0x100000000)"), none(Fault::TooWide(32), "0x100000000"));
        let low = "-0xffffffffffffffff";
        assert_eq!(fault(&format!("ftruncate(_, {low})")), none(Fault::TooWide(64), low));
        assert_eq!(fault("ioctl(_, _, != 3)"), none(Fault::AmbiguousWidth, "!="));
        assert_eq!(fault("kill(< -1)"), none(Fault::Negative, "-1"));
        assert_eq!(fault("kill(>= 0)").0, Fault::AlwaysTrue);
        assert_eq!(fault("kill(< 0)").0, Fault::NeverTrue);
        assert_eq!(fault("kill(_, & 1 == 2)"), none(Fault::OutsideMask, "2"));
        assert_eq!(fault("dup(").0, Fault::Expected("a number, a constant or '_'"));
        assert_eq!(fault("dup(1) x"), none(Fault::Expected("the end after ')'"), "x"));
        assert_eq!(fault("").0, Fault::Expected("the name of a system call"));
    }

    #[test]
    fn hostile_expressions_are_bounded() {
        let deep = format!("dup({}1", "(".repeat(2000));
        assert_eq!(fault(&deep).0, Fault::TooLong(MAX_TEXT));
        let deep = format!("dup({}1", "~".repeat(900));
        assert_eq!(fault(&deep).0, Fault::TooDeep(MAX_DEPTH));
        let many = format!("in {{{}1}}", "1,".repeat(20));
        assert_eq!(fault(&format!("kill({many}, {many})")).0, Fault::TooManyRules(MAX_RULES));
    }

    #[test]
    fn a_bar_between_alternatives_is_refused() {
        assert_eq!(fault("fcntl(_, F_GETFD|F_SETFD)").0, Fault::NotFlags("F_SETFD".into()));
        assert!(parse("socket(_, SOCK_STREAM|SOCK_CLOEXEC)").is_ok());
    }
}
