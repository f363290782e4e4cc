//! The types of values: how each is read, and what people are told of it.
//!
//! A type with a range tells what is out of it where it is read, so that whoever has a text has
//! numbers that the language allows.

use std::marker::PhantomData;
use std::time::Duration;

use super::{At, Kind, Pair, Section, Written, integer_of, section, string, strings};
use crate::policy::code::Code;
use crate::policy::diagnostic::Diagnostics;
use crate::policy::plan::{Audit, Word as Words};
use crate::policy::value::{RateText, show_duration, show_size};

/// What a key takes.
pub(crate) trait Takes {
    /// What its table's text holds of it.
    type Text;

    /// What people are told of it.
    const KIND: Kind;

    /// Reads it.
    fn read(section: &Section<'_>, key: &'static str, out: &mut Diagnostics) -> Self::Text;
}

/// What a key takes that may have a default.
pub(crate) trait Plain: Takes {
    /// Its value.
    type Value;

    /// A value as TOML.
    fn show(value: Self::Value) -> String;
}

/// Units of time, in milliseconds.
pub(crate) const SECOND: u64 = 1000;
pub(crate) const MINUTE: u64 = 60 * SECOND;
pub(crate) const HOUR: u64 = 60 * MINUTE;
pub(crate) const DAY: u64 = 24 * HOUR;

/// A whole number in a range.
pub(crate) struct Integer<T, const LEAST: u64, const MOST: u64>(PhantomData<T>);

impl<T: TryFrom<u64>, const LEAST: u64, const MOST: u64> Takes for Integer<T, LEAST, MOST> {
    type Text = Option<At<T>>;
    const KIND: Kind = Kind::Integer(LEAST, MOST);

    fn read(section: &Section<'_>, key: &'static str, out: &mut Diagnostics) -> Self::Text {
        let written = integer_of(section.get(key)?, key, out)?;
        let range = (LEAST.into(), MOST.into());
        let number = within(&written, key, range, |number| number.to_string(), out);
        fitting(u64::try_from(number).ok()?, written)
    }
}

impl<T: TryFrom<u64> + ToString, const L: u64, const M: u64> Plain for Integer<T, L, M> {
    type Value = T;

    fn show(value: T) -> String {
        value.to_string()
    }
}

/// A number of bytes in a range.
pub(crate) struct Size<T, const LEAST: u64, const MOST: u64>(PhantomData<T>);

impl<T: TryFrom<u64>, const LEAST: u64, const MOST: u64> Takes for Size<T, LEAST, MOST> {
    type Text = Option<At<T>>;
    const KIND: Kind = Kind::Size(LEAST, MOST);

    fn read(section: &Section<'_>, key: &'static str, out: &mut Diagnostics) -> Self::Text {
        let written = section.size(key, out)?;
        let bytes = within(&written, key, (LEAST, MOST), show_size, out);
        fitting(bytes, written)
    }
}

impl<T: TryFrom<u64> + Into<u64>, const L: u64, const M: u64> Plain for Size<T, L, M> {
    type Value = T;

    fn show(value: T) -> String {
        format!("\"{}\"", show_size(value.into()))
    }
}

/// A duration in a range, of milliseconds.
pub(crate) struct Time<const LEAST: u64, const MOST: u64>;

impl<const LEAST: u64, const MOST: u64> Takes for Time<LEAST, MOST> {
    type Text = Option<At<Duration>>;
    const KIND: Kind = Kind::Duration(LEAST, MOST);

    fn read(section: &Section<'_>, key: &'static str, out: &mut Diagnostics) -> Self::Text {
        let mut written = section.duration(key, out)?;
        let range = (Duration::from_millis(LEAST), Duration::from_millis(MOST));
        written.value = within(&written, key, range, show_duration, out);
        Some(written)
    }
}

impl<const LEAST: u64, const MOST: u64> Plain for Time<LEAST, MOST> {
    type Value = Duration;

    fn show(value: Duration) -> String {
        format!("\"{}\"", show_duration(value))
    }
}

/// How long segments are kept: at least as long as one is written.
pub(crate) struct Age;

impl Takes for Age {
    type Text = Option<At<Duration>>;
    const KIND: Kind = Kind::Age("from a `segment-age`");

    fn read(section: &Section<'_>, key: &'static str, out: &mut Diagnostics) -> Self::Text {
        section.duration(key, out)
    }
}

/// `true` or `false`.
pub(crate) struct Boolean;

impl Takes for Boolean {
    type Text = Option<At<bool>>;
    const KIND: Kind = Kind::Boolean;

    fn read(section: &Section<'_>, key: &'static str, out: &mut Diagnostics) -> Self::Text {
        section.boolean(key, out)
    }
}

impl Plain for Boolean {
    type Value = bool;

    fn show(value: bool) -> String {
        value.to_string()
    }
}

/// One of a few words.
pub(crate) struct Word<W>(PhantomData<W>);

impl<W: Words> Takes for Word<W> {
    type Text = Option<At<W>>;
    const KIND: Kind = Kind::Word(names::<W>);

    fn read(section: &Section<'_>, key: &'static str, out: &mut Diagnostics) -> Self::Text {
        section::word(&section.string(key, out)?, &format!("`{key}`"), W::WORDS, out)
    }
}

impl<W: Words> Plain for Word<W> {
    type Value = W;

    fn show(value: W) -> String {
        format!("\"{}\"", value.word())
    }
}

/// Words of which each may be there once; `None` is one that is told to be none.
pub(crate) struct WordList<W>(PhantomData<W>);

impl<W: Words> Takes for WordList<W> {
    type Text = Option<At<Vec<Option<W>>>>;
    const KIND: Kind = Kind::List(&Kind::Word(names::<W>), false);

    fn read(section: &Section<'_>, key: &'static str, out: &mut Diagnostics) -> Self::Text {
        let list = section.strings(key, out)?;
        let what = format!("`{key}`");
        let known = list.value.iter();
        let known = known.map(|text| Some(section::word(text, &what, W::WORDS, out)?.value));
        Some(At { value: known.collect(), span: list.span })
    }
}

/// What the log keeps of a facility that carries no messages: nothing, or digests.
pub(crate) struct Level;

/// What a channel takes besides.
const LEVELS: &[(&str, Audit)] = Audit::WORDS.split_at(2).0;

impl Takes for Level {
    type Text = Option<At<Audit>>;
    const KIND: Kind = Kind::Word(|| LEVELS.iter().map(|(name, _)| *name).collect());

    fn read(section: &Section<'_>, key: &'static str, out: &mut Diagnostics) -> Self::Text {
        section::word(&section.string(key, out)?, &format!("`{key}`"), LEVELS, out)
    }
}

impl Plain for Level {
    type Value = Audit;

    fn show(value: Audit) -> String {
        Word::show(value)
    }
}

/// How often.
pub(crate) struct Rate;

/// How many bytes in a while.
pub(crate) struct ByteRate;

impl Takes for Rate {
    type Text = Option<At<RateText>>;
    const KIND: Kind = Kind::Rate;

    fn read(section: &Section<'_>, key: &'static str, out: &mut Diagnostics) -> Self::Text {
        section.rate(key, out)
    }
}

impl Takes for ByteRate {
    type Text = Option<At<RateText>>;
    const KIND: Kind = Kind::ByteRate;

    fn read(section: &Section<'_>, key: &'static str, out: &mut Diagnostics) -> Self::Text {
        section.rate(key, out)
    }
}

/// Strings that the checker looks at.
macro_rules! strings {
    ($($(#[$doc:meta])* $kind:ident),+ $(,)?) => {$(
        $(#[$doc])*
        pub(crate) struct $kind;

        impl Takes for $kind {
            type Text = Option<At<String>>;
            const KIND: Kind = Kind::$kind;

            fn read(section: &Section<'_>, key: &'static str, out: &mut Diagnostics) -> Self::Text {
                section.string(key, out)
            }
        }
    )+};
}

strings! {
    /// A name of its own.
    Name,
    /// The name of a layer.
    Layer,
    /// A pipe as an object, or `inherit`.
    Pipe,
    /// Any text.
    Text,
    /// Words for a reviewer.
    Reason,
    /// A public key in hex digits.
    PublicKey,
    /// An absolute path.
    Path,
    /// An object of the policy.
    Object,
    /// A group of system calls, a call, or a call with conditions.
    Call,
    /// A signal's name.
    Signal,
    /// A capability's name.
    Capability,
    /// A protection's name.
    Protection,
    /// The name of an error.
    Errno,
    /// An octal mode.
    Mode,
}

/// A list that names something, each once.
pub(crate) struct List<K>(PhantomData<K>);

impl<K: Takes> Takes for List<K> {
    type Text = Option<At<Vec<At<String>>>>;
    const KIND: Kind = Kind::List(&K::KIND, true);

    fn read(section: &Section<'_>, key: &'static str, out: &mut Diagnostics) -> Self::Text {
        section.strings(key, out)
    }
}

/// A list that may be empty, of each once.
pub(crate) struct Any<K>(PhantomData<K>);

impl<K: Takes> Takes for Any<K> {
    type Text = Vec<At<String>>;
    const KIND: Kind = Kind::List(&K::KIND, false);

    fn read(section: &Section<'_>, key: &'static str, out: &mut Diagnostics) -> Self::Text {
        section.strings(key, out).map(|list| list.value).unwrap_or_default()
    }
}

/// What a ceiling lists; where it lists nothing, the table is the place of that.
pub(crate) struct Most<K>(PhantomData<K>);

impl<K: Takes> Takes for Most<K> {
    type Text = At<Vec<At<String>>>;
    const KIND: Kind = Kind::List(&K::KIND, false);

    fn read(section: &Section<'_>, key: &'static str, out: &mut Diagnostics) -> Self::Text {
        let none = || At { value: Vec::new(), span: section.span().clone() };
        section.strings(key, out).unwrap_or_else(none)
    }
}

/// What a ceiling allows; where it doesn't, the table is the place of that.
pub(crate) struct Allowed;

impl Takes for Allowed {
    type Text = At<bool>;
    const KIND: Kind = Kind::Boolean;

    fn read(section: &Section<'_>, key: &'static str, out: &mut Diagnostics) -> Self::Text {
        let no = || At { value: false, span: section.span().clone() };
        section.boolean(key, out).unwrap_or_else(no)
    }
}

/// A program and its arguments, which may well repeat.
pub(crate) struct Command;

impl Takes for Command {
    type Text = Option<At<Vec<At<String>>>>;
    const KIND: Kind = Kind::List(&Kind::Text, true);

    fn read(section: &Section<'_>, key: &'static str, out: &mut Diagnostics) -> Self::Text {
        section.get(key).and_then(|value| strings(value, key, out))
    }
}

/// A table from any text to these.
pub(crate) struct Pairs<K>(PhantomData<K>);

impl<K: Takes> Takes for Pairs<K> {
    type Text = Option<At<Vec<Pair>>>;
    const KIND: Kind = Kind::Texts(&K::KIND);

    fn read(section: &Section<'_>, key: &'static str, out: &mut Diagnostics) -> Self::Text {
        let span = section.get(key)?.span.clone();
        let mut pairs = Vec::new();
        for (name, value) in section.entries(key, out) {
            if let Some(value) = string(value, &name.value, out) {
                pairs.push((name, value));
            }
        }
        Some(At { value: pairs, span })
    }
}

/// A table inside. One that isn't written says nothing.
pub(crate) struct Inside<T>(PhantomData<T>);

impl<T: Written> Takes for Inside<T> {
    type Text = T;
    const KIND: Kind = Kind::Table(T::TABLE);

    fn read(section: &Section<'_>, key: &'static str, out: &mut Diagnostics) -> Self::Text {
        let inside = section.get(key).and_then(|value| Section::open(value, T::TABLE, out));
        inside.unwrap_or_else(|| Section::none(T::TABLE)).read(out)
    }
}

/// The same, where it makes a difference whether it is written.
pub(crate) struct Nested<T>(PhantomData<T>);

impl<T: Written> Takes for Nested<T> {
    type Text = Option<T>;
    const KIND: Kind = Kind::Table(T::TABLE);

    fn read(section: &Section<'_>, key: &'static str, out: &mut Diagnostics) -> Self::Text {
        section.get(key).and_then(|value| Some(Section::open(value, T::TABLE, out)?.read(out)))
    }
}

/// The names of a word's values.
fn names<W: Words>() -> Vec<&'static str> {
    W::WORDS.iter().map(|(name, _)| *name).collect()
}

/// The number, or the end of its range that is nearer where it is told to be out of it. `show`
/// writes the ends.
fn within<N: PartialOrd + Copy>(
    number: &At<N>,
    key: &str,
    (least, most): (N, N),
    show: fn(N) -> String,
    out: &mut Diagnostics,
) -> N {
    let nearest = if number.value < least { least } else { most };
    if (least..=most).contains(&number.value) {
        return number.value;
    }
    out.error(Code::OutOfRange, &number.span, format!("`{key}` is out of range")).label(format!(
        "it is from {} to {}",
        show(least),
        show(most)
    ));
    nearest
}

/// A number in the type of its key, which every number of its range fits.
fn fitting<N, T: TryFrom<u64>>(number: u64, written: At<N>) -> Option<At<T>> {
    T::try_from(number).ok().map(|value| At { value, span: written.span })
}

/// An address of some kind, by its reader; tells one that can't be read.
pub(super) fn address<T>(
    text: &At<String>,
    read: fn(&str) -> Result<T, String>,
    out: &mut Diagnostics,
) -> Option<At<T>> {
    match read(&text.value) {
        Ok(address) => Some(At { value: address, span: text.span.clone() }),
        Err(why) => {
            let message = format!("`{}` is not an address", text.value.escape_debug());
            out.error(Code::BadAddress, &text.span, message).label(why);
            None
        }
    }
}
