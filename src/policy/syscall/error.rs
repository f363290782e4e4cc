//! What can be wrong with one item of a `syscalls` list.

use std::fmt;
use std::ops::Range;

use super::names::ARCHITECTURE;
use crate::policy::nearest::nearest;

/// Why a text is no item of a `syscalls` list: what is wrong, where, and what was perhaps meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemError {
    pub(super) fault: Fault,
    pub(super) span: Range<usize>,
    pub(super) nearest: Option<String>,
}

impl ItemError {
    pub(super) fn new(fault: Fault, span: Range<usize>) -> Self {
        Self { fault, span, nearest: None }
    }

    /// A group's name without its `@`.
    pub(super) fn a_group(text: &str, name: &str) -> Self {
        let nearest = Some(format!("@{name}"));
        Self { fault: Fault::UnknownCall(name.to_owned()), span: 0..text.len(), nearest }
    }

    /// Finds the candidate that `text` is a slip of the pen from, if any is close.
    pub(super) fn suggest<'a>(
        mut self,
        text: &str,
        candidates: impl Iterator<Item = &'a str>,
    ) -> Self {
        self.nearest = nearest(text, candidates).map(str::to_owned);
        self
    }

    /// The known name that was perhaps meant.
    pub fn nearest(&self) -> Option<String> {
        self.nearest.clone()
    }

    /// The place in the item's text, in bytes.
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    UnknownGroup(String),
    UnknownCall(String),
    ElsewhereCall(String),
    UnknownConstant(String),
    Expected(&'static str),
    TooManyArguments { call: &'static str, has: usize },
    NoConditions(&'static str),
    ArgumentNotChecked { call: &'static str, argument: usize },
    Pointer,
    AmbiguousWidth,
    TooWide(u8),
    NotFlags(String),
    TooLong(usize),
    TooDeep(usize),
    TooManyRules(usize),
    OutsideMask,
    Negative,
    AlwaysTrue,
    NeverTrue,
}

impl fmt::Display for ItemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.fault {
            Fault::UnknownGroup(name) => write!(f, "there is no group `@{name}`"),
            Fault::UnknownCall(name) => write!(f, "there is no system call `{name}`"),
            Fault::ElsewhereCall(name) => {
                write!(f, "{ARCHITECTURE} has no system call `{name}`, other architectures do")
            }
            Fault::UnknownConstant(name) => write!(f, "there is no constant `{name}`"),
            Fault::Expected(what) => write!(f, "expected {what}"),
            Fault::TooManyArguments { call, has } => {
                write!(f, "`{call}` has {has} argument{}", if *has == 1 { "" } else { "s" })
            }
            Fault::NoConditions(call) => write!(
                f,
                "the widths of the arguments of `{call}` are not known, so they can't be \
                 conditions: name the call alone"
            ),
            Fault::ArgumentNotChecked { call, argument } => {
                write!(f, "argument {} of `{call}` can't be a condition: write `_`", argument + 1)
            }
            Fault::Pointer => {
                f.write_str("this argument is a pointer: it may only be '0' or '!= 0'")
            }
            Fault::AmbiguousWidth => f.write_str(
                "the kernel may look at the low half of this argument only, so '!=', '>' and '>=' \
                 would let a set high bit through: say what is allowed instead",
            ),
            Fault::TooWide(bits) => {
                write!(f, "this argument has {bits} bits, the value needs more")
            }
            Fault::NotFlags(name) => write!(
                f,
                "`{name}` is a number, not a flag, so `|` means nothing here: alternatives are \
                 written 'in {{A, B}}'"
            ),
            Fault::TooLong(most) => write!(f, "an item has at most {most} bytes"),
            Fault::TooDeep(most) => write!(f, "'~' and '(' nest at most {most} deep"),
            Fault::TooManyRules(most) => {
                write!(f, "this makes more than {most} alternatives: write several items")
            }
            Fault::OutsideMask => f.write_str("the value has bits outside the mask"),
            Fault::Negative => {
                f.write_str("arguments are compared as unsigned numbers: no value is below 0")
            }
            Fault::AlwaysTrue => f.write_str("this is always true: write '_'"),
            Fault::NeverTrue => f.write_str("this is never true, so the grant would be void"),
        }
    }
}

impl std::error::Error for ItemError {}
