//! A call, decoded.

use super::names::show;
use super::shape::{self, Part};
use super::{Made, Maker, Transport};
use crate::policy::syscall::names::name_of;
use crate::policy::syscall::prototype::{self, Kind};
use crate::sockaddr::{Address, LONGEST};
use crate::text::neutralise;

/// The most of a text that is shown, in bytes.
const TEXT: usize = 256;

/// What stands for memory that can't be read.
const UNREADABLE: &str = "?";

/// A call with its arguments, as far as they say something: `socket(AF_INET, SOCK_STREAM)`,
/// `openat("/etc/ld.so.preload", O_RDONLY)`, `connect(tcp:10.0.0.1:5432)`. It is harmless to show.
pub fn describe(made: &Made, maker: &dyn Maker) -> String {
    let Some(name) = name_of(made.number) else {
        return format!("system call {}", made.number);
    };
    let arguments = seen(name, &made.arguments);
    let Some(parts) = shape::of(name, &arguments) else {
        return format!("{name}({})", plain(&arguments));
    };
    let mut told: Vec<Told> = Vec::new();
    for (part, value) in parts.iter().zip(arguments) {
        let word = word(*part, value, &told, &arguments, maker);
        told.push(Told { part: *part, value, word });
    }
    // An address says enough of its socket.
    if told.iter().any(|it| it.part == Part::Address && it.word.is_some()) {
        told[0].word = None;
    }
    while told.pop_if(|last| last.is_idle()).is_some() {}
    let words: Vec<&str> = told.iter().filter_map(|it| it.word.as_deref()).collect();
    format!("{name}({})", words.join(", "))
}

/// The arguments with the bits that the kernel looks at.
pub(super) fn seen(name: &str, arguments: &[u64; 6]) -> [u64; 6] {
    let mut seen = *arguments;
    for (value, kind) in seen.iter_mut().zip(prototype::of(name).into_iter().flatten()) {
        if kind == Kind::Int {
            *value &= u64::from(u32::MAX);
        }
    }
    seen
}

/// One argument that was looked at.
struct Told {
    part: Part,
    value: u64,
    /// What is said of it, if anything.
    word: Option<String>,
}

impl Told {
    /// Whether it says nothing as the last one.
    fn is_idle(&self) -> bool {
        match self.part {
            Part::Named(names) => names.is_quiet(self.value),
            _ => self.word.is_none(),
        }
    }
}

fn word(
    part: Part,
    value: u64,
    before: &[Told],
    arguments: &[u64; 6],
    maker: &dyn Maker,
) -> Option<String> {
    Some(match part {
        // A path that is looked up in the working directory, as nearly all are.
        Part::At if signed(value) == AT_FDCWD => return None,
        Part::Fd | Part::At | Part::Int | Part::Process => signed(value).to_string(),
        Part::Count => value.to_string(),
        Part::Mode => mode(value),
        Part::Exact => show(value),
        Part::Named(names) => names.write(value),
        Part::Null if value == 0 => "NULL".to_owned(),
        Part::Null | Part::Hidden => return None,
        Part::Path | Part::Text => text(value, maker),
        Part::Limits => limits(value, maker)?,
        Part::Address => socket(value, before, arguments, maker)?,
    })
}

/// Permissions.
pub(super) fn mode(value: u64) -> String {
    if value == 0 { "0".to_owned() } else { format!("{value:#o}") }
}

/// A number with a sign, of either width.
fn signed(value: u64) -> i64 {
    match i32::try_from(value.cast_signed()) {
        Ok(small) => small.into(),
        Err(_) => u32::try_from(value).map_or(value.cast_signed(), |it| it.cast_signed().into()),
    }
}

/// open(2), of the kernel's interface on every architecture.
const AT_FDCWD: i64 = -100;

/// The text at an address, up to its end or to [`TEXT`] bytes.
fn text(address: u64, maker: &dyn Maker) -> String {
    if address == 0 {
        return "NULL".to_owned();
    }
    let mut bytes = [0; TEXT];
    let length = maker.read(address, &mut bytes).min(TEXT);
    if length == 0 {
        return UNREADABLE.to_owned();
    }
    let bytes = &bytes[..length];
    let (text, more) = match bytes.iter().position(|&byte| byte == 0) {
        Some(end) => (&bytes[..end], ""),
        None => (bytes, "..."),
    };
    let escape = |&byte: &u8| match byte {
        b'"' | b'\\' => vec![b'\\', byte],
        _ => vec![byte],
    };
    let escaped: Vec<u8> = text.iter().flat_map(escape).collect();
    format!("\"{}\"{more}", neutralise(&escaped))
}

/// What limits are asked for: soft and hard.
fn limits(address: u64, maker: &dyn Maker) -> Option<String> {
    let mut bytes = [0; 16];
    if address == 0 || maker.read(address, &mut bytes) < bytes.len() {
        return None;
    }
    let number = |at: usize| {
        let word = bytes[at..].first_chunk().map_or(0, |word| u64::from_ne_bytes(*word));
        if word == u64::MAX { "unlimited".to_owned() } else { word.to_string() }
    };
    Some(format!("{{{}, {}}}", number(0), number(8)))
}

/// The address that a socket, the first argument, is to be bound to, connected to or send to. Its
/// length is the next argument.
fn socket(place: u64, before: &[Told], arguments: &[u64; 6], maker: &dyn Maker) -> Option<String> {
    if place == 0 {
        return None;
    }
    let length = arguments.get(before.len() + 1).copied().unwrap_or(0);
    let length = usize::try_from(length).unwrap_or(LONGEST).min(LONGEST);
    let mut bytes = [0; LONGEST];
    let read = maker.read(place, &mut bytes[..length]).min(length);
    let fd = before.first().map_or(-1, |first| signed(first.value));
    let transport = i32::try_from(fd).ok().and_then(|fd| maker.transport(fd));
    let address = Address::parse(&bytes[..read]);
    Some(address.map_or_else(|| UNREADABLE.to_owned(), |address| written(&address, transport)))
}

/// An address as policies write it, `tcp:10.0.0.1:5432` or `unix:/run/door`.
fn written(address: &Address, transport: Option<Transport>) -> String {
    let word = match transport {
        Some(Transport::Tcp) => "tcp:",
        Some(Transport::Udp) => "udp:",
        Some(Transport::Unix) | None => "",
    };
    match address {
        Address::Internet { at, .. } => format!("{word}{at}"),
        Address::Path(path) => format!("unix:{}", neutralise(path)),
        Address::Abstract(name) if name.is_empty() => "unix:unnamed".to_owned(),
        Address::Abstract(name) => format!("unix:@{}", neutralise(name)),
        // AF_NETLINK, of the kernel's interface on every architecture.
        Address::Other(16) => "netlink".to_owned(),
        Address::Other(family) => format!("family {family}"),
    }
}

/// The arguments of a call that isn't described, without the zeros at their end.
fn plain(arguments: &[u64; 6]) -> String {
    let last = arguments.iter().rposition(|&value| value != 0).map_or(0, |last| last + 1);
    arguments[..last].iter().map(|&value| show(value)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::{Closed, Transport};
    use super::*;
    use crate::policy::syscall::by_name;

    /// Memory at some addresses, and sockets.
    struct Fake(&'static [(u64, &'static [u8])]);

    impl Maker for Fake {
        fn read(&self, address: u64, into: &mut [u8]) -> usize {
            let found = self.0.iter().find(|(at, _)| *at == address);
            let Some((_, bytes)) = found else { return 0 };
            let length = bytes.len().min(into.len());
            into[..length].copy_from_slice(&bytes[..length]);
            length
        }

        fn transport(&self, fd: i32) -> Option<Transport> {
            (fd == 7).then_some(Transport::Tcp)
        }
    }

    const MEMORY: Fake = Fake(&[
        (1000, b"/etc/ld.so.preload\0/left/over"),
        (2000, b"\x02\0\x15\x38\x0a\0\0\x01\0\0\0\0\0\0\0\0"),
        (3000, b"\0\x04\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff"),
        (4000, b"a\x1b[2J\"\\\0"),
        (5000, &[b'x'; 300]),
    ]);

    fn told(call: &str, arguments: &[u64]) -> String {
        let mut all = [0; 6];
        all[..arguments.len()].copy_from_slice(arguments);
        let number = by_name(call).unwrap();
        describe(&Made { number, arguments: all }, &MEMORY)
    }

    const HERE: u64 = 0xffff_ff9c;

    #[test]
    fn a_call_reads_as_its_caller_wrote_it() {
        assert_eq!(told("prctl", &[41, 1]), "prctl(PR_SET_THP_DISABLE, 1)");
        assert_eq!(told("prctl", &[41, 0, 77]), "prctl(PR_SET_THP_DISABLE, 0)");
        let preload = "openat(\"/etc/ld.so.preload\", O_RDONLY)";
        assert_eq!(told("openat", &[HERE, 1000, 0, 0o7777]), preload);
        // The high half of an `int` is nobody's.
        assert_eq!(told("openat", &[HERE | 5 << 32, 1000, 0]), preload);
        let made = "openat(5, \"/etc/ld.so.preload\", O_WRONLY|O_CREAT, 0o644)";
        assert_eq!(told("openat", &[5, 1000, 0o101, 0o644]), made);
        assert_eq!(told("socket", &[2, 1]), "socket(AF_INET, SOCK_STREAM)");
        let tcp = "socket(AF_INET6, SOCK_STREAM|SOCK_CLOEXEC, IPPROTO_TCP)";
        assert_eq!(told("socket", &[10, 0o2_000_001, 6]), tcp);
        assert_eq!(told("connect", &[7, 2000, 16]), "connect(tcp:10.0.0.1:5432)");
        assert_eq!(told("connect", &[8, 2000, 16]), "connect(10.0.0.1:5432)");
        assert_eq!(told("setsockopt", &[4, 1, 2, 9, 4]), "setsockopt(4, SOL_SOCKET, SO_REUSEADDR)");
        assert_eq!(told("setrlimit", &[7, 3000]), "setrlimit(RLIMIT_NOFILE, {1024, unlimited})");
        assert_eq!(told("prlimit64", &[0, 7, 0, 9]), "prlimit64(0, RLIMIT_NOFILE)");
        assert_eq!(told("fcntl", &[0, 1032]), "fcntl(0, F_GETPIPE_SZ)");
        assert_eq!(told("madvise", &[4096, 8192, 102]), "madvise(8192, MADV_GUARD_INSTALL)");
        assert_eq!(told("kill", &[0xffff_ffff, 15]), "kill(-1, SIGTERM)");
        assert_eq!(told("prctl", &[15, 4000]), "prctl(PR_SET_NAME, \"a\\x1b[2J\\\"\\\\\")");
        assert_eq!(told("getpid", &[]), "getpid()");
        assert_eq!(told("mbind", &[5, 4096]), "mbind(5, 0x1000)");
    }

    #[test]
    fn addresses_are_written_as_policies_do() {
        let at = Address::Internet { at: "[::1]:53".parse().unwrap(), is_v6: true };
        assert_eq!(written(&at, Some(Transport::Udp)), "udp:[::1]:53");
        assert_eq!(written(&at, None), "[::1]:53");
        assert_eq!(written(&Address::Path(b"/run/door".to_vec()), None), "unix:/run/door");
        assert_eq!(written(&Address::Abstract(b"name\x1b".to_vec()), None), "unix:@name\\x1b");
        assert_eq!(written(&Address::Abstract(Vec::new()), None), "unix:unnamed");
        assert_eq!(written(&Address::Other(77), None), "family 77");
    }

    #[test]
    fn what_cant_be_read_is_said_to_be_so() {
        assert_eq!(told("openat", &[HERE, 9, 0]), "openat(?, O_RDONLY)");
        assert_eq!(told("openat", &[HERE, 0, 0]), "openat(NULL, O_RDONLY)");
        let long = told("chdir", &[5000]);
        assert!(long.ends_with("x\"...)") && long.len() < 300, "{long}");
        let number = by_name("connect").unwrap();
        let made = Made { number, arguments: [7, 2000, u64::MAX, 0, 0, 0] };
        assert_eq!(describe(&made, &Closed), "connect(?)");
        assert_eq!(describe(&Made { number: 9999, ..made }, &Closed), "system call 9999");
    }
}
