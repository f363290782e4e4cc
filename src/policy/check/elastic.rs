//! Checking `instances = { ... }`: layers that have as many copies as there is to do.

use crate::policy::code::Code;
use crate::policy::diagnostic::Diagnostics;
use crate::policy::document::{Document, LayerText};
use crate::policy::plan::{Elastic, ListenAddress, Ready};

/// From how many copies on, and when there are more; `None`: always as many.
pub(super) fn plan(
    layer: &LayerText,
    document: &Document,
    out: &mut Diagnostics,
) -> Option<Elastic> {
    let text = layer.instances.as_ref()?;
    let (most, elastic) = (text.value.most, text.value.elastic?);
    if let Some(exec) = &layer.exec {
        out.error(Code::Contradiction, &text.span, "copies by load of a foreign program")
            .label("it doesn't tell how much it has to do")
            .also(&exec.span, "it runs a foreign program")
            .help(format!("write `instances = {most}`"));
        return None;
    }
    if let Some(per) = &layer.per {
        out.error(Code::Contradiction, &text.span, "copies by load of a layer with `per`")
            .label("how many there are is a matter of its connections")
            .also(&per.span, "each life is for one connection")
            .help(format!("write `instances = {most}`, and `warm = {}`", elastic.min));
        return None;
    }
    if elastic.min > most {
        let message = format!("{} copies at least, of {most} at most", elastic.min);
        out.error(Code::OutOfRange, &text.span, message)
            .label("`min` is more than `max`")
            .help(format!("write `max = {}` or more, or a lower `min`", elastic.min));
    }
    if let Some(ready) = layer.ready.as_ref().filter(|ready| ready.value == Ready::Finished) {
        out.error(Code::Contradiction, &ready.span, "copies by load of a layer that finishes")
            .label("none of them would be there to take more")
            .also(&text.span, "it has as many as there is to do")
            .help(format!("write `instances = {most}`"));
    }
    joined(layer, document, out);
    if !takes(layer, document) {
        out.error(Code::Contradiction, &text.span, "copies by load of a layer that takes nothing")
            .label("nothing says how much it has to do")
            .help(format!("write `instances = {most}`"))
            .help("or give it a listening socket, calls of a channel, or messages of a queue");
    }
    Some(elastic)
}

/// Whether there is something that it may have in its hands.
fn takes(layer: &LayerText, document: &Document) -> bool {
    let own = &layer.name.value;
    let streams = |address: &ListenAddress| !matches!(address, ListenAddress::Udp(_));
    let mut listens = layer.listen.iter().filter_map(|it| it.address.as_ref());
    let mut called = document.channels.iter().filter_map(|channel| channel.to.as_ref());
    let mut received = document.queues.iter().filter_map(|queue| queue.receive.as_ref());
    listens.any(|address| streams(&address.value))
        || called.any(|to| to.value == *own)
        || received.any(|names| names.value.iter().any(|name| name.value == *own))
}

/// A pipe joins one copy to one, and whose it would be changes.
fn joined(layer: &LayerText, document: &Document, out: &mut Diagnostics) {
    let Some(text) = &layer.instances else { return };
    for end in document.pipes.iter().flat_map(|pipe| [&pipe.from, &pipe.to]).flatten() {
        if end.value == layer.name.value {
            out.error(
                Code::NotBuiltYet,
                &end.span,
                "a pipe of a layer with copies by load is not built yet",
            )
            .label("whose pipe it would be changes with what there is to do")
            .also(&text.span, "it has as many copies as there is to do")
            .help("use a channel or a queue");
        }
    }
}
