//! Reading `[layer.NAME]`.

use super::keys;
use super::section::Section;
use super::{At, LayerText, LimitsText, RestartText};
use crate::policy::code::Code;
use crate::policy::diagnostic::Diagnostics;
use crate::policy::plan::{GiveUp, ListenAddress, RestartOn, View};
use crate::policy::tree::Node;
use crate::policy::value;

const VIEWS: [(&str, View); 2] = [("empty", View::Empty), ("system", View::System)];

const ENDINGS: [(&str, RestartOn); 3] =
    [("never", RestartOn::Never), ("failure", RestartOn::Failure), ("always", RestartOn::Always)];

const GIVE_UPS: [(&str, GiveUp); 2] =
    [("stop-daemon", GiveUp::StopDaemon), ("leave-down", GiveUp::LeaveDown)];

pub(super) fn read(
    name: At<String>,
    value: &Node,
    out: &mut Diagnostics,
) -> Option<LayerText> {
    let layer = Section::open(value, &keys::LAYER, out)?;
    let list = |key, out: &mut Diagnostics| {
        layer.strings(key, out).map(|list| list.value).unwrap_or_default()
    };
    // A program's arguments may well repeat.
    let exec = layer.get("exec").and_then(|value| super::section::strings(value, "exec", out));
    if !layer.has("run") && !layer.has("exec") {
        let message = format!("layer `{}` has nothing to run", name.value.escape_debug());
        out.error(Code::NoProgram, layer.span(), message)
            .help("add `run = \"NAME\"`, a function that the program registers")
            .help("or `exec = [\"/usr/bin/PROGRAM\", \"ARGUMENT\"]`");
    }
    Some(LayerText {
        run: layer.string("run", out),
        exec,
        instances: layer.integer("instances", out),
        syscalls: list("syscalls", out),
        refuse: layer.pairs("refuse", out),
        listen: listen(&layer, out),
        limits: limits(&layer, out),
        restart: restart(&layer, out),
        optional: list("optional", out),
        because: layer.string("because", out),
        view: layer.word("view", &VIEWS, out),
        env: layer
            .get("env")
            .map(|value| At { value: layer.pairs("env", out), span: value.span.clone() }),
        capabilities: list("capabilities", out),
        execmem: layer.boolean("execmem", out),
        uid: layer.integer("uid", out),
        name,
    })
}

fn listen(layer: &Section<'_>, out: &mut Diagnostics) -> Vec<(At<String>, At<ListenAddress>)> {
    let mut sockets = Vec::new();
    for (name, text) in layer.pairs("listen", out) {
        match value::address(&text.value) {
            Ok(address) => sockets.push((name, At { value: address, span: text.span })),
            Err(why) => {
                let message = format!("`{}` is not an address", text.value.escape_debug());
                out.error(Code::BadAddress, &text.span, message).label(why);
            }
        }
    }
    sockets
}

fn limits(layer: &Section<'_>, out: &mut Diagnostics) -> LimitsText {
    let limits = layer.get("limits").and_then(|value| Section::open(value, &keys::LIMITS, out));
    let Some(limits) = limits else { return LimitsText::default() };
    LimitsText {
        memory: limits.size("memory", out),
        files: limits.integer("files", out),
        tasks: limits.integer("tasks", out),
        cpu: limits.integer("cpu", out),
        file_size: limits.size("file-size", out),
    }
}

fn restart(layer: &Section<'_>, out: &mut Diagnostics) -> RestartText {
    let restart = layer.get("restart").and_then(|value| Section::open(value, &keys::RESTART, out));
    let Some(restart) = restart else { return RestartText::default() };
    RestartText {
        on: restart.word("on", &ENDINGS, out),
        max: restart.integer("max", out),
        within: restart.duration("within", out),
        then: restart.word("then", &GIVE_UPS, out),
    }
}
