//! What each facility costs beside the bare kernel object, used in the same pattern in the same
//! run. The figures to compare are the ratios.
//!
//! `cargo bench --bench facilities [-- NAME]`

#![allow(missing_docs)]
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod file;

use std::process::ExitCode;

type Bench = (&'static str, fn());

const BENCHES: &[Bench] = &[("file", file::bench)];

fn main() -> ExitCode {
    // A daemon that a bench has started, or a layer of it.
    let arguments: Vec<String> = std::env::args().take(2).collect();
    let is_ours = arguments.first().is_some_and(|name| name.starts_with("cofferdam-"));
    if is_ours || arguments.get(1).is_some_and(|word| word == "--daemon-file") {
        return file::daemon().main();
    }
    let wanted = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    for (name, bench) in BENCHES {
        if wanted.as_ref().is_none_or(|wanted| name.contains(wanted.as_str())) {
            bench();
        }
    }
    ExitCode::SUCCESS
}
