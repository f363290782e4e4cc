//! The policy language as data: every table and key, with its type, default, meaning and the
//! kernel's mechanism behind it.
//!
//! One source for what people and editors read: `review::schema` makes a JSON Schema of it, and
//! `review::reference` the tables of `docs/policy.md`. A test compares it with the keys that the
//! reader knows.

mod audit;
mod facility;
mod layer;
mod link;
mod top;

/// One kind of table.
#[derive(Debug)]
pub struct Table {
    /// Its name in the schema: `layer`.
    pub name: &'static str,
    /// How it is written: `[layer.NAME]`.
    pub header: &'static str,
    /// What it is for, in a sentence or two.
    pub meaning: &'static str,
    /// Its keys, in the order in which they are best read.
    pub keys: &'static [Key],
}

/// One key of a table.
#[derive(Debug)]
pub struct Key {
    /// The key.
    pub name: &'static str,
    /// What its value is.
    pub kind: Kind,
    /// What holds where it isn't written.
    pub default: Default,
    /// What it means.
    pub meaning: &'static str,
    /// What in the kernel, or else in the framework, does it. Empty for what only people read.
    pub kernel: &'static str,
}

/// What holds where a key isn't written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Default {
    /// It must be written.
    Required,
    /// This value, as TOML.
    Value(&'static str),
    /// This, in words.
    Said(&'static str),
}

/// The type of a value.
#[derive(Debug)]
pub enum Kind {
    /// The version of the language, 1.
    Version,
    /// A name of its own.
    Name,
    /// The name of a layer.
    Layer,
    /// A pipe as an object: `pipe.in`.
    Pipe,
    /// Any text.
    Text,
    /// Words for a reviewer; not empty.
    Reason,
    /// `true` or `false`.
    Boolean,
    /// A whole number in this range.
    Integer(i64, i64),
    /// A number of bytes in this range, or a string with a unit.
    Size(u64, u64),
    /// A string with a unit; the range in words.
    Duration(&'static str),
    /// How often: `500/s`.
    Rate,
    /// How many bytes in a while: `1MiB/s`.
    ByteRate,
    /// A public key in 64 hex digits.
    PublicKey,
    /// An absolute path in its plain form.
    Path,
    /// Where a socket listens.
    Address,
    /// Where a connection goes.
    Target,
    /// An octal mode of four digits.
    Mode,
    /// The name of an error, `ENOENT`.
    Errno,
    /// A group of system calls, a call, or a call with conditions.
    Call,
    /// A signal's name without `SIG`.
    Signal,
    /// A capability's name.
    Capability,
    /// A protection that may be missing.
    Protection,
    /// An object of the policy: `file.key`.
    Object,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A list of these; never empty where the flag says so.
    List(&'static Kind, bool),
    /// A table from names to these.
    Names(&'static Kind),
    /// A table from any text to these.
    Texts(&'static Kind),
    /// A table inside.
    Table(&'static Table),
    /// Tables by name: `[layer.NAME]`.
    Tables(&'static Table),
    /// A list of tables: `[[never]]`.
    Array(&'static Table),
    /// One or the other.
    Either(&'static Kind, &'static Kind),
}

/// Every table, in reading order. The first one is the policy itself.
pub const TABLES: [&Table; 19] = [
    &top::POLICY,
    &layer::LAYER,
    &layer::LISTEN,
    &layer::LIMITS,
    &layer::RESTART,
    &link::CHANNEL,
    &link::METHOD,
    &link::DESCRIPTORS,
    &link::FILE,
    &facility::SIGNAL,
    &facility::QUEUE,
    &facility::PIPE,
    &facility::FIFO,
    &facility::SEMAPHORE,
    &facility::REGION,
    &facility::MAPPED_FILE,
    &audit::AUDIT,
    &top::NEVER,
    &top::CEILING,
];

/// `because`, which every table of grants takes.
const BECAUSE: Key = Key {
    name: "because",
    kind: Kind::Reason,
    default: Default::Said("none"),
    meaning: "Why this is granted: who needs it and what for. Dangerous grants are refused without \
              it (E0150).",
    kernel: "",
};

/// `audit`, which every facility takes; of a channel it may be more.
const AUDIT: Key = Key {
    name: "audit",
    kind: Kind::Word(&["none", "digest"]),
    default: Default::Value("\"digest\""),
    meaning: "What the audit log keeps of its use: nothing, or what was done and the hash of what \
              went through. Written, and not `\"none\"`, it demands a log.",
    kernel: "Reported by whoever uses it, and by the supervisor where that does.",
};

/// A key that must be written.
const fn required(
    name: &'static str,
    kind: Kind,
    meaning: &'static str,
    kernel: &'static str,
) -> Key {
    Key { name, kind, default: Default::Required, meaning, kernel }
}

/// A key whose default is a value.
const fn value(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    meaning: &'static str,
    kernel: &'static str,
) -> Key {
    Key { name, kind, default: Default::Value(default), meaning, kernel }
}

/// A key whose default is told in words.
const fn said(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    meaning: &'static str,
    kernel: &'static str,
) -> Key {
    Key { name, kind, default: Default::Said(default), meaning, kernel }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order() {
        let mut names = std::collections::BTreeSet::new();
        for table in TABLES {
            assert!(names.insert(table.name), "{} twice", table.name);
            let mut keys = std::collections::BTreeSet::new();
            for key in table.keys {
                assert!(keys.insert(key.name), "{}.{} twice", table.name, key.name);
                assert!(key.meaning.ends_with('.'), "{}.{}", table.name, key.name);
            }
        }
    }

    /// What the plan's types say is the same as what this table tells people.
    #[test]
    fn defaults_are_those_of_the_plan() {
        use crate::policy::plan::{ChannelPlan, Limits, Restart};
        use crate::policy::value::show_size;
        let told = |table: &Table, name: &str| {
            let key = table.keys.iter().find(|key| key.name == name).unwrap();
            match key.default {
                Default::Value(text) => text.trim_matches('"').to_owned(),
                _ => String::new(),
            }
        };
        let limits = Limits::default();
        assert_eq!(told(&layer::LIMITS, "memory"), show_size(limits.memory));
        assert_eq!(told(&layer::LIMITS, "files"), limits.files.to_string());
        assert_eq!(told(&layer::LIMITS, "tasks"), limits.tasks.to_string());
        assert_eq!(told(&layer::LIMITS, "file-size"), show_size(limits.file_size));
        let restart = Restart::default();
        assert_eq!(told(&layer::RESTART, "max"), restart.max.to_string());
        assert_eq!(told(&layer::RESTART, "within"), format!("{}s", restart.within.as_secs()));
        let most = u64::from(ChannelPlan::DEFAULT_MESSAGE);
        assert_eq!(told(&link::CHANNEL, "max"), show_size(most));
    }
}
