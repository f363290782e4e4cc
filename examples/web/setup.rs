//! From the command line to a policy and settings. Runs in the supervisor, once, before any layer.

use std::error::Error;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use clap::Parser;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::demo;
use crate::protocol::Settings;
use crate::summary;
use cofferdam::{Flags, Setup};

const POLICY_NAME: &str = "policies/web.toml";
const POLICY: &str = include_str!("../../policies/web.toml");

/// An HTTPS file server in four confined layers. Without arguments it serves pages of its own.
#[derive(Debug, Parser)]
#[command(name = "web")]
struct Options {
    /// The document root, in place of the policy's.
    #[arg(long, value_name = "DIR")]
    site: Option<PathBuf>,
    /// The certificate chain; else one for localhost is made.
    #[arg(long, value_name = "PEM")]
    certificate: Option<PathBuf>,
    /// Its private key, in place of the policy's. Only the keeper reads it.
    #[arg(long, value_name = "PEM", requires = "certificate")]
    key: Option<PathBuf>,
    /// The address and port, in place of the policy's; port 0 takes a free one.
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    #[command(flatten)]
    flags: Flags,
}

/// Reads the arguments, makes what is missing, and prints what is going to run.
///
/// `made` gets the demo's directory, if one was made.
pub(crate) fn setup(made: &mut Option<PathBuf>) -> Result<Setup, Box<dyn Error>> {
    let Options { mut site, mut certificate, mut key, listen, flags } = Options::parse();
    let own_policy = flags.policy.is_none();
    if certificate.is_some() && key.is_none() && own_policy {
        return Err("--certificate needs --key, or a --policy that names the key".into());
    }
    // A policy of the user's is read and checked here: nobody else may be able to write it.
    let mut setup = flags.setup(POLICY_NAME, POLICY)?;
    let text = &mut setup.text;
    let mut authority = None;
    let without_site = site.is_none() && own_policy;
    if without_site || certificate.is_none() {
        let directory = &*made.insert(demo::fresh_directory()?);
        if without_site {
            site = Some(demo::make_site(directory)?);
        }
        if certificate.is_none() {
            let made = demo::make_certificate(directory)?;
            authority = Some(made.certificate.clone());
            (certificate, key) = (Some(made.certificate), Some(made.key));
        }
    }
    let chain = chain(&certificate.unwrap_or_default())?;

    if let Some(site) = &site {
        *text = put(text, &["file", "site", "path"], &absolute(site)?)?;
    }
    if let Some(key) = &key {
        *text = put(text, &["file", "key", "path"], &absolute(key)?)?;
    }
    let at = ["layer", "listener", "listen", "https"];
    let address = free_address(listen, &value(text, &at)?)?;
    *text = put(text, &at, &format!("tcp:{address}"))?;

    let settings = Settings { chain };
    summary::print(text, address, authority.as_deref(), &value(text, &["file", "site", "path"])?)?;
    Ok(setup.settings(postcard::to_stdvec(&settings)?))
}

/// The certificates of a PEM file, the server's own first.
fn chain(path: &Path) -> Result<Vec<Vec<u8>>, Box<dyn Error>> {
    let text = read(path)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes())
        .map(|certificate| certificate.map(|certificate| certificate.as_ref().to_vec()))
        .collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err(format!("{}: there is no certificate in it", path.display()).into()),
        Err(error) => Err(format!("{}: {error}", path.display()).into()),
    }
}

/// Which address to listen on: the one asked for, else the policy's. A free port is found where
/// none was asked for and the policy's is taken, as another demo may be running.
fn free_address(asked: Option<SocketAddr>, policy: &str) -> Result<SocketAddr, Box<dyn Error>> {
    let address = match asked {
        // Not looked for: an upgrade comes here while the daemon itself has it.
        Some(address) if address.port() != 0 => return Ok(address),
        Some(address) => address,
        None => policy
            .strip_prefix("tcp:")
            .and_then(|address| address.parse().ok())
            .ok_or_else(|| format!("the policy's {policy:?} is no tcp:ADDRESS:PORT"))?,
    };
    let mut free = TcpListener::bind(address);
    if asked.is_none() && free.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::AddrInUse) {
        free = TcpListener::bind(SocketAddr::new(address.ip(), 0));
    }
    // Closed again: the supervisor binds it for good.
    Ok(free.and_then(|free| free.local_addr()).map_err(|error| format!("{address}: {error}"))?)
}

/// The text at this place of the policy.
fn value(policy: &str, at: &[&str]) -> Result<String, Box<dyn Error>> {
    let table: toml::Table = policy.parse()?;
    let missing = || format!("the policy has no {}", at.join("."));
    let (first, rest) = at.split_first().ok_or_else(missing)?;
    rest.iter()
        .try_fold(table.get(*first).ok_or_else(missing)?, |value, key| value.get(*key))
        .and_then(toml::Value::as_str)
        .map(str::to_owned)
        .ok_or_else(|| missing().into())
}

/// Puts `new` where the policy has another text, and leaves all the rest as it is written.
fn put(policy: &str, at: &[&str], new: &str) -> Result<String, Box<dyn Error>> {
    let old = value(policy, at)?;
    let changed = policy.replace(&format!("\"{old}\""), &toml::Value::from(new).to_string());
    if value(&changed, at)? == new {
        Ok(changed)
    } else {
        Err(format!("the policy's {} is not written as \"{old}\"", at.join(".")).into())
    }
}

fn absolute(path: &Path) -> Result<String, Box<dyn Error>> {
    let absolute = fs::canonicalize(path).map_err(|e| format!("{}: {e}", path.display()))?;
    absolute
        .into_os_string()
        .into_string()
        .map_err(|path| format!("{}: not UTF-8", path.display()).into())
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}
