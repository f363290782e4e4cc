//! Checking what runs in a layer: the program, its environment, its capabilities.

use std::collections::BTreeMap;

use super::name;
use crate::policy::capability::CAPABILITIES;
use crate::policy::code::Code;
use crate::policy::diagnostic::Diagnostics;
use crate::policy::document::LayerText;
use crate::policy::nearest::nearest;
use crate::policy::plan::Program;
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
    if let Some(run) = &layer.run {
        out.error(Code::BadEnvironment, &env.span, "a `run` layer has no environment")
            .label("this would never be set")
            .also(&run.span, "the layer is a function of the daemon's program")
            .help("take out `env`");
    }
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
        }
        if value.value.contains('\0') {
            out.error(Code::BadEnvironment, &value.span, "a variable's value holds a NUL")
                .label("it would end at the first NUL");
        }
    }
    env.value.iter().map(|(key, value)| (key.value.clone(), value.value.clone())).collect()
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
