//! The document: what the text of a policy says, value by value, each with its place.
//!
//! Nothing here is checked against anything else: a document may name layers that don't exist.
//! [`check`](mod@super::check) makes a plan of it.

mod gather;
mod vars;

pub(crate) use self::gather::{Gathered, gather, lone};
use super::code::Code;
use super::diagnostic::Diagnostics;
use super::language::{self, CEILING_FILE, POLICY, Section, wrong_type};
pub(crate) use super::language::{
    At, AuditText, CeilingText, ChannelText, ConnectText, DescriptorsText, DirectoryText, FifoText,
    FileText, HostText, LayerText, ListenText, LogText, MapGrant, MappedFileText, MethodText,
    MetricsText, NeverText, Pair, PipeText, QueueText, RegionText, ReloadText, RestartText,
    SemaphoreText, SignalText, Written, level,
};
use super::plan::Audit;
use super::tree::{Node, Table, Value};
pub(crate) use super::value::RateText;

/// Everything that a policy says.
#[derive(Debug, Default)]
pub(crate) struct Document {
    /// `[vars]`, with the values that hold.
    pub(crate) vars: Vec<Pair>,
    /// The daemon's name.
    pub(crate) name: Option<At<String>>,
    /// The layers, in the order of the text.
    pub(crate) layers: Vec<LayerText>,
    /// The hosts, in the order of the text.
    pub(crate) hosts: Vec<HostText>,
    /// Which layer runs on which host, where an end of a channel says so.
    pub(crate) placed: Vec<(At<String>, At<String>)>,
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
    pub(crate) regions: Vec<RegionText>,
    pub(crate) mapped_files: Vec<MappedFileText>,
    /// The audit log.
    pub(crate) audit: Option<AuditText>,
    /// What may change while the daemon runs.
    pub(crate) reload: Option<ReloadText>,
    /// Where its numbers are served.
    pub(crate) metrics: Option<MetricsText>,
    /// What must never be possible.
    pub(crate) never: Vec<NeverText>,
}

/// A facility, as far as all kinds are alike.
pub(crate) struct FacilityText<'d> {
    /// Its kind, as in `channel.sign`.
    pub(crate) kind: &'static str,
    /// Its name.
    pub(crate) name: &'d At<String>,
    /// What the audit log keeps of it, if that is written.
    pub(crate) audit: Option<&'d At<Audit>>,
}

impl Document {
    /// Every facility, by kinds.
    pub(crate) fn facilities(&self) -> Vec<FacilityText<'_>> {
        // Taken apart, so that the compiler names this when there is one kind more.
        let Self {
            vars: _,
            name: _,
            layers: _,
            hosts: _,
            placed: _,
            channels,
            files,
            signals,
            queues,
            pipes,
            fifos,
            semaphores,
            regions,
            mapped_files,
            audit: _,
            reload: _,
            metrics: _,
            never: _,
        } = self;
        let mut all = Vec::new();
        macro_rules! add {
            ($($kind:literal: $list:ident,)+) => {$(
                all.extend($list.iter().map(|it| FacilityText {
                    kind: $kind,
                    name: &it.name,
                    audit: it.audit.as_ref(),
                }));
            )+};
        }
        add! {
            "channel": channels,
            "file": files,
            "signal": signals,
            "queue": queues,
            "pipe": pipes,
            "fifo": fifos,
            "semaphore": semaphores,
            "region": regions,
            "mapped-file": mapped_files,
        }
        all
    }
}

/// The version of the language that this library reads.
const VERSION: i128 = 1;

/// Reads a tree, and tells every key and value that is not of the language.
pub(crate) fn read(tree: &Table, out: &mut Diagnostics) -> Document {
    let top = Section::root(tree, &POLICY, out);
    let none = |node: &Node| matches!(&node.value, Value::Table(table) if table.is_empty());
    if !top.has("layer") || top.get("layer").is_some_and(none) {
        out.error(Code::NoLayer, &(0..0), "the policy has no layer")
            .help("add one: `[layer.NAME]` with `run` or `exec`");
    }
    // Their contents were looked at, and told of, when the files were put together.
    let mut vars = Vec::new();
    for (name, node) in top.entries("vars", out) {
        if let Value::String(text) = &node.value {
            vars.push((name, At { value: text.clone(), span: node.span.clone() }));
        }
    }
    top.demand("name", "the daemon's name, as in `name = \"signer\"`", out);
    let mut channels: Vec<ChannelText> = all(&top, out);
    let ends = channels.iter_mut().flat_map(|it| [&mut it.from, &mut it.to]);
    let placed = ends.flatten().filter_map(placed).collect();
    Document {
        vars,
        name: top.string("name", out),
        layers: named(&top, LayerText::TABLE, out, language::layer),
        hosts: all(&top, out),
        placed,
        channels,
        files: all(&top, out),
        signals: all(&top, out),
        queues: all(&top, out),
        pipes: all(&top, out),
        fifos: all(&top, out),
        semaphores: all(&top, out),
        regions: all(&top, out),
        mapped_files: all(&top, out),
        audit: one(&top, out),
        reload: one(&top, out),
        metrics: one(&top, out),
        never: never(&top, out),
    }
}

/// Takes the host off an end of a channel: of `signer@vault`, `signer` and `vault`.
fn placed(end: &mut At<String>) -> Option<(At<String>, At<String>)> {
    let (layer, host) = end.value.split_once('@')?;
    let host = At { value: host.to_owned(), span: end.span.clone() };
    end.value = layer.to_owned();
    Some((end.clone(), host))
}

/// Reads the tree of a ceiling file; `None` if it has no ceiling.
pub(crate) fn read_ceiling(tree: &Table, out: &mut Diagnostics) -> Option<CeilingText> {
    let top = Section::root(tree, &CEILING_FILE, out);
    top.demand("ceiling", "`[ceiling]`, with what any layer may have at most", out);
    Some(Section::open(top.get("ceiling")?, CeilingText::TABLE, out)?.read(out))
}

/// Reads a table of which there is one.
fn one<T: Written>(top: &Section<'_>, out: &mut Diagnostics) -> Option<T> {
    Some(T::read(&Section::open(top.get(T::TABLE.name)?, T::TABLE, out)?, out))
}

/// Reads `[KIND.NAME]` tables.
fn all<T: Written>(top: &Section<'_>, out: &mut Diagnostics) -> Vec<T> {
    named(top, T::TABLE, out, T::read)
}

fn named<T>(
    top: &Section<'_>,
    table: &'static language::Table,
    out: &mut Diagnostics,
    read: fn(&Section<'_>, &mut Diagnostics) -> T,
) -> Vec<T> {
    let mut found = Vec::new();
    for (name, node) in top.entries(table.name, out) {
        let section = Section::open(node, table, out);
        found.extend(section.map(|section| read(&section.called(name), out)));
    }
    found
}

/// Reads `[[never]]`.
fn never(top: &Section<'_>, out: &mut Diagnostics) -> Vec<NeverText> {
    let Some(node) = top.get("never") else { return Vec::new() };
    let Value::List(list) = &node.value else {
        let rule = "`never` is a list of tables, each begun with `[[never]]`";
        return wrong_type(node, rule, out).unwrap_or_default();
    };
    let most = list.iter().take(language::MAX_ENTRIES);
    most.filter_map(|one| language::never(one, out)).collect()
}
