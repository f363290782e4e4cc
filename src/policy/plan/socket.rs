//! Addresses that layers listen on or are connected to.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::words;
use crate::ident::Name;

/// A socket that the supervisor binds and keeps across restarts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenPlan {
    /// Its name, by which the layer asks for it.
    pub name: Name,
    /// Where it listens.
    pub address: ListenAddress,
    /// How the layer comes by it.
    pub pass: Pass,
    /// How many connections it accepts in a while; `None` is no limit.
    pub rate: Option<Rate>,
    /// How many connections one source address may have open at once; `None` is no limit.
    pub per_source: Option<u32>,
    /// How many programs run at once, each for a connection; of [`Pass::Inetd`] alone.
    pub max: Option<u32>,
}

impl ListenPlan {
    /// The `max` of a socket whose policy says nothing of it.
    pub const DEFAULT_MAX: u32 = 8;
}

/// How a layer comes by a listening socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pass {
    /// The function of a `run` layer asks for it by its name.
    Name,
    /// The program of an `exec` layer binds a socket of its own to the address, and finds this one
    /// in its place.
    Bind,
    /// The program finds it as service managers pass sockets (`sd_listen_fds(3)`).
    ListenFds,
    /// The program finds it at this number.
    Fd(u8),
    /// The program is started for each connection, which is its standard input and output.
    Inetd,
}

/// The ways of [`Pass`] that policies name by a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassWord {
    /// [`Pass::Bind`].
    Bind,
    /// [`Pass::ListenFds`].
    ListenFds,
    /// [`Pass::Inetd`].
    Inetd,
}

words!(PassWord { Bind = "bind", ListenFds = "listen-fds", Inetd = "inetd" });

impl Pass {
    /// The first number that `sd_listen_fds(3)` gives.
    pub const FIRST_FD: u8 = 3;
    /// The last number at which a program finds a socket; the next is where its init opens it.
    pub const LAST_FD: u8 = 14;

    /// The word for it, if it has one.
    pub const fn word(self) -> Option<PassWord> {
        match self {
            Self::Bind => Some(PassWord::Bind),
            Self::ListenFds => Some(PassWord::ListenFds),
            Self::Inetd => Some(PassWord::Inetd),
            Self::Name | Self::Fd(_) => None,
        }
    }
}

impl From<PassWord> for Pass {
    fn from(word: PassWord) -> Self {
        match word {
            PassWord::Bind => Self::Bind,
            PassWord::ListenFds => Self::ListenFds,
            PassWord::Inetd => Self::Inetd,
        }
    }
}

impl std::fmt::Display for Pass {
    /// As people are told of it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self, self.word()) {
            (_, Some(word)) => f.write_str(word.name()),
            (Self::Fd(number), _) => write!(f, "fd {number}"),
            _ => f.write_str("name"),
        }
    }
}

/// An address that the supervisor connects to; the layer gets the connected socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectPlan {
    /// Its name, by which the layer asks for it.
    pub name: Name,
    /// Where to.
    pub address: ConnectAddress,
    /// What is put into each request to it; the layer sees none of it.
    pub inject: Option<InjectPlan>,
}

impl ConnectPlan {
    /// Whether the layer gets there by the framework's proxy alone.
    pub const fn is_proxied(&self) -> bool {
        matches!(self.address, ConnectAddress::Wild { .. }) || self.inject.is_some()
    }
}

/// A header field that the framework's proxy puts into requests, out of a file that only the proxy
/// reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InjectPlan {
    /// The field's name, in lower case.
    pub header: String,
    /// What stands before the file's content: `Bearer `.
    pub prefix: String,
    /// The file, whose content is the rest, without white space at its end. Absolute.
    pub file: String,
    /// Certificates of the authorities that the server's must be signed by, in PEM; `None` is those
    /// of the system. Absolute.
    pub authorities: Option<String>,
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
    /// `tcp:*.example.org:443`: every host beneath a domain, by the framework's proxy.
    Wild {
        /// The domain: `example.org`.
        domain: String,
        /// Port, 1 to 65535.
        port: u16,
    },
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
            Self::Wild { domain, port } => write!(f, "tcp:*.{domain}:{port}"),
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
