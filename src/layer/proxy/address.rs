//! Which addresses a name may lead to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// What an address is, apart from whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Of the network at large.
    Global,
    /// Of a private network, which anybody's name may point into.
    Private,
    /// Of this machine, of the link, of many hosts at once, of nobody, or where clouds keep what
    /// they tell their machines: no name may lead there.
    Special,
}

/// DNS, whose servers the C library asks.
pub(super) const DNS: u16 = 53;

/// Where clouds keep credentials for their machines, outside of the link-local network: AWS and
/// Google by IPv6, Alibaba, Oracle, Azure.
const METADATA: [IpAddr; 5] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
];

/// The scope of an address (RFC 6890 and the registries that it names).
pub(super) fn scope(ip: IpAddr) -> Scope {
    let ip = ip.to_canonical();
    if METADATA.contains(&ip) {
        return Scope::Special;
    }
    match ip {
        IpAddr::V4(four) => scope_of_four(four),
        IpAddr::V6(six) => scope_of_six(six),
    }
}

#[expect(clippy::match_same_arms, reason = "each kind of address stands by its own reason")]
fn scope_of_four(four: Ipv4Addr) -> Scope {
    match four.octets() {
        // "This network", loopback, link-local, protocol assignments, the former relays of 6to4,
        // multicast, reserved and broadcast.
        [0 | 127 | 224..=255, ..] | [169, 254, ..] | [192, 0, 0, _] | [192, 88, 99, _] => {
            Scope::Special
        }
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Scope::Private,
        // Shared between providers and customers; measurements.
        [100, 64..=127, ..] | [198, 18..=19, ..] => Scope::Private,
        _ => Scope::Global,
    }
}

#[expect(clippy::match_same_arms, reason = "each kind of address stands by its own reason")]
fn scope_of_six(six: Ipv6Addr) -> Scope {
    let four = |high: u16, low: u16| {
        // Behind a translator a private network is somebody else's.
        match scope_of_four(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low))) {
            Scope::Global => Scope::Global,
            Scope::Private | Scope::Special => Scope::Special,
        }
    };
    match six.segments() {
        // Unspecified, loopback, and IPv4 as it was written once.
        [0, 0, 0, 0, 0, 0, ..] => Scope::Special,
        // Translated for hosts of IPv4 (NAT64): by its well-known prefix, and by local ones.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => four(high, low),
        [0x64, 0xff9b, ..] | [0, ..] => Scope::Special,
        // Tunnels through hosts of IPv4: 6to4 and Teredo.
        [0x2002, high, low, ..] => four(high, low),
        [0x2001, 0, ..] => Scope::Special,
        // Link-local, site-local, multicast.
        [0xfe80..=0xffff, ..] => Scope::Special,
        [0xfc00..=0xfdff, ..] => Scope::Private,
        _ => Scope::Global,
    }
}

/// Whether an address is one of this machine's own: then it would send from there. No packet is sent.
pub(super) fn is_own(ip: IpAddr) -> bool {
    let any: IpAddr =
        if ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // The port says nothing: it is one that this helper may reach, and datagrams none may.
    let from = |port: u16| {
        let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
        socket.connect(SocketAddr::new(ip, port))?;
        socket.local_addr()
    };
    from(DNS).is_ok_and(|from| from.ip().to_canonical() == ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes() {
        for (scope, addresses) in [
            (Scope::Global, &["8.8.8.8", "203.0.113.1", "2606:4700::1", "64:ff9b::808:808"][..]),
            (Scope::Private, &["10.1.2.3", "172.31.0.1", "192.168.0.1", "100.64.0.1", "fd12::1"]),
            (
                Scope::Special,
                &[
                    "0.0.0.0",
                    "0.1.2.3",
                    "127.0.0.1",
                    "127.255.0.3",
                    "169.254.169.254",
                    "169.254.0.1",
                    "224.0.0.1",
                    "255.255.255.255",
                    "240.0.0.1",
                    "192.0.0.192",
                    "100.100.100.200",
                    "168.63.129.16",
                    "::",
                    "::1",
                    "::127.0.0.1",
                    "::ffff:127.0.0.1",
                    "::ffff:169.254.169.254",
                    "::ffff:0:7f00:1",
                    "64:ff9b::7f00:1",
                    "64:ff9b::a9fe:a9fe",
                    "64:ff9b::10.0.0.1",
                    "64:ff9b:1::1",
                    "2002:7f00:1::",
                    "2002:a9fe:a9fe::1",
                    "2002:a00:1::1",
                    "2001::1",
                    "fe80::1",
                    "fec0::1",
                    "ff02::1",
                    "fd00:ec2::254",
                    "fd20:ce::254",
                ],
            ),
        ] {
            for address in addresses {
                assert_eq!(super::scope(address.parse().unwrap()), scope, "{address}");
            }
        }
        assert_eq!(super::scope("::ffff:10.0.0.1".parse().unwrap()), Scope::Private);
    }

    #[test]
    fn this_machine_is_known_by_its_own_addresses() {
        assert!(is_own("127.0.0.1".parse().unwrap()));
        assert!(is_own("::ffff:127.0.0.1".parse::<IpAddr>().unwrap().to_canonical()));
        assert!(!is_own("203.0.113.1".parse().unwrap()));
    }
}
