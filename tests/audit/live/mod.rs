//! The audit log of real daemons: what is in it whoever is killed, whoever lies, and whatever the
//! disk does.

mod begin;
mod directory;
mod disk;
mod facilities;
mod full;
mod hidden;
mod kill;
mod layers;
mod lies;
mod log;
mod payload;
mod refused;
mod strace;
mod traces;
mod traffic;
mod ways;
mod witness;

use cofferdam::{Daemon, Layer};

use crate::Test;

type Outcome = Result<(), String>;

pub(crate) const TESTS: &[&[Test]] = &[
    begin::TESTS,
    directory::TESTS,
    disk::TESTS,
    facilities::TESTS,
    full::TESTS,
    hidden::TESTS,
    kill::TESTS,
    lies::TESTS,
    payload::TESTS,
    refused::TESTS,
    strace::TESTS,
    traces::TESTS,
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
    ("denouncer", lies::denouncer),
    ("obituarist", lies::obituarist),
    ("early_obituarist", lies::early_obituarist),
    ("ways_a", ways::ways_a),
    ("ways_b", ways::ways_b),
    ("sayer", facilities::sayer),
    ("liar", facilities::liar),
    ("counted", strace::counted),
    ("pelter", full::pelter),
    ("knocker", full::knocker),
    ("hider", hidden::hider),
    ("holder", hidden::holder),
    ("crowd", hidden::crowd),
    ("asker", refused::asker),
    ("trace_front", traces::trace_front),
    ("trace_middle", traces::trace_middle),
    ("trace_back", traces::trace_back),
];

/// A daemon with the functions that the policy at `path` runs; with all of them in a layer.
pub(crate) fn daemon(path: Option<&str>) -> Daemon {
    let policy = path.map(|path| std::fs::read_to_string(path).unwrap());
    let runs =
        |name: &str| policy.as_ref().is_none_or(|text| text.contains(&format!("run = \"{name}\"")));
    let all = LAYERS.iter().chain(witness::LAYERS);
    let functions = all.filter(|(name, _)| runs(name));
    let daemon = Daemon::new(path.unwrap_or_default());
    let daemon =
        functions.fold(daemon, |daemon, &(name, function)| daemon.blocking_layer(name, function));
    if runs("ticker") { daemon.layer("ticker", full::ticker) } else { daemon }
}
