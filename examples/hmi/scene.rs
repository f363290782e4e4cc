//! From the command line to a policy. Without arguments it makes all that a plant needs, in a
//! directory of its own, and a plant that isn't there.
//!
//! All of this runs in the supervisor, before there is any layer and after the last one.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use clap::{Parser, Subcommand};
use cofferdam::{Flags, Setup};
use tempfile::TempDir;

use crate::Outcome;

const POLICY: &str = include_str!("../../policies/hmi.toml");

/// Who may log in where nobody was named.
const OPERATORS: &str = "ann:operator:1234\nvic:viewer:5678\n";

/// The operators' screen of a small plant, in five confined layers. Without `--policy` it brings a
/// plant along.
#[derive(Debug, Parser)]
#[command(name = "hmi", args_conflicts_with_subcommands = true)]
struct Options {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run nothing but the plant, for this or any other Modbus client
    Plant {
        /// The address and port; port 0 takes a free one
        #[arg(default_value = "127.0.0.1:5020")]
        address: SocketAddr,
    },
}

/// The directory and the plant.
pub(crate) struct Scene {
    directory: TempDir,
    plant: Child,
}

/// What the command line asks for.
pub(crate) enum Wish {
    /// The plant alone, until it is killed.
    Plant(SocketAddr),
    /// The daemon, for a plant that is there.
    Daemon(Setup),
    /// The daemon, and a plant for it.
    Demonstration(Setup, Scene),
}

/// Reads the arguments, and makes what is missing.
pub(crate) fn wish() -> Outcome<Wish> {
    let Options { verb, mut flags } = Options::parse();
    if let Some(Verb::Plant { address }) = verb {
        return Ok(Wish::Plant(address));
    }
    if flags.policy.is_some() {
        return Ok(Wish::Daemon(flags.setup("policies/hmi.toml", POLICY)?));
    }
    // Closed to others (mode 0700). Layers get descriptors, so they needn't pass through it.
    let directory = tempfile::Builder::new().prefix("cofferdam-hmi-").tempdir()?;
    let path = directory.path().to_str().ok_or("the temporary directory's path is not UTF-8")?;
    let (archive, operators) = (format!("{path}/archive"), format!("{path}/operators"));
    fs::create_dir(&archive)?;
    fs::write(&operators, OPERATORS)?;
    fs::set_permissions(&operators, fs::Permissions::from_mode(0o600))?;
    let (plant, controller) = start_plant()?;
    let screen = free_address()?;
    // What is said on the command line comes later, and wins.
    let made = [
        ("controller", controller),
        ("screen", format!("tcp:{screen}")),
        ("archive", archive),
        ("operators", operators),
        ("setpoints", format!("{path}/setpoints")),
        ("log", format!("{path}/log")),
    ];
    let mut vars: Vec<_> = made.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    vars.append(&mut flags.vars);
    flags.vars = vars;
    println!(
        "The screen is http://{screen}/ - log in as ann with 1234, or as vic, who may only look, \
         with 5678.\nIts audit log is {path}/log, its archive {path}/archive; both go with it.\n"
    );
    let setup = flags.setup("policies/hmi.toml", POLICY)?;
    Ok(Wish::Demonstration(setup, Scene { directory, plant }))
}

/// Starts this program once more, as the plant. Comes back with its address, as policies write it.
fn start_plant() -> Outcome<(Child, String)> {
    let mut plant = Command::new(std::env::current_exe()?)
        .args(["plant", "127.0.0.1:0"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(plant.stdout.take().ok_or("the plant says nothing")?).lines();
    let first = lines.next().ok_or("the plant has ended")??;
    let address = first.strip_prefix("plant: ").ok_or("the plant doesn't say where it is")?;
    Ok((plant, address.to_owned()))
}

/// An address nobody listens at. It is free again until the supervisor binds it for good.
fn free_address() -> Outcome<SocketAddr> {
    let usual = SocketAddr::from(([127, 0, 0, 1], 8080));
    let listener =
        TcpListener::bind(usual).or_else(|_| TcpListener::bind(SocketAddr::new(usual.ip(), 0)))?;
    Ok(listener.local_addr()?)
}

impl Scene {
    /// Ends the plant, and removes the directory.
    pub(crate) fn clear(mut self) -> Outcome {
        self.plant.kill()?;
        self.plant.wait()?;
        Ok(self.directory.close()?)
    }
}
