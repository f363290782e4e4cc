//! From the command line to a policy. Without `--policy` the whole grid runs on this machine, and what
//! it keeps is in a directory of its own.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use cofferdam::{Flags, Setup};
use tempfile::TempDir;

use crate::Outcome;

const POLICY: &str = include_str!("../../policies/grid.toml");

/// Where clients find the grid if nothing else is said.
pub(crate) const ADDRESS: &str = "127.0.0.1:7600";

/// A grid that paints pictures, on one machine or several. Without `--policy` it runs on this one.
#[derive(Debug, Parser)]
#[command(name = "grid", args_conflicts_with_subcommands = true)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) verb: Option<Verb>,
    #[command(flatten)]
    pub(crate) flags: Flags,
}

/// What clients do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Have a picture painted
    Render {
        /// The PNG file to write
        file: PathBuf,
        /// Width and height
        #[arg(long, default_value = "800x600", value_parser = size)]
        size: (u32, u32),
        /// The width and height of a tile
        #[arg(long, default_value_t = 64)]
        tile: u32,
        /// The point of the Julia set
        #[arg(long, default_value = "-0.8,0.156", value_parser = point, allow_hyphen_values = true)]
        point: (f64, f64),
        /// How often a point is followed at most
        #[arg(long, default_value_t = 1000)]
        depth: u32,
        /// Pictures of a higher priority are painted first
        #[arg(long, default_value_t = 100)]
        priority: u8,
        /// Paint it here too, and compare
        #[arg(long)]
        check: bool,
        #[command(flatten)]
        grid: Grid,
    },
    /// Tell how the grid is
    Status {
        #[command(flatten)]
        grid: Grid,
    },
    /// Paint no more of a job
    Cancel {
        /// Its number
        job: u64,
        #[command(flatten)]
        grid: Grid,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Grid {
    /// Where the grid is
    #[arg(long, default_value = ADDRESS)]
    pub(crate) grid: SocketAddr,
}

fn size(text: &str) -> Result<(u32, u32), String> {
    let parts = text.split_once('x').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    parts.ok_or_else(|| "write WIDTHxHEIGHT".to_owned())
}

fn point(text: &str) -> Result<(f64, f64), String> {
    let parts = text.split_once(',').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    parts.ok_or_else(|| "write REAL,IMAGINARY".to_owned())
}

/// The directory of a grid that was started without a policy.
pub(crate) struct Scene(TempDir);

impl Scene {
    /// What the daemon runs on.
    pub(crate) fn make(mut flags: Flags) -> Outcome<(Setup, Option<Self>)> {
        if let Some(path) = &flags.policy {
            let setup = Setup::from_file(path.clone())?;
            return Ok((setup.flags(flags), None));
        }
        let directory = TempDir::with_prefix("grid-")?;
        let state = directory.path().join("state");
        flags.vars.push(("state".to_owned(), state.display().to_string()));
        eprintln!("grid: clients find it at {ADDRESS}: `grid render FILE.png`, `grid status`");
        let setup = Setup::from_text("grid.toml", POLICY).flags(flags);
        Ok((setup, Some(Self(directory))))
    }

    /// Clears it away.
    pub(crate) fn clear(self) -> std::io::Result<()> {
        self.0.close()
    }
}
