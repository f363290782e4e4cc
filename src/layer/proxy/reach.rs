//! Reaching a host: its name is looked up once, each address judged, and a connection made to exactly
//! one that was.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout, timeout_at};

use super::host::Host;
use super::rules::{Denied, Rules, Target};
use crate::wire::broker::Refusal;

/// How long it may take in all. Below what people and most protocols wait.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Addresses of one name that are judged, and of these, those that are tried.
const MOST_FOUND: usize = 256;
const MOST_TRIED: usize = 8;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The policy doesn't let it.
    #[error("{}", denied(*.0))]
    Denied(Denied),
    /// The request itself can't be sent on.
    #[error("{0}")]
    Malformed(&'static str),
    #[error("the name leads to no address")]
    NotResolved,
    #[error("it took too long")]
    TimedOut,
    #[error("{0}")]
    System(io::Error),
    /// Who answers there can't show that it is the host, or the credential isn't there.
    #[error("no safe connection: {0}")]
    Unsafe(String),
}

const fn denied(why: Denied) -> &'static str {
    match why {
        Denied::Unlisted => "the policy does not list this host and port",
        Denied::RequestsOnly => {
            "a credential is put into requests to this host: speak to http://HOST:PORT/ in place of \
             https"
        }
        Denied::Special => {
            "the name leads to an address of this machine, of the link, or of a cloud's metadata, \
             and the policy does not list that address"
        }
        Denied::Private => {
            "the name leads into a private network: list the host by its name, or the address"
        }
    }
}

impl Failure {
    /// What the log says of it.
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::Denied(_) => Refusal::NotGranted,
            Self::Malformed(_) => Refusal::Malformed,
            Self::NotResolved => Refusal::NotResolved,
            Self::TimedOut => Refusal::Timeout,
            Self::System(error) => Refusal::System(error.raw_os_error().unwrap_or(libc::EIO)),
            Self::Unsafe(_) => Refusal::System(libc::EPROTO),
        }
    }
}

/// Connects to a host, and says at which address.
pub(super) async fn reach(
    rules: &Rules,
    target: &Target,
) -> Result<(TcpStream, SocketAddr), Failure> {
    let end = Instant::now() + PATIENCE;
    let addresses = match &target.host {
        // It is listed itself, or it wouldn't be a target.
        Host::Address(ip) => vec![*ip],
        Host::Name(name) => {
            let found = timeout_at(end, look_up(name)).await.map_err(|_| Failure::TimedOut)?;
            if found.is_empty() {
                return Err(Failure::NotResolved);
            }
            rules.choose(target, &found).map_err(Failure::Denied)?
        }
    };
    let mut refused = Failure::TimedOut;
    let tried = addresses.len().min(MOST_TRIED);
    for (ip, left) in addresses.into_iter().take(MOST_TRIED).zip((1..=tried).rev()) {
        let at = SocketAddr::new(ip, target.port);
        // Those that are left get their share of the time.
        let share =
            end.saturating_duration_since(Instant::now()) / u32::try_from(left).unwrap_or(1);
        match timeout(share, TcpStream::connect(at)).await {
            Ok(Ok(stream)) => {
                let _ = stream.set_nodelay(true);
                return Ok((stream, at));
            }
            Ok(Err(error)) => refused = Failure::System(error),
            Err(_) => refused = Failure::TimedOut,
        }
    }
    Err(refused)
}

/// Asks the C library, as every program of the host does.
async fn look_up(name: &str) -> Vec<IpAddr> {
    let Ok(found) = lookup_host((name, 0)).await else { return Vec::new() };
    let mut addresses = Vec::new();
    for ip in found.take(MOST_FOUND).map(|at| at.ip()) {
        if !addresses.contains(&ip) {
            addresses.push(ip);
        }
    }
    addresses
}
