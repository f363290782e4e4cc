//! A store of secrets: one process for each client before it has said who it is, another one
//! afterwards, and a monitor behind both.
//!
//! ```text
//! cargo run --example vault -- --policy policies/vault.toml
//! printf 'ann\nher password\nput key 42\nget key\n' | nc -q 1 127.0.0.1 7070
//! ```
//!
//! `policies/vault.toml` says what is granted: read it first. Then `greeter.rs`, `session.rs`, and
//! `monitor.rs`, which the other two ask.

#![allow(clippy::print_stderr, reason = "a program of its own")]

mod greeter;
mod lines;
mod monitor;
mod session;

use std::error::Error;
use std::process::ExitCode;

use cofferdam::Daemon;

/// What a layer comes to. The text of an error ends up in the daemon's log.
type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    Daemon::new("policies/vault.toml")
        .args()
        .layer("greeter", greeter::greeter)
        .layer("session", session::session)
        .layer("monitor", monitor::monitor)
        .main()
}
