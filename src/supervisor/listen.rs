//! Sockets that the supervisor binds before the first layer starts and keeps until the last one
//! has ended: a restarting layer refuses no connection, it only accepts it later.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use crate::ident::Name;
use crate::mark;
use crate::policy::plan::{ListenAddress, ListenPlan};
use crate::sys::reopen;

/// Connections that wait to be accepted. The kernel takes the lower of this and
/// `net.core.somaxconn` (listen(2)).
const BACKLOG: i32 = 4096;

/// A socket that a layer's copies and lives share.
#[derive(Debug)]
pub struct Listening {
    /// Its name in the policy.
    pub name: Name,
    address: ListenAddress,
    /// For TCP, where it is bound: the policy may leave the port to the kernel.
    bound: Option<SocketAddr>,
    socket: OwnedFd,
}

impl Listening {
    /// Holds a socket that [`bind`] has made, or that was passed to this process.
    pub fn new(plan: &ListenPlan, socket: OwnedFd) -> Self {
        let bound = bound(&socket);
        Self { name: plan.name.clone(), address: plan.address.clone(), bound, socket }
    }

    /// A descriptor for another life, which finds the socket as the first one did, whatever a
    /// former one has done to it.
    pub fn hand_over(&mut self) -> io::Result<OwnedFd> {
        mark::reached("socket.listen.handing-over");
        if self.was_shut_down() {
            match &self.address {
                ListenAddress::Tcp(_) => self.listen_again()?,
                // Nobody answers on the path any more, so this takes its place.
                ListenAddress::Unix(_) => self.socket = bind(&self.address)?,
                ListenAddress::Udp(_) => {}
            }
            mark::reached("socket.listen.revived");
        }
        rustix::io::ioctl_fionbio(&self.socket, true)?;
        for timeout in [sockopt::Timeout::Recv, sockopt::Timeout::Send] {
            sockopt::set_socket_timeout(&self.socket, timeout, None)?;
        }
        if !matches!(self.address, ListenAddress::Unix(_)) {
            // What is accepted inherits it, and would lose its last bytes.
            sockopt::set_socket_linger(&self.socket, None)?;
        }
        self.socket.try_clone()
    }

    /// A TCP socket that was shut down keeps a port that was asked for, and gives back one that
    /// the kernel chose.
    fn listen_again(&self) -> io::Result<()> {
        if let Some(wanted) = self.bound {
            match net::bind(&self.socket, &wanted) {
                // It has kept it.
                Ok(()) | Err(Errno::INVAL) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(net::listen(&self.socket, BACKLOG)?)
    }

    /// Whether somebody has shut it down (shutdown(2)).
    fn was_shut_down(&self) -> bool {
        match &self.address {
            ListenAddress::Tcp(_) => !sockopt::socket_acceptconn(&self.socket).unwrap_or(true),
            // It goes on saying that it listens, and refuses whoever comes.
            ListenAddress::Unix(_) => {
                use rustix::event::{PollFd, PollFlags, Timespec, poll};
                let mut polled = [PollFd::new(&self.socket, PollFlags::RDHUP)];
                poll(&mut polled, Some(&Timespec::default())).is_ok()
                    && polled[0].revents().intersects(PollFlags::RDHUP | PollFlags::HUP)
            }
            ListenAddress::Udp(_) => false,
        }
    }
}

fn bound(socket: &OwnedFd) -> Option<SocketAddr> {
    net::getsockname(socket).ok().and_then(|address| address.try_into().ok())
}

/// Binds `address`; the descriptor is non-blocking and close-on-exec.
pub fn bind(address: &ListenAddress) -> io::Result<OwnedFd> {
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
        ListenAddress::Unix(path) => {
            remove_stale(path)?;
            let listener = UnixListener::bind(path)?;
            mark::reached("socket.listen.bound");
            listener.set_nonblocking(true)?;
            Ok(listener.into())
        }
    }
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
    use std::os::unix::net::UnixStream;

    use super::*;

    fn plan(address: ListenAddress) -> ListenPlan {
        ListenPlan { name: Name::new("door").unwrap(), address, rate: None, per_source: None }
    }

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

    #[test]
    fn a_question_removes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s").to_str().unwrap().to_owned();
        let address = ListenAddress::Unix(path.clone());
        let listening = Listening::new(&plan(address.clone()), bind(&address).unwrap());
        net::shutdown(&listening.socket, net::Shutdown::Both).unwrap();
        assert!(listening.was_shut_down());
        assert!(std::fs::exists(path).unwrap());
    }

    #[test]
    fn what_was_shut_down_listens_again_in_the_next_life() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s").to_str().unwrap().to_owned();
        let fresh = ListenAddress::Tcp("127.0.0.1:0".parse().unwrap());
        let mut tcp = Listening::new(&plan(fresh.clone()), bind(&fresh).unwrap());
        let unix = ListenAddress::Unix(path.clone());
        let mut unix = Listening::new(&plan(unix.clone()), bind(&unix).unwrap());
        let address = std::net::TcpListener::from(tcp.socket.try_clone().unwrap()).local_addr();
        let address = address.unwrap();
        for _ in 0..3 {
            for listening in [&tcp, &unix] {
                net::shutdown(&listening.socket, net::Shutdown::Both).unwrap();
                rustix::io::ioctl_fionbio(&listening.socket, false).unwrap();
            }
            std::net::TcpStream::connect(address).unwrap_err();
            UnixStream::connect(&path).unwrap_err();
            let again = std::net::TcpListener::from(tcp.hand_over().unwrap());
            std::net::TcpStream::connect(address).unwrap();
            again.accept().unwrap();
            assert_eq!(again.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
            let again = UnixListener::from(unix.hand_over().unwrap());
            UnixStream::connect(&path).unwrap();
            again.accept().unwrap();
            // One that nothing was done to stays what it is.
            assert!(!unix.was_shut_down() && !tcp.was_shut_down());
        }
    }
}
