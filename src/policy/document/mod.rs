//! The document: what the text of a policy says, value by value, each with its place.
//!
//! Nothing here is checked against anything else: a document may name layers that don't exist.
//! [`check`](mod@super::check) makes a plan of it.

mod channel;
mod file;
mod gather;
mod keys;
mod layer;
mod section;
mod vars;

use std::time::Duration;

pub(crate) use self::gather::{Gathered, gather};
use self::section::Section;
use super::code::Code;
use super::diagnostic::{Diagnostics, Span};
use super::tree::{Node, Table, Value};
use super::plan::{DescriptorKind, FileRight, GiveUp, ListenAddress, RestartOn, View};

/// A value and its place in the text.
#[derive(Clone, Debug)]
pub(crate) struct At<T> {
    /// The value.
    pub(crate) value: T,
    /// Where it is written.
    pub(crate) span: Span,
}

/// Everything that a policy says.
#[derive(Debug, Default)]
pub(crate) struct Document {
    /// The daemon's name.
    pub(crate) name: Option<At<String>>,
    /// The layers, in the order of the text.
    pub(crate) layers: Vec<LayerText>,
    /// The channels, in the order of the text.
    pub(crate) channels: Vec<ChannelText>,
    /// The files, in the order of the text.
    pub(crate) files: Vec<FileText>,
}

/// `[layer.NAME]`. In this and the next ones, each field is the key of the same name.
#[derive(Debug)]
pub(crate) struct LayerText {
    pub(crate) name: At<String>,
    pub(crate) run: Option<At<String>>,
    pub(crate) exec: Option<At<Vec<At<String>>>>,
    pub(crate) instances: Option<At<i128>>,
    pub(crate) syscalls: Vec<At<String>>,
    pub(crate) refuse: Vec<Pair>,
    pub(crate) listen: Vec<(At<String>, At<ListenAddress>)>,
    pub(crate) limits: LimitsText,
    pub(crate) restart: RestartText,
    pub(crate) optional: Vec<At<String>>,
    pub(crate) because: Option<At<String>>,
    pub(crate) view: Option<At<View>>,
    pub(crate) env: Option<At<Vec<Pair>>>,
    pub(crate) capabilities: Vec<At<String>>,
    pub(crate) execmem: Option<At<bool>>,
    pub(crate) uid: Option<At<i128>>,
}

/// `limits = { ... }`
#[derive(Debug, Default)]
pub(crate) struct LimitsText {
    pub(crate) memory: Option<At<u64>>,
    pub(crate) files: Option<At<i128>>,
    pub(crate) tasks: Option<At<i128>>,
    pub(crate) cpu: Option<At<i128>>,
    pub(crate) file_size: Option<At<u64>>,
}

/// `restart = { ... }`
#[derive(Debug, Default)]
pub(crate) struct RestartText {
    pub(crate) on: Option<At<RestartOn>>,
    pub(crate) max: Option<At<i128>>,
    pub(crate) within: Option<At<Duration>>,
    pub(crate) then: Option<At<GiveUp>>,
}

/// `[channel.NAME]`
#[derive(Debug)]
pub(crate) struct ChannelText {
    pub(crate) name: At<String>,
    pub(crate) from: Option<At<String>>,
    pub(crate) to: Option<At<String>>,
    pub(crate) max: Option<At<u64>>,
    pub(crate) methods: Option<At<Vec<Method>>>,
    pub(crate) fds_max: Option<At<i128>>,
    /// `None` is a kind that is none, and told.
    pub(crate) fds_kinds: Option<At<Vec<Option<DescriptorKind>>>>,
    pub(crate) audit: Option<At<Audit>>,
    pub(crate) because: Option<At<String>>,
}

/// `audit = "..."`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audit {
    /// Nothing is recorded.
    None,
    /// The hash of each message.
    Digest,
    /// Each message whole.
    Payload,
}

/// `[file.NAME]`
#[derive(Debug)]
pub(crate) struct FileText {
    pub(crate) name: At<String>,
    pub(crate) path: Option<At<String>>,
    pub(crate) grant: Option<At<Vec<Grant>>>,
    pub(crate) because: Option<At<String>>,
}

/// A name and a string: `LANG = "C"`, `openat = "ENOENT"`.
pub(crate) type Pair = (At<String>, At<String>);

/// A method, and its largest message where one is given.
pub(crate) type Method = (At<String>, Option<At<u64>>);

/// One entry of `grant = { layer = ["read"] }`: the layer, and its rights.
pub(crate) type Grant = (At<String>, At<Vec<At<FileRight>>>);

/// The version of the language that this library reads.
const VERSION: i128 = 1;

/// Reads a tree, and tells every key and value that is not of the language.
pub(crate) fn read(tree: &Table, out: &mut Diagnostics) -> Document {
    let top = Section::root(tree, &keys::TOP, out);
    let none = |node: &Node| matches!(&node.value, Value::Table(table) if table.is_empty());
    if !top.has("layer") || top.get("layer").is_some_and(none) {
        out.error(Code::NoLayer, &(0..0), "the policy has no layer")
            .help("add one: `[layer.NAME]` with `run` or `exec`");
    }
    // Their contents were looked at when the files were put together.
    let _ = top.entries("vars", out);
    Document {
        name: top.require("name", "the daemon's name, as in `name = \"signer\"`", out),
        layers: named(&top, "layer", out, layer::read),
        channels: named(&top, "channel", out, channel::read),
        files: named(&top, "file", out, file::read),
    }
}

/// Reads `[KIND.NAME]` tables.
fn named<T>(
    top: &Section<'_>,
    kind: &str,
    out: &mut Diagnostics,
    read: fn(At<String>, &Node, &mut Diagnostics) -> Option<T>,
) -> Vec<T> {
    let entries = top.entries(kind, out);
    entries.into_iter().filter_map(|(name, value)| read(name, value, out)).collect()
}
