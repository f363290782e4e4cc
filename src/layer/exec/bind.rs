//! `bind(2)` of a program: where its policy declares the address, the supervisor's socket takes the
//! place of its own.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::net::sockopt;

use super::asked::{Asked, carry};
use super::kind::{Kind, written};
use super::teller::{Teller, failed};
use crate::policy::plan::ListenAddress;
use crate::sockaddr::Address;
use crate::sys::notify::{Listener, Reply};
use crate::wire::refusal::Lacks;

/// The sockets that the program finds by binding.
#[derive(Debug)]
pub(super) struct Doors {
    doors: Vec<(ListenAddress, OwnedFd)>,
    /// Whether Landlock keeps each TCP port from the layer: then it may bind Unix paths itself, for
    /// whatever an address turns into meanwhile, no socket of the host's is bound by it.
    may_bind_paths: bool,
}

/// How a declared address goes with one that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    /// It is that one.
    Same,
    /// Any host was asked for, by an IPv6 socket that takes IPv4 too, and this is of IPv4.
    Mapped,
    /// The same port at another address.
    Elsewhere,
    No,
}

/// The family of sockets that ask the kernel about its network (netlink(7)).
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is 16")]
const NETLINK: u16 = libc::AF_NETLINK as u16;

impl Doors {
    pub const fn new(doors: Vec<(ListenAddress, OwnedFd)>, may_bind_paths: bool) -> Self {
        Self { doors, may_bind_paths }
    }

    /// Whether one of them is bound to this path.
    pub fn is_at(&self, path: &str) -> bool {
        let is_it = |door: &ListenAddress| matches!(door, ListenAddress::Unix(at) if at == path);
        self.doors.iter().any(|(door, _)| is_it(door))
    }

    /// Answers a `bind`.
    pub fn bind(
        &self,
        listener: &Listener,
        asked: &Asked<'_>,
        address: &Address,
        teller: &mut Teller,
    ) -> Result<Reply, Errno> {
        if !asked.is_own {
            // Bound already, as the kernel would say.
            return Err(Errno::INVAL);
        }
        let kind = Kind::of(&asked.socket)?;
        let find = |fit| self.doors.iter().find(|(door, _)| fits(kind, address, door) == fit);
        let takes_both = matches!(kind, Kind::Tcp { is_v6: true } | Kind::Udp { is_v6: true })
            && !sockopt::ipv6_v6only(&asked.socket)?;
        let mapped = || find(Fit::Mapped).filter(|_| takes_both);
        if let Some((_, door)) = find(Fit::Same).or_else(mapped) {
            return put(listener, asked, door);
        }
        // A Unix path of the layer's own view, or a question to its own network namespace, which
        // there is nothing in.
        let is_inside = match address {
            Address::Path(_) | Address::Abstract(_) => kind == Kind::Path,
            Address::Other(family) => kind == Kind::Other && *family == NETLINK,
            Address::Internet { .. } => false,
        };
        if is_inside && self.may_bind_paths {
            return Ok(Reply::CarriedOut);
        }
        let wanted = written(address, kind).ok_or(Errno::AFNOSUPPORT)?;
        // Who looks for an address that it can have tries the next one.
        let elsewhere = find(Fit::Elsewhere).or(find(Fit::Mapped));
        let errno = if elsewhere.is_some() { Errno::ADDRNOTAVAIL } else { Errno::ACCESS };
        teller.tell(asked.call, failed(errno), Lacks::Listen(wanted));
        Err(errno)
    }
}

/// Puts the supervisor's socket in place of the program's, with what that was set to. It outlives
/// an exec: whether the other one would have, nobody can see.
fn put(listener: &Listener, asked: &Asked<'_>, door: &OwnedFd) -> Result<Reply, Errno> {
    ioctl_fionbio(door, fcntl_getfl(&asked.socket)?.contains(OFlags::NONBLOCK))?;
    carry(&asked.socket, door);
    let put = listener.put(asked.call, door.as_fd(), asked.number, false);
    put.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    Ok(Reply::Done)
}

/// How the address that a socket is to be bound to goes with a door.
fn fits(kind: Kind, address: &Address, door: &ListenAddress) -> Fit {
    match (kind, address, door) {
        (Kind::Tcp { is_v6: v6 }, Address::Internet { at, is_v6 }, ListenAddress::Tcp(door))
        | (Kind::Udp { is_v6: v6 }, Address::Internet { at, is_v6 }, ListenAddress::Udp(door))
            if v6 == *is_v6 =>
        {
            hosts(at, door)
        }
        (Kind::Path, Address::Path(path), ListenAddress::Unix(door)) if path == door.as_bytes() => {
            Fit::Same
        }
        _ => Fit::No,
    }
}

/// One that says "any host" of its family is content with what it gets; one that names its host
/// isn't given more.
fn hosts(wanted: &SocketAddr, door: &SocketAddr) -> Fit {
    if wanted.port() != door.port() {
        return Fit::No;
    }
    match (wanted.ip().is_unspecified(), wanted.is_ipv6(), door.is_ipv6()) {
        _ if wanted.ip() == door.ip() => Fit::Same,
        (true, wanted, door) if wanted == door => Fit::Same,
        (true, true, false) => Fit::Mapped,
        _ => Fit::Elsewhere,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_host_is_content_and_a_host_is_itself() {
        let fit =
            |wanted: &str, door: &str| hosts(&wanted.parse().unwrap(), &door.parse().unwrap());
        assert_eq!(fit("0.0.0.0:80", "127.0.0.1:80"), Fit::Same);
        assert_eq!(fit("127.0.0.1:80", "127.0.0.1:80"), Fit::Same);
        assert_eq!(fit("[::]:80", "[::1]:80"), Fit::Same);
        assert_eq!(fit("[::]:80", "127.0.0.1:80"), Fit::Mapped);
        assert_eq!(fit("0.0.0.0:80", "[::1]:80"), Fit::Elsewhere);
        assert_eq!(fit("127.0.0.1:80", "0.0.0.0:80"), Fit::Elsewhere);
        assert_eq!(fit("127.0.0.2:80", "127.0.0.1:80"), Fit::Elsewhere);
        assert_eq!(fit("0.0.0.0:81", "127.0.0.1:80"), Fit::No);
        assert_eq!(fit("0.0.0.0:0", "127.0.0.1:0"), Fit::Same);
    }

    #[test]
    fn kinds_are_told_apart() {
        let at = "127.0.0.1:80".parse().unwrap();
        let (tcp, udp) = (Kind::Tcp { is_v6: false }, Kind::Udp { is_v6: false });
        let (door, address) = (ListenAddress::Tcp(at), Address::Internet { at, is_v6: false });
        assert_eq!(fits(tcp, &address, &door), Fit::Same);
        assert_eq!(fits(udp, &address, &door), Fit::No);
        // Of an IPv6 socket it would be another one.
        assert_eq!(fits(Kind::Tcp { is_v6: true }, &address, &door), Fit::No);
        let mapped = Address::Internet { at, is_v6: true };
        assert_eq!(fits(Kind::Tcp { is_v6: true }, &mapped, &door), Fit::Same);
        let path = ListenAddress::Unix("/run/s".to_owned());
        let wanted = |path: &str| Address::Path(path.as_bytes().to_vec());
        assert_eq!(fits(Kind::Path, &wanted("/run/s"), &path), Fit::Same);
        assert_eq!(fits(Kind::Path, &wanted("/run/t"), &path), Fit::No);
        assert_eq!(fits(Kind::Path, &Address::Abstract(Vec::new()), &path), Fit::No);
        assert_eq!(fits(Kind::Other, &wanted("/run/s"), &path), Fit::No);
    }
}
