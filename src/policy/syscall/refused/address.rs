//! Socket addresses, as policies write them.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::names::show;
use crate::text::neutralise;

/// What a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// Between processes of this machine.
    Unix,
}

/// The longest address that is read, in bytes: `struct sockaddr_storage` of sys/socket.h.
pub(super) const LONGEST: usize = 128;

/// Families, of the kernel's interface on every architecture.
const UNIX: u16 = 1;
const INET: u16 = 2;
const INET6: u16 = 10;
const NETLINK: u16 = 16;

/// An address, `tcp:10.0.0.1:5432` or `unix:/run/door`; `None` if it is too short to be one.
pub(super) fn write(bytes: &[u8], transport: Option<Transport>) -> Option<String> {
    let (family, rest) = bytes.split_first_chunk()?;
    let family = u16::from_ne_bytes(*family);
    Some(match family {
        UNIX => format!("unix:{}", unix(rest)),
        INET => {
            let (port, rest) = rest.split_first_chunk()?;
            let (address, _) = rest.split_first_chunk::<4>()?;
            let port = u16::from_be_bytes(*port);
            format!("{}{}:{port}", word(transport), Ipv4Addr::from(*address))
        }
        INET6 => {
            let (port, rest) = rest.split_first_chunk()?;
            // What is before the address is the flow's label.
            let (address, _) = rest.get(4..)?.split_first_chunk::<16>()?;
            let port = u16::from_be_bytes(*port);
            format!("{}[{}]:{port}", word(transport), Ipv6Addr::from(*address))
        }
        NETLINK => "netlink".to_owned(),
        other => format!("family {}", show(other.into())),
    })
}

fn word(transport: Option<Transport>) -> &'static str {
    match transport {
        Some(Transport::Tcp) => "tcp:",
        Some(Transport::Udp) => "udp:",
        Some(Transport::Unix) | None => "",
    }
}

/// A path ends with its address or a zero byte; an abstract name begins with one.
fn unix(name: &[u8]) -> String {
    match name {
        [] => "unnamed".to_owned(),
        [0, name @ ..] => format!("@{}", neutralise(name)),
        path => neutralise(path.split(|&byte| byte == 0).next().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_policies_do() {
        let v4 = [&INET.to_ne_bytes()[..], &[0x15, 0x38, 10, 0, 0, 1]].concat();
        assert_eq!(write(&v4, Some(Transport::Tcp)).unwrap(), "tcp:10.0.0.1:5432");
        assert_eq!(write(&v4, None).unwrap(), "10.0.0.1:5432");
        assert_eq!(write(&v4[..5], None), None);
        let loopback = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        let v6 = [&INET6.to_ne_bytes()[..], &[0, 53], &[0; 4], &loopback].concat();
        assert_eq!(write(&v6, Some(Transport::Udp)).unwrap(), "udp:[::1]:53");
        let unix = |name: &[u8]| write(&[&UNIX.to_ne_bytes()[..], name].concat(), None).unwrap();
        assert_eq!(unix(b"/run/door\0left over"), "unix:/run/door");
        assert_eq!(unix(b"\0name\x1b"), "unix:@name\\x1b");
        assert_eq!(write(&[77, 0], None).unwrap(), "family 77");
    }
}
