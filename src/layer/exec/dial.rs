//! `connect(2)` of a program: where its policy declares the address, a helper connects, and its
//! socket takes the place of the program's.
//!
//! The call waits until the helper has answered, that of a socket which doesn't wait as well: it
//! then is connected, or refused, at once. Nothing else waits for it. What the policy calls by a
//! name has an address of a reserved range within the layer: the helper looks the name up, anew for
//! each connection.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::net::{SendFlags, send};

use super::asked::{Asked, carry};
use super::kind::{Kind, written};
use super::teller::{Teller, failed};
use crate::ipc::control::{Heard, look};
use crate::layer::connector::MAX_UNDER_WAY;
use crate::layer::proxy::{ADDRESS, HTTP};
use crate::policy::plan::{ConnectAddress, ConnectPlan};
use crate::sockaddr::Address;
use crate::sys::notify::{Listener, Notification, Reply};
use crate::wire::broker::{Answer, Ask, Refusal};
use crate::wire::control::{FromLayer, Service, ToLayer};
use crate::wire::refusal::Lacks;

/// The first address that stands for a name: of the range for measurements between networks
/// (RFC 2544), which no network routes.
const FIRST: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

/// Calls that wait for a helper at once; more are told to try again. A program has as many as it has
/// threads, but one that is killed leaves its call behind until the helper has answered.
const MOST: usize = 256;

/// Where C libraries look for a name service, whether it is there or not (nscd(8)).
const NAME_SERVICE: [&[u8]; 2] = [b"/var/run/nscd/socket", b"/run/nscd/socket"];

/// Addresses of a layer's names, which lead to nothing but itself.
pub(crate) fn placeholders(targets: &[ConnectPlan]) -> Vec<(IpAddr, String)> {
    let mut names: Vec<&String> = targets
        .iter()
        .filter_map(|target| match &target.address {
            ConnectAddress::Tcp { host, .. } | ConnectAddress::Udp { host, .. } => Some(host),
            ConnectAddress::Unix(_) | ConnectAddress::Wild { .. } => None,
        })
        .filter(|host| host.parse::<IpAddr>().is_err())
        .collect();
    names.sort();
    names.dedup();
    let addresses = (u32::from(FIRST)..).map(|number| IpAddr::V4(Ipv4Addr::from(number)));
    addresses.zip(names.into_iter().cloned()).collect()
}

/// The addresses that the program may connect to, and the calls that wait to be connected.
#[derive(Debug)]
pub(super) struct Dialer {
    targets: Vec<ConnectPlan>,
    names: BTreeMap<IpAddr, String>,
    lines: BTreeMap<Service, OwnedFd>,
    waiting: BTreeMap<u64, Waiting>,
    next: u64,
}

/// A call that waits for a helper.
#[derive(Debug)]
struct Waiting {
    call: Notification,
    /// The program's descriptor.
    number: i32,
    target: u16,
    service: Service,
    /// Whether the helper has been asked.
    is_asked: bool,
}

impl Dialer {
    pub fn new(targets: &[ConnectPlan], lines: BTreeMap<Service, OwnedFd>) -> Self {
        let names = placeholders(targets).into_iter().collect();
        Self { targets: targets.to_vec(), names, lines, waiting: BTreeMap::new(), next: 0 }
    }

    /// Begins to answer a `connect`. What is begun is answered later.
    pub fn begin(
        &mut self,
        asked: &Asked<'_>,
        address: &Address,
        teller: &mut Teller,
    ) -> Result<(), Errno> {
        if !asked.is_own {
            // Of what was handed over, a connection is one, and a door will never be.
            return Err(Errno::ISCONN);
        }
        let kind = Kind::of(&asked.socket)?;
        let Some((target, service)) = self.find(kind, address) else {
            if let Some(wanted) = written(address, kind)
                && !self.is_probe(kind, address)
            {
                teller.tell(asked.call, failed(Errno::ACCESS), Lacks::Connect(wanted));
            }
            return Err(Errno::ACCESS);
        };
        if self.waiting.len() >= MOST {
            return Err(Errno::AGAIN);
        }
        let (call, number) = (*asked.call, asked.number);
        let one = Waiting { call, number, target, service, is_asked: false };
        self.waiting.insert(self.next, one);
        self.next += 1;
        self.ask(service);
        Ok(())
    }

    /// The sockets of helpers.
    pub fn lines(&self) -> impl Iterator<Item = (Service, BorrowedFd<'_>)> {
        self.lines.iter().map(|(service, line)| (*service, line.as_fd()))
    }

    /// A helper's next life is at the other end of this socket: it is asked again what the former
    /// one has not answered.
    pub fn renew(&mut self, service: Service, line: OwnedFd) {
        let resumed = FromLayer::Resumed.encode();
        let _ = send(&line, &resumed, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
        self.lines.insert(service, line);
        let of_it = self.waiting.values_mut().filter(|it| it.service == service);
        of_it.for_each(|it| it.is_asked = false);
        self.ask(service);
    }

    /// Takes what a helper has answered.
    pub fn hear(&mut self, service: Service, listener: &Listener) {
        while let Some(line) = self.lines.get(&service) {
            match look(line) {
                Ok(Heard::Message(ToLayer::Answer { request, answer }, fd)) => {
                    if let Some(one) = self.waiting.remove(&request) {
                        let reply = one.answered(answer, fd, listener);
                        // Of a listener that fails nobody is left who could be answered.
                        let _ = listener.answer(&one.call, reply);
                    }
                }
                Ok(Heard::Nothing) => break,
                // It has ended, and another life of it comes.
                Ok(Heard::HungUp | Heard::Message(..)) | Err(_) => {
                    self.lines.remove(&service);
                }
            }
        }
        self.ask(service);
    }

    /// Asks a helper for as many as it takes at once.
    fn ask(&mut self, service: Service) {
        let Some(line) = self.lines.get(&service) else { return };
        let of_it = || self.waiting.values().filter(|it| it.service == service);
        let room = MAX_UNDER_WAY.saturating_sub(of_it().filter(|it| it.is_asked).count());
        let unasked = self.waiting.iter_mut();
        let unasked = unasked.filter(|(_, it)| it.service == service && !it.is_asked);
        for (&request, one) in unasked.take(room) {
            let words = FromLayer::Ask { request, ask: Ask::Connect { address: one.target } };
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            // Where there is no room, an answer is to come, and it is asked then.
            one.is_asked = send(line, &words.encode(), flags).is_ok();
        }
    }

    /// The declared address that a program means, and who connects to it.
    fn find(&self, kind: Kind, address: &Address) -> Option<(u16, Service)> {
        if let Some(number) = self.find_proxied(kind, address) {
            return Some((u16::try_from(number).ok()?, Service::Proxy));
        }
        let service = match address {
            Address::Path(_) => Service::Paths,
            _ => Service::Network,
        };
        let is_it = |target: &ConnectPlan| match (&target.address, kind, address) {
            (
                ConnectAddress::Tcp { host, port },
                Kind::Tcp { is_v6: v6 },
                Address::Internet { at, is_v6 },
            )
            | (
                ConnectAddress::Udp { host, port },
                Kind::Udp { is_v6: v6 },
                Address::Internet { at, is_v6 },
            ) => v6 == *is_v6 && at.port() == *port && self.is_host(at.ip(), host),
            (ConnectAddress::Unix(path), Kind::Path, Address::Path(wanted)) => {
                path.as_bytes() == wanted
            }
            _ => false,
        };
        let number = self.targets.iter().position(|it| !it.is_proxied() && is_it(it))?;
        Some((u16::try_from(number).ok()?, service))
    }

    /// The address by which a program means the proxy: that of its environment, or of a host that the
    /// proxy speaks to. Which host is meant, the connection itself says.
    fn find_proxied(&self, kind: Kind, address: &Address) -> Option<usize> {
        let (Kind::Tcp { .. }, Address::Internet { at, is_v6: false }) = (kind, address) else {
            return None;
        };
        let is_spoken_to = |target: &ConnectPlan| match &target.address {
            ConnectAddress::Tcp { host, port } => {
                [*port, HTTP].contains(&at.port()) && self.is_host(at.ip(), host)
            }
            _ => false,
        };
        let is_it = |it: &ConnectPlan| *at == SocketAddr::V4(ADDRESS) || is_spoken_to(it);
        self.targets.iter().position(|it| it.is_proxied() && is_it(it))
    }

    /// Whether it is what C libraries ask beside what they are asked for: a name service, and which
    /// address would be used towards one that was looked up (`getaddrinfo(3)`), by UDP whatever the
    /// program will use.
    fn is_probe(&self, kind: Kind, address: &Address) -> bool {
        let is_known = |at: &SocketAddr| {
            self.targets.iter().any(|target| match &target.address {
                ConnectAddress::Tcp { port, .. } | ConnectAddress::Udp { port, .. } => {
                    *port == at.port()
                }
                ConnectAddress::Unix(_) | ConnectAddress::Wild { .. } => false,
            })
        };
        match (kind, address) {
            (Kind::Udp { .. }, Address::Internet { at, .. }) => {
                at.ip().is_unspecified() || is_known(at)
            }
            (Kind::Path, Address::Path(path)) => NAME_SERVICE.contains(&path.as_slice()),
            _ => false,
        }
    }

    fn is_host(&self, ip: IpAddr, host: &str) -> bool {
        match host.parse::<IpAddr>() {
            Ok(address) => address.to_canonical() == ip,
            Err(_) => {
                self.names.get(&ip).is_some_and(|name| name == host)
                    || host == "localhost" && ip.is_loopback()
            }
        }
    }
}

impl Waiting {
    /// What becomes of the call.
    fn answered(&self, answer: Answer, fd: Option<OwnedFd>, listener: &Listener) -> Reply {
        let put = || match (answer, fd) {
            (Answer::Done, Some(fd)) => self.put(&fd, listener),
            (Answer::Refused(refusal), _) => Err(errno(refusal)),
            _ => Err(Errno::IO),
        };
        match put() {
            Ok(()) => Reply::Done,
            Err(errno) => Reply::Refused(errno.raw_os_error()),
        }
    }

    /// Puts the connection in place of the program's socket, with what that was set to. It isn't
    /// for other programs: whether the one that is replaced was, nobody can see.
    fn put(&self, fd: &OwnedFd, listener: &Listener) -> Result<(), Errno> {
        let former = self.call.descriptor(self.number);
        let former = former.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::BADF))?;
        ioctl_fionbio(fd, fcntl_getfl(&former)?.contains(OFlags::NONBLOCK))?;
        carry(&former, fd);
        let put = listener.put(&self.call, fd.as_fd(), self.number, true);
        put.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }
}

/// As the program would be told by the kernel.
const fn errno(refusal: Refusal) -> Errno {
    match refusal {
        Refusal::Timeout => Errno::TIMEDOUT,
        Refusal::NotResolved => Errno::HOSTUNREACH,
        Refusal::Limit => Errno::AGAIN,
        Refusal::System(errno) => Errno::from_raw_os_error(errno),
        Refusal::Unanswered | Refusal::PeerDead => Errno::CONNREFUSED,
        Refusal::NotGranted
        | Refusal::Order
        | Refusal::Denied
        | Refusal::Malformed
        | Refusal::NotRegular => Errno::ACCESS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ident::Name;

    fn dialer(addresses: &[&str]) -> Dialer {
        let plan = |(number, address): (usize, &&str)| ConnectPlan {
            name: Name::new(&format!("n{number}")).unwrap(),
            address: crate::policy::value::connect_address(address).unwrap(),
            inject: None,
        };
        let targets: Vec<_> = addresses.iter().enumerate().map(plan).collect();
        Dialer::new(&targets, BTreeMap::new())
    }

    const TCP: Kind = Kind::Tcp { is_v6: false };
    const UDP: Kind = Kind::Udp { is_v6: false };

    fn at(address: &str) -> Address {
        Address::Internet { at: address.parse().unwrap(), is_v6: false }
    }

    #[test]
    fn nothing_but_what_is_declared_is_found() {
        let dialer = dialer(&["tcp:10.0.0.1:80", "udp:10.0.0.1:53", "unix:/run/s"]);
        let find = |kind, address: &Address| dialer.find(kind, address);
        assert_eq!(find(TCP, &at("10.0.0.1:80")), Some((0, Service::Network)));
        assert_eq!(find(UDP, &at("10.0.0.1:53")), Some((1, Service::Network)));
        let path = |path: &str| Address::Path(path.as_bytes().to_vec());
        assert_eq!(find(Kind::Path, &path("/run/s")), Some((2, Service::Paths)));
        for (kind, address) in [
            (TCP, at("10.0.0.1:53")),
            (UDP, at("10.0.0.1:80")),
            (TCP, at("10.0.0.2:80")),
            (TCP, at("198.18.0.1:80")),
            (Kind::Path, path("/run/s2")),
            (Kind::Path, path("run/s")),
            (Kind::Path, Address::Abstract(Vec::new())),
            (TCP, Address::Other(0)),
            (Kind::Path, at("10.0.0.1:80")),
        ] {
            assert_eq!(find(kind, &address), None, "{kind:?} {address:?}");
        }
    }

    #[test]
    fn a_name_has_an_address_that_stands_for_it_alone() {
        let dialer = dialer(&["tcp:b.example:1", "tcp:a.example:2", "tcp:a.example:3"]);
        let names: Vec<_> = dialer.names.values().map(String::as_str).collect();
        assert_eq!(names, ["a.example", "b.example"]);
        let find = |address| dialer.find(TCP, &at(address)).map(|(number, _)| number);
        assert_eq!(find("198.18.0.1:2"), Some(1));
        assert_eq!(find("198.18.0.1:3"), Some(2));
        assert_eq!(find("198.18.0.2:1"), Some(0));
        assert_eq!(find("198.18.0.1:1"), None);
        assert_eq!(find("198.18.0.3:1"), None);
    }
}
