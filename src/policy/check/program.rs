//! Checking what runs in a layer: the program, its environment, its capabilities.

use std::collections::BTreeMap;

use super::name;
use crate::policy::capability::CAPABILITIES;
use crate::policy::code::Code;
use crate::policy::diagnostic::Diagnostics;
use crate::policy::document::{At, LayerText, Pair};
use crate::policy::nearest::nearest;
use crate::policy::plan::{Program, Runtime, StopSignal};
use crate::policy::value;

/// What runs; `None` if that is told to be wrong.
pub(super) fn program(layer: &LayerText, out: &mut Diagnostics) -> Option<Program> {
    match (&layer.run, &layer.exec) {
        (Some(run), Some(exec)) => {
            let message = format!("layer `{}` has two programs", layer.name.value.escape_debug());
            out.error(Code::TwoPrograms, &exec.span, message)
                .label("a program of its own")
                .also(&run.span, "and a function of the daemon's program")
                .help("keep one of `run` and `exec`");
            None
        }
        (Some(run), None) => name(run, "a function", out).map(Program::Run),
        (None, Some(exec)) => {
            let Some(program) = exec.value.first() else {
                out.error(Code::BadExec, &exec.span, "`exec` names no program")
                    .label("the list is empty")
                    .help("write the program's path first, as in `[\"/usr/bin/jq\", \".\"]`");
                return None;
            };
            if let Err(why) = value::path(&program.value) {
                let message = format!("`{}` can't be run", program.value.escape_debug());
                let mistake = out.error(Code::BadExec, &program.span, message);
                mistake.label(why);
                if !program.value.contains('/') && !program.value.is_empty() {
                    mistake.help("no search path is used: write the whole path");
                }
            }
            for text in exec.value.iter().filter(|text| text.value.contains('\0')) {
                out.error(Code::BadExec, &text.span, "an argument holds a NUL")
                    .label("arguments end at the first NUL");
            }
            // A program that is wrong still tells which kind of layer it is.
            Some(Program::Exec(exec.value.iter().map(|text| text.value.clone()).collect()))
        }
        (None, None) => None,
    }
}

pub(super) fn environment(layer: &LayerText, out: &mut Diagnostics) -> BTreeMap<String, String> {
    let Some(env) = &layer.env else { return BTreeMap::new() };
    for (key, value) in &env.value {
        let rule = match key.value.as_str() {
            "" => "a variable needs a name",
            text if text.contains('=') => "a variable's name has no `=`",
            text if text.contains('\0') => "a variable's name has no NUL",
            _ => "",
        };
        if !rule.is_empty() {
            let message = format!("`{}` can't be set", key.value.escape_debug());
            out.error(Code::BadEnvironment, &key.span, message).label(rule);
        } else if let (Some(run), false) = (&layer.run, is_harmless(&key.value)) {
            let message = format!("`{}` can't be set for a `run` layer", key.value.escape_debug());
            out.error(Code::BadEnvironment, &key.span, message)
                .label("it is read before the layer is confined")
                .also(&run.span, "the layer is a function of the daemon's program")
                .help(format!("the names are {}, and `APP_...`", HARMLESS.join(", ")));
        }
        if value.value.contains('\0') {
            out.error(Code::BadEnvironment, &value.span, "a variable's value holds a NUL")
                .label("it would end at the first NUL");
        }
    }
    env.value.iter().map(|(key, value)| (key.value.clone(), value.value.clone())).collect()
}

/// What may be set for the daemon's own program: it is started unconfined, so nothing that the
/// loader (ld.so(8)), the allocator or the C library obeys.
const HARMLESS: [&str; 4] = ["RUST_LOG", "RUST_BACKTRACE", "RUST_LIB_BACKTRACE", "NO_COLOR"];

fn is_harmless(name: &str) -> bool {
    let own = |rest: &str| {
        !rest.is_empty()
            && rest.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
    };
    HARMLESS.contains(&name) || name.strip_prefix("APP_").is_some_and(own)
}

/// The variables that its code may read. Those that are not declared have been told.
pub(super) fn vars(
    layer: &LayerText,
    declared: &[Pair],
    out: &mut Diagnostics,
) -> BTreeMap<String, String> {
    if let (Some(exec), Some(first)) = (&layer.exec, layer.vars.first()) {
        out.error(Code::Contradiction, &first.span, "an `exec` layer can't read variables")
            .label("nothing would hand them over")
            .also(&exec.span, "it runs a foreign program")
            .help("write `${NAME}` in its arguments or its `env`");
    }
    let value = |name: &At<String>| {
        let (_, value) = declared.iter().find(|(declared, _)| declared.value == name.value)?;
        Some((name.value.clone(), value.value.clone()))
    };
    layer.vars.iter().filter_map(value).collect()
}

/// What asks its program to finish.
pub(super) fn stop_signal(layer: &LayerText, out: &mut Diagnostics) -> StopSignal {
    let written = layer.stop_signal.as_ref().filter(|it| it.value != StopSignal::default());
    if let (Some(run), Some(text)) = (&layer.run, written) {
        out.error(
            Code::Contradiction,
            &text.span,
            "a `run` layer is asked to finish by the library",
        )
        .label("this has no effect")
        .also(&run.span, "the layer is a function of the daemon's program")
        .help("take it out");
    }
    layer.stop_signal()
}

/// How many worker threads its runtime has, if it has several.
pub(super) fn threads(layer: &LayerText, tasks: u64, out: &mut Diagnostics) -> Option<u16> {
    let (runtime, threads) = (layer.runtime.as_ref(), layer.threads.as_ref());
    let first = runtime.map(|it| &it.span).or(threads.map(|it| &it.span))?;
    if let Some(exec) = &layer.exec {
        out.error(Code::Contradiction, first, "a foreign program brings its own runtime")
            .label("this has no effect")
            .also(&exec.span, "it runs a foreign program")
            .help("take it out");
        return None;
    }
    if layer.runtime() == Runtime::SingleThread {
        if let Some(threads) = threads {
            out.error(Code::Contradiction, &threads.span, "threads of a runtime that has none")
                .label("this has no effect")
                .help("add `runtime = \"multi-thread\"`, or take `threads` out");
        }
        return None;
    }
    let threads = threads.map_or(2, |threads| threads.value);
    if u64::from(threads) >= tasks {
        let message = format!("{threads} worker threads and the first one are too many tasks");
        out.error(Code::OutOfRange, first, message)
            .label(format!("`limits.tasks` is {tasks}"))
            .help(format!("write `tasks = {}` or more into `limits`", threads + 1));
    }
    Some(threads)
}

pub(super) fn capabilities(layer: &LayerText, out: &mut Diagnostics) -> Vec<u8> {
    let mut found = Vec::new();
    for text in &layer.capabilities {
        let number = CAPABILITIES.iter().position(|name| *name == text.value);
        if let Some(number) = number.and_then(|number| u8::try_from(number).ok()) {
            found.push(number);
            continue;
        }
        let message = format!("there is no capability `{}`", text.value.escape_debug());
        let full = format!("CAP_{}", text.value.to_ascii_uppercase());
        let near = CAPABILITIES.into_iter().find(|name| *name == full);
        out.error(Code::UnknownCapability, &text.span, message)
            .did_you_mean(near.or_else(|| nearest(&text.value, CAPABILITIES)));
    }
    found.sort_unstable();
    found.dedup();
    found
}
