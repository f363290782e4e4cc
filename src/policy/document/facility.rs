//! Reading the facilities beside channels and files, and `[[never]]`.

use super::section::{Section, is_empty, string, strings, word, wrong_type};
use super::{
    At, FifoText, MapText, NeverText, PipeText, QueueText, SemaphoreText, SignalText, audit, keys,
};
use crate::policy::code::Code;
use crate::policy::diagnostic::Diagnostics;
use crate::policy::plan::MapRight;
use crate::policy::tree::{Node, Value};

/// What happens to a message for which there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    Block,
    Reject,
    DropOldest,
}

const FULL: [(&str, Full); 3] =
    [("block", Full::Block), ("reject", Full::Reject), ("drop-oldest", Full::DropOldest)];

const MAPS: [(&str, MapRight); 2] = [("r", MapRight::Read), ("rw", MapRight::ReadWrite)];

const SENDER: &str = "the layer that sends, as in `from = \"a\"`";
const RECEIVER: &str = "the layer that receives, as in `to = \"b\"`";

pub(super) fn signal(name: At<String>, node: &Node, out: &mut Diagnostics) -> Option<SignalText> {
    let signal = Section::open(node, &keys::SIGNAL, out)?;
    signal.demand("send", "the signals, as in `send = [\"HUP\"]`", out);
    Some(SignalText {
        from: signal.require("from", SENDER, out),
        to: signal.require("to", RECEIVER, out),
        send: signal.strings("send", out),
        rate: signal.rate("rate", out),
        audit: audit::of(&signal, out),
        because: signal.string("because", out),
        name,
    })
}

pub(super) fn queue(name: At<String>, node: &Node, out: &mut Diagnostics) -> Option<QueueText> {
    let queue = Section::open(node, &keys::QUEUE, out)?;
    queue.demand("send", "the layers that send, as in `send = [\"a\"]`", out);
    queue.demand("receive", "the layers that receive, as in `receive = [\"b\"]`", out);
    Some(QueueText {
        send: queue.strings("send", out),
        receive: queue.strings("receive", out),
        depth: queue.integer("depth", out),
        max: queue.size("max", out),
        priorities: queue.integer("priorities", out),
        on_full: queue.word("on-full", &FULL, out),
        wait: queue.duration("wait", out),
        audit: audit::of(&queue, out),
        because: queue.string("because", out),
        name,
    })
}

pub(super) fn pipe(name: At<String>, node: &Node, out: &mut Diagnostics) -> Option<PipeText> {
    let pipe = Section::open(node, &keys::PIPE, out)?;
    Some(PipeText {
        from: pipe.require("from", "the layer that writes, as in `from = \"a\"`", out),
        to: pipe.require("to", "the layer that reads, as in `to = \"b\"`", out),
        raw: pipe.boolean("raw", out),
        capacity: pipe.size("capacity", out),
        rate: pipe.rate("rate", out),
        audit: audit::of(&pipe, out),
        because: pipe.string("because", out),
        name,
    })
}

pub(super) fn fifo(name: At<String>, node: &Node, out: &mut Diagnostics) -> Option<FifoText> {
    let fifo = Section::open(node, &keys::FIFO, out)?;
    Some(FifoText {
        path: fifo.require("path", "`path = \"/an/absolute/path\"`", out),
        to: fifo.require("to", "the layer that reads, as in `to = \"b\"`", out),
        owner: fifo.integer("owner", out),
        mode: fifo.string("mode", out),
        max: fifo.size("max", out),
        rate: fifo.rate("rate", out),
        audit: audit::of(&fifo, out),
        because: fifo.string("because", out),
        name,
    })
}

pub(super) fn semaphore(
    name: At<String>,
    node: &Node,
    out: &mut Diagnostics,
) -> Option<SemaphoreText> {
    let semaphore = Section::open(node, &keys::SEMAPHORE, out)?;
    semaphore.demand("permits", "how many there are, as in `permits = 1`", out);
    semaphore.demand("holders", "the layers that lease, as in `holders = [\"a\"]`", out);
    Some(SemaphoreText {
        permits: semaphore.integer("permits", out),
        holders: semaphore.strings("holders", out),
        lease: semaphore.duration("lease", out),
        order: semaphore.integer("order", out),
        audit: audit::of(&semaphore, out),
        because: semaphore.string("because", out),
        name,
    })
}

pub(super) fn region(name: At<String>, node: &Node, out: &mut Diagnostics) -> Option<MapText> {
    let region = Section::open(node, &keys::REGION, out)?;
    Some(mapped(name, &region, None, None, out))
}

pub(super) fn mapped_file(name: At<String>, node: &Node, out: &mut Diagnostics) -> Option<MapText> {
    let file = Section::open(node, &keys::MAPPED_FILE, out)?;
    let path = file.require("path", "`path = \"/an/absolute/path\"`", out);
    let durable = file.boolean("durable", out);
    Some(mapped(name, &file, path, durable, out))
}

fn mapped(
    name: At<String>,
    section: &Section<'_>,
    path: Option<At<String>>,
    durable: Option<At<bool>>,
    out: &mut Diagnostics,
) -> MapText {
    section.demand("size", "its size, as in `size = \"1MiB\"`", out);
    section.demand("grant", "who maps it, as in `grant = { a = \"rw\", b = \"r\" }`", out);
    let mut grant = Vec::new();
    for (layer, node) in section.entries("grant", out) {
        let right = string(node, &layer.value, out);
        if let Some(right) = right.and_then(|right| word(&right, "`grant`", &MAPS, out)) {
            grant.push((layer, right));
        }
    }
    MapText {
        path,
        size: section.size("size", out),
        durable,
        grant: section
            .get("grant")
            .filter(|node| !grant.is_empty() || is_empty(node))
            .map(|node| At { value: grant, span: node.span.clone() }),
        audit: audit::of(section, out),
        because: section.string("because", out),
        name,
    }
}

/// `[[never]]`.
pub(super) fn never(top: &Section<'_>, out: &mut Diagnostics) -> Vec<NeverText> {
    let Some(node) = top.get("never") else { return Vec::new() };
    let Value::List(list) = &node.value else {
        let rule = "`never` is a list of tables, each begun with `[[never]]`";
        return wrong_type(node, rule, out).unwrap_or_default();
    };
    list.iter().take(super::section::MAX_ENTRIES).filter_map(|one| never_one(one, out)).collect()
}

fn never_one(node: &Node, out: &mut Diagnostics) -> Option<NeverText> {
    let never = Section::open(node, &keys::NEVER, out)?;
    let why = never.require("why", "the reason, as in `why = \"...\"`", out);
    if let Some(empty) = why.as_ref().filter(|why| why.value.trim().is_empty()) {
        out.error(Code::EmptyBecause, &empty.span, "`why` says nothing")
            .help("say what would be lost; reviewers read this");
    }
    Some(NeverText {
        why,
        layer: never.require("layer", "who must not, as in `layer = \"parser\"`", out),
        reach: never.require("reach", "what, as in `reach = \"file.key\"`", out),
        through_except: never
            .get("through-except")
            .and_then(|node| strings(node, "through-except", out))
            .map(|list| list.value)
            .unwrap_or_default(),
    })
}
