//! An HTTPS file server in four layers, as a user of the library would write it.
//!
//! Without arguments it serves a few pages of its own:
//!
//! ```text
//! cargo run --example web
//! ```
//!
//! | layer | file | what it does |
//! |---|---|---|
//! | `listener` | `listener.rs` | accepts connections and passes them on |
//! | `parser` (two of it) | `parser.rs`, `tls.rs`, `http.rs`, `range.rs`, `idle.rs` | TLS and HTTP; has no file, no key and no network of its own |
//! | `opener` | `opener.rs`, `path.rs`, `media.rs` | opens files beneath the document root and passes them, read-only |
//! | `keeper` | `keeper.rs`, `certificate_verify.rs` | holds the private key and signs TLS 1.3 handshakes, nothing else |
//!
//! What they say to each other is in `protocol.rs`, what they may do in `policies/web.toml`.
//! `setup.rs` reads the arguments and makes the policy's text; `demo.rs` makes the pages and the
//! certificate; `summary.rs` prints what each layer may do.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program of its own")]

mod certificate_verify;
mod demo;
mod http;
mod idle;
mod keeper;
mod listener;
mod media;
mod opener;
mod parser;
mod path;
mod protocol;
mod range;
mod requests;
mod setup;
mod summary;
mod tls;

use std::cell::Cell;
use std::process::ExitCode;
use std::rc::Rc;

use cofferdam::{Daemon, Setup};

fn main() -> ExitCode {
    if let Some(code) = demo::certificate_process() {
        return code;
    }
    // This function runs in the supervisor and again in each layer. Only the supervisor calls the
    // setup, so only there is a directory to clear away afterwards.
    let directory = Rc::new(Cell::new(None));
    let made = Rc::clone(&directory);
    let mut known: Option<Setup> = None;
    let code = Daemon::from_setup(move || {
        // What was made and printed at the start holds as long as the daemon runs: a reload finds it.
        if let Some(known) = &known {
            return Ok(known.clone());
        }
        let mut directory = None;
        let setup = setup::setup(&mut directory);
        made.set(directory);
        known = setup.as_ref().ok().cloned();
        setup
    })
    .layer("listener", listener::listener)
    .layer("parser", parser::parser)
    .layer("opener", opener::opener)
    .layer("keeper", keeper::keeper)
    .main();
    if let Some(directory) = directory.take() {
        demo::clear(&directory);
    }
    code
}
