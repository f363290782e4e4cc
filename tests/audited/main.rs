//! The audit log of real daemons: what is in it whoever is killed, whoever lies, and whatever the
//! disk does.
//!
//! This program is both, as in `tests/facilities`: started without arguments it runs the tests,
//! each of which starts it again as a daemon.

#![allow(missing_docs)]
#![allow(clippy::needless_pass_by_value, clippy::unnecessary_wraps)]

#[allow(dead_code)]
#[path = "../daemon/harness.rs"]
mod harness;

mod begin;
mod disk;
mod facilities;
mod kill;
mod layers;
mod lies;
mod log;
mod payload;
mod strace;
mod traffic;
mod ways;
mod witness;

use std::process::ExitCode;

use cofferdam::{Daemon, Layer};

type Test = (&'static str, fn());
type Outcome = Result<(), String>;

const TESTS: &[&[Test]] = &[
    begin::TESTS,
    disk::TESTS,
    facilities::TESTS,
    kill::TESTS,
    lies::TESTS,
    payload::TESTS,
    strace::TESTS,
    traffic::TESTS,
    witness::TESTS,
];

type Function = (&'static str, fn(Layer) -> Outcome);

const LAYERS: &[Function] = &[
    ("talker", layers::talker),
    ("listener", layers::listener),
    ("busy", layers::busy),
    ("sleeper", layers::sleeper),
    ("forger", lies::forger),
    ("silent", lies::silent),
    ("scribbler", lies::scribbler),
    ("flooder", lies::flooder),
    ("boaster", lies::boaster),
    ("ways_a", ways::ways_a),
    ("ways_b", ways::ways_b),
    ("sayer", facilities::sayer),
    ("liar", facilities::liar),
    ("counted", strace::counted),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let is_layer = arguments.first().is_some_and(|name| name.starts_with("cofferdam-"));
    if is_layer || arguments.get(1).is_some_and(|word| word == "--daemon") {
        return daemon(arguments.get(3).map(String::as_str)).main();
    }
    let trials = TESTS.iter().flat_map(|tests| tests.iter()).map(|&(name, test)| {
        libtest_mimic::Trial::test(name, move || {
            test();
            Ok(())
        })
    });
    let arguments = libtest_mimic::Arguments::from_args();
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

/// A daemon with the functions that the policy at `path` runs; with all of them in a layer.
fn daemon(path: Option<&str>) -> Daemon {
    let policy = path.map(|path| std::fs::read_to_string(path).unwrap());
    let runs =
        |name: &str| policy.as_ref().is_none_or(|text| text.contains(&format!("run = \"{name}\"")));
    let all = LAYERS.iter().chain(witness::LAYERS);
    let functions = all.filter(|(name, _)| runs(name));
    functions.fold(Daemon::new(path.unwrap_or_default()), |daemon, &(name, function)| {
        daemon.blocking_layer(name, function)
    })
}
