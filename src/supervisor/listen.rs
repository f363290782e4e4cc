//! Sockets that are bound before the first layer starts and kept until the last one has ended: a
//! restarting layer refuses no connection, it only accepts it later.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{self, sockopt};

use crate::mark;
use crate::policy::plan::{ListenAddress, ListenPlan, Pass};
use crate::prepare::listener::{BACKLOG, bind_again};

/// A socket that a layer's copies and lives share.
#[derive(Debug)]
pub struct Listening {
    /// What the policy says of it.
    pub plan: ListenPlan,
    /// For TCP, where it is bound: the policy may leave the port to the kernel.
    bound: Option<SocketAddr>,
    socket: OwnedFd,
}

impl Listening {
    /// Holds a socket that was bound for the plan, or passed to this process.
    pub fn new(plan: &ListenPlan, socket: OwnedFd) -> Self {
        let bound = bound(&socket);
        Self { plan: plan.clone(), bound, socket }
    }

    /// The socket itself.
    pub fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// The same socket, of which another plan says something else.
    pub fn for_plan(self, plan: &ListenPlan) -> Self {
        Self { plan: plan.clone(), ..self }
    }

    /// A descriptor for another life, which finds the socket as the first one did, whatever a
    /// former one has done to it.
    pub fn hand_over(&mut self) -> io::Result<OwnedFd> {
        mark::reached("socket.listen.handing-over");
        if self.was_shut_down() {
            match &self.plan.address {
                ListenAddress::Tcp(_) => self.listen_again()?,
                // Nobody answers on the path any more, so this takes its place.
                ListenAddress::Unix(path) => self.socket = bind_again(path)?,
                ListenAddress::Udp(_) => {}
            }
            mark::reached("socket.listen.revived");
        }
        // Whether a foreign program's blocks is between it and its init.
        if self.plan.pass == Pass::Name {
            rustix::io::ioctl_fionbio(&self.socket, true)?;
        }
        for timeout in [sockopt::Timeout::Recv, sockopt::Timeout::Send] {
            sockopt::set_socket_timeout(&self.socket, timeout, None)?;
        }
        if !matches!(self.plan.address, ListenAddress::Unix(_)) {
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
                // It has kept it. So it has where asking takes a capability, for the kernel itself
                // chooses no such port.
                Ok(()) | Err(Errno::INVAL | Errno::ACCESS) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(net::listen(&self.socket, BACKLOG)?)
    }

    /// Whether somebody has shut it down (shutdown(2)).
    fn was_shut_down(&self) -> bool {
        match &self.plan.address {
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

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::ident::Name;

    fn holding(address: ListenAddress, socket: impl Into<OwnedFd>) -> Listening {
        let name = Name::new("door").unwrap();
        let plan =
            ListenPlan { name, address, pass: Pass::Name, rate: None, per_source: None, max: None };
        Listening::new(&plan, socket.into())
    }

    #[test]
    fn a_question_removes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s").to_str().unwrap().to_owned();
        let socket = UnixListener::bind(&path).unwrap();
        let listening = holding(ListenAddress::Unix(path.clone()), socket);
        assert!(!listening.was_shut_down());
        net::shutdown(&listening.socket, net::Shutdown::Both).unwrap();
        assert!(listening.was_shut_down());
        assert!(std::fs::exists(path).unwrap());
    }

    /// A Unix socket does too: `tests/facilities`, since it takes a process with one thread.
    #[test]
    fn what_was_shut_down_listens_again_in_the_next_life() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let fresh = ListenAddress::Tcp("127.0.0.1:0".parse().unwrap());
        let mut listening = holding(fresh, socket);
        for _ in 0..3 {
            net::shutdown(&listening.socket, net::Shutdown::Both).unwrap();
            rustix::io::ioctl_fionbio(&listening.socket, false).unwrap();
            TcpStream::connect(address).unwrap_err();
            let again = TcpListener::from(listening.hand_over().unwrap());
            TcpStream::connect(address).unwrap();
            again.accept().unwrap();
            assert_eq!(again.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
            // One that nothing was done to stays what it is.
            assert!(!listening.was_shut_down());
        }
    }
}
