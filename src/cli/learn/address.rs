//! The addresses of sockets, as policies write them.

use std::os::fd::AsFd;

use rustix::net::SocketType;
use rustix::net::sockopt::socket_type;

use crate::sockaddr;

/// What was found in an address.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// As policies write it, without the transport: `127.0.0.1:80`.
    Internet { text: String, port: u16 },
    /// A path, as the program wrote it.
    Path(Vec<u8>),
}

/// Reads an address; `None` for families that policies don't know, and abstract names.
pub(super) fn read(bytes: &[u8]) -> Option<Address> {
    match sockaddr::Address::parse(bytes)? {
        sockaddr::Address::Internet { at, .. } => {
            Some(Address::Internet { text: at.to_string(), port: at.port() })
        }
        sockaddr::Address::Path(path) => Some(Address::Path(path)),
        sockaddr::Address::Abstract(_) | sockaddr::Address::Other(_) => None,
    }
}

/// `tcp:` or `udp:`, by what the socket is.
pub(super) fn transport(socket: impl AsFd) -> Option<&'static str> {
    match socket_type(socket).ok()? {
        SocketType::STREAM => Some("tcp:"),
        SocketType::DGRAM => Some("udp:"),
        _ => None,
    }
}

/// Where a socket is bound.
pub(super) fn local(socket: impl AsFd) -> Option<Address> {
    let name = rustix::net::getsockname(socket).ok()?;
    if let Ok(address) = std::net::SocketAddr::try_from(name.clone()) {
        let (ip, port) = (address.ip().to_canonical(), address.port());
        let text = std::net::SocketAddr::new(ip, port).to_string();
        return Some(Address::Internet { text, port });
    }
    let unix = rustix::net::SocketAddrUnix::try_from(name).ok()?;
    Some(Address::Path(unix.path_bytes()?.to_vec()))
}
