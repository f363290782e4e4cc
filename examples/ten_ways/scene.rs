//! What is around the daemon: a directory of its own, and a program outside of it.
//!
//! All of this runs in the supervisor, before there is any layer and after the last one.

use std::fs;
use std::io;
use std::process::{Child, Command, Stdio};

use clap::Parser;
use cofferdam::{Flags, Setup};
use tempfile::TempDir;

use crate::Outcome;

const POLICY: &str = include_str!("../../policies/ten-ways.toml");

/// The policy's `[vars] directory`, as it is written there.
const DIRECTORY: &str = "\"/run/ten-ways\"";

/// Waits for the FIFO, half a minute at most, and writes two lines into it: one of six bytes, and
/// one that is longer than the policy's `max`. It knows nothing of cofferdam.
const OUTSIDE: &str = r#"
n=0
until [ -p "$1" ] || [ "$n" = 600 ]; do n=$((n + 1)); sleep 0.05; done
[ -p "$1" ] || exit 1
{ echo reload; printf '%0100d\n' 0; } > "$1"
"#;

/// All ten ways to communicate in one daemon. It takes what every daemon takes, such as `--audit`.
#[derive(Debug, Parser)]
#[command(name = "ten_ways")]
struct Options {
    #[command(flatten)]
    flags: Flags,
}

/// The directory and the outside program.
pub(crate) struct Scene {
    directory: TempDir,
    outside: Child,
}

impl Scene {
    /// Makes the directory, starts the outside program, and writes the policy for it.
    pub(crate) fn make() -> Outcome<(Self, Setup)> {
        let Options { flags } = Options::parse();
        // Closed to others (mode 0700): a FIFO or a socket that strangers could put in place of
        // ours would be refused. Layers get descriptors, so they needn't pass through it.
        let directory = tempfile::Builder::new().prefix("cofferdam-ten-ways-").tempdir()?;
        let path = directory.path();
        fs::create_dir(path.join("notes"))?;
        fs::write(path.join("notes/private.key"), "secret")?;

        let place = path.to_str().ok_or("the temporary directory's path is not UTF-8")?;
        let text = POLICY.replace(DIRECTORY, &toml::Value::from(place).to_string());
        let setup = Setup::from_text("policies/ten-ways.toml", text).flags(flags);

        let outside = Command::new("/bin/sh")
            .args(["-c", OUTSIDE, "sh"])
            .arg(path.join("commands"))
            .stdin(Stdio::null())
            .spawn()?;
        Ok((Self { directory, outside }, setup))
    }

    /// Ends the outside program, if it still waits, and removes the directory.
    pub(crate) fn clear(mut self) -> io::Result<()> {
        // It has ended by itself, unless the daemon never made its FIFO.
        let _ = self.outside.kill();
        self.outside.wait()?;
        self.directory.close()
    }
}
