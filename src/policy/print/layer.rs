//! Printing `[layer.NAME]`.

use super::{REASON, Text, duration, inline, list, quote, rate, size, syscalls};
use crate::policy::capability::CAPABILITIES;
use crate::policy::plan::{GiveUp, LayerPlan, ListenPlan, Program, Protection, RestartOn, View};

pub(super) fn print(layer: &LayerPlan, out: &mut Text) {
    out.table("layer", layer.name.as_str());
    match &layer.program {
        Program::Run(name) => out.line("run", quote(name.as_str())),
        Program::Exec(words) => out.line("exec", list(words)),
    }
    out.line("instances", layer.instances);
    syscalls::print(layer, out);
    let listen = layer.listen.iter().map(|socket| (socket.name.as_str(), self::listen(socket)));
    out.line("listen", inline(listen));
    if !layer.connect.is_empty() {
        let connect = layer.connect.iter();
        let connect = connect.map(|one| (one.name.as_str(), quote(&one.address.to_string())));
        out.line("connect", inline(connect));
    }
    for (key, pipe) in [("stdin", &layer.stdin), ("stdout", &layer.stdout)] {
        if let Some(pipe) = pipe {
            out.line(key, quote(&format!("pipe.{pipe}")));
        }
    }
    limits(layer, out);
    restart(layer, out);
    out.line("optional", list(layer.optional.iter().copied().map(Protection::name)));
    out.line("view", quote(if layer.view == View::Empty { "empty" } else { "system" }));
    if !layer.env.is_empty() {
        let env = layer.env.iter().map(|(key, value)| (key.as_str(), quote(value)));
        out.line("env", inline(env));
    }
    if let Some(threads) = layer.threads {
        out.line("runtime", quote("multi-thread"));
        out.line("threads", threads);
    }
    if !layer.vars.is_empty() {
        out.line("vars", list(layer.vars.keys()));
    }
    out.line("grace", duration(layer.grace));
    let capabilities = layer.capabilities.iter();
    let names = capabilities.filter_map(|number| CAPABILITIES.get(usize::from(*number)));
    out.line("capabilities", list(names));
    out.line("execmem", layer.execmem);
    if let Some(uid) = layer.uid {
        out.line("uid", uid);
    }
    out.line("because", quote(REASON));
}

fn listen(socket: &ListenPlan) -> String {
    let address = quote(&socket.address.to_string());
    if socket.rate.is_none() && socket.per_source.is_none() {
        return address;
    }
    let mut keys = vec![("address", address)];
    keys.extend(socket.rate.map(|limit| ("rate", rate(limit))));
    keys.extend(socket.per_source.map(|most| ("per-source", most.to_string())));
    inline(keys)
}

fn limits(layer: &LayerPlan, out: &mut Text) {
    let limits = &layer.limits;
    let mut keys = vec![
        ("memory", size(limits.memory)),
        ("files", limits.files.to_string()),
        ("tasks", limits.tasks.to_string()),
        ("file-size", size(limits.file_size)),
    ];
    keys.extend(limits.cpu.map(|percent| ("cpu", percent.to_string())));
    out.line("limits", inline(keys));
}

fn restart(layer: &LayerPlan, out: &mut Text) {
    let restart = &layer.restart;
    let on = match restart.on {
        RestartOn::Never => "never",
        RestartOn::Failure => "failure",
        RestartOn::Always => "always",
    };
    let then = match restart.then {
        GiveUp::StopDaemon => "stop-daemon",
        GiveUp::LeaveDown => "leave-down",
    };
    let mut keys = vec![("on", quote(on)), ("then", quote(then))];
    // Without restarts these two are refused, and always the default.
    if restart.on != RestartOn::Never {
        keys.push(("max", restart.max.to_string()));
        keys.push(("within", duration(restart.within)));
        keys.push(("backoff", duration(restart.backoff)));
    }
    out.line("restart", inline(keys));
}
