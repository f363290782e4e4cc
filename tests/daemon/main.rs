//! Whole daemons, confined, on the real kernel.
//!
//! This program is both: started without arguments it runs the tests; each test starts it again
//! with `--daemon NAME POLICY`, as the daemon whose layers are in `layers.rs`; and that daemon
//! starts it once more in every layer.

#![allow(missing_docs)]

mod commands;
mod documented;
mod harness;
mod layers;
mod lives;
mod program;
// Word for word as in README.md.
#[allow(clippy::needless_pass_by_value)]
mod readme;
mod talk;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.first().is_some_and(|name| name == documented::PROGRAM) {
        return readme::run();
    }
    let is_layer = arguments.first().is_some_and(|name| name.starts_with("cofferdam-layer:"));
    let is = |layer: &str| {
        arguments.first().is_some_and(|name| name.starts_with(&format!("cofferdam-layer:{layer}/")))
    };
    if is(program::ASTRAY) {
        return ExitCode::SUCCESS;
    }
    if is(program::THREADED) || arguments.get(2).is_some_and(|name| name == program::THREADED) {
        let threaded = std::thread::spawn(move || layers::daemon("").main());
        return threaded.join().unwrap_or(ExitCode::FAILURE);
    }
    if is_layer || arguments.get(1).is_some_and(|word| word == "--daemon") {
        return layers::daemon(arguments.get(2).map_or("", String::as_str)).main();
    }
    let tests =
        [lives::TESTS, talk::TESTS, commands::TESTS, documented::TESTS, program::TESTS].concat();
    let trials = tests.into_iter().map(|(name, test)| {
        libtest_mimic::Trial::test(name, move || {
            test();
            Ok(())
        })
    });
    let arguments = libtest_mimic::Arguments::from_args();
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

/// A test's name and what it does.
pub(crate) type Test = (&'static str, fn());
