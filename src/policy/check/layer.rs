//! Checking `[layer.NAME]`.

use std::collections::BTreeMap;

use super::{
    connect, danger, directory, elastic, implied, inetd, name, program, rate, socket, standard,
    start, syscalls, workers,
};
use crate::ident::Name;
use crate::policy::code::Code;
use crate::policy::diagnostic::{Diagnostics, Span};
use crate::policy::document::{At, Document, LayerText, LogText, RestartText};
use crate::policy::nearest::nearest;
use crate::policy::plan::{
    LayerPlan, Limits, LogPlan, Program, Protection, Restart, RestartOn, View,
};

/// The init of an `exec` layer and the loader have this many open at times.
const EXEC_FILES: u64 = 32;

pub(super) fn all(document: &Document, out: &mut Diagnostics) -> Vec<LayerPlan> {
    socket::one_address_each(document, out);
    one_user_each(&document.layers, out);
    start::circles(&document.layers, out);
    document.layers.iter().filter_map(|layer| one(layer, document, out)).collect()
}

/// In the log, no layer may pass for one of the framework's.
fn reserved(name: &At<String>, out: &mut Diagnostics) {
    if let Some(rest) = name.value.strip_prefix(LayerPlan::RESERVED) {
        let message = format!("`{}` can't be the name of a layer", name.value.escape_debug());
        let mistake = out.error(Code::BadName, &name.span, message);
        mistake.label(format!("names in `{}` are the framework's own layers", LayerPlan::RESERVED));
        mistake.did_you_mean(Some(rest).filter(|rest| Name::new(rest).is_ok()));
    }
}

fn one(layer: &LayerText, document: &Document, out: &mut Diagnostics) -> Option<LayerPlan> {
    let own_name = name(&layer.name, "a layer", out);
    reserved(&layer.name, out);
    let program = program::program(layer, out);
    let system = match program {
        Some(Program::Exec(_)) => View::system(),
        _ => View::default(),
    };
    danger::because_has_words(layer.because.as_ref(), out);
    danger::layer(layer, out);
    let limits = limits(layer, out);
    let [stdin, stdout, stderr] = standard::all(layer, document, out);
    let plan = LayerPlan {
        name: own_name?,
        instances: layer.instances().most,
        first: 0,
        hosts: Vec::new(),
        elastic: elastic::plan(layer, document, out),
        workers: workers::plan(layer, document, out),
        syscalls: syscalls::plan(
            layer,
            program.as_ref(),
            &implied::items(layer, document),
            implied::appends(layer, document),
            out,
        ),
        listen: socket::listen(layer, out),
        connect: connect::all(layer, document, out),
        stdin,
        stdout,
        stderr,
        threads: program::threads(layer, limits.tasks, out),
        vars: program::vars(layer, &document.vars, out),
        grace: layer.grace(),
        log: log(layer, out),
        stop_signal: program::stop_signal(layer, out),
        limits,
        restart: restart(&layer.restart, out),
        after: start::after(layer, document, out),
        ready: start::ready(layer, out),
        reload: start::reload(layer, out),
        health: start::health(layer, out),
        optional: optional(layer, out),
        view: layer.view.as_ref().map_or(system, |view| view.value.clone()),
        directories: directory::all(layer, out),
        cwd: directory::begin(layer, out),
        umask: directory::umask(layer, out),
        env: program::environment(layer, out),
        capabilities: program::capabilities(layer, out),
        execmem: layer.execmem(),
        uid: layer.uid.as_ref().map(|uid| uid.value),
        group: layer.group.as_ref().map(|group| group.value),
        program: program?,
    };
    inetd::alone(layer, &plan, out);
    Some(plan)
}

fn limits(layer: &LayerText, out: &mut Diagnostics) -> Limits {
    // Its init holds each socket, and the program may.
    let served: u64 = layer.listen.iter().map(inetd::served).sum();
    let least = EXEC_FILES + 2 * layer.listen.len() as u64 + served;
    if let (Some(exec), Some(files)) = (&layer.exec, &layer.limits.files)
        && files.value < least
    {
        out.error(Code::OutOfRange, &files.span, "too few files for a foreign program")
            .label(format!("starting it takes up to {least}"))
            .also(&exec.span, "it runs a foreign program")
            .help(format!("write at least {least}"));
    }
    (&layer.limits).into()
}

fn restart(text: &RestartText, out: &mut Diagnostics) -> Restart {
    let on = text.on();
    if let (RestartOn::Never, Some(never)) = (on, &text.on) {
        let useless: [(&str, Option<&Span>); 3] = [
            ("backoff", text.backoff.as_ref().map(|backoff| &backoff.span)),
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
        return Restart::default();
    }
    text.into()
}

/// A program of another make has lines, and no events.
fn log(layer: &LayerText, out: &mut Diagnostics) -> LogPlan {
    let LogText { level, rate, .. } = &layer.log;
    if let (Some(exec), Some(level)) = (&layer.exec, level) {
        out.error(Code::Contradiction, &level.span, "an `exec` layer's lines have no level")
            .label("what a program prints is shown whatever it says")
            .also(&exec.span, "it runs a foreign program")
            .help("take out `level`");
    }
    let rate = rate::lines(rate.as_ref(), out).unwrap_or(LogPlan::DEFAULT_RATE);
    LogPlan { level: layer.log.level(), rate }
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

/// Two layers with one user could end and trace each other.
fn one_user_each(layers: &[LayerText], out: &mut Diagnostics) {
    let mut users: BTreeMap<u32, &At<u32>> = BTreeMap::new();
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
