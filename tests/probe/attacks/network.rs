//! Sockets of every family: none may reach the host, whose listeners the driver has set up.

use nix::errno::Errno;
use nix::errno::Errno::{
    EACCES, EADDRNOTAVAIL, EAFNOSUPPORT, ECONNREFUSED, ENETUNREACH, ENOENT, ENOPROTOOPT,
    EOPNOTSUPP, EPERM, EPROTONOSUPPORT,
};

use super::{Attack, Facts, Outcome, at, fact, raw, row};

/// Every attack here.
pub(super) const ROWS: &[Attack] = &[
    row("tcp-loopback", tcp_loopback).killed_at("socket").says(&[
        ENETUNREACH,
        ECONNREFUSED,
        EACCES,
    ]),
    row("tcp-fast-open", tcp_fast_open).killed_at("socket").says(&[
        ENETUNREACH,
        ECONNREFUSED,
        EACCES,
        EOPNOTSUPP,
    ]),
    row("udp-loopback", udp_loopback).killed_at("socket").says(&[
        ENETUNREACH,
        ECONNREFUSED,
        EACCES,
    ]),
    row("tcp6-loopback", tcp6_loopback).killed_at("socket").says(&[
        ENETUNREACH,
        ECONNREFUSED,
        EACCES,
        EADDRNOTAVAIL,
    ]),
    row("mptcp", mptcp).without("a kernel may lack MPTCP").killed_at("socket").says(&[
        ENETUNREACH,
        ECONNREFUSED,
        EACCES,
        EPROTONOSUPPORT,
        ENOPROTOOPT,
    ]),
    row("unix-path", unix_path).killed_at("socket").says(&[ENOENT, EACCES, ECONNREFUSED]),
    row("unix-abstract", unix_abstract).killed_at("socket").says(&[ECONNREFUSED, EPERM, EACCES]),
    row("raw-socket", raw_socket).ruler().killed_at("socket").says(&[EPERM, EAFNOSUPPORT]),
    row("packet-socket", packet_socket).ruler().killed_at("socket").says(&[EPERM, EAFNOSUPPORT]),
    row("interface-up", interface_up).ruler().killed_at("socket").says(&[EPERM]),
    row("netlink", netlink).killed_at("socket").harmless("it shows the layer's own empty network"),
    row("vsock", vsock)
        .without("a kernel may lack vsock")
        .killed_at("socket")
        .harmless("it is not in any namespace before Linux 7.0: only the filter holds it"),
    row("alg-socket", alg)
        .without("a kernel may lack AF_ALG")
        .killed_at("socket")
        .harmless("the kernel's ciphers are nobody's secret"),
];

fn socket(family: i32, kind: i32, protocol: i32) -> Result<i64, Errno> {
    raw(libc::SYS_socket, [family.into(), kind.into(), protocol.into(), 0, 0, 0])
}

/// `127.0.0.1` and the port of that fact.
fn address(facts: &Facts, name: &str) -> Result<[u8; 16], Errno> {
    let port: u16 = fact(facts, name)?.parse().map_err(|_| Errno::EINVAL)?;
    let mut address = [0; 16];
    address[..2].copy_from_slice(&2_u16.to_ne_bytes());
    address[2..4].copy_from_slice(&port.to_be_bytes());
    address[4..8].copy_from_slice(&[127, 0, 0, 1]);
    Ok(address)
}

fn connect(fd: i64, address: &[u8]) -> Outcome {
    let length = i64::try_from(address.len()).unwrap_or(0);
    raw(libc::SYS_connect, [fd, at(address), length, 0, 0, 0])?;
    Ok("connected".to_owned())
}

pub(super) fn tcp_loopback(facts: &Facts) -> Outcome {
    let fd = socket(libc::AF_INET, libc::SOCK_STREAM, 0)?;
    connect(fd, &address(facts, "tcp")?)
}

/// Connects without connect(), which Landlock doesn't see (E4).
pub(super) fn tcp_fast_open(facts: &Facts) -> Outcome {
    let fd = socket(libc::AF_INET, libc::SOCK_STREAM, 0)?;
    let flags = i64::from(libc::MSG_FASTOPEN | libc::MSG_NOSIGNAL);
    let to = address(facts, "tcp")?;
    raw(libc::SYS_sendto, [fd, at(b"x"), 1, flags, at(&to), 16])?;
    Ok("sent".to_owned())
}

pub(super) fn mptcp(facts: &Facts) -> Outcome {
    let fd = socket(libc::AF_INET, libc::SOCK_STREAM, 262)?;
    connect(fd, &address(facts, "tcp")?)
}

/// No Landlock right covers it (E5).
pub(super) fn udp_loopback(facts: &Facts) -> Outcome {
    let fd = socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    let to = address(facts, "udp")?;
    raw(libc::SYS_sendto, [fd, at(b"x"), 1, 0, at(&to), 16])?;
    Ok("sent".to_owned())
}

pub(super) fn tcp6_loopback(facts: &Facts) -> Outcome {
    let port: u16 = fact(facts, "tcp")?.parse().map_err(|_| Errno::EINVAL)?;
    let fd = socket(libc::AF_INET6, libc::SOCK_STREAM, 0)?;
    // ::ffff:127.0.0.1, which is the same listener.
    let mut address = [0_u8; 28];
    address[..2].copy_from_slice(&10_u16.to_ne_bytes());
    address[2..4].copy_from_slice(&port.to_be_bytes());
    address[18..24].copy_from_slice(&[0xff, 0xff, 127, 0, 0, 1]);
    connect(fd, &address)
}

/// The sockets of dbus, docker and the like lie at paths (E6).
pub(super) fn unix_path(facts: &Facts) -> Outcome {
    let fd = socket(libc::AF_UNIX, libc::SOCK_STREAM, 0)?;
    connect(fd, &unix(fact(facts, "unix")?.as_bytes()))
}

/// And some have names without a path (F9).
pub(super) fn unix_abstract(facts: &Facts) -> Outcome {
    let fd = socket(libc::AF_UNIX, libc::SOCK_STREAM, 0)?;
    let name = [b"\0", fact(facts, "abstract")?.as_bytes()].concat();
    connect(fd, &unix(&name))
}

fn unix(name: &[u8]) -> Vec<u8> {
    [&1_u16.to_ne_bytes(), name].concat()
}

pub(super) fn raw_socket(_: &Facts) -> Outcome {
    socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP).map(|fd| format!("descriptor {fd}"))
}

pub(super) fn packet_socket(_: &Facts) -> Outcome {
    socket(libc::AF_PACKET, libc::SOCK_RAW, 0).map(|fd| format!("descriptor {fd}"))
}

pub(super) fn netlink(_: &Facts) -> Outcome {
    socket(libc::AF_NETLINK, libc::SOCK_RAW, 0).map(|fd| format!("descriptor {fd}"))
}

pub(super) fn vsock(_: &Facts) -> Outcome {
    socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0).map(|fd| format!("descriptor {fd}"))
}

pub(super) fn alg(_: &Facts) -> Outcome {
    socket(libc::AF_ALG, libc::SOCK_SEQPACKET, 0).map(|fd| format!("descriptor {fd}"))
}

/// Brings its own loopback up, to have a network to work from.
pub(super) fn interface_up(_: &Facts) -> Outcome {
    let fd = socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    let mut request = [0_u8; 40];
    request[..2].copy_from_slice(b"lo");
    request[16] = 1; // IFF_UP
    raw(libc::SYS_ioctl, [fd, 0x8914, at(&request), 0, 0, 0])?;
    Ok("up".to_owned())
}
