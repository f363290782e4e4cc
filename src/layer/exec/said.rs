//! What an init says by itself of the programs that it starts, each line once.

use std::collections::BTreeSet;
use std::io::{self, IoSlice};

use rustix::io::{Errno, ReadWriteFlags, pwritev2};

use crate::ident::Name;

/// What was said already of what the program may not do, so that it is said once.
pub(super) struct Said {
    layer: Name,
    lines: BTreeSet<String>,
}

/// Lines that are said of what a program may not do; more are not said.
const MOST_LINES: usize = 32;

/// How often a line is tried to be said.
const TRIES: usize = 64;

impl Said {
    /// Nothing yet, of that layer.
    pub fn new(layer: &Name) -> Self {
        Self { layer: layer.clone(), lines: BTreeSet::new() }
    }

    /// Says a line of what the program may not do, once, if the log has room: the program can fill
    /// it, and must not make init wait.
    pub fn once(&mut self, line: impl FnOnce(&Name) -> String) {
        if self.lines.len() >= MOST_LINES {
            return;
        }
        let line = line(&self.layer);
        if !self.lines.contains(&line) {
            let bytes = format!("{line}\n");
            // Who reads the log holds its pipe for moments.
            for _ in 0..TRIES {
                let part = [IoSlice::new(bytes.as_bytes())];
                match pwritev2(io::stderr(), &part, u64::MAX, ReadWriteFlags::NOWAIT) {
                    Err(Errno::AGAIN) => std::thread::yield_now(),
                    _ => break,
                }
            }
            self.lines.insert(line);
        }
    }
}
