//! Each facility beside the bare kernel object, used in the same pattern in the same
//! run. The figures to compare are the ratios.
//!
//! `cargo bench --bench facilities [-- NAME]`

#![allow(missing_docs)]

mod host;
mod semaphore;
mod signal;

use std::process::ExitCode;

type Bench = (&'static str, fn());

const BENCHES: &[Bench] = &[("semaphore", semaphore::bench), ("signal", signal::bench)];

fn main() -> ExitCode {
    if let Some(code) = host::enter(&[semaphore::LAYERS, signal::LAYERS]) {
        return code;
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
