//! Whole daemons over their lives (promise P7): starts, restarts and ends, and layers that hoard,
//! flood, lie or die.
//!
//! This program is both: started without arguments it runs the tests; each test starts it again
//! with `--daemon NAME POLICY`, as the daemon whose layers are in `layers.rs`; and that daemon
//! starts it once more in every layer.

#![allow(clippy::print_stderr, reason = "a test says what it could not look at")]

#[path = "../support/mod.rs"]
mod support;

mod alone;
mod commands;
mod containment;
mod control;
mod directories;
mod documented;
mod foreign;
mod health;
mod in_flight;
mod layers;
mod learn;
mod learn_hostile;
mod learn_programs;
mod lives;
mod logs;
mod metrics;
mod order;
mod panics;
mod program;
// Word for word as in README.md.
#[allow(clippy::needless_pass_by_value)]
mod readme;
mod reload;
mod restarts;
mod runtimes;
mod served;
mod settings;
mod talk;
mod upgrade;
mod view;
mod writer;

use std::process::ExitCode;

pub(crate) use support::harness;
pub(crate) use support::suite::Test;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.first().is_some_and(|name| name == documented::PROGRAM) {
        return readme::run();
    }
    let is_layer = arguments.first().is_some_and(|name| name.starts_with("cofferdam-"));
    let is = |layer: &str| {
        arguments.first().is_some_and(|name| name.starts_with(&format!("cofferdam-layer:{layer}/")))
    };
    if is(program::ASTRAY) || !writer::prelude(&arguments[0]) {
        return ExitCode::SUCCESS;
    }
    if is(program::THREADED) || arguments.get(2).is_some_and(|name| name == program::THREADED) {
        let threaded = std::thread::spawn(move || layers::daemon("").main());
        return threaded.join().unwrap_or(ExitCode::FAILURE);
    }
    if is_layer || arguments.get(1).is_some_and(|word| word == "--daemon") {
        return layers::daemon(arguments.get(2).map_or("", String::as_str)).main();
    }
    let tests = [
        alone::TESTS,
        commands::TESTS,
        containment::TESTS,
        control::TESTS,
        directories::TESTS,
        documented::TESTS,
        foreign::TESTS,
        health::TESTS,
        in_flight::TESTS,
        learn::TESTS,
        learn_hostile::TESTS,
        learn_programs::TESTS,
        lives::TESTS,
        logs::TESTS,
        metrics::TESTS,
        order::TESTS,
        panics::TESTS,
        program::TESTS,
        reload::TESTS,
        restarts::TESTS,
        settings::TESTS,
        runtimes::TESTS,
        served::TESTS,
        talk::TESTS,
        upgrade::TESTS,
        view::TESTS,
        writer::TESTS,
    ];
    support::suite::run(support::suite::trials(&tests.concat()))
}
