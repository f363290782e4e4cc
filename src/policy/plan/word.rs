//! Values that policies write as one of a few words.

/// A value that policies write as a word.
pub trait Word: Copy + 'static {
    /// Every value with its word, in the order in which people are told of them.
    const WORDS: &'static [(&'static str, Self)];

    /// The word of this one.
    fn word(self) -> &'static str;
}

/// Gives each value of an enum the word that policies use for it.
macro_rules! words {
    ($type:ident { $($value:ident = $word:literal),+ $(,)? }) => {
        impl $type {
            /// Every one.
            pub const ALL: [Self; [$($word),+].len()] = [$(Self::$value),+];

            /// The word that policies use.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$value => $word),+ }
            }
        }

        impl $crate::policy::plan::Word for $type {
            const WORDS: &'static [(&'static str, Self)] = &[$(($word, Self::$value)),+];

            fn word(self) -> &'static str {
                self.name()
            }
        }
    };
}

pub(crate) use words;
