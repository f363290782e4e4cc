//! The operators' screen of a small plant, in five layers that believe each other as little as they
//! can: what people look at, what decides, and what speaks to the field.
//!
//! Without arguments it brings a plant along:
//!
//! ```text
//! cargo run --example hmi
//! ```
//!
//! | layer | file | what it does |
//! |---|---|---|
//! | `screen` | `screen.rs`, `screen/`, `site/` | a web page: the process live, set points, alarms |
//! | `interlock` | `interlock.rs`, `rules.rs`, `operators.rs` | judges every request, and switches off what becomes dangerous |
//! | `alarm-logic` | `alarm_logic.rs`, `alarms.rs` | compares the plant with limits |
//! | `historian` | `historian.rs` | writes down what happened |
//! | `gateway` | `gateway.rs`, `field.rs` | speaks Modbus TCP with the controller |
//!
//! What they say to each other is in `protocol.rs`, what they may do in `policies/hmi.toml`: read
//! that first. `plant.rs` is the plant, `scene.rs` reads the arguments. `docs/hmi.md` tells what each
//! layer could do if somebody took it over.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program of its own")]

mod alarm_logic;
mod alarms;
mod field;
mod gateway;
mod historian;
mod interlock;
mod operators;
mod plant;
mod protocol;
mod rules;
mod scene;
mod screen;

use std::cell::Cell;
use std::error::Error;
use std::process::ExitCode;
use std::rc::Rc;

use cofferdam::{Daemon, Setup};

use crate::scene::{Wish, wish};

/// What a layer, or a step of it, comes to. The text of an error ends up in the daemon's log.
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
        match wish()? {
            Wish::Plant(address) => {
                plant::run(address)?;
                std::process::exit(0);
            }
            // Read again by each reload: its policy is a file.
            Wish::Daemon(setup) => Ok(setup),
            Wish::Demonstration(setup, new) => {
                made.set(Some(new));
                known = Some(setup.clone());
                Ok(setup)
            }
        }
    })
    .layer("screen", screen::screen)
    .layer("interlock", interlock::interlock)
    .layer("alarm-logic", alarm_logic::alarm_logic)
    .layer("historian", historian::historian)
    .layer("gateway", gateway::gateway)
    .main();
    if let Some(Err(error)) = scene.take().map(scene::Scene::clear) {
        eprintln!("hmi: clearing away: {error}");
    }
    code
}
