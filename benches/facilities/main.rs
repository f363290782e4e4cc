//! What each facility costs beside the bare kernel object, used in the same pattern in the same
//! run. The figures to compare are the ratios.
//!
//! `cargo bench --bench facilities [-- NAME]`

#![allow(clippy::print_stdout, clippy::cast_precision_loss, missing_docs)]

mod memory;
mod pipe;
mod queue;

type Bench = (&'static str, fn());

const BENCHES: &[Bench] =
    &[("queue", queue::run), ("memory", memory::bench), ("pipe", pipe::bench)];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, role, mode, size] = &arguments[..]
        && role == "pipe-reader"
    {
        return pipe::reader(mode, size.parse().unwrap_or(0));
    }
    let wanted = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    for (name, bench) in BENCHES {
        if wanted.as_ref().is_none_or(|wanted| name.contains(wanted.as_str())) {
            bench();
        }
    }
}
