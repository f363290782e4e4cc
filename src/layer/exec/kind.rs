//! What a socket is, and what a policy says of its addresses.

use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, ipproto, sockopt};

use crate::sockaddr::Address;

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

/// What a policy would say of an address; `None` where a socket of that kind can't have it.
pub(super) fn written(address: &Address, kind: Kind) -> Option<String> {
    match (kind, address) {
        (Kind::Tcp { is_v6: v6 }, Address::Internet { at, is_v6 }) if v6 == *is_v6 => {
            Some(format!("tcp:{at}"))
        }
        (Kind::Udp { is_v6: v6 }, Address::Internet { at, is_v6 }) if v6 == *is_v6 => {
            Some(format!("udp:{at}"))
        }
        (Kind::Path, Address::Path(path)) => {
            Some(format!("unix:{}", String::from_utf8_lossy(path).escape_debug()))
        }
        _ => None,
    }
}
