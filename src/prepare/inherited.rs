//! Listening sockets that a service manager has bound and passed (`sd_listen_fds(3)`).
//!
//! One is taken for a `listen` of its name or else of its address, and only if it is what the
//! policy says. One that the policy doesn't know is a mistake, and told: it would be a door that
//! nobody watches. One that this daemon itself had the manager keep, before its supervisor died, is
//! taken if nothing else is there, and let go of if it isn't what the policy says by now.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::net::{SocketAddrAny, SocketAddrUnix, SocketType, getsockname, sockopt};

use crate::ident::Name;
use crate::policy::plan::{ListenAddress, ListenPlan};

/// A descriptor that this process was started with.
#[derive(Debug)]
pub(crate) struct Passed {
    /// Its number at the start.
    pub number: i32,
    /// What it is called; empty if nobody says.
    pub name: String,
    /// The descriptor.
    pub socket: OwnedFd,
}

/// The most descriptors that are taken from a manager, and that it is given to keep.
pub(crate) const MOST_PASSED: u8 = 60;

/// What the names of those begin with that a manager keeps for the daemon (`FDNAME`, `sd_notify(3)`).
const KEPT: &str = "listen.";

/// What a manager calls the socket of a layer's `listen` that it keeps.
pub(crate) fn kept_name(layer: &Name, listen: &Name) -> String {
    format!("{KEPT}{layer}.{listen}")
}

/// The sockets that were passed and nobody has taken yet.
#[derive(Debug)]
pub(super) struct Inherited(Vec<Found>);

/// One of them.
#[derive(Debug)]
struct Found {
    number: i32,
    name: String,
    address: ListenAddress,
    /// For streams: whether it listens. For IPv6: whether to IPv6 alone.
    is_ready: bool,
    socket: OwnedFd,
}

/// Why a passed socket can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InheritedError {
    /// It isn't what its place in the environment says.
    #[error("LISTEN_FDS: descriptor {number} is no socket that a layer could listen on: {error}")]
    NoSocket {
        /// Its number.
        number: i32,
        /// What the system said.
        error: io::Error,
    },
    /// The environment's numbers make no sense.
    #[error("LISTEN_FDS is \"{0}\": it is a number up to 60")]
    Count(String),
    /// It has the name of a `listen` and another address.
    #[error(
        "LISTEN_FDS: descriptor {number} is called {name} and bound to {found}, and [layer.{layer}] \
         listen.{name} is {wanted}; mend the unit or the policy"
    )]
    OtherAddress {
        /// Its number.
        number: i32,
        /// Its name.
        name: String,
        /// Where it is bound.
        found: ListenAddress,
        /// The layer.
        layer: Name,
        /// What the policy says.
        wanted: ListenAddress,
    },
    /// It is bound, and doesn't listen, or to IPv4 too.
    #[error(
        "LISTEN_FDS: descriptor {number} is bound to {address}, and doesn't listen there, or also \
         to IPv4 (`BindIPv6Only=ipv6-only`)"
    )]
    NotReady {
        /// Its number.
        number: i32,
        /// Where it is bound.
        address: ListenAddress,
    },
    /// No `listen` is like it.
    #[error(
        "LISTEN_FDS: descriptor {number} ({name}) is bound to {address}, which no `listen` of the \
         policy says"
    )]
    Unknown {
        /// Its number.
        number: i32,
        /// Its name.
        name: String,
        /// Where it is bound.
        address: ListenAddress,
    },
}

impl Inherited {
    /// Looks at what was passed.
    pub(super) fn look(passed: Vec<Passed>) -> Result<Self, InheritedError> {
        let look = |Passed { number, name, socket }| {
            let looked = look_at(&socket).and_then(|found| {
                rustix::io::ioctl_fionbio(&socket, true)?;
                Ok(found)
            });
            let (address, is_ready) =
                looked.map_err(|error| InheritedError::NoSocket { number, error })?;
            Ok(Found { number, name, address, is_ready, socket })
        };
        passed.into_iter().map(look).collect::<Result<_, _>>().map(Self)
    }

    /// The socket for `plan`, if one was passed.
    pub(super) fn find(
        &mut self,
        layer: &Name,
        plan: &ListenPlan,
    ) -> Result<Option<OwnedFd>, InheritedError> {
        let by_name = self.0.iter().position(|it| it.name == plan.name.as_str());
        let is_like = |it: &Found| !it.is_kept() && is_at(&it.address, &plan.address);
        let by_address = || self.0.iter().position(is_like);
        let Some(at) = by_name.or_else(by_address) else {
            let name = kept_name(layer, &plan.name);
            let fits =
                |it: &Found| it.name == name && it.is_ready && is_at(&it.address, &plan.address);
            let at = self.0.iter().position(fits);
            return Ok(at.map(|at| self.0.remove(at).socket));
        };
        let Found { number, name, address, is_ready, socket } = self.0.remove(at);
        if !is_at(&address, &plan.address) {
            let (layer, wanted) = (layer.clone(), plan.address.clone());
            return Err(InheritedError::OtherAddress {
                number,
                name,
                found: address,
                layer,
                wanted,
            });
        }
        if !is_ready {
            return Err(InheritedError::NotReady { number, address });
        }
        Ok(Some(socket))
    }

    /// All have been taken, or the first that hasn't is told.
    pub(super) fn end(mut self) -> Result<(), InheritedError> {
        self.0.retain(|it| !it.is_kept());
        match self.0.pop() {
            None => Ok(()),
            Some(Found { number, name, address, .. }) => {
                Err(InheritedError::Unknown { number, name, address })
            }
        }
    }
}

impl Found {
    fn is_kept(&self) -> bool {
        self.name.starts_with(KEPT)
    }
}

/// Where a socket is bound, and whether it is ready for a layer.
fn look_at(socket: &OwnedFd) -> io::Result<(ListenAddress, bool)> {
    let kind = sockopt::socket_type(socket)?;
    let is_stream = kind == SocketType::STREAM;
    let wrong = |what| io::Error::new(io::ErrorKind::InvalidInput, what);
    let listens = !is_stream || sockopt::socket_acceptconn(socket)?;
    let name: SocketAddrAny = getsockname(socket)?;
    if let Ok(unix) = SocketAddrUnix::try_from(name.clone()) {
        let path = unix.path().ok_or_else(|| wrong("it is bound to no path"))?;
        let path = path.to_str().map_err(|_| wrong("its path is no UTF-8"))?.to_owned();
        if !is_stream {
            return Err(wrong("it is no stream socket"));
        }
        return Ok((ListenAddress::Unix(path), listens));
    }
    let address = SocketAddr::try_from(name).map_err(|_| wrong("it is of another family"))?;
    let alone =
        !address.is_ipv6() || !address.ip().is_unspecified() || sockopt::ipv6_v6only(socket)?;
    match kind {
        SocketType::STREAM => Ok((ListenAddress::Tcp(address), listens && alone)),
        SocketType::DGRAM => Ok((ListenAddress::Udp(address), alone)),
        _ => Err(wrong("it is neither TCP nor UDP")),
    }
}

/// Whether a socket at `found` is what the policy says; port 0 there is any port.
fn is_at(found: &ListenAddress, wanted: &ListenAddress) -> bool {
    match (found, wanted) {
        (ListenAddress::Tcp(found), ListenAddress::Tcp(wanted))
        | (ListenAddress::Udp(found), ListenAddress::Udp(wanted)) => {
            found.ip() == wanted.ip() && (wanted.port() == 0 || found.port() == wanted.port())
        }
        (ListenAddress::Unix(found), ListenAddress::Unix(wanted)) => found == wanted,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::plan::Pass;
    use crate::prepare::listener::bind;

    fn passed(name: &str, address: &str) -> (Found, ListenPlan) {
        let socket = bind(&ListenAddress::Tcp(address.parse().unwrap())).unwrap();
        let (address, is_ready) = look_at(&socket).unwrap();
        let plan = ListenPlan {
            name: Name::new("door").unwrap(),
            address: address.clone(),
            pass: Pass::Name,
            rate: None,
            per_source: None,
            max: None,
        };
        (Found { number: 3, name: name.into(), address, is_ready, socket }, plan)
    }

    #[test]
    fn is_found_by_name_or_by_address_and_must_be_the_policys() {
        let layer = Name::new("web").unwrap();
        for name in ["door", "", "unknown"] {
            let (one, plan) = passed(name, "127.0.0.1:0");
            let mut all = Inherited(vec![one]);
            assert!(all.find(&layer, &plan).unwrap().is_some(), "{name}");
            all.end().unwrap();
        }
        let (one, mut plan) = passed("door", "127.0.0.1:0");
        plan.address = ListenAddress::Tcp("127.0.0.1:1".parse().unwrap());
        let error = Inherited(vec![one]).find(&layer, &plan).unwrap_err().to_string();
        assert!(error.contains("listen.door is tcp:127.0.0.1:1"), "{error}");
        let (one, _) = passed("other", "127.0.0.1:0");
        let mut all = Inherited(vec![one]);
        assert!(all.find(&layer, &plan).unwrap().is_none());
        assert!(matches!(all.end(), Err(InheritedError::Unknown { .. })));
        let (mut one, plan) = passed("door", "127.0.0.1:0");
        one.is_ready = false;
        let error = Inherited(vec![one]).find(&layer, &plan).unwrap_err();
        assert!(matches!(error, InheritedError::NotReady { .. }));
    }

    #[test]
    fn what_is_no_listening_socket_is_refused() {
        let (one, _) = std::os::unix::net::UnixStream::pair().unwrap();
        look_at(&one.into()).unwrap_err();
        let file = tempfile::tempfile().unwrap();
        look_at(&file.into()).unwrap_err();
        let fresh = std::net::TcpStream::connect(
            std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap(),
        );
        assert!(!look_at(&fresh.unwrap().into()).unwrap().1);
    }
}
