//! The audit log (promise P5): its format, its readers, and the logs of real daemons, whoever is
//! killed, whoever lies, and whatever the disk does.
//!
//! This program is both, as in `tests/facilities`: started without arguments it runs the tests,
//! some of which start it again as a daemon.

// The layers' functions have the shape that a daemon takes, whatever they need of it.
#![allow(clippy::needless_pass_by_value, clippy::unnecessary_wraps)]
#![allow(clippy::wildcard_imports, reason = "the support code of logs is used all over")]

#[path = "../support/mod.rs"]
mod support;

mod account;
mod acts;
mod cli;
mod crash;
mod did;
mod elsewhere;
mod export;
mod follow;
mod live;
mod policy;
mod reconcile;
mod report;
mod requests;
mod rules;
mod tampering;
mod top;
mod unused;
mod watch;

use std::process::ExitCode;

pub(crate) use support::harness;
pub(crate) use support::suite::Test;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let is_layer = arguments.first().is_some_and(|name| name.starts_with("cofferdam-"));
    if is_layer || arguments.get(1).is_some_and(|word| word == "--daemon") {
        return live::daemon(arguments.get(3).map(String::as_str)).main();
    }
    if let Ok(part) = std::env::var(crash::PART) {
        crash::other_process(&part);
    }
    let tests = [
        account::TESTS,
        acts::TESTS,
        cli::TESTS,
        crash::TESTS,
        did::TESTS,
        elsewhere::TESTS,
        export::TESTS,
        follow::TESTS,
        policy::TESTS,
        reconcile::TESTS,
        report::TESTS,
        requests::TESTS,
        rules::TESTS,
        tampering::TESTS,
        top::TESTS,
        unused::TESTS,
        watch::TESTS,
    ];
    let tests = [&tests[..], live::TESTS].concat().concat();
    support::suite::run(support::suite::trials(&tests))
}
