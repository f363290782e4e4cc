//! Hosts as requests name them, read in one way only.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest name (RFC 1035, 2.3.4).
const LONGEST: usize = 253;

/// A host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    /// A name: lower case, without a dot at its end.
    Name(String),
    /// An address; one that maps IPv4 into IPv6 is the IPv4 one.
    Address(IpAddr),
}

impl Host {
    /// Reads one as it stands in a URL or behind `CONNECT`; IPv6 is in brackets.
    ///
    /// What others might read otherwise is none: an IPv4 address in other spellings (`127.1`,
    /// `0x7f000001`), names that aren't ASCII or are percent-encoded, a user before an `@`.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(inside) = text.strip_prefix('[') {
            let six: Ipv6Addr = inside.strip_suffix(']')?.parse().ok()?;
            return Some(Self::Address(IpAddr::V6(six).to_canonical()));
        }
        if let Ok(four) = text.parse::<Ipv4Addr>() {
            return Some(Self::Address(four.into()));
        }
        // One dot at the end says that it is a whole name already.
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let part = |part: &str| {
            let inside = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            (1..=63).contains(&part.len())
                && part.bytes().all(inside)
                && !part.starts_with('-')
                && !part.ends_with('-')
        };
        // The C library takes a last part that begins with a digit for an address of some spelling.
        let last = name.rsplit('.').next().unwrap_or_default();
        let is_name = name.len() <= LONGEST
            && name.split('.').all(part)
            && last.starts_with(|first: char| first.is_ascii_lowercase());
        is_name.then_some(Self::Name(name))
    }

    /// Reads a host and its port, which must be there if `default` is `None`.
    pub fn with_port(text: &str, default: Option<u16>) -> Option<(Self, u16)> {
        let bracket = text.rfind(']').unwrap_or(0);
        let colon = text.get(bracket..)?.find(':').map(|at| at + bracket);
        let (host, port) = match colon {
            Some(at) => (text.get(..at)?, self::port(text.get(at + 1..)?)?),
            None => (text, default?),
        };
        Some((Self::parse(host)?, port))
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(four)) => four.fmt(f),
            Self::Address(IpAddr::V6(six)) => write!(f, "[{six}]"),
        }
    }
}

/// A port in digits alone.
fn port(text: &str) -> Option<u16> {
    let plain = (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| plain && *port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_read_in_one_way() {
        let read =
            |text: &str| Host::with_port(text, None).map(|(it, port)| format!("{it} {port}"));
        for (text, host) in [
            ("Example.ORG:443", "example.org 443"),
            ("example.org.:443", "example.org 443"),
            ("a_b.example.org:1", "a_b.example.org 1"),
            ("127.0.0.1:80", "127.0.0.1 80"),
            ("[::1]:80", "[::1] 80"),
            ("[::ffff:127.0.0.1]:80", "127.0.0.1 80"),
            ("xn--bcher-kva.example:443", "xn--bcher-kva.example 443"),
        ] {
            assert_eq!(read(text).as_deref(), Some(host), "{text}");
        }
        for text in [
            "example.org",
            "example.org:",
            "example.org:0",
            "example.org:+80",
            "example.org:65536",
            "example.org:000443",
            "example.org..:443",
            ".example.org:443",
            "allowed.org@evil.org:443",
            "allowed.org:443@evil.org:443",
            "127.1:80",
            "0x7f000001:80",
            "2130706433:80",
            "0177.0.0.1:80",
            "evil.org%2eallowed.org:443",
            "b\u{fc}cher.example:443",
            "evil.org\\.allowed.org:443",
            "evil.org/.allowed.org:443",
            "evil.org#.allowed.org:443",
            "evil.org .allowed.org:443",
            "[fe80::1%eth0]:80",
            "[::1:80",
            "::1:80",
            "",
            ":80",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(
            Host::with_port("example.org", Some(80)),
            Some((Host::Name("example.org".to_owned()), 80))
        );
    }
}
