//! Reading `[layer.NAME]`.

use super::keys;
use super::section::{Section, string};
use super::{At, LayerText, LimitsText, ListenText, RestartText};
use crate::policy::code::Code;
use crate::policy::diagnostic::Diagnostics;
use crate::policy::plan::{ConnectAddress, GiveUp, RestartOn, View};
use crate::policy::tree::{Node, Value};
use crate::policy::value;

const VIEWS: [(&str, View); 2] = [("empty", View::Empty), ("system", View::System)];

const ENDINGS: [(&str, RestartOn); 3] =
    [("never", RestartOn::Never), ("failure", RestartOn::Failure), ("always", RestartOn::Always)];

const GIVE_UPS: [(&str, GiveUp); 2] =
    [("stop-daemon", GiveUp::StopDaemon), ("leave-down", GiveUp::LeaveDown)];

pub(super) fn read(name: At<String>, value: &Node, out: &mut Diagnostics) -> Option<LayerText> {
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
        connect: connect(&layer, out),
        stdin: layer.string("stdin", out),
        stdout: layer.string("stdout", out),
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

/// `"tcp:127.0.0.1:80"`, or `{ address = "tcp:127.0.0.1:80", rate = "100/s" }`.
fn listen(layer: &Section<'_>, out: &mut Diagnostics) -> Vec<ListenText> {
    let mut sockets = Vec::new();
    for (name, node) in layer.entries("listen", out) {
        let (text, rate, per_source) = if let Value::Table(_) = node.value {
            let Some(socket) = Section::open(node, &keys::LISTEN, out) else { continue };
            let example = "`address = \"tcp:127.0.0.1:80\"`";
            let text = socket.require("address", example, out);
            (text, socket.rate("rate", out), socket.integer("per-source", out))
        } else {
            (string(node, &name.value, out), None, None)
        };
        if let Some(address) = text.and_then(|text| address(&text, value::address, out)) {
            sockets.push(ListenText { name, address, rate, per_source });
        }
    }
    sockets
}

fn connect(layer: &Section<'_>, out: &mut Diagnostics) -> Vec<(At<String>, At<ConnectAddress>)> {
    let pairs = layer.pairs("connect", out);
    let read =
        |(name, text): (_, At<String>)| Some((name, address(&text, value::connect_address, out)?));
    pairs.into_iter().filter_map(read).collect()
}

fn address<T>(
    text: &At<String>,
    read: fn(&str) -> Result<T, String>,
    out: &mut Diagnostics,
) -> Option<At<T>> {
    match read(&text.value) {
        Ok(address) => Some(At { value: address, span: text.span.clone() }),
        Err(why) => {
            let message = format!("`{}` is not an address", text.value.escape_debug());
            out.error(Code::BadAddress, &text.span, message).label(why);
            None
        }
    }
}

pub(super) fn limits(layer: &Section<'_>, out: &mut Diagnostics) -> LimitsText {
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
