//! Small values inside strings: sizes, durations, addresses, paths.

use std::time::Duration;

use super::nearest::nearest;
use super::plan::{ConnectAddress, ListenAddress, ViewPart};

/// The longest path that `open(2)` takes, without its final NUL.
const PATH_MAX: usize = 4095;
/// The longest path of a Unix socket, without its final NUL (unix(7)).
const SOCKET_PATH_MAX: usize = 107;

const SIZE_UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

const TIME_UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// A size in bytes: `64KiB`, `4KB`, `1.5` is refused.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    quantity(text, &SIZE_UNITS, "a size", "64KiB")
}

/// A size as a policy writes it, exactly: `64KiB`, `1000B`.
pub(crate) fn show_size(size: u64) -> String {
    let binary = SIZE_UNITS[..5].iter().rev();
    let fits = |(_, factor): &&(&str, u64)| size != 0 && size.is_multiple_of(*factor);
    binary
        .into_iter()
        .find(fits)
        .map_or_else(|| format!("{size}B"), |(unit, factor)| format!("{}{unit}", size / factor))
}

/// A part of a view: `tls`, `tmp=16MiB`.
pub(crate) fn view_part(text: &str) -> Result<ViewPart, String> {
    let (word, size) = match text.split_once('=') {
        Some((word, size)) => (word, Some(self::size(size)?)),
        None => (text, None),
    };
    if let Some(part) = ViewPart::named(word, size) {
        return match part.size() {
            Some(size) if !(LEAST_IN_MEMORY..=MOST_IN_MEMORY).contains(&size) => Err(format!(
                "its size is from {} to {}",
                show_size(LEAST_IN_MEMORY),
                show_size(MOST_IN_MEMORY)
            )),
            _ => Ok(part),
        };
    }
    let known = ViewPart::WORDS.iter().find(|(name, _)| *name == word);
    Err(match known {
        Some((_, true)) => format!("it takes a size, as in `{word}=16MiB`"),
        Some((_, false)) => format!("`{word}` takes no size"),
        None => {
            let names = ViewPart::WORDS.iter().map(|(name, _)| *name);
            match nearest(word, names.clone()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the parts of a view are {}", list(names)),
            }
        }
    })
}

/// A part of a view as a policy writes it.
pub(crate) fn show_view_part(part: ViewPart) -> String {
    match part.size() {
        Some(size) => format!("{}={}", part.name(), show_size(size)),
        None => part.name().to_owned(),
    }
}

/// A file system in memory has a page at least, and no machine has more.
const LEAST_IN_MEMORY: u64 = 4 << 10;
const MOST_IN_MEMORY: u64 = 1 << 40;

/// A duration: `5s`, `250ms`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    quantity(text, &TIME_UNITS, "a duration", "5s").map(Duration::from_millis)
}

/// A duration as a policy writes it, exactly to the millisecond: `90d`, `1500ms`.
pub(crate) fn show_duration(time: Duration) -> String {
    let time = time.as_millis();
    let fits = |(_, factor): &&(&str, u64)| time != 0 && time.is_multiple_of(u128::from(*factor));
    let unit = TIME_UNITS.iter().rev().find(fits);
    unit.map_or_else(
        || "0ms".to_owned(),
        |(unit, factor)| format!("{}{unit}", time / u128::from(*factor)),
    )
}

/// How often: `500/s`, `3/10s`, `1MiB/s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RateText {
    /// How many.
    pub(crate) count: u64,
    /// In which time.
    pub(crate) per: Duration,
    /// Whether the number is one of bytes.
    pub(crate) bytes: bool,
}

/// A rate: a number or a size, `/`, and a unit of time or a duration.
pub(crate) fn rate(text: &str) -> Result<RateText, String> {
    let rule = "a rate is a number and a time, as in `500/s` or `3/10s`";
    let (count, per) = text.split_once('/').ok_or(rule)?;
    let plain = !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit());
    let count = if plain {
        count.parse().map_err(|_| "a number this large does not fit in 64 bits")?
    } else {
        size(count).map_err(|_| rule)?
    };
    let per = match TIME_UNITS.iter().find(|(unit, _)| *unit == per) {
        Some((_, factor)) => Duration::from_millis(*factor),
        None => duration(per).map_err(|_| rule)?,
    };
    Ok(RateText { count, per, bytes: !plain })
}

/// Where a connection goes: `tcp:example.org:443`, `udp:192.0.2.1:53`, `unix:/run/other.sock`.
pub(crate) fn connect_address(text: &str) -> Result<ConnectAddress, String> {
    let rule = "an address is `tcp:HOST:443`, `udp:192.0.2.1:53` or `unix:/run/a.sock`";
    let (kind, rest) = text.split_once(':').ok_or(rule)?;
    if kind == "unix" {
        return match address(text)? {
            ListenAddress::Unix(path) => Ok(ConnectAddress::Unix(path)),
            _ => Err(rule.into()),
        };
    }
    if !matches!(kind, "tcp" | "udp") {
        return Err(rule.into());
    }
    let (host, port) = rest.rsplit_once(':').ok_or(rule)?;
    let port = port.parse::<u16>().ok().filter(|port| *port > 0);
    let port = port.ok_or("a port is from 1 to 65535")?;
    if let Some(domain) = host.strip_prefix("*.") {
        return match host_name(domain) {
            Ok(domain) if kind == "tcp" && domain.contains('.') && is_name(&domain) => {
                Ok(ConnectAddress::Wild { domain, port })
            }
            Ok(_) if kind == "udp" => Err("only `tcp` takes a `*`".into()),
            _ => Err("a `*.` stands before a domain of two parts or more".into()),
        };
    }
    if host.contains('*') {
        return Err(
            "a `*` stands for whole parts at the front, as in `tcp:*.example.org:443`".into()
        );
    }
    let host = host_name(host)?;
    Ok(if kind == "tcp" {
        ConnectAddress::Tcp { host, port }
    } else {
        ConnectAddress::Udp { host, port }
    })
}

/// Whether a host is a name, and no address.
fn is_name(host: &str) -> bool {
    host.parse::<std::net::IpAddr>().is_err()
}

/// A host's address in its one spelling, or its name (RFC 1123, 2.1).
fn host_name(host: &str) -> Result<String, String> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if let Some(bare) = bare {
        let six: std::net::Ipv6Addr =
            bare.parse().map_err(|_| "in brackets is an IPv6 address, as in `[::1]`")?;
        return Ok(six.to_string());
    }
    if let Ok(four) = host.parse::<std::net::Ipv4Addr>() {
        return Ok(four.to_string());
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let name = host.to_ascii_lowercase();
    // A name whose last part is a number would be taken for an address.
    let number = name.rsplit('.').next().is_some_and(|last| last.parse::<u64>().is_ok());
    if name.len() <= 253 && !number && name.split('.').all(label) {
        return Ok(name);
    }
    Err("a host is an IPv4 address, an IPv6 address in brackets, or a name".into())
}

fn quantity(text: &str, units: &[(&str, u64)], what: &str, example: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(format!("{what} is a whole number and a unit, as in `{example}`"));
    }
    let known = units.iter().find(|(name, _)| *name == unit.trim_start_matches(' '));
    let Some((_, factor)) = known else {
        let names = units.iter().map(|(name, _)| *name);
        let near = match unit.trim() {
            "" => None,
            unit => starting_with(unit, names.clone()).or_else(|| nearest(unit, names.clone())),
        };
        return Err(match near {
            Some(near) => format!("unknown unit: did you mean `{number}{near}`?"),
            None => format!("the unit is missing or unknown; units are {}", list(names)),
        });
    };
    let number: Option<u64> = number.parse().ok();
    number
        .and_then(|number| number.checked_mul(*factor))
        .ok_or_else(|| format!("{what} this large does not fit in 64 bits"))
}

/// `M` and `mib` mean `MiB`, `sec` means `s`: the binary unit comes first in its table.
fn starting_with<'a>(unit: &str, mut names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let unit = unit.to_ascii_lowercase();
    names.find(|name| {
        let name = name.to_ascii_lowercase();
        name != "b" && (name.starts_with(&unit) || name.len() == 1 && unit.starts_with(&name))
    })
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

/// Where a socket listens: `tcp:127.0.0.1:8443`, `udp:[::1]:53`, `unix:/run/signer.sock`.
pub(crate) fn address(text: &str) -> Result<ListenAddress, String> {
    let rule = "an address is `tcp:127.0.0.1:8443`, `udp:[::1]:53` or `unix:/run/a.sock`";
    let Some((kind, rest)) = text.split_once(':') else {
        return Err(rule.into());
    };
    if text.parse::<std::net::SocketAddr>().is_ok() {
        return Err(format!("of which kind? write `tcp:{text}` or `udp:{text}`"));
    }
    let internet = || {
        rest.parse().map_err(|_| {
            let name = rest.rsplit_once(':').is_some_and(|(host, port)| {
                port.parse::<u16>().is_ok() && !host.is_empty() && !host.starts_with('[')
            });
            let port = rest.rsplit_once(':').and_then(|(_, port)| port.parse::<u64>().ok());
            if port.is_some_and(|port| port > u64::from(u16::MAX)) {
                return "a port is from 1 to 65535".into();
            }
            let what = if name && rest.contains(|c: char| c.is_ascii_alphabetic()) {
                "names are not looked up: write the number, as in"
            } else {
                "this is not an IP address and a port, as in"
            };
            format!("{what} `{kind}:127.0.0.1:8443` or `{kind}:[::1]:8443`")
        })
    };
    match kind {
        "tcp" => internet().map(ListenAddress::Tcp),
        "udp" => internet().map(ListenAddress::Udp),
        "unix" => {
            path(rest)?;
            if rest.len() > SOCKET_PATH_MAX {
                return Err(format!("a socket's path has at most {SOCKET_PATH_MAX} bytes"));
            }
            Ok(ListenAddress::Unix(rest.to_owned()))
        }
        _ => Err(rule.into()),
    }
}

/// Checks that a path is absolute and written in the one plain way.
pub(crate) fn path(text: &str) -> Result<(), String> {
    if !text.starts_with('/') {
        let home = text.starts_with('~');
        let rule = "a path begins with `/`";
        return Err(if home { format!("{rule}: `~` is nobody's home here") } else { rule.into() });
    }
    if text.len() > PATH_MAX {
        return Err(format!("a path has at most {PATH_MAX} bytes"));
    }
    if let Some(c) = text.chars().find(|c| c.is_control()) {
        return Err(format!("a path has no control characters, this one has {c:?}"));
    }
    if text.ends_with(char::is_whitespace) {
        return Err("there is white space at the end".into());
    }
    if text == "/" {
        return Ok(());
    }
    for part in text[1..].split('/') {
        match part {
            "" if text.ends_with('/') && !text.ends_with("//") => {
                return Err("a path does not end with `/`, not even a directory's".into());
            }
            "" => return Err("a path has no doubled `/`".into()),
            "." | ".." => return Err(format!("a path has no `{part}`: write where it leads")),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size("64KiB"), Ok(65536));
        assert_eq!(size("4 KB"), Ok(4000));
        assert_eq!(size("0B"), Ok(0));
        assert_eq!([0, 1000, 4096, 1 << 50].map(show_size), ["0B", "1000B", "4KiB", "1024TiB"]);
        assert!(size("64K").unwrap_err().contains("`64KiB`"));
        assert!(size("64M").unwrap_err().contains("`64MiB`"));
        assert!(size("4kb").unwrap_err().contains("`4KB`"));
        assert!(size("64kib").unwrap_err().contains("`64KiB`"));
        assert!(size("1.5MiB").is_err());
        assert!(size("-1MiB").is_err());
        assert!(size("99999999TiB").unwrap_err().contains("64 bits"));
        assert!(size("99999999999999999999999B").unwrap_err().contains("64 bits"));
    }

    #[test]
    fn durations() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("2m"), Ok(Duration::from_mins(2)));
        assert!(duration("5 seconds").unwrap_err().contains("`5s`"));
        assert!(duration("5x").unwrap_err().contains("units are"));
        assert!(duration("5").unwrap_err().contains("unit"));
    }

    #[test]
    fn addresses() {
        assert_eq!(address("unix:/run/a"), Ok(ListenAddress::Unix("/run/a".into())));
        assert!(matches!(address("tcp:[::1]:80"), Ok(ListenAddress::Tcp(_))));
        assert!(address("tcp:localhost:80").unwrap_err().contains("not looked up"));
        assert!(address("tcp:127.0.0.1").is_err());
        assert!(address("unix:a").is_err());
        assert!(address(&format!("unix:/{}", "a".repeat(200))).is_err());
        assert!(address("127.0.0.1:80").is_err());
    }

    #[test]
    fn rates() {
        let rate = |text| rate(text).map(|rate| (rate.count, rate.per.as_millis(), rate.bytes));
        assert_eq!(rate("500/s"), Ok((500, 1000, false)));
        assert_eq!(rate("3/10s"), Ok((3, 10_000, false)));
        assert_eq!(rate("1MiB/s"), Ok((1 << 20, 1000, true)));
        for bad in ["", "5", "/s", "5/", "5/x", "-1/s", "s/5", "5/s/s", "1.5/s"] {
            assert!(rate(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn connections() {
        let host = |text: &str| match connect_address(text) {
            Ok(ConnectAddress::Tcp { host, port } | ConnectAddress::Udp { host, port }) => {
                format!("{host} {port}")
            }
            Ok(ConnectAddress::Unix(path)) => path,
            Ok(ConnectAddress::Wild { domain, port }) => format!("beneath {domain} {port}"),
            Err(why) => why,
        };
        assert_eq!(host("tcp:Example.org:443"), "example.org 443");
        assert_eq!(host("udp:[0:0::1]:53"), "::1 53");
        assert_eq!(host("unix:/run/a"), "/run/a");
        assert_eq!(host("tcp:*.Example.org:443"), "beneath example.org 443");
        for bad in ["tcp:*:1", "tcp:*.org:1", "tcp:*.1.2.3.4:1", "tcp:a.*.org:1", "udp:*.a.org:1"] {
            assert!(connect_address(bad).is_err(), "{bad}");
        }
        for bad in ["tcp::1", "tcp:a:0", "tcp:a_b:1", "tcp:1.2.3:4", "tcp:::1:4", "x:a:1", "tcp"] {
            assert!(connect_address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths() {
        assert!(path("/").is_ok());
        assert!(path("/a/b.c/..d").is_ok());
        for bad in ["", "a", "/a/", "/a//b", "//", "/a/../b", "/.", "/a ", "/a\0", "/a\n"] {
            assert!(path(bad).is_err(), "{bad:?}");
        }
    }
}
