//! The policy language, one row a key: its type with its range, what holds where it isn't written,
//! what it means, and the mechanism behind it.
//!
//! The tables below this file are the one place where a key is spelled. The macro `table!` makes of
//! each the type that holds what a policy says (`QueueText`), its reader, which tells what is out
//! of range, and its defaults (`QueueText::depth`); `review::schema` and `review::reference` make
//! of the same rows what editors and people read. `kinds` has the types of values, `section` the
//! reading of a table.

mod audit;
mod connect;
mod directory;
mod facility;
mod host;
mod kinds;
mod layer;
mod link;
mod section;
mod top;
mod view;

use super::diagnostic::{Diagnostics, Span};
use super::plan::Audit;

pub(crate) use audit::AuditText;
pub(crate) use connect::ConnectText;
pub(crate) use directory::DirectoryText;
pub(crate) use facility::{
    FifoText, MapGrant, MappedFileText, PipeText, QueueText, RegionText, SEALING, SemaphoreText,
    SignalText,
};
pub(crate) use host::HostText;
pub(crate) use kinds::{Plain, Takes};
pub(crate) use layer::{LayerText, LimitsText, ListenText, LogText, RestartText};
pub(crate) use link::{ChannelText, DescriptorsText, FileText, MethodText};
pub(crate) use section::{MAX_ENTRIES, Section, integer_of, string, strings, wrong_type};
pub(crate) use top::{
    CEILING_FILE, CeilingText, MetricsText, NeverText, POLICY, ReloadText, never,
};

pub(crate) use layer::read as layer;

/// One kind of table.
#[derive(Debug)]
pub struct Table {
    /// Its name in the schema: `layer`.
    pub name: &'static str,
    /// How it is written: `[layer.NAME]`.
    pub header: &'static str,
    /// What it is in messages, with its article: "a layer".
    pub what: &'static str,
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
#[derive(Clone, Copy, Debug)]
pub enum Default {
    /// It must be written.
    Required,
    /// This value, as TOML.
    Value(fn() -> String),
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
    /// A layer, perhaps with its host: `signer@vault`.
    End,
    /// A pipe as an object, `pipe.in`, or `inherit`.
    Pipe,
    /// Any text.
    Text,
    /// Words for a reviewer; not empty.
    Reason,
    /// `true` or `false`.
    Boolean,
    /// A whole number in this range.
    Integer(u64, u64),
    /// A number of bytes in this range, or a string with a unit.
    Size(u64, u64),
    /// A string with a unit, from and to so many milliseconds.
    Duration(u64, u64),
    /// A duration that another key bounds, in words.
    Age(&'static str),
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
    /// A part of a view: `tls`, `tmp=16MiB`.
    ViewPart,
    /// An object of the policy: `file.key`.
    Object,
    /// One of these words.
    Word(fn() -> Vec<&'static str>),
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
pub const TABLES: [&Table; 27] = [
    &top::POLICY,
    &host::HOST,
    &layer::LAYER,
    &layer::INSTANCES,
    &layer::LISTEN,
    &connect::CONNECT,
    &layer::LIMITS,
    &layer::LOG,
    &layer::RESTART,
    &layer::HEALTH,
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
    &directory::DIRECTORY,
    &audit::AUDIT,
    &top::RELOAD,
    &top::METRICS,
    &top::NEVER,
    &top::CEILING,
];

/// What belongs to the language and is not built yet, by table. A policy that uses one is refused,
/// for nothing would enforce it.
const LATER: [(&str, &str); 1] = [("layer", "accept")];

/// A value and its place in the text.
#[derive(Clone, Debug)]
pub(crate) struct At<T> {
    /// The value.
    pub(crate) value: T,
    /// Where it is written.
    pub(crate) span: Span,
}

/// A name and a string: `LANG = "C"`, `openat = "ENOENT"`.
pub(crate) type Pair = (At<String>, At<String>);

/// What a policy says in one kind of table.
pub(crate) trait Written: Sized {
    /// The table.
    const TABLE: &'static Table;

    /// Reads a table, and tells every value that is not of its key's type, or out of its range.
    fn read(section: &Section<'_>, out: &mut Diagnostics) -> Self;
}

/// What a policy says in a table that it doesn't have.
pub(crate) fn unwritten<T: Written>() -> T {
    Section::none(T::TABLE).read(&mut Diagnostics::default())
}

/// What is recorded of a facility that says this of it.
pub(crate) fn level(text: Option<&At<Audit>>) -> Audit {
    text.map_or(Audit::Digest, |text| text.value)
}

impl Table {
    /// Whether it takes a key.
    fn has(&self, name: &str) -> bool {
        self.keys.iter().any(|key| key.name == name)
    }

    /// The names of its keys.
    fn names(&self) -> impl Iterator<Item = &'static str> + Clone {
        self.keys.iter().map(|key| key.name)
    }

    /// Whether it will take a key that it doesn't take yet.
    fn will_have(&self, name: &str) -> bool {
        LATER.contains(&(self.name, name))
    }
}

/// Makes a table, and the type of what a policy says in it.
///
/// A row is `key: Kind`, then what holds where it isn't written, its meaning, and its mechanism:
///
/// | written | means |
/// |---|---|
/// | `= VALUE` | this value; the type of the text has a method of the key's name, which gives it |
/// | `=> "EXAMPLE"` | it must be written, and `EXAMPLE` is how |
/// | `, or "WORDS"` | what the words say |
///
/// A key is its field with `-` for `_`. Behind `+` stand the rows that tables share. A `named`
/// table's text has its name.
macro_rules! table {
    (named $($rest:tt)*) => { $crate::policy::language::table!(@ { name } $($rest)*); };
    (@ { $($name:ident)? }
        $table:ident, $text:ident: $id:literal, $header:literal, $what:literal;
        $meaning:literal;
        $($key:ident: $kind:ty
            $(= $value:expr)? $(=> $example:literal)? $(, or $said:literal)?;
            $about:literal; $by:literal;)*
        $(+ $($shared:ident: $like:ty = $row:expr),*;)?
    ) => {
        pub(super) static $table: $crate::policy::language::Table = $crate::policy::language::Table {
            name: $id,
            header: $header,
            what: $what,
            meaning: $meaning,
            keys: &[
                $($crate::policy::language::Key {
                    name: $crate::policy::language::key!($key),
                    kind: <$kind as $crate::policy::language::Takes>::KIND,
                    default: $crate::policy::language::default!(
                        $kind, $(= $value)? $(=> $example)? $(or $said)?
                    ),
                    meaning: $about,
                    kernel: $by,
                },)*
                $($($row,)*)?
            ],
        };

        #[doc = concat!("What a policy says in `", $header, "`. Each field is a key.")]
        #[derive(Debug)]
        pub(crate) struct $text {
            $(pub(crate) $name: $crate::policy::language::At<String>,)?
            $(pub(crate) $key: <$kind as $crate::policy::language::Takes>::Text,)*
            $($(pub(crate) $shared: <$like as $crate::policy::language::Takes>::Text,)*)?
        }

        impl $crate::policy::language::Written for $text {
            const TABLE: &'static $crate::policy::language::Table = &$table;

            fn read(
                section: &$crate::policy::language::Section<'_>,
                out: &mut $crate::policy::diagnostic::Diagnostics,
            ) -> Self {
                use $crate::policy::language::{Takes, key};
                $($(section.demand(key!($key), $example, out);)?)*
                Self {
                    $($name: section.$name(),)?
                    $($key: <$kind as Takes>::read(section, key!($key), out),)*
                    $($($shared: <$like as Takes>::read(section, key!($shared), out),)*)?
                }
            }
        }

        impl $text {
            $($(
                #[doc = concat!("`", stringify!($key), "`, or what holds where it isn't written.")]
                pub(crate) fn $key(&self) -> <$kind as $crate::policy::language::Plain>::Value {
                    self.$key.as_ref().map_or($value, |it| it.value)
                }
            )?)*
        }
    };
    ($($rest:tt)*) => { $crate::policy::language::table!(@ {} $($rest)*); };
}

/// What holds where a key isn't written, by how the row says it.
macro_rules! default {
    ($kind:ty, = $value:expr) => {
        $crate::policy::language::Default::Value(|| {
            <$kind as $crate::policy::language::Plain>::show($value)
        })
    };
    ($kind:ty, => $example:literal) => {
        $crate::policy::language::Default::Required
    };
    ($kind:ty, or $said:literal) => {
        $crate::policy::language::Default::Said($said)
    };
}

/// A key as policies write it: the field's name with `-` for `_`.
macro_rules! key {
    ($field:ident) => {{
        const FIELD: &str = stringify!($field);
        const BYTES: [u8; FIELD.len()] = $crate::policy::language::dashed(FIELD);
        const KEY: &str = match std::str::from_utf8(&BYTES) {
            Ok(key) => key,
            Err(_) => FIELD,
        };
        KEY
    }};
}

pub(crate) use {default, key, table};

/// The bytes of a field's name with `-` for `_`; `N` is its length.
const fn dashed<const N: usize>(field: &str) -> [u8; N] {
    let (from, mut into, mut at) = (field.as_bytes(), [0; N], 0);
    while at < N {
        into[at] = if from[at] == b'_' { b'-' } else { from[at] };
        at += 1;
    }
    into
}

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
    kind: <kinds::Level as Takes>::KIND,
    default: Default::Value(|| "\"digest\"".to_owned()),
    meaning: "What the audit log keeps of its use: nothing, or what was done and the hash of what \
              went through. Written, and not `\"none\"`, it demands a log.",
    kernel: "Reported by whoever uses it, and by the supervisor where that does.",
};

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

    const HEAD: &str =
        "cofferdam = 1\nname = \"d\"\n[layer.a]\nrun = \"a\"\n[layer.b]\nrun = \"b\"\n";

    /// A smallest policy with each table, and how a line is put into it.
    fn with(table: &str, line: &str) -> String {
        let inside = |text: &str, key: &str| format!("{text}{key} = {{ {line} }}\n");
        let layer = "[layer.x]\nrun = \"x\"\n";
        let channel = "[channel.x]\nfrom = \"a\"\nto = \"b\"\n";
        // What is written of a facility demands a log: so there is one already.
        let log = if table == "audit" { "" } else { "[audit]\n" };
        let text = match table {
            "layer" => format!("{layer}{line}\n"),
            "health" | "limits" | "log" | "restart" => inside(layer, table),
            "instances" => {
                let door = "listen = { door = \"tcp:127.0.0.1:0\" }";
                format!("{layer}{door}\ninstances = {{ max = 64, {line} }}\n")
            }
            "directory" => {
                format!("{layer}runtime-directory = {{ {line}, path = \"/run/x\" }}\n")
            }
            "channel" => format!("{channel}{line}\n"),
            "method" => inside(channel, "methods.m"),
            "queue" => format!("[queue.x]\nsend = [\"a\"]\nreceive = [\"b\"]\n{line}\n"),
            "pipe" => format!("[pipe.x]\nfrom = \"a\"\nto = \"b\"\n{line}\n"),
            "fifo" => format!("[fifo.x]\npath = \"/srv/x\"\nto = \"a\"\n{line}\n"),
            "file" => format!("[file.x]\npath = \"/srv\"\ngrant.a = [\"read\"]\n{line}\n"),
            "signal" => {
                format!("[signal.x]\nfrom = \"a\"\nto = \"b\"\nsend = [\"HUP\"]\n{line}\n")
            }
            "semaphore" => {
                format!("[semaphore.x]\npermits = 1\nholders = [\"a\"]\n{line}\n")
            }
            "region" => {
                format!(
                    "[region.x]\nsize = \"4KiB\"\ngrant = {{ a = \"rw\", b = \"r\" }}\n{line}\n"
                )
            }
            "mapped-file" => {
                format!(
                    "[mapped-file.x]\npath = \"/x\"\nsize = \"4KiB\"\ngrant.a = \"rw\"\n{line}\n"
                )
            }
            "audit" | "reload" => format!("[{table}]\n{line}\n"),
            other => panic!("no policy with [{other}] is here"),
        };
        format!("{HEAD}{log}{text}")
    }

    /// Writing a default changes nothing.
    #[test]
    fn a_default_is_what_holds_where_nothing_is_written() {
        let id = |text: &str| {
            let checked = crate::policy::check("a", text.as_bytes());
            let plan = checked.plan.as_ref();
            plan.unwrap_or_else(|| panic!("{text}\n{}", checked.render(false))).id().unwrap()
        };
        for table in TABLES.iter().filter(|table| table.name != "ceiling") {
            for key in table.keys {
                let Default::Value(value) = key.default else { continue };
                let line = format!("{} = {}", key.name, value());
                assert_eq!(id(&with(table.name, "")), id(&with(table.name, &line)), "{line}");
            }
        }
    }

    /// Both ends of every range are taken, and nothing beyond them.
    #[test]
    fn a_range_is_what_is_read() {
        let wrong = |table: &str, key: &str, value: &str| {
            let text = with(table, &format!("{key} = {value}"));
            let checked = crate::policy::check("a", text.as_bytes());
            checked.diagnostics.iter().any(|it| it.message == format!("`{key}` is out of range"))
        };
        // Those of a socket that listens stand a table deeper.
        let tables =
            TABLES.iter().filter(|table| !matches!(table.name, "ceiling" | "listen" | "fds"));
        for (table, key) in tables.flat_map(|table| table.keys.iter().map(|key| (table.name, key)))
        {
            let (least, most, unit) = match key.kind {
                Kind::Integer(least, most) => (least, most, None),
                Kind::Size(least, most) => (least, most, Some("B")),
                Kind::Duration(least, most) => (least, most, Some("ms")),
                _ => continue,
            };
            // A key that must be there is written already.
            if matches!(key.default, Default::Required) {
                continue;
            }
            let value = |n: u64| unit.map_or(n.to_string(), |unit| format!("\"{n}{unit}\""));
            for inside in [least, most] {
                assert!(!wrong(table, key.name, &value(inside)), "{table}.{} = {inside}", key.name);
            }
            assert!(wrong(table, key.name, &value(most + 1)), "{table}.{}", key.name);
            // 0 restarts are told in other words.
            if least > 0 && (table, key.name) != ("restart", "max") {
                assert!(wrong(table, key.name, &value(least - 1)), "{table}.{}", key.name);
            }
        }
    }
}
