//! Reading `[channel.NAME]`.

use super::section::{Section, not_twice, string, word, wrong_type};
use super::{At, ChannelText, MethodText};
use super::{audit, keys};
use crate::policy::diagnostic::Diagnostics;
use crate::policy::plan::{DescriptorKind, Direction, Transport};
use crate::policy::tree::{Node, Value};

const TRANSPORTS: [(&str, Transport); 2] =
    [("socket", Transport::Socket), ("ring", Transport::Ring)];

const DIRECTIONS: [(&str, Direction); 2] = [("forth", Direction::Forth), ("back", Direction::Back)];

const KINDS: [(&str, DescriptorKind); 7] = [
    ("file-read", DescriptorKind::FileRead),
    ("file-write", DescriptorKind::FileWrite),
    ("stream", DescriptorKind::Stream),
    ("datagram", DescriptorKind::Datagram),
    ("pipe-read", DescriptorKind::PipeRead),
    ("pipe-write", DescriptorKind::PipeWrite),
    ("sealed-memory", DescriptorKind::SealedMemory),
];

pub(super) fn read(name: At<String>, value: &Node, out: &mut Diagnostics) -> Option<ChannelText> {
    let channel = Section::open(value, &keys::CHANNEL, out)?;
    let fds = channel.get("fds").and_then(|value| Section::open(value, &keys::DESCRIPTORS, out));
    Some(ChannelText {
        from: channel.require("from", "the layer that speaks first, as in `from = \"a\"`", out),
        to: channel.require("to", "the layer that answers, as in `to = \"b\"`", out),
        max: channel.size("max", out),
        methods: channel.get("methods").and_then(|value| methods(value, &channel, out)),
        fds_max: fds.as_ref().and_then(|fds| fds.integer("max", out)),
        fds_kinds: fds.as_ref().and_then(|fds| kinds(fds, out)),
        audit: audit::of_channel(&channel, out),
        witness: channel.boolean("witness", out),
        transport: channel.word("transport", &TRANSPORTS, out),
        because: channel.string("because", out),
        name,
    })
}

/// `["sign"]`, or `{ sign = { max = "4KiB" } }`.
fn methods(
    value: &Node,
    channel: &Section<'_>,
    out: &mut Diagnostics,
) -> Option<At<Vec<MethodText>>> {
    let methods = match &value.value {
        Value::List(list) => {
            let names: Vec<_> =
                list.iter().filter_map(|item| string(item, "methods", out)).collect();
            not_twice(names.iter(), out);
            let plain = |name| MethodText {
                name,
                max: None,
                rate: None,
                once: None,
                after: None,
                direction: None,
                stream: None,
            };
            names.into_iter().map(plain).collect()
        }
        Value::Table(_) => {
            let entries = channel.entries("methods", out);
            let read = |(name, value)| {
                let method = Section::open(value, &keys::METHOD, out)?;
                Some(MethodText {
                    max: method.size("max", out),
                    rate: method.rate("rate", out),
                    once: method.boolean("once", out),
                    after: method.string("after", out),
                    direction: method.word("direction", &DIRECTIONS, out),
                    stream: method.boolean("stream", out),
                    name,
                })
            };
            entries.into_iter().filter_map(read).collect()
        }
        _ => return wrong_type(value, "`methods` is a list of names, or a table of methods", out),
    };
    Some(At { value: methods, span: value.span.clone() })
}

fn kinds(fds: &Section<'_>, out: &mut Diagnostics) -> Option<At<Vec<Option<DescriptorKind>>>> {
    let list = fds.strings("kinds", out)?;
    let kinds =
        list.value.iter().map(|kind| Some(word(kind, "`kinds`", &KINDS, out)?.value)).collect();
    Some(At { value: kinds, span: list.span })
}
