//! The facilities, used and misused by the layers of real daemons.
//!
//! This program is both: started without arguments it runs the tests; each test starts it again
//! with `--daemon - POLICY`, as a daemon with the functions that its policy runs; and that daemon
//! starts it once more in every layer. A facility's tests and the layers that they use stand in a
//! module of its own, as `TESTS` and `LAYERS`.

#![allow(missing_docs)]
// The layers' functions have the shape that a daemon takes, whatever they need of it.
#![allow(clippy::needless_pass_by_value, clippy::unused_async, clippy::unnecessary_wraps)]

#[path = "../support/mod.rs"]
mod support;

mod elastic;
mod fifo;
mod file;
mod file_follow;
mod file_helper;
mod file_hostile;
mod file_hung;
mod file_programs;
mod file_replace;
mod file_rights;
mod foreign;
mod foreign_filters;
mod foreign_hostile;
mod foreign_inetd;
mod foreign_servers;
mod foreign_streams;
mod mapped_file;
mod message;
mod old_kernel;
mod pipe;
mod program;
mod proxy;
mod proxy_agent;
mod queue;
mod queue_hostile;
mod raw;
mod refusals;
mod refused_acts;
mod region;
mod reloaded;
mod semaphore;
mod shipped;
mod signal;
mod socket;
mod socket_hostile;
mod threads;
mod workers;

use std::fmt::Display;
use std::future::Future;
use std::io::Write;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

use cofferdam::{Daemon, Layer};

pub(crate) use support::harness;
pub(crate) use support::suite::Test;

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
    (elastic::TESTS, elastic::LAYERS),
    (fifo::TESTS, fifo::LAYERS),
    (file::TESTS, file::LAYERS),
    (file_follow::TESTS, file_follow::LAYERS),
    (file_helper::TESTS, file_helper::LAYERS),
    (file_hostile::TESTS, file_hostile::LAYERS),
    (file_hung::TESTS, file_hung::LAYERS),
    (file_programs::TESTS, file_programs::LAYERS),
    (file_replace::TESTS, file_replace::LAYERS),
    (file_rights::TESTS, file_rights::LAYERS),
    (foreign::TESTS, foreign::LAYERS),
    (foreign_filters::TESTS, foreign_filters::LAYERS),
    (foreign_hostile::TESTS, foreign_hostile::LAYERS),
    (foreign_inetd::TESTS, foreign_inetd::LAYERS),
    (foreign_servers::TESTS, foreign_servers::LAYERS),
    (foreign_streams::TESTS, foreign_streams::LAYERS),
    (mapped_file::TESTS, mapped_file::LAYERS),
    (message::TESTS, message::LAYERS),
    (old_kernel::TESTS, old_kernel::LAYERS),
    (pipe::TESTS, pipe::LAYERS),
    (proxy::TESTS, proxy::LAYERS),
    (proxy_agent::TESTS, proxy_agent::LAYERS),
    (program::TESTS, program::LAYERS),
    (queue::TESTS, queue::LAYERS),
    (queue_hostile::TESTS, queue_hostile::LAYERS),
    (refusals::TESTS, refusals::LAYERS),
    (region::TESTS, region::LAYERS),
    (reloaded::TESTS, reloaded::LAYERS),
    (semaphore::TESTS, semaphore::LAYERS),
    (shipped::apps::TESTS, &[]),
    (shipped::memory::TESTS, &[]),
    (shipped::pages::TESTS, &[]),
    (shipped::postgresql::TESTS, &[]),
    (shipped::script::TESTS, &[]),
    (shipped::stolen::TESTS, &[]),
    (signal::TESTS, signal::LAYERS),
    (socket::TESTS, socket::LAYERS),
    (socket_hostile::TESTS, socket_hostile::LAYERS),
    (threads::TESTS, threads::LAYERS),
    (workers::TESTS, workers::LAYERS),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    // A layer, or a helper of the supervisor.
    let is_layer = arguments.first().is_some_and(|name| name.starts_with("cofferdam-"));
    if is_layer || arguments.get(1).is_some_and(|word| word == "--daemon") {
        return daemon(arguments.get(3).map(String::as_str)).main();
    }
    // The program of an `exec` layer.
    if arguments.get(1).is_some_and(|word| word == "--foreign") {
        foreign::program(&arguments[2..]);
        return ExitCode::SUCCESS;
    }
    let tests = MODULES.iter().flat_map(|(tests, _)| tests.iter().copied());
    support::suite::run(support::suite::trials(&tests.collect::<Vec<_>>()))
}

/// A daemon with the functions that the policy at `path` runs; with all of them in a layer, which
/// has no such argument.
fn daemon(path: Option<&str>) -> Daemon {
    let policy = path.map(|path| std::fs::read_to_string(path).unwrap());
    let runs =
        |name: &str| policy.as_ref().is_none_or(|text| text.contains(&format!("run = \"{name}\"")));
    let functions = MODULES.iter().flat_map(|(_, layers)| layers.iter());
    functions.filter(|(name, _)| runs(name)).fold(
        Daemon::new(path.unwrap_or_default()).settings(LONG[..how_many(0, LONG.len())].to_vec()),
        |daemon, &(name, function)| match function {
            Runs::Async(function) => daemon.layer(name, function),
            Runs::Blocking(function) => daemon.blocking_layer(name, function),
        },
    )
}

/// No step of a long form takes so long unless something hangs.
pub(crate) const LONG_PATIENCE: Duration = Duration::from_mins(30);

/// How often a test does what it does: more often with `COFFERDAM_LONG=1`.
pub(crate) fn how_many(everyday: usize, long: usize) -> usize {
    if std::env::var_os("COFFERDAM_LONG").is_some() { long } else { everyday }
}

/// The same in a layer, whose environment is empty.
pub(crate) fn how_many_in(layer: &Layer, everyday: usize, long: usize) -> usize {
    if layer.settings() == LONG { long } else { everyday }
}

const LONG: &[u8] = b"long";

/// In a policy, a layer that runs `function`.
pub(crate) fn layer(name: &str, function: &str) -> String {
    format!(
        "[layer.{name}]\nrun = \"{function}\"\nsyscalls = [\"@core\"]\n\
         limits = {{ memory = \"64MiB\" }}\n"
    )
}

/// Blocks until the layer is asked to finish.
pub(crate) fn wait_for_stop(layer: &Layer) -> Outcome {
    while !layer.is_stopping() {
        std::thread::sleep(Duration::from_millis(1));
        layer.attend().map_err(text)?;
    }
    Ok(())
}

/// Says a line in the daemon's log, stamped with the layer's name.
pub(crate) fn say(text: impl Display) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// A layer's error of any kind.
pub(crate) fn text(error: impl Display) -> String {
    error.to_string()
}
