//! The document: what the text of a policy says, value by value, each with its place.
//!
//! Nothing here is checked against anything else: a document may name layers that don't exist.
//! [`check`](mod@super::check) makes a plan of it.

mod audit;
mod ceiling;
mod channel;
mod facility;
mod file;
mod gather;
mod keys;
mod layer;
mod section;
mod vars;

use std::time::Duration;

pub(crate) use self::ceiling::read as read_ceiling;
pub(crate) use self::facility::Full;
pub(crate) use self::gather::{Gathered, gather, lone};
use self::section::Section;
use super::code::Code;
use super::diagnostic::{Diagnostics, Span};
use super::plan::{
    Audit, ConnectAddress, DescriptorKind, Direction, FileRight, GiveUp, ListenAddress, LogFull,
    MapRight, RestartOn, Transport, View,
};
use super::tree::{Node, Table, Value};
pub(crate) use super::value::RateText;

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
    /// The other facilities, each in the order of the text.
    pub(crate) signals: Vec<SignalText>,
    pub(crate) queues: Vec<QueueText>,
    pub(crate) pipes: Vec<PipeText>,
    pub(crate) fifos: Vec<FifoText>,
    pub(crate) semaphores: Vec<SemaphoreText>,
    pub(crate) regions: Vec<MapText>,
    pub(crate) mapped_files: Vec<MapText>,
    /// The audit log.
    pub(crate) audit: Option<AuditText>,
    /// What must never be possible.
    pub(crate) never: Vec<NeverText>,
}

/// `[audit]`
#[derive(Debug)]
pub(crate) struct AuditText {
    pub(crate) directory: Option<At<String>>,
    pub(crate) on_full: Option<At<LogFull>>,
    pub(crate) payload_key: Option<At<String>>,
    pub(crate) segment: Option<At<u64>>,
    pub(crate) segment_age: Option<At<Duration>>,
    pub(crate) keep: Option<At<u64>>,
    pub(crate) keep_age: Option<At<Duration>>,
    pub(crate) ring: Option<At<u64>>,
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
    pub(crate) listen: Vec<ListenText>,
    pub(crate) connect: Vec<(At<String>, At<ConnectAddress>)>,
    pub(crate) stdin: Option<At<String>>,
    pub(crate) stdout: Option<At<String>>,
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

/// One entry of `listen = { ... }`
#[derive(Debug)]
pub(crate) struct ListenText {
    pub(crate) name: At<String>,
    pub(crate) address: At<ListenAddress>,
    pub(crate) rate: Option<At<RateText>>,
    pub(crate) per_source: Option<At<i128>>,
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
    pub(crate) methods: Option<At<Vec<MethodText>>>,
    pub(crate) fds_max: Option<At<i128>>,
    /// `None` is a kind that is none, and told.
    pub(crate) fds_kinds: Option<At<Vec<Option<DescriptorKind>>>>,
    pub(crate) audit: Option<At<Audit>>,
    pub(crate) witness: Option<At<bool>>,
    pub(crate) transport: Option<At<Transport>>,
    pub(crate) because: Option<At<String>>,
}

/// One method of a channel.
#[derive(Debug)]
pub(crate) struct MethodText {
    pub(crate) name: At<String>,
    pub(crate) max: Option<At<u64>>,
    pub(crate) rate: Option<At<RateText>>,
    pub(crate) once: Option<At<bool>>,
    pub(crate) after: Option<At<String>>,
    pub(crate) direction: Option<At<Direction>>,
    pub(crate) stream: Option<At<bool>>,
}

/// `[file.NAME]`
#[derive(Debug)]
pub(crate) struct FileText {
    pub(crate) name: At<String>,
    pub(crate) path: Option<At<String>>,
    pub(crate) grant: Option<At<Vec<Grant>>>,
    pub(crate) deny: Vec<At<String>>,
    pub(crate) max_open: Option<At<i128>>,
    pub(crate) audit: Option<At<Audit>>,
    pub(crate) because: Option<At<String>>,
}

impl FileText {
    /// Whether a layer has any right on it.
    pub(crate) fn is_granted_to(&self, layer: &str) -> bool {
        self.grant.iter().flat_map(|grant| &grant.value).any(|(one, _)| one.value == layer)
    }
}

/// `[signal.NAME]`
#[derive(Debug)]
pub(crate) struct SignalText {
    pub(crate) name: At<String>,
    pub(crate) from: Option<At<String>>,
    pub(crate) to: Option<At<String>>,
    pub(crate) send: Option<At<Vec<At<String>>>>,
    pub(crate) rate: Option<At<RateText>>,
    pub(crate) audit: Option<At<Audit>>,
    pub(crate) because: Option<At<String>>,
}

/// `[queue.NAME]`
#[derive(Debug)]
pub(crate) struct QueueText {
    pub(crate) name: At<String>,
    pub(crate) send: Option<At<Vec<At<String>>>>,
    pub(crate) receive: Option<At<Vec<At<String>>>>,
    pub(crate) depth: Option<At<i128>>,
    pub(crate) max: Option<At<u64>>,
    pub(crate) priorities: Option<At<i128>>,
    pub(crate) on_full: Option<At<Full>>,
    pub(crate) wait: Option<At<Duration>>,
    pub(crate) audit: Option<At<Audit>>,
    pub(crate) because: Option<At<String>>,
}

/// `[pipe.NAME]`
#[derive(Debug)]
pub(crate) struct PipeText {
    pub(crate) name: At<String>,
    pub(crate) from: Option<At<String>>,
    pub(crate) to: Option<At<String>>,
    pub(crate) raw: Option<At<bool>>,
    pub(crate) capacity: Option<At<u64>>,
    pub(crate) rate: Option<At<RateText>>,
    pub(crate) audit: Option<At<Audit>>,
    pub(crate) because: Option<At<String>>,
}

/// `[fifo.NAME]`
#[derive(Debug)]
pub(crate) struct FifoText {
    pub(crate) name: At<String>,
    pub(crate) path: Option<At<String>>,
    pub(crate) to: Option<At<String>>,
    pub(crate) owner: Option<At<i128>>,
    pub(crate) mode: Option<At<String>>,
    pub(crate) max: Option<At<u64>>,
    pub(crate) rate: Option<At<RateText>>,
    pub(crate) audit: Option<At<Audit>>,
    pub(crate) because: Option<At<String>>,
}

/// `[semaphore.NAME]`
#[derive(Debug)]
pub(crate) struct SemaphoreText {
    pub(crate) name: At<String>,
    pub(crate) permits: Option<At<i128>>,
    pub(crate) holders: Option<At<Vec<At<String>>>>,
    pub(crate) lease: Option<At<Duration>>,
    pub(crate) order: Option<At<i128>>,
    pub(crate) audit: Option<At<Audit>>,
    pub(crate) because: Option<At<String>>,
}

/// `[region.NAME]` and `[mapped-file.NAME]`
#[derive(Debug)]
pub(crate) struct MapText {
    pub(crate) name: At<String>,
    pub(crate) path: Option<At<String>>,
    pub(crate) size: Option<At<u64>>,
    pub(crate) durable: Option<At<bool>>,
    pub(crate) grant: Option<At<Vec<MapGrant>>>,
    pub(crate) audit: Option<At<Audit>>,
    pub(crate) because: Option<At<String>>,
}

/// `[[never]]`
#[derive(Debug)]
pub(crate) struct NeverText {
    pub(crate) layer: Option<At<String>>,
    pub(crate) reach: Option<At<String>>,
    pub(crate) through_except: Vec<At<String>>,
    pub(crate) why: Option<At<String>>,
}

/// One entry of `grant = { layer = "rw" }`.
pub(crate) type MapGrant = (At<String>, At<MapRight>);

/// `[ceiling]` of a ceiling file.
#[derive(Debug)]
pub(crate) struct CeilingText {
    pub(crate) syscalls: At<Vec<At<String>>>,
    pub(crate) capabilities: At<Vec<At<String>>>,
    pub(crate) exec: At<Vec<At<String>>>,
    pub(crate) paths: At<Vec<At<String>>>,
    pub(crate) listen: At<Vec<At<String>>>,
    pub(crate) connect: At<Vec<At<String>>>,
    pub(crate) signals: At<Vec<At<String>>>,
    pub(crate) optional: At<Vec<At<String>>>,
    pub(crate) execmem: Option<At<bool>>,
    pub(crate) root: Option<At<bool>>,
    pub(crate) instances: Option<At<i128>>,
    pub(crate) limits: LimitsText,
    pub(crate) audit: Option<At<Audit>>,
    /// The whole table.
    pub(crate) span: Span,
}

/// A name and a string: `LANG = "C"`, `openat = "ENOENT"`.
pub(crate) type Pair = (At<String>, At<String>);

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
        signals: named(&top, "signal", out, facility::signal),
        queues: named(&top, "queue", out, facility::queue),
        pipes: named(&top, "pipe", out, facility::pipe),
        fifos: named(&top, "fifo", out, facility::fifo),
        semaphores: named(&top, "semaphore", out, facility::semaphore),
        regions: named(&top, "region", out, facility::region),
        mapped_files: named(&top, "mapped-file", out, facility::mapped_file),
        audit: audit::read(&top, out),
        never: facility::never(&top, out),
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
