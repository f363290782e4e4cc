//! Checking `[layer.NAME]`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{danger, digits, name, program, syscalls, within};
use crate::policy::code::Code;
use crate::policy::diagnostic::{Diagnostics, Span};
use crate::policy::document::{At, Document, LayerText, RestartText};
use crate::policy::nearest::nearest;
use crate::policy::plan::{
    LayerPlan, Limits, ListenAddress, ListenPlan, Program, Protection, Restart, RestartOn, View,
};
use crate::policy::value::show_size;

/// A layer below this can't even start; one above it is a slip of the unit.
const MEMORY: std::ops::RangeInclusive<u64> = 1 << 20..=1 << 40;
/// Standard streams, the plan's slice, the control socket, and a few channels.
const FILES: std::ops::RangeInclusive<i128> = 8..=1 << 20;
/// As many as the supervisor could ever want to hold open.
const MAX_SOCKETS: usize = 256;
const TASKS: std::ops::RangeInclusive<i128> = 1..=1 << 16;
/// Percent of one processor: up to 1024 processors.
const CPU: std::ops::RangeInclusive<i128> = 1..=102_400;
/// 0 is a layer that can't make a file larger at all.
const FILE_SIZE: std::ops::RangeInclusive<u64> = 0..=1 << 50;
/// A window this short never sees two ends, one this long never forgets.
const WINDOW: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_hours(24);

pub(super) fn all(document: &Document, out: &mut Diagnostics) -> Vec<LayerPlan> {
    one_address_each(&document.layers, out);
    one_user_each(&document.layers, out);
    document.layers.iter().filter_map(|layer| one(layer, out)).collect()
}

fn one(layer: &LayerText, out: &mut Diagnostics) -> Option<LayerPlan> {
    let own_name = name(&layer.name, "a layer", out);
    let program = program::program(layer, out);
    let system = match program {
        Some(Program::Exec(_)) => View::System,
        _ => View::Empty,
    };
    danger::because_has_words(layer.because.as_ref(), out);
    danger::layer(layer, out);
    let plan = LayerPlan {
        connect: Vec::new(),
        stdin: None,
        stdout: None,
        name: own_name?,
        instances: within(
            layer.instances.as_ref(),
            "instances",
            1..=i128::from(LayerPlan::MAX_INSTANCES),
            1,
            digits,
            out,
        ),
        syscalls: syscalls::plan(layer, program.as_ref(), out),
        listen: listen(layer, out),
        limits: limits(layer, out),
        restart: restart(&layer.restart, out),
        optional: optional(layer, out),
        view: layer.view.as_ref().map_or(system, |view| view.value),
        env: program::environment(layer, out),
        capabilities: program::capabilities(layer, out),
        execmem: layer.execmem.as_ref().is_some_and(|yes| yes.value),
        uid: uid(layer, out),
        program: program?,
    };
    Some(plan)
}

fn listen(layer: &LayerText, out: &mut Diagnostics) -> Vec<ListenPlan> {
    if let (Some(exec), Some((first, _))) = (&layer.exec, layer.listen.first()) {
        out.error(Code::NotBuiltYet, &first.span, "sockets of an `exec` layer are not built yet")
            .label("nothing would hand the socket over")
            .also(&exec.span, "it runs a foreign program")
            .help("for now, only `run` layers listen");
    }
    let mut sockets = Vec::new();
    for (text, address) in &layer.listen {
        if let Some(name) = name(text, "a socket", out) {
            sockets.push(ListenPlan {
                name,
                address: address.value.clone(),
                rate: None,
                per_source: None,
            });
        }
    }
    sockets.sort_by(|a, b| a.name.cmp(&b.name));
    sockets
}

fn limits(layer: &LayerText, out: &mut Diagnostics) -> Limits {
    let (text, default) = (&layer.limits, Limits::default());
    let cpu = text.cpu.as_ref();
    Limits {
        memory: within(text.memory.as_ref(), "memory", MEMORY, default.memory, show_size, out),
        files: within(text.files.as_ref(), "files", FILES, default.files, digits, out),
        tasks: within(text.tasks.as_ref(), "tasks", TASKS, default.tasks, digits, out),
        cpu: cpu.map(|_| within(cpu, "cpu", CPU, 100, digits, out)),
        file_size: within(
            text.file_size.as_ref(),
            "file-size",
            FILE_SIZE,
            default.file_size,
            show_size,
            out,
        ),
    }
}

fn restart(text: &RestartText, out: &mut Diagnostics) -> Restart {
    let default = Restart::default();
    let on = text.on.as_ref().map_or(default.on, |on| on.value);
    if let (RestartOn::Never, Some(never)) = (on, &text.on) {
        let useless: [(&str, Option<&Span>); 2] = [
            ("max", text.max.as_ref().map(|max| &max.span)),
            ("within", text.within.as_ref().map(|within| &within.span)),
        ];
        for (key, span) in useless {
            let Some(span) = span else { continue };
            out.error(
                Code::RestartNonsense,
                span,
                format!("`{key}` limits restarts that never are"),
            )
            .label("this has no effect")
            .also(&never.span, "never restarted")
            .help(format!("take out `{key}`, or write `on = \"failure\"`"));
        }
    }
    if let (true, Some(max)) = (on != RestartOn::Never, &text.max)
        && max.value == 0
    {
        let mistake =
            out.error(Code::RestartNonsense, &max.span, "a layer that restarts at most 0 times");
        mistake.label("no restart is ever tolerated");
        if let Some(on) = &text.on {
            mistake.also(&on.span, "restarted here");
        }
        mistake.help("write `restart = { on = \"never\" }`");
        return default;
    }
    if let Some(window) = &text.within
        && !WINDOW.contains(&window.value)
    {
        out.error(Code::OutOfRange, &window.span, "`within` is out of range")
            .label("it is from 100ms to 24h");
    }
    // Where nothing restarts the limits mean nothing; the default keeps the plan canonical.
    Restart {
        on,
        max: within(text.max.as_ref(), "max", 0..=1000, default.max, digits, out),
        within: text.within.as_ref().map_or(default.within, |within| within.value),
        then: text.then.as_ref().map_or(default.then, |then| then.value),
    }
}

fn optional(layer: &LayerText, out: &mut Diagnostics) -> Vec<Protection> {
    let family = |name: &'static str| name.split_once('.').map(|(family, _)| family);
    let mut found = Vec::new();
    for text in &layer.optional {
        let before = found.len();
        found.extend(Protection::ALL.into_iter().filter(|protection| {
            protection.name() == text.value || family(protection.name()) == Some(&text.value)
        }));
        if found.len() == before {
            let message = format!("there is no protection `{}`", text.value.escape_debug());
            let mistake = out.error(Code::UnknownProtection, &text.span, message);
            let names = || Protection::ALL.into_iter().map(Protection::name);
            let near = nearest(&text.value, names().chain(names().filter_map(family)));
            mistake.did_you_mean(near);
            if near.is_none() {
                let all: Vec<_> = names().collect();
                mistake.help(format!("protections are {}", all.join(", ")));
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

fn uid(layer: &LayerText, out: &mut Diagnostics) -> Option<u32> {
    // The largest number means "unchanged" to setresuid(2).
    let most = i128::from(u32::MAX - 1);
    layer.uid.as_ref().map(|uid| within(Some(uid), "uid", 0..=most, 0, digits, out))
}

/// Two sockets on one address: the second `bind` would fail.
fn one_address_each(layers: &[LayerText], out: &mut Diagnostics) {
    let count: usize = layers.iter().map(|layer| layer.listen.len()).sum();
    let last = layers.iter().flat_map(|layer| &layer.listen).next_back();
    if let (true, Some((name, _))) = (count > MAX_SOCKETS, last) {
        let message = format!("{count} listening sockets");
        out.error(Code::OutOfRange, &name.span, message)
            .label(format!("a policy has at most {MAX_SOCKETS}"));
        return;
    }
    let mut taken: Vec<&At<ListenAddress>> = Vec::new();
    for (_, address) in layers.iter().flat_map(|layer| &layer.listen) {
        match taken.iter().find(|other| overlap(&other.value, &address.value)) {
            Some(other) => {
                out.error(Code::AddressTaken, &address.span, "two sockets listen on one address")
                    .label("taken already")
                    .also(&other.span, "by this one")
                    .help("one socket can be read by all instances of its layer");
            }
            None => taken.push(address),
        }
    }
}

/// Whether binding both fails: same port, and the same host or one of them "any host".
fn overlap(a: &ListenAddress, b: &ListenAddress) -> bool {
    match (a, b) {
        (ListenAddress::Tcp(a), ListenAddress::Tcp(b))
        | (ListenAddress::Udp(a), ListenAddress::Udp(b)) => {
            let any = a.ip().is_unspecified() || b.ip().is_unspecified();
            // Port 0 is a fresh one for each.
            a.port() == b.port()
                && a.port() != 0
                && (a.ip() == b.ip() || any && a.is_ipv4() == b.is_ipv4())
        }
        (ListenAddress::Unix(a), ListenAddress::Unix(b)) => a == b,
        _ => false,
    }
}

/// Two layers with one user could end and trace each other.
fn one_user_each(layers: &[LayerText], out: &mut Diagnostics) {
    let mut users: BTreeMap<i128, &At<i128>> = BTreeMap::new();
    for uid in layers.iter().filter_map(|layer| layer.uid.as_ref()) {
        if let Some(first) = users.insert(uid.value, uid) {
            let message = format!("two layers have the user {}", uid.value);
            out.error(Code::SharedUid, &uid.span, message)
                .label("the same user again")
                .also(&first.span, "first here")
                .help("give each its own, or leave `uid` out: then the supervisor does");
        }
    }
}
