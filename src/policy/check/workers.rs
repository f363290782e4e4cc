//! Checking `per = "connection"`: a process for each connection.

use crate::policy::code::Code;
use crate::policy::diagnostic::Diagnostics;
use crate::policy::document::{Document, LayerText};
use crate::policy::plan::{ListenAddress, Ready, Workers};

/// What a layer's lives are for; `None` unless each serves one connection.
pub(super) fn plan(
    layer: &LayerText,
    document: &Document,
    out: &mut Diagnostics,
) -> Option<Workers> {
    let Some(per) = &layer.per else {
        let useless = [
            ("warm", layer.warm.as_ref().map(|it| &it.span)),
            ("lifetime", layer.lifetime.as_ref().map(|it| &it.span)),
            ("wait", layer.wait.as_ref().map(|it| &it.span)),
        ];
        for (key, span) in useless {
            let Some(span) = span else { continue };
            out.error(Code::Contradiction, span, format!("`{key}` of a layer without `per`"))
                .label("its lives are for no connection")
                .help(format!("take out `{key}`, or add `per = \"connection\"`"));
        }
        return None;
    };
    if let Some(exec) = &layer.exec {
        out.error(Code::Contradiction, &per.span, "`per` of a foreign program")
            .label("it doesn't ask the library for its connection")
            .also(&exec.span, "it runs a foreign program")
            .help("take out `per`; `listen = { NAME = { pass = \"inetd\", ... } }` starts it for each");
    }
    listener(layer, out);
    if let Some(ready) = layer.ready.as_ref().filter(|ready| ready.value == Ready::Finished) {
        out.error(Code::Contradiction, &ready.span, "`ready = \"finished\"` of a layer with `per`")
            .label("it never finishes: each life is followed by others")
            .also(&per.span, "each life is for one connection")
            .help("take out `ready`, or write `ready = \"told\"`");
    }
    for channel in &document.channels {
        if let Some(to) = channel.to.as_ref().filter(|to| to.value == layer.name.value) {
            out.error(Code::Contradiction, &to.span, "calls to a layer with `per`")
                .label("each of its processes is there for its connection, and answers nobody else")
                .also(&per.span, "each life is for one connection")
                .help("turn the channel round: they may call");
        }
    }
    for end in document.pipes.iter().flat_map(|pipe| [&pipe.from, &pipe.to]).flatten() {
        if end.value == layer.name.value {
            out.error(
                Code::NotBuiltYet,
                &end.span,
                "a pipe of a layer with `per` is not built yet",
            )
            .label("whose pipe it would be changes with each connection")
            .also(&per.span, "each life is for one connection")
            .help("use a channel, on which each process says who it is");
        }
    }
    let warm = layer.warm.as_ref().map_or(1, |warm| warm.value);
    if let Some(text) = layer.warm.as_ref().filter(|_| warm > layer.instances().most) {
        let message = format!("{warm} are to wait, of {} in all", layer.instances().most);
        let mistake = out.error(Code::OutOfRange, &text.span, message);
        mistake.label("more than `instances`");
        if let Some(instances) = &layer.instances {
            mistake.also(&instances.span, "it is set here");
        }
        mistake.help(format!("write `instances = {warm}` or more, or a lower `warm`"));
    }
    Some(Workers {
        warm,
        lifetime: layer.lifetime.as_ref().map(|it| it.value),
        wait: layer.wait.as_ref().map(|it| it.value),
    })
}

/// Connections come by one socket of streams, which has no `rate`: no process knows of the others.
fn listener(layer: &LayerText, out: &mut Diagnostics) {
    let Some(per) = &layer.per else { return };
    let [only] = &*layer.listen else {
        let span = layer.listen.get(1).map_or(&per.span, |second| &second.name.span);
        let count = layer.listen.len();
        out.error(Code::Contradiction, span, format!("`per` with {count} listening sockets"))
            .label("each process serves one connection of one socket")
            .help("write `listen = { NAME = \"tcp:ADDRESS:PORT\" }` with a single name");
        return;
    };
    if let Some(address) = &only.address
        && matches!(address.value, ListenAddress::Udp(_))
    {
        out.error(Code::Contradiction, &address.span, "UDP has no connections")
            .label("no process could be started for one")
            .also(&per.span, "each life is for one connection")
            .help("take out `per`");
    }
    if let Some(rate) = &only.rate {
        out.error(Code::NotBuiltYet, &rate.span, "`rate` beside `per` is not built yet")
            .label("each process knows of its own connection only")
            .also(&per.span, "each life is for one connection")
            .help("take out `rate`; `per-source` and `instances` bound how many are served");
    }
}
