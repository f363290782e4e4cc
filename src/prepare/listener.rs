//! Listening sockets: those that a service manager has passed, and all others bound.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;

use caps::Capability;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use super::child::{self, Kind};
use super::inherited::{Inherited, Passed};
use crate::ident::Name;
use crate::mark;
use crate::policy::plan::{ListenAddress, ListenPlan, Plan};
use crate::sys::reopen;

/// Connections that wait to be accepted. The kernel takes the lower of this and
/// `net.core.somaxconn` (listen(2)).
pub(crate) const BACKLOG: i32 = 4096;

/// The child that binds a Unix path again while the daemon runs.
pub(super) const KIND: Kind = Kind {
    does: "binds a socket anew",
    without: "the socket can't be bound anew",
    // The way to the path, in a directory of whomever.
    capabilities: &[Capability::CAP_DAC_OVERRIDE, Capability::CAP_DAC_READ_SEARCH],
    calls: &[
        "@core",
        "@shared-memory",
        "open(_, & O_PATH == O_PATH)",
        "openat(_, _, & O_PATH == O_PATH)",
        "newfstatat",
        "unlink",
        "unlinkat",
        "socket(AF_UNIX)",
        "connect",
        "bind",
        "listen",
    ],
};

/// A socket can't be bound.
#[derive(Debug, thiserror::Error)]
#[error("[layer.{layer}] listen: {name} = \"{address}\": {error}{hint}")]
struct ListenError {
    layer: Name,
    name: Name,
    address: ListenAddress,
    error: io::Error,
    /// A way out.
    hint: &'static str,
}

impl ListenError {
    fn new(layer: &Name, plan: &ListenPlan, error: io::Error) -> Self {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => "; `ss -ltnup` shows who has it",
            io::ErrorKind::PermissionDenied => {
                "; ports below 1024 take root, and paths a directory that you may write to"
            }
            _ => "",
        };
        let (layer, name, address) = (layer.clone(), plan.name.clone(), plan.address.clone());
        Self { layer, name, address, error, hint }
    }
}

/// The listening sockets of all layers, in the plan's order: what was passed for them, and what is
/// bound now. A socket that was passed for none is an error.
pub(super) fn all(plan: &Plan, passed: Vec<Passed>) -> Result<Vec<OwnedFd>, String> {
    let mut inherited = Inherited::look(passed).map_err(|error| error.to_string())?;
    let mut sockets = Vec::new();
    for layer in &plan.layers {
        for listen in &layer.listen {
            let passed = inherited.find(&layer.name, listen).map_err(|error| error.to_string())?;
            let socket = passed.map_or_else(|| bind(&listen.address), Ok);
            let blame = |error| ListenError::new(&layer.name, listen, error).to_string();
            sockets.push(socket.map_err(blame)?);
        }
    }
    inherited.end().map_err(|error| error.to_string())?;
    Ok(sockets)
}

/// Has a child bind a Unix path on which nobody answers any more: a supervisor that has layers looks
/// at no path. It waits for nobody but the child, which waits for nobody.
pub(crate) fn bind_again(path: &str) -> io::Result<OwnedFd> {
    let ((), sockets) = child::run(&KIND, 1, |handover| {
        let socket = bind_unix(path);
        let given = socket.and_then(|socket| handover.give(socket.as_fd()));
        given.map_err(|error| error.to_string())
    })
    .map_err(io::Error::other)?;
    sockets.into_iter().next().ok_or(io::ErrorKind::UnexpectedEof.into())
}

/// Binds `address`; the descriptor is non-blocking and close-on-exec.
pub(super) fn bind(address: &ListenAddress) -> io::Result<OwnedFd> {
    match address {
        ListenAddress::Tcp(address) => {
            let fd = socket(*address, SocketType::STREAM)?;
            sockopt::set_socket_reuseaddr(&fd, true)?;
            net::bind(&fd, address)?;
            mark::reached("socket.listen.bound");
            net::listen(&fd, BACKLOG)?;
            Ok(fd)
        }
        ListenAddress::Udp(address) => {
            let fd = socket(*address, SocketType::DGRAM)?;
            net::bind(&fd, address)?;
            Ok(fd)
        }
        ListenAddress::Unix(path) => bind_unix(path),
    }
}

fn bind_unix(path: &str) -> io::Result<OwnedFd> {
    remove_stale(path)?;
    let listener = UnixListener::bind(path)?;
    mark::reached("socket.listen.bound");
    listener.set_nonblocking(true)?;
    Ok(listener.into())
}

fn socket(address: SocketAddr, kind: SocketType) -> io::Result<OwnedFd> {
    let (family, v6) =
        if address.is_ipv6() { (AddressFamily::INET6, true) } else { (AddressFamily::INET, false) };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = net::socket_with(family, kind, flags, None)?;
    if v6 {
        // `[::]` means IPv6 and nothing else, whatever the host's default is.
        sockopt::set_ipv6_v6only(&fd, true)?;
    }
    Ok(fd)
}

/// Removes the socket of a daemon that was killed, but never one that somebody listens on, and
/// never anything that isn't a socket.
fn remove_stale(path: &str) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = match rustix::fs::open(path, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        found => found?,
    };
    let stat = rustix::fs::fstat(&found)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Socket {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it exists and is no socket"));
    }
    if is_listened_on(&found)? {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    // Somebody may have put another socket there meanwhile.
    let now = rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)?;
    if (now.st_dev, now.st_ino) != (stat.st_dev, stat.st_ino) {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    std::fs::remove_file(path)
}

/// Whether a process has the socket that `pinned` holds open to listen, asked without waiting for
/// it: a connection is begun, and closed again at once.
fn is_listened_on(pinned: &OwnedFd) -> io::Result<bool> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match net::connect(&probe, &SocketAddrUnix::new(reopen::path_of(pinned))?) {
        Err(Errno::CONNREFUSED) => Ok(false),
        // It takes the connection; or its queue is full (`AGAIN`); or it is no stream (`PROTOTYPE`).
        Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE) => Ok(true),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_unix_socket_is_replaced_and_a_live_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s").to_str().unwrap().to_owned();
        let address = ListenAddress::Unix(path.clone());
        let live = bind(&address).unwrap();
        assert_eq!(bind(&address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(live);
        bind(&address).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "precious").unwrap();
        bind(&address).unwrap_err();
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn a_listener_that_takes_no_more_connections_holds_nobody_up() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s").to_str().unwrap().to_owned();
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = || net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None);
        let live = socket().unwrap();
        let to = SocketAddrUnix::new(path.as_str()).unwrap();
        net::bind(&live, &to).unwrap();
        net::listen(&live, 0).unwrap();
        let mut held = Vec::new();
        loop {
            let next = socket().unwrap();
            match net::connect(&next, &to) {
                Ok(()) => held.push(next),
                Err(errno) => break assert_eq!(errno, Errno::AGAIN),
            }
        }
        let (said, bound) = std::sync::mpsc::channel();
        let address = ListenAddress::Unix(path.clone());
        std::thread::spawn(move || said.send(bind(&address).map(drop)));
        let bound = bound.recv_timeout(std::time::Duration::from_mins(1)).unwrap();
        assert_eq!(bound.unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert!(std::fs::exists(path).unwrap());
    }

    #[test]
    fn the_stranger_that_a_link_leads_to_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        drop(UnixListener::bind(at("dead")).unwrap());
        std::os::unix::fs::symlink(at("dead"), at("s")).unwrap();
        let error = bind(&ListenAddress::Unix(at("s"))).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert!(std::fs::symlink_metadata(at("s")).is_ok() && std::fs::exists(at("dead")).unwrap());
    }
}
