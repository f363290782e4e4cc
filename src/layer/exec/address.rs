//! Addresses as programs write them into their memory (ip(7), ipv6(7), unix(7)).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, ipproto, sockopt};

/// The most bytes that an address has (`struct sockaddr_storage`).
pub(super) const MOST: usize = 128;

/// An address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// IPv4, or IPv6; one that maps IPv4 into IPv6 is the IPv4 one.
    Internet {
        /// Where.
        at: SocketAddr,
        /// Whether it is written as IPv6.
        is_v6: bool,
    },
    /// A Unix path.
    Path(Vec<u8>),
    /// A Unix name without a path, or none at all.
    Abstract,
    /// Of another family, or none.
    Other(u16),
}

/// What addresses of a socket mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A TCP socket; whether of IPv6.
    Tcp {
        /// Of IPv6.
        is_v6: bool,
    },
    /// A UDP socket; whether of IPv6.
    Udp {
        /// Of IPv6.
        is_v6: bool,
    },
    /// A Unix stream.
    Path,
    /// Any other.
    Other,
}

impl Kind {
    /// What a socket is.
    pub fn of(socket: impl AsFd) -> Result<Self, Errno> {
        let family = sockopt::socket_domain(&socket)?;
        let protocol = sockopt::socket_protocol(&socket)?;
        let is_v6 = family == AddressFamily::INET6;
        let is_internet = is_v6 || family == AddressFamily::INET;
        Ok(match sockopt::socket_type(&socket)? {
            SocketType::STREAM if is_internet && protocol == Some(ipproto::TCP) => {
                Self::Tcp { is_v6 }
            }
            SocketType::DGRAM if is_internet && protocol == Some(ipproto::UDP) => {
                Self::Udp { is_v6 }
            }
            SocketType::STREAM if family == AddressFamily::UNIX => Self::Path,
            _ => Self::Other,
        })
    }
}

impl Address {
    /// What a policy would say of it; `None` where a socket of that kind can't have it.
    pub fn written(&self, kind: Kind) -> Option<String> {
        match (kind, self) {
            (Kind::Tcp { is_v6: v6 }, Self::Internet { at, is_v6 }) if v6 == *is_v6 => {
                Some(format!("tcp:{at}"))
            }
            (Kind::Udp { is_v6: v6 }, Self::Internet { at, is_v6 }) if v6 == *is_v6 => {
                Some(format!("udp:{at}"))
            }
            (Kind::Path, Self::Path(path)) => {
                Some(format!("unix:{}", String::from_utf8_lossy(path).escape_debug()))
            }
            _ => None,
        }
    }

    /// Reads one; `None` for one that is too short for its family.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (family, rest) = bytes.split_first_chunk::<2>()?;
        let family = u16::from_ne_bytes(*family);
        let port = || rest.first_chunk::<2>().map(|port| u16::from_be_bytes(*port));
        Some(match i32::from(family) {
            libc::AF_INET => {
                // `struct sockaddr_in` has 8 bytes more, which say nothing.
                let ip: [u8; 4] = rest.get(2..6)?.try_into().ok()?;
                rest.get(6..14)?;
                let at = SocketAddr::new(IpAddr::V4(Ipv4Addr::from(ip)), port()?);
                Self::Internet { at, is_v6: false }
            }
            libc::AF_INET6 => {
                let ip: [u8; 16] = rest.get(6..22)?.try_into().ok()?;
                let ip = IpAddr::V6(Ipv6Addr::from(ip)).to_canonical();
                Self::Internet { at: SocketAddr::new(ip, port()?), is_v6: true }
            }
            libc::AF_UNIX => match rest.split(|&byte| byte == 0).next() {
                Some(path) if !path.is_empty() => Self::Path(path.to_vec()),
                _ => Self::Abstract,
            },
            _ => Self::Other(family),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(ip: [u8; 4], port: u16) -> Vec<u8> {
        let family = u16::try_from(libc::AF_INET).unwrap().to_ne_bytes();
        [&family[..], &port.to_be_bytes(), &ip, &[0; 8]].concat()
    }

    fn v6(ip: &str, port: u16) -> Vec<u8> {
        let family = u16::try_from(libc::AF_INET6).unwrap().to_ne_bytes();
        let ip = ip.parse::<Ipv6Addr>().unwrap().octets();
        [&family[..], &port.to_be_bytes(), &[0; 4], &ip, &[0; 4]].concat()
    }

    fn unix(path: &[u8]) -> Vec<u8> {
        [&u16::try_from(libc::AF_UNIX).unwrap().to_ne_bytes(), path].concat()
    }

    #[test]
    fn each_family_is_read() {
        let internet = |at: &str, is_v6| Some(Address::Internet { at: at.parse().unwrap(), is_v6 });
        assert_eq!(Address::parse(&v4([127, 0, 0, 1], 80)), internet("127.0.0.1:80", false));
        assert_eq!(Address::parse(&v6("::1", 80)), internet("[::1]:80", true));
        assert_eq!(Address::parse(&v6("::ffff:10.0.0.1", 1)), internet("10.0.0.1:1", true));
        assert_eq!(Address::parse(&unix(b"/a\0b")), Some(Address::Path(b"/a".to_vec())));
        assert_eq!(Address::parse(&unix(b"/a")), Some(Address::Path(b"/a".to_vec())));
        assert_eq!(Address::parse(&unix(b"\0a")), Some(Address::Abstract));
        assert_eq!(Address::parse(&unix(b"")), Some(Address::Abstract));
        assert_eq!(Address::parse(&[0; 128]), Some(Address::Other(0)));
    }

    #[test]
    fn what_is_cut_is_none() {
        for whole in [v4([127, 0, 0, 1], 80), v6("::1", 80)] {
            let least = if whole.len() == 16 { 16 } else { 24 };
            for length in 0..least {
                assert_eq!(Address::parse(&whole[..length]), None, "{length}");
            }
            assert!(Address::parse(&whole[..least]).is_some());
        }
    }
}
