//! All ten ways to communicate in one daemon: for each, something that the policy allows, and
//! something that it refuses.
//!
//! ```text
//! cargo run --example ten_ways
//! cargo run --example ten_ways -- --audit LOG && cofferdam audit query LOG
//! ```
//!
//! | file | what is there |
//! |---|---|
//! | `policies/ten-ways.toml` | what is granted: read it first |
//! | `front.rs` | the layer that begins everything: one function for each way |
//! | `back.rs` | the layer at the other end, and what it tries beyond its grants |
//! | `table.rs` | the ten rows |
//! | `scene.rs` | the flags, the directory, and the `sh` outside of the daemon that writes into the FIFO |
//!
//! Nothing is staged: each line of the table is what a real call returned in a confined process.
//! The exit code is 0 if all went as the policy says, and 2 if not.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program of its own")]

mod back;
mod front;
mod scene;
mod table;

use std::cell::Cell;
use std::error::Error;
use std::process::ExitCode;
use std::rc::Rc;

use cofferdam::{Daemon, Setup};

use crate::scene::Scene;

/// What a layer, or a step of it, comes to. The text of an error ends up in the daemon's log.
type Outcome<T> = Result<T, Box<dyn Error>>;

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
        let (new, setup) = Scene::make()?;
        made.set(Some(new));
        known = Some(setup.clone());
        Ok(setup)
    })
    .layer("front", front::front)
    .layer("back", back::back)
    .main();
    // It is the same in layers: whatever is no success is a 2.
    let cleared = scene.take().map_or(Ok(()), Scene::clear);
    if let Err(error) = &cleared {
        eprintln!("ten_ways: clearing away: {error}");
    }
    if code == ExitCode::SUCCESS && cleared.is_ok() { code } else { ExitCode::from(2) }
}
