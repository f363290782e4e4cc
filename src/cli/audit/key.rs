//! `cofferdam audit key FILE`: a key pair for payloads.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::ExitCode;

use zeroize::Zeroizing;

use super::{Failure, written};
use crate::ident::hex;
use crate::seal::capture::public_of;
use crate::seal::{Chance, OsChance};
use crate::text::neutralise;

/// Arguments of `cofferdam audit key`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The public key is for the policy: [audit] payload-key. The private key has no
place on the machine that the daemon runs on: whoever has it reads all payloads.")]
pub struct Args {
    /// Where the private key goes; there must be no such file yet
    file: PathBuf,
}

/// Makes it, and prints the public half.
pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let mut private = Zeroizing::new([0; 32]);
    OsChance.fill(&mut *private).map_err(|error| Failure::system(error.to_string()))?;
    let digits = Zeroizing::new(hex(&*private) + "\n");
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(&args.file);
    file.and_then(|mut file| file.write_all(digits.as_bytes())).map_err(|error| {
        let path = neutralise(args.file.display().to_string().as_bytes());
        Failure::system(format!("can't write {path}: {error}"))
    })?;
    let line = format!("payload-key = \"{}\"\n", hex(&public_of(&private).0));
    written(anstream::stdout().write_all(line.as_bytes()))?;
    Ok(ExitCode::SUCCESS)
}
