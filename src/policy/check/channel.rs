//! Checking `[channel.NAME]`.

use super::{Layers, danger, ends, name, order, rate};
use crate::ident::Name;
use crate::policy::code::Code;
use crate::policy::diagnostic::Diagnostics;
use crate::policy::document::{At, ChannelText, DescriptorsText, Document, MethodText};
use crate::policy::plan::{ChannelPlan, DescriptorPlan, Direction, MethodPlan, Transport};
use crate::policy::value::show_size;

pub(super) fn all(
    document: &Document,
    layers: &Layers<'_>,
    out: &mut Diagnostics,
) -> Vec<ChannelPlan> {
    document.channels.iter().filter_map(|channel| one(channel, layers, out)).collect()
}

fn one(channel: &ChannelText, layers: &Layers<'_>, out: &mut Diagnostics) -> Option<ChannelPlan> {
    let own_name = name(&channel.name, "a channel", out);
    let from = channel.from.as_ref().and_then(|end| end_of(channel, end, layers, out));
    let to = channel.to.as_ref().and_then(|end| end_of(channel, end, layers, out));
    ends::two_layers(channel.from.as_ref(), channel.to.as_ref(), "a channel", out);
    danger::because_has_words(channel.because.as_ref(), out);
    let max = channel.max();
    let methods = methods(channel, max, out);
    let fds = descriptors(&channel.fds, out);
    ring(channel, out);
    Some(ChannelPlan {
        name: own_name?,
        from: from?,
        to: to?,
        max,
        methods,
        fds,
        audit: channel.audit(),
        witness: channel.witness(),
        transport: channel.transport(),
        across: false,
    })
}

/// Tells a transport that can be planned with, and not run yet.
fn ring(channel: &ChannelText, out: &mut Diagnostics) {
    if let Some(transport) = channel.transport.as_ref().filter(|it| it.value == Transport::Ring) {
        out.warning(Code::NotBuiltYet, &transport.span, "the ring is not built yet")
            .label("a daemon with this channel doesn't start")
            .help("take it out: messages travel through a socket, which is the default");
    }
}

fn end_of(
    channel: &ChannelText,
    end: &At<String>,
    layers: &Layers<'_>,
    out: &mut Diagnostics,
) -> Option<Name> {
    let layer = layers.find(end, out)?;
    if let (Some(exec), None) = (&layer.exec, &layer.run) {
        let message = format!(
            "channel `{}` ends at an `exec` layer, which is not built yet",
            channel.name.value.escape_debug()
        );
        out.error(Code::NotBuiltYet, &end.span, message)
            .label("this layer speaks no sealed channels")
            .also(&exec.span, "it runs a foreign program")
            .help("for now, only `run` layers have channels");
    }
    // A bad name is told where the layer is defined.
    Name::new(&end.value).ok()
}

fn methods(channel: &ChannelText, max: u32, out: &mut Diagnostics) -> Vec<MethodPlan> {
    let Some(methods) = &channel.methods else { return Vec::new() };
    if methods.value.is_empty() {
        out.error(Code::Empty, &methods.span, "`methods` names no method")
            .label("nothing could ever be said")
            .help("name the methods, or leave `methods` out for one without a name");
    }
    let mut plans = Vec::new();
    for method in &methods.value {
        let own = method.max.as_ref();
        let own_max = own.map_or(max, |own| own.value);
        if let (true, Some(own)) = (own_max > max, own) {
            too_large(channel, method, own, out);
        }
        let rate = rate::messages(method.rate.as_ref(), out);
        one_way_stream(method, out);
        if let Some(name) = name(&method.name, "a method", out) {
            plans.push(MethodPlan {
                name,
                max: own_max,
                direction: method.direction(),
                rate,
                once: method.once(),
                after: None,
                stream: method.stream(),
                fds: method.fds.as_ref().map(|fds| descriptors(fds, out)),
            });
        }
    }
    plans.sort_by(|a, b| a.name.cmp(&b.name));
    order::methods(&methods.value, &mut plans, out);
    plans
}

/// What goes back is a message without an answer, so it has none that could be a stream.
fn one_way_stream(method: &MethodText, out: &mut Diagnostics) {
    let (Some(stream), Some(way)) = (&method.stream, &method.direction) else { return };
    if stream.value && way.value == Direction::Back {
        out.error(Code::Contradiction, &stream.span, "a stream of answers to a one-way message")
            .label("nothing answers it")
            .also(&way.span, "its `direction` makes it one-way")
            .help("let `from` call it: take out `direction`")
            .help("or take out `stream`: `to` may send as many of these messages as it likes");
    }
}

fn too_large(channel: &ChannelText, method: &MethodText, own: &At<u32>, out: &mut Diagnostics) {
    let message = format!("method `{}` exceeds its channel", method.name.value.escape_debug());
    let mistake = out.error(Code::MethodTooLarge, &own.span, message);
    mistake.label(show_size(own.value.into()));
    let whole = show_size(channel.max().into());
    match &channel.max {
        Some(written) => mistake.also(&written.span, format!("the channel carries {whole}")),
        None => mistake.help(format!("a channel carries {whole} unless `max` is set")),
    };
    mistake.help("raise the channel's `max`, or lower the method's");
}

fn descriptors(fds: &DescriptorsText, out: &mut Diagnostics) -> DescriptorPlan {
    let written = fds.max.as_ref();
    let max = written.map_or(0, |max| max.value);
    let kinds = fds.kinds.as_ref();
    let none = kinds.is_none_or(|kinds| kinds.value.is_empty());
    if let (true, true, Some(written)) = (max > 0, none, written) {
        out.error(Code::DescriptorKinds, &written.span, "descriptors of no kind")
            .label(format!("{max} at most, of which kind?"))
            .help("add their kinds, as in `kinds = [\"file-read\"]`");
    }
    if let (0, false, Some(kinds)) = (max, none, kinds) {
        let mistake = out.error(Code::DescriptorKinds, &kinds.span, "kinds of no descriptors");
        match written {
            Some(zero) => mistake.label("never sent").also(&zero.span, "none may be sent"),
            None => mistake.label("`fds` has no `max`, so none may be sent"),
        };
        mistake.help("set `max` to how many one message may carry, or take `kinds` out");
    }
    let mut kinds: Vec<_> =
        kinds.iter().flat_map(|kinds| &kinds.value).copied().flatten().collect();
    kinds.sort_unstable();
    kinds.dedup();
    DescriptorPlan { max, kinds }
}
