//! Labour shared by many hosts: pictures are painted in tiles, each in a fresh confined process of some
//! host, and put together where somebody waits for them.
//!
//! ```text
//! cargo run --example grid &                                # all hosts on this machine
//! cargo run --example grid -- render julia.png --size 1024x768
//! cargo run --example grid -- status
//! ```
//!
//! `policies/grid.toml` says what is granted, and how its hosts become real ones: read it first. Then
//! `dispatcher.rs`, who has the tasks, `worker.rs` and `painter.rs` on the other hosts, and `door.rs`,
//! which reads what clients say.

#![allow(clippy::print_stderr, clippy::print_stdout, reason = "a program of its own")]

mod client;
mod dispatcher;
mod door;
mod ledger;
mod painter;
mod picture;
mod protocol;
mod scene;
mod worker;

use std::cell::Cell;
use std::error::Error;
use std::process::ExitCode;
use std::rc::Rc;

use clap::Parser;
use cofferdam::{Daemon, Setup};

use crate::scene::{Options, Scene};

/// What a layer comes to. The text of an error ends up in the daemon's log.
type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    // This function runs in the supervisor and again in each layer. Only the supervisor calls the
    // setup, so only there is a scene afterwards.
    let scene = Rc::new(Cell::new(None));
    let made = Rc::clone(&scene);
    let mut known = None;
    let code = Daemon::from_setup(move || {
        // A reload finds the scene that is there.
        if let Some(setup) = &known {
            return Ok::<Setup, Box<dyn Error>>(Setup::clone(setup));
        }
        let Options { verb, flags } = Options::parse();
        if let Some(verb) = verb {
            std::process::exit(client::run(&verb));
        }
        let is_demonstration = flags.policy.is_none();
        let (setup, new) = Scene::make(flags)?;
        if is_demonstration {
            known = Some(setup.clone());
        }
        made.set(new);
        Ok(setup)
    })
    .layer("door", door::door)
    .layer("dispatcher", dispatcher::dispatcher)
    .layer("worker", worker::worker)
    .layer("painter", painter::painter)
    .main();
    if let Some(Err(error)) = scene.take().map(Scene::clear) {
        eprintln!("grid: clearing away: {error}");
    }
    code
}
