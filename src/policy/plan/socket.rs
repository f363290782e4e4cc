//! Addresses that layers listen on or are connected to.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ident::Name;

/// A socket that the supervisor binds and keeps across restarts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenPlan {
    /// Its name, by which the layer asks for it.
    pub name: Name,
    /// Where it listens.
    pub address: ListenAddress,
    /// How many connections it accepts in a while; `None` is no limit.
    pub rate: Option<Rate>,
    /// How many connections one source address may have open at once; `None` is no limit.
    pub per_source: Option<u32>,
}

/// An address that the supervisor connects to; the layer gets the connected socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectPlan {
    /// Its name, by which the layer asks for it.
    pub name: Name,
    /// Where to.
    pub address: ConnectAddress,
}

/// Where a connection goes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ConnectAddress {
    /// `tcp:192.0.2.1:443`, `tcp:example.org:443`: a name is resolved outside of the layer.
    Tcp {
        /// Address (IPv6 without brackets) or host name.
        host: String,
        /// Port, 1 to 65535.
        port: u16,
    },
    /// `udp:192.0.2.1:53`.
    Udp {
        /// Address (IPv6 without brackets) or host name.
        host: String,
        /// Port, 1 to 65535.
        port: u16,
    },
    /// `unix:/run/other.sock`.
    Unix(String),
}

impl std::fmt::Display for ConnectAddress {
    /// As the policy writes it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp:[{host}]:{port}"),
            Self::Udp { host, port } if host.contains(':') => write!(f, "udp:[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp:{host}:{port}"),
            Self::Udp { host, port } => write!(f, "udp:{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

/// At most `count` in `per`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rate {
    /// How many; at least 1.
    pub count: u32,
    /// In which time; at least a millisecond.
    pub per: Duration,
}

/// Where a socket listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ListenAddress {
    /// `tcp:127.0.0.1:8443`, `tcp:[::1]:8443`.
    Tcp(std::net::SocketAddr),
    /// `udp:127.0.0.1:5353`.
    Udp(std::net::SocketAddr),
    /// `unix:/run/signer.sock`.
    Unix(String),
}

impl std::fmt::Display for ListenAddress {
    /// As the policy writes it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp:{address}"),
            Self::Udp(address) => write!(f, "udp:{address}"),
            Self::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}
