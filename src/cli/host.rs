//! `cofferdam host key`: the key by which other hosts know this one.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use zeroize::Zeroizing;

use super::read;
use crate::host_key;
use crate::ident::hex;
use crate::seal::{Chance, Identity, OsChance};

/// What `cofferdam host` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Print this host's public key, as a policy names it; make the key first if there is none
    #[command(after_help = "\
The private key stays in a file that nobody else reads; the public one is beside it, in
FILE.pub. To change a host's key, make another in another file, name it as `next-key` of
[host.NAME] in the policy of every host, reload, put the file in the place of the old one,
`cofferdam restart DAEMON cofferdam-hosts` on this host, and name it as `key`.

Exit code: 0: printed; 2: wrong usage; 3: the system refused.")]
    Key {
        /// The file of the private key [default: /etc/cofferdam/host.key, or as an ordinary user
        /// ~/.config/cofferdam/host.key]
        #[arg(long = "host-key", value_name = "FILE")]
        file: Option<PathBuf>,
        /// The host's name, to print the lines that go into the policy
        #[arg(value_name = "NAME")]
        name: Option<String>,
    },
}

/// Does what is asked.
pub fn run(args: &Args) -> ExitCode {
    let Verb::Key { file, name } = &args.verb;
    let is_root = rustix::process::geteuid().is_root();
    let path = file.clone().unwrap_or_else(|| host_key::default_path(is_root));
    match public(&path) {
        Ok((key, made)) => {
            if made {
                let _ = writeln!(anstream::stderr(), "a new key is in {}", path.display());
            }
            let line = match name {
                Some(name) => format!("[host.{name}]\nkey = \"{}\"\n", hex(&key)),
                None => format!("{}\n", hex(&key)),
            };
            read::give(&line, 0)
        }
        Err(error) => {
            let _ = writeln!(anstream::stderr(), "error: {}: {error}", path.display());
            ExitCode::from(3)
        }
    }
}

/// The public key of the private one in a file, and whether that was made.
fn public(path: &Path) -> io::Result<([u8; 32], bool)> {
    let wrong = || io::Error::other("this is no host's key: 64 hex digits in a line");
    let (mut private, made) = match std::fs::read(path) {
        Ok(text) => (Zeroizing::new(host_key::parse(&text).ok_or_else(wrong)?), false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => (make(path)?, true),
        Err(error) => return Err(error),
    };
    let key = Identity::take(&mut private).map_err(io::Error::other)?.public().0;
    let beside = host_key::public(path);
    let known = std::fs::read(&beside).ok().and_then(|text| host_key::parse(&text));
    if known != Some(key) {
        let text = host_key::text("The public key of this host.", &key);
        put(&beside, text.as_bytes(), 0o644)?;
    }
    Ok((key, made))
}

/// Makes a private key, and the directory that it is in.
fn make(path: &Path) -> io::Result<Zeroizing<[u8; 32]>> {
    let mut key = Zeroizing::new([0; 32]);
    OsChance.fill(&mut *key).map_err(io::Error::other)?;
    if let Some(directory) = path.parent().filter(|it| !it.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    }
    let about = "The private key of this host. It has no place on any other.";
    let text = Zeroizing::new(host_key::text(about, &key));
    put(path, text.as_bytes(), 0o600)?;
    Ok(key)
}

/// Puts a file in its place, whole or not at all.
fn put(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let _ = std::fs::remove_file(&beside);
    let mut file: File =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)
}
