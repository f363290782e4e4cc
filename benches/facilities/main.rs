//! What each facility costs beside the bare kernel object, used in the same pattern in the same
//! run. The figures to compare are the ratios.
//!
//! `cargo bench --bench facilities [-- NAME]`

#![allow(clippy::print_stdout, clippy::print_stderr, clippy::cast_precision_loss, missing_docs)]

mod file;
mod memory;
mod pipe;
mod queue;

use std::process::ExitCode;

type Bench = (&'static str, fn());

const BENCHES: &[Bench] = &[
    ("file", file::bench),
    ("queue", queue::run),
    ("memory", memory::bench),
    ("pipe", pipe::bench),
];

fn main() -> ExitCode {
    // A daemon that a bench has started, or a layer of it.
    let arguments: Vec<String> = std::env::args().collect();
    let is_ours = arguments.first().is_some_and(|name| name.starts_with("cofferdam-"));
    if is_ours || arguments.get(1).is_some_and(|word| word == "--daemon-file") {
        return file::daemon().main();
    }
    if let [_, role, mode, size] = &arguments[..]
        && role == "pipe-reader"
    {
        pipe::reader(mode, size.parse().unwrap_or(0));
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
