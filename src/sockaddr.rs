//! Addresses of sockets as programs have them in their memory (ip(7), ipv6(7), unix(7)).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The most bytes that an address has (`struct sockaddr_storage` of sys/socket.h).
pub const LONGEST: usize = 128;

/// An address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// IPv4, or IPv6; one that maps IPv4 into IPv6 is the IPv4 one.
    Internet {
        /// Where.
        at: SocketAddr,
        /// Whether it is written as IPv6.
        is_v6: bool,
    },
    /// A Unix path.
    Path(Vec<u8>),
    /// A Unix name without a path; empty if there is none at all.
    Abstract(Vec<u8>),
    /// Of another family, or none.
    Other(u16),
}

impl Address {
    /// Reads one; `None` for one that is too short for its family, as the kernel sees it.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (family, rest) = bytes.split_first_chunk::<2>()?;
        let family = u16::from_ne_bytes(*family);
        let port = || rest.first_chunk::<2>().map(|port| u16::from_be_bytes(*port));
        Some(match family {
            INET => {
                // `struct sockaddr_in` has 8 bytes more, which say nothing.
                let ip: [u8; 4] = rest.get(2..6)?.try_into().ok()?;
                rest.get(6..14)?;
                let at = SocketAddr::new(IpAddr::V4(Ipv4Addr::from(ip)), port()?);
                Self::Internet { at, is_v6: false }
            }
            INET6 => {
                // What is before the address is the flow's label.
                let ip: [u8; 16] = rest.get(6..22)?.try_into().ok()?;
                let ip = IpAddr::V6(Ipv6Addr::from(ip)).to_canonical();
                Self::Internet { at: SocketAddr::new(ip, port()?), is_v6: true }
            }
            UNIX => match rest {
                [] => Self::Abstract(Vec::new()),
                [0, name @ ..] => Self::Abstract(name.to_vec()),
                // A path ends with its address or a zero byte.
                path => Self::Path(path.split(|&byte| byte == 0).next().unwrap_or(path).to_vec()),
            },
            other => Self::Other(other),
        })
    }
}

/// Families, of the kernel's interface on every architecture (`AF_*` of sys/socket.h).
const UNIX: u16 = 1;
const INET: u16 = 2;
const INET6: u16 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(ip: [u8; 4], port: u16) -> Vec<u8> {
        [&INET.to_ne_bytes()[..], &port.to_be_bytes(), &ip, &[0; 8]].concat()
    }

    fn v6(ip: &str, port: u16) -> Vec<u8> {
        let ip = ip.parse::<Ipv6Addr>().unwrap().octets();
        [&INET6.to_ne_bytes()[..], &port.to_be_bytes(), &[0; 4], &ip, &[0; 4]].concat()
    }

    fn unix(path: &[u8]) -> Vec<u8> {
        [&UNIX.to_ne_bytes(), path].concat()
    }

    #[test]
    fn each_family_is_read() {
        let internet = |at: &str, is_v6| Some(Address::Internet { at: at.parse().unwrap(), is_v6 });
        assert_eq!(Address::parse(&v4([127, 0, 0, 1], 80)), internet("127.0.0.1:80", false));
        assert_eq!(Address::parse(&v6("::1", 80)), internet("[::1]:80", true));
        assert_eq!(Address::parse(&v6("::ffff:10.0.0.1", 1)), internet("10.0.0.1:1", true));
        assert_eq!(Address::parse(&unix(b"/a\0b")), Some(Address::Path(b"/a".to_vec())));
        assert_eq!(Address::parse(&unix(b"/a")), Some(Address::Path(b"/a".to_vec())));
        assert_eq!(Address::parse(&unix(b"\0a")), Some(Address::Abstract(b"a".to_vec())));
        assert_eq!(Address::parse(&unix(b"")), Some(Address::Abstract(Vec::new())));
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
