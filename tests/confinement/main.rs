//! Confinement (promises P1 and P6): what a layer is after the recipe, what its filter lets through,
//! and attacks on both, on the real kernel, as root and as an ordinary user.
//!
//! The same program is the test and, started again, a process that confines itself.

// Calls are made as an attacker would, without a library in between.
#![allow(unsafe_code)]
#![allow(clippy::print_stderr, reason = "a test says what it could not look at")]

#[path = "../support/mod.rs"]
mod support;

mod attacks;
mod children;
mod doctor;
mod filter;
mod filter_kernel;
mod matrix;
mod outside;
mod places;
mod recipe;
mod secrecy;
mod start_state;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args();
    if arguments.next().as_deref() == Some(recipe::harness::CHILD) {
        recipe::child::main(&arguments.next().unwrap_or_default());
        return ExitCode::SUCCESS;
    }
    if let Ok(name) = std::env::var(filter_kernel::CHILD) {
        filter_kernel::child(&name);
    }
    if let Ok(kind) = std::env::var(children::KIND) {
        children::main(&kind);
        return ExitCode::SUCCESS;
    }
    if let Ok(layer) = std::env::var(matrix::LAYER) {
        matrix::caged_process(&layer);
    }
    let tests = [
        attacks::TESTS,
        children::TESTS,
        doctor::TESTS,
        places::TESTS,
        filter::TESTS,
        filter_kernel::TESTS,
        outside::TESTS,
        recipe::exec::TESTS,
        recipe::groups::TESTS,
        recipe::promises::TESTS,
        secrecy::TESTS,
        start_state::TESTS,
    ];
    let mut trials = support::suite::trials(&tests.concat());
    trials.extend(recipe::faults::trials());
    trials.extend(matrix::trials());
    support::suite::run(trials)
}
