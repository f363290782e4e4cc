//! The facilities, used and misused by the layers of real daemons.
//!
//! This program is both: started without arguments it runs the tests; each test starts it again
//! with `--daemon - POLICY`, as a daemon with the functions that its policy runs; and that daemon
//! starts it once more in every layer. A facility's tests and the layers that they use stand in a
//! module of its own, as `TESTS` and `LAYERS`.

#![allow(missing_docs)]

#[allow(dead_code)]
#[path = "../daemon/harness.rs"]
mod harness;
mod message;
mod queue;
mod queue_hostile;

use std::fmt::Display;
use std::future::Future;
use std::io::Write;
use std::pin::Pin;
use std::process::ExitCode;

use cofferdam::{Daemon, Layer};

/// A test's name and what it does.
pub(crate) type Test = (&'static str, fn());

/// What a layer of these tests comes to.
pub(crate) type Outcome = Result<(), String>;

/// A layer's name in `run = "..."`, and its function.
pub(crate) type Function = (&'static str, Runs);

#[derive(Clone, Copy)]
pub(crate) enum Runs {
    Async(fn(Layer) -> Pin<Box<dyn Future<Output = Outcome>>>),
    Blocking(fn(Layer) -> Outcome),
}

const MODULES: &[(&[Test], &[Function])] = &[
    (message::TESTS, message::LAYERS),
    (queue::TESTS, queue::LAYERS),
    (queue_hostile::TESTS, queue_hostile::LAYERS),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let is_layer = arguments.first().is_some_and(|name| name.starts_with("cofferdam-layer:"));
    if is_layer || arguments.get(1).is_some_and(|word| word == "--daemon") {
        return daemon(arguments.get(3).map(String::as_str)).main();
    }
    let tests = MODULES.iter().flat_map(|(tests, _)| tests.iter());
    let trials = tests.map(|&(name, test)| {
        libtest_mimic::Trial::test(name, move || {
            test();
            Ok(())
        })
    });
    let arguments = libtest_mimic::Arguments::from_args();
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

/// A daemon with the functions that the policy at `path` runs; with all of them in a layer, which
/// has no such argument.
fn daemon(path: Option<&str>) -> Daemon {
    let policy = path.map(|path| std::fs::read_to_string(path).unwrap());
    let runs =
        |name: &str| policy.as_ref().is_none_or(|text| text.contains(&format!("run = \"{name}\"")));
    let functions = MODULES.iter().flat_map(|(_, layers)| layers.iter());
    functions.filter(|(name, _)| runs(name)).fold(
        Daemon::new(path.unwrap_or_default()),
        |daemon, &(name, function)| match function {
            Runs::Async(function) => daemon.layer(name, function),
            Runs::Blocking(function) => daemon.blocking_layer(name, function),
        },
    )
}

/// Says a line in the daemon's log, stamped with the layer's name.
#[allow(dead_code)]
pub(crate) fn say(text: impl Display) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// A layer's error of any kind.
#[allow(dead_code)]
pub(crate) fn text(error: impl Display) -> String {
    error.to_string()
}
