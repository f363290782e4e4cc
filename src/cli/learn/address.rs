//! The addresses of sockets, as policies write them.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;

use rustix::net::SocketType;
use rustix::net::sockopt::socket_type;

/// The longest address, in bytes: `struct sockaddr_storage`.
pub(super) const LONGEST: usize = 128;

/// Families, of the kernel's interface on every architecture.
const UNIX: u16 = 1;
const INET: u16 = 2;
const INET6: u16 = 10;

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
    let (family, rest) = bytes.split_first_chunk()?;
    match u16::from_ne_bytes(*family) {
        UNIX => {
            let path = rest.split(|byte| *byte == 0).next().filter(|path| !path.is_empty())?;
            Some(Address::Path(path.to_vec()))
        }
        INET => {
            let (port, rest) = rest.split_first_chunk()?;
            let (address, _) = rest.split_first_chunk::<4>()?;
            let port = u16::from_be_bytes(*port);
            let text = format!("{}:{port}", Ipv4Addr::from(*address));
            Some(Address::Internet { text, port })
        }
        INET6 => {
            let (port, rest) = rest.split_first_chunk()?;
            let (address, _) = rest.get(4..)?.split_first_chunk::<16>()?;
            let port = u16::from_be_bytes(*port);
            let address = Ipv6Addr::from(*address);
            let text = match address.to_ipv4_mapped() {
                Some(address) => format!("{address}:{port}"),
                None => format!("[{address}]:{port}"),
            };
            Some(Address::Internet { text, port })
        }
        _ => None,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let v4 = [&INET.to_ne_bytes()[..], &[0x1f, 0x90, 127, 0, 0, 1]].concat();
        let text = "127.0.0.1:8080".to_owned();
        assert_eq!(read(&v4), Some(Address::Internet { text, port: 8080 }));
        let unix = [&UNIX.to_ne_bytes()[..], b"/run/door\0rest"].concat();
        assert_eq!(read(&unix), Some(Address::Path(b"/run/door".to_vec())));
        assert_eq!(read(&[&UNIX.to_ne_bytes()[..], b"\0name"].concat()), None);
        assert_eq!(read(&[1]), None);
    }
}
