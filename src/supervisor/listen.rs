//! Sockets that the supervisor binds before the first layer starts and keeps until the last one
//! has ended: a restarting layer refuses no connection, it only accepts it later.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};

use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};

use crate::policy::plan::ListenAddress;

/// Connections that wait to be accepted. The kernel takes the lower of this and
/// `net.core.somaxconn` (listen(2)).
const BACKLOG: i32 = 4096;

/// Binds `address`; the descriptor is non-blocking and close-on-exec.
pub fn bind(address: &ListenAddress) -> io::Result<OwnedFd> {
    match address {
        ListenAddress::Tcp(address) => {
            let fd = socket(*address, SocketType::STREAM)?;
            sockopt::set_socket_reuseaddr(&fd, true)?;
            net::bind(&fd, address)?;
            net::listen(&fd, BACKLOG)?;
            Ok(fd)
        }
        ListenAddress::Udp(address) => {
            let fd = socket(*address, SocketType::DGRAM)?;
            net::bind(&fd, address)?;
            Ok(fd)
        }
        ListenAddress::Unix(path) => {
            remove_stale(path)?;
            let listener = UnixListener::bind(path)?;
            listener.set_nonblocking(true)?;
            Ok(listener.into())
        }
    }
}

fn socket(address: std::net::SocketAddr, kind: SocketType) -> io::Result<OwnedFd> {
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

/// Removes the socket of a daemon that was killed, but never one that somebody answers on, and
/// never anything that isn't a socket.
fn remove_stale(path: &str) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt;
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it exists and is no socket"));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        _ => Err(io::ErrorKind::AddrInUse.into()),
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
}
