//! Each facility beside the bare kernel object, used in the same pattern in the same
//! run. The figures to compare are the ratios. Where bytes are sealed there is a second one: to
//! the bare object and the bare cipher together, which is as fast as sealing can be.
//!
//! `cargo bench --bench facilities [-- NAME]`

#![allow(clippy::print_stdout, clippy::print_stderr, clippy::cast_precision_loss, missing_docs)]

mod audit;
mod cipher;
mod file;
mod host;
mod memory;
mod pipe;
mod queue;
mod semaphore;
mod signal;

use std::process::ExitCode;

type Bench = (&'static str, fn());

const BENCHES: &[Bench] = &[
    ("audit", audit::bench),
    ("file", file::bench),
    ("memory", memory::bench),
    ("pipe", pipe::bench),
    ("queue", queue::run),
    ("semaphore", semaphore::bench),
    ("signal", signal::bench),
];

fn main() -> ExitCode {
    // A daemon that a bench has started, or a layer of it.
    let arguments: Vec<String> = std::env::args().collect();
    let is_file = arguments.first().is_some_and(|name| name.contains("cofferdam-layer:file"));
    if is_file || arguments.get(1).is_some_and(|word| word == "--daemon-file") {
        return file::daemon().main();
    }
    if let Some(code) = host::enter(&[audit::LAYERS, semaphore::LAYERS, signal::LAYERS]) {
        return code;
    }
    if let [_, role, mode, size] = &arguments[..]
        && role == "pipe-reader"
    {
        pipe::reader(mode, size.parse().unwrap_or(0));
        return ExitCode::SUCCESS;
    }
    if signal::enter() {
        return ExitCode::SUCCESS;
    }
    let wanted = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    for (name, bench) in BENCHES {
        if wanted.as_ref().is_none_or(|wanted| name.contains(wanted.as_str())) {
            bench();
        }
    }
    ExitCode::SUCCESS
}
