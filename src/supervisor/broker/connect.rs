//! Connections that layers ask for: made by the supervisor, which waits for none of them.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt,
};
use rustix::process::Signal;

use super::super::Supervisor;
use super::super::resolver::{MAX_ADDRESSES, Resolver};
use crate::ident::Instance;
use crate::mark;
use crate::policy::plan::ConnectAddress;
use crate::sys::pidfd;
use crate::wire::broker::{Answer, Refusal};
use crate::wire::control::ToLayer;

/// How long a request may take in all. Below what people and most protocols wait.
const PATIENCE: Duration = Duration::from_secs(10);

/// Requests of one instance that are under way.
const MAX_UNDER_WAY: usize = 16;

/// Every connection under way, and the resolvers that are to be reaped.
#[derive(Default)]
pub struct Connector {
    next: u64,
    under_way: Vec<UnderWay>,
    ended: Vec<OwnedFd>,
}

struct UnderWay {
    id: u64,
    place: usize,
    instance: Instance,
    request: u64,
    address: ConnectAddress,
    until: Instant,
    stage: Stage,
}

enum Stage {
    Resolving(Resolver),
    Trying(Trying),
}

/// An address after the other.
struct Trying {
    socket: OwnedFd,
    until: Instant,
    left: VecDeque<SocketAddr>,
}

/// What trying came to.
enum Tried {
    Connected(OwnedFd),
    UnderWay(Trying),
    Refused(Errno),
}

impl Connector {
    /// What the loop watches: what it is told of, the descriptor, and for what.
    pub fn watched(&self) -> impl Iterator<Item = (u64, BorrowedFd<'_>, PollFlags)> {
        self.under_way.iter().map(|it| match &it.stage {
            Stage::Resolving(resolver) => (it.id, resolver.answer.as_fd(), PollFlags::IN),
            Stage::Trying(trying) => (it.id, trying.socket.as_fd(), PollFlags::OUT),
        })
    }

    /// When it must be looked at although nothing has happened.
    pub fn deadline(&self) -> Option<Instant> {
        let of_one = |it: &UnderWay| match &it.stage {
            Stage::Resolving(_) => it.until,
            Stage::Trying(trying) => it.until.min(trying.until),
        };
        self.under_way.iter().map(of_one).min()
    }

    /// Whether a resolver has yet to be reaped.
    pub fn has_ended(&self) -> bool {
        !self.ended.is_empty()
    }

    /// Reaps resolvers.
    pub fn reap(&mut self) {
        self.ended.retain(|process| matches!(pidfd::try_wait(process), Ok(None)));
    }

    /// Forgets what `forgotten` says.
    fn forget(&mut self, forgotten: impl Fn(&UnderWay) -> bool) {
        for it in self.under_way.extract_if(.., |it| forgotten(it)) {
            if let Stage::Resolving(resolver) = it.stage {
                dismiss(&mut self.ended, resolver);
            }
        }
    }
}

/// A resolver that isn't heard any more has nothing left to do.
fn dismiss(ended: &mut Vec<OwnedFd>, resolver: Resolver) {
    let _ = pidfd::signal(&resolver.process, Signal::KILL);
    ended.push(resolver.process);
}

impl Supervisor<'_> {
    /// Begins to connect the layer at `place` to its address `number`; the answer comes later.
    pub(super) fn connect(&mut self, place: usize, request: u64, number: u16) {
        mark::reached("socket.connect.asked");
        let seat = &self.places[place].seat;
        let plan = &self.plan.layers[seat.layer];
        let Some(target) = plan.connect.get(usize::from(number)) else {
            return self.connected(place, request, Err(Refusal::NotGranted));
        };
        let under_way = self.connector.under_way.iter().filter(|it| it.place == place).count();
        if under_way >= MAX_UNDER_WAY {
            return self.connected(place, request, Err(Refusal::Limit));
        }
        let (instance, address) = (seat.instance.clone(), target.address.clone());
        let until = Instant::now() + PATIENCE;
        let begun = match &address {
            ConnectAddress::Unix(path) => {
                return self.connected(place, request, unix(path).map_err(system));
            }
            ConnectAddress::Tcp { host, port } | ConnectAddress::Udp { host, port } => {
                match host.parse::<IpAddr>() {
                    Ok(ip) => {
                        let left = VecDeque::from([SocketAddr::new(ip, *port)]);
                        match next(&address, left, until) {
                            Tried::UnderWay(trying) => Ok(Stage::Trying(trying)),
                            Tried::Connected(fd) => {
                                return self.connected(place, request, Ok(fd));
                            }
                            Tried::Refused(errno) => Err(system(errno)),
                        }
                    }
                    Err(_) => self.resolve(host).map(Stage::Resolving),
                }
            }
        };
        match begun {
            Err(refusal) => self.connected(place, request, Err(refusal)),
            Ok(stage) => {
                let connector = &mut self.connector;
                let id = connector.next;
                connector.next += 1;
                let one = UnderWay { id, place, instance, request, address, until, stage };
                connector.under_way.push(one);
                mark::reached("socket.connect.under-way");
            }
        }
    }

    fn resolve(&mut self, host: &str) -> Result<Resolver, Refusal> {
        let uid = self.images[0].helper_uid();
        Resolver::start(&self.images[0].ground, uid, host).map_err(|error| {
            self.log.say(&format!("the resolver can't be started: {error}"));
            Refusal::NotResolved
        })
    }

    /// Goes on with what the loop was told of.
    pub(in super::super) fn go_on_connecting(&mut self, id: u64) {
        let connector = &mut self.connector;
        let Some(at) = connector.under_way.iter().position(|it| it.id == id) else { return };
        let mut it = connector.under_way.swap_remove(at);
        let tried = match it.stage {
            Stage::Resolving(mut resolver) => match resolver.hear() {
                None => {
                    it.stage = Stage::Resolving(resolver);
                    return connector.under_way.push(it);
                }
                Some(found) => {
                    dismiss(&mut connector.ended, resolver);
                    let port = match it.address {
                        ConnectAddress::Tcp { port, .. } | ConnectAddress::Udp { port, .. } => port,
                        ConnectAddress::Unix(_) => 0,
                    };
                    if found.is_empty() {
                        return self.connected(it.place, it.request, Err(Refusal::NotResolved));
                    }
                    let left = found.into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
                    next(&it.address, left, it.until)
                }
            },
            Stage::Trying(trying) => {
                let error = sockopt::socket_error(&trying.socket);
                match error.unwrap_or_else(Err) {
                    Ok(()) => Tried::Connected(trying.socket),
                    Err(_) if !trying.left.is_empty() => next(&it.address, trying.left, it.until),
                    Err(errno) => Tried::Refused(errno),
                }
            }
        };
        match tried {
            Tried::UnderWay(trying) => {
                it.stage = Stage::Trying(trying);
                self.connector.under_way.push(it);
            }
            Tried::Connected(fd) => self.connected(it.place, it.request, Ok(fd)),
            Tried::Refused(errno) => self.connected(it.place, it.request, Err(system(errno))),
        }
    }

    /// Ends what has taken too long.
    pub(in super::super) fn end_late_connections(&mut self) {
        self.connector.reap();
        let now = Instant::now();
        if self.connector.deadline().is_none_or(|at| at > now) {
            return;
        }
        let late: Vec<_> = self.connector.under_way.extract_if(.., |it| it.until <= now).collect();
        for it in late {
            if let Stage::Resolving(resolver) = it.stage {
                dismiss(&mut self.connector.ended, resolver);
            }
            self.connected(it.place, it.request, Err(Refusal::Timeout));
        }
        for it in &mut self.connector.under_way {
            let Stage::Trying(trying) = &mut it.stage else { continue };
            if trying.until <= now {
                let left = std::mem::take(&mut trying.left);
                match next(&it.address, left, it.until) {
                    Tried::UnderWay(next) => *trying = next,
                    // The loop hears at once of a socket that is connected.
                    Tried::Connected(socket) => trying.socket = socket,
                    Tried::Refused(_) => trying.until = it.until,
                }
            }
        }
    }

    /// Answers a request, unless who asked is gone.
    fn connected(&mut self, place: usize, request: u64, result: Result<OwnedFd, Refusal>) {
        mark::reached("socket.connect.done");
        let (answer, fd) = match result {
            Ok(fd) => (Answer::Done, Some(fd)),
            Err(refusal) => (Answer::Refused(refusal), None),
        };
        self.note_answer(place, request, &answer);
        self.tell(place, &ToLayer::Answer { request, answer }, fd.as_ref());
        mark::reached("socket.connect.told");
    }

    /// The layer at `place` no longer waits for `request`.
    pub(super) fn withdraw_connection(&mut self, place: usize, request: u64) {
        let asked = |it: &UnderWay| it.place == place && it.request == request;
        if self.connector.under_way.iter().any(asked) {
            self.connector.forget(asked);
            mark::reached("socket.connect.withdrawn");
            self.connected(place, request, Err(Refusal::Timeout));
        }
    }

    /// `gone` has ended: nobody is left to answer.
    pub(in super::super) fn forget_connections(&mut self, gone: &Instance) {
        self.connector.forget(|it| it.instance == *gone);
        mark::reached("socket.connect.forgotten");
    }
}

/// Tries one address after the other until one isn't refused at once.
fn next(address: &ConnectAddress, mut left: VecDeque<SocketAddr>, until: Instant) -> Tried {
    let kind = match address {
        ConnectAddress::Udp { .. } => SocketType::DGRAM,
        _ => SocketType::STREAM,
    };
    let mut refused = Errno::HOSTUNREACH;
    while let Some(address) = left.pop_front() {
        mark::reached("socket.connect.trying");
        match begin(&address, kind) {
            Ok((socket, true)) => return Tried::Connected(socket),
            Ok((socket, false)) => {
                let now = Instant::now();
                // Those that are left get their share of the time.
                let share = u32::try_from(left.len().min(MAX_ADDRESSES)).unwrap_or(0) + 1;
                let until = now + until.saturating_duration_since(now) / share;
                return Tried::UnderWay(Trying { socket, until, left });
            }
            Err(errno) => refused = errno,
        }
    }
    Tried::Refused(refused)
}

/// Begins to connect a new socket, and says whether it is connected already.
fn begin(address: &SocketAddr, kind: SocketType) -> Result<(OwnedFd, bool), Errno> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, kind, flags, None)?;
    match connect(&socket, address) {
        Ok(()) => Ok((socket, true)),
        Err(Errno::INPROGRESS) => Ok((socket, false)),
        Err(errno) => Err(errno),
    }
}

/// Connects to a path, which the kernel does at once or not at all.
fn unix(path: &str) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

fn system(errno: Errno) -> Refusal {
    match errno {
        Errno::TIMEDOUT => Refusal::Timeout,
        errno => Refusal::System(io::Error::from(errno).raw_os_error().unwrap_or(0)),
    }
}
