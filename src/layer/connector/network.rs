//! The helper for addresses of the network, in the host's network namespace.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::net::SocketType;

use super::names::Names;
use super::orders::{self, Orders};
use super::trying::{Tried, Trying};
use super::{MAX_UNDER_WAY, system};
use crate::ident::{Instance, Name};
use crate::layer::Layer;
use crate::layer::service::{self, ClientId, Replies, Service};
use crate::mark;
use crate::policy::plan::ConnectAddress;
use crate::wire::broker::{Answer, Ask, Refusal};
use crate::wire::control::FromLayer;

/// What the helper is called, as a layer and as a function. No policy may use the name.
pub(crate) const NAME: &str = "cofferdam-connector";

/// How long a request may take in all. Below what people and most protocols wait.
const PATIENCE: Duration = Duration::from_secs(10);

/// What [`Service::ready`] is told when a name was looked up. Connections are numbered from 1.
const FOUND: u32 = 0;

/// Serves until the supervisor says stop, or is gone.
pub(crate) fn run(layer: &Layer) -> io::Result<()> {
    let orders = Orders::decode(layer.settings())?;
    let addresses = orders.targets.values().flatten().flatten();
    let mut names: Vec<String> = addresses.filter_map(orders::name).map(str::to_owned).collect();
    names.sort();
    names.dedup();
    let names = Names::new(names.into_iter())?;
    let (clients, under_way) = (BTreeMap::new(), BTreeMap::new());
    service::serve(layer, Network { orders, names, clients, under_way, last: FOUND })
}

/// The helper at work.
struct Network {
    orders: Orders,
    names: Names,
    clients: BTreeMap<ClientId, Name>,
    /// By what [`Service::ready`] is told of them.
    under_way: BTreeMap<u32, UnderWay>,
    last: u32,
}

struct UnderWay {
    id: ClientId,
    request: u64,
    address: ConnectAddress,
    until: Instant,
    stage: Stage,
}

enum Stage {
    /// The name is being looked up.
    Resolving,
    Trying(Trying),
}

impl Network {
    fn begin(&mut self, id: ClientId, request: u64, number: u16, replies: &mut Replies) -> Done {
        let layer = self.clients.get(&id).ok_or(Refusal::NotGranted)?;
        let targets = self.orders.targets.get(layer).ok_or(Refusal::NotGranted)?;
        let address = targets.get(usize::from(number)).and_then(Option::clone);
        let address = address.ok_or(Refusal::NotGranted)?;
        if self.under_way.values().filter(|it| it.id == id).count() >= MAX_UNDER_WAY {
            return Err(Refusal::Limit);
        }
        let now = Instant::now();
        let until = now + PATIENCE;
        let one = |stage| UnderWay { id, request, address: address.clone(), until, stage };
        let found = match &address {
            ConnectAddress::Unix(_) | ConnectAddress::Wild { .. } => {
                return Err(Refusal::NotGranted);
            }
            ConnectAddress::Tcp { host, .. } | ConnectAddress::Udp { host, .. } => {
                match host.parse::<IpAddr>() {
                    Ok(ip) => vec![ip],
                    Err(_) => match self.names.ask(host, now) {
                        Ok(Some(found)) => found.to_vec(),
                        Ok(None) => {
                            let one = one(Stage::Resolving);
                            self.keep(one, replies);
                            return Ok(None);
                        }
                        Err(_) => return Err(Refusal::NotResolved),
                    },
                }
            }
        };
        match first(&address, &found, until)? {
            Tried::Connected(fd) => Ok(Some(fd)),
            Tried::Refused(errno) => Err(system(errno)),
            Tried::UnderWay(trying) => {
                let one = one(Stage::Trying(trying));
                self.keep(one, replies);
                Ok(None)
            }
        }
    }

    /// Keeps what isn't done yet, and has its socket watched.
    fn keep(&mut self, one: UnderWay, replies: &mut Replies) {
        // As many as there may be at once are fewer than there are numbers.
        loop {
            self.last = self.last.wrapping_add(1);
            if self.last != FOUND && !self.under_way.contains_key(&self.last) {
                break;
            }
        }
        self.put(self.last, one, replies);
        mark::reached("socket.connect.under-way");
    }

    fn put(&mut self, token: u32, one: UnderWay, replies: &mut Replies) {
        if let Stage::Trying(trying) = &one.stage
            && let Err(error) = replies.watch(&trying.socket, token, EventFlags::OUT)
        {
            let refusal = Refusal::System(error.raw_os_error().unwrap_or(libc::EIO));
            return answer(one.id, one.request, Err(refusal), replies);
        }
        self.under_way.insert(token, one);
    }

    /// Goes on with what has been tried.
    fn go_on(&mut self, token: u32, one: UnderWay, tried: Tried, replies: &mut Replies) {
        match tried {
            Tried::UnderWay(trying) => {
                self.put(token, UnderWay { stage: Stage::Trying(trying), ..one }, replies);
            }
            Tried::Connected(fd) => answer(one.id, one.request, Ok(fd), replies),
            Tried::Refused(errno) => answer(one.id, one.request, Err(system(errno)), replies),
        }
    }

    /// A name has been looked up: goes on with all that wait for it.
    fn found(&mut self, name: &str, found: &[IpAddr], replies: &mut Replies) {
        let waits = |_: &u32, it: &mut UnderWay| {
            matches!(it.stage, Stage::Resolving) && orders::name(&it.address) == Some(name)
        };
        let waiting: Vec<_> = self.under_way.extract_if(.., waits).collect();
        for (token, one) in waiting {
            match first(&one.address, found, one.until) {
                Ok(tried) => self.go_on(token, one, tried, replies),
                Err(refusal) => answer(one.id, one.request, Err(refusal), replies),
            }
        }
    }
}

/// A connection, if it has been made at once.
type Done = Result<Option<OwnedFd>, Refusal>;

impl Service for Network {
    fn joined(&mut self, id: ClientId, client: &Instance) {
        self.clients.insert(id, client.layer.clone());
    }

    fn begun(&mut self, replies: &mut Replies) {
        // It is always there to be watched.
        let _ = replies.watch(self.names.bell(), FOUND, EventFlags::IN);
    }

    fn asked(&mut self, id: ClientId, request: u64, ask: Ask, replies: &mut Replies) {
        mark::reached("socket.connect.asked");
        let begun = match ask {
            Ask::Connect { address } => self.begin(id, request, address, replies),
            _ => Err(Refusal::NotGranted),
        };
        if let Some(result) = begun.transpose() {
            answer(id, request, result, replies);
        }
    }

    fn told(&mut self, _: ClientId, words: FromLayer, _: &mut Replies) -> bool {
        matches!(words, FromLayer::Resumed)
    }

    /// A lookup goes on all the same, and so does the place of its name.
    fn withdrawn(&mut self, id: ClientId, request: u64, replies: &mut Replies) {
        let is_it = |_: &u32, it: &mut UnderWay| it.id == id && it.request == request;
        if self.under_way.extract_if(.., is_it).count() > 0 {
            mark::reached("socket.connect.withdrawn");
            answer(id, request, Err(Refusal::Timeout), replies);
        }
    }

    fn departed(&mut self, id: ClientId, _: &mut Replies) {
        self.clients.remove(&id);
        self.under_way.retain(|_, it| it.id != id);
        mark::reached("socket.connect.forgotten");
    }

    fn ready(&mut self, token: u32, replies: &mut Replies) {
        if token == FOUND {
            for (name, found) in self.names.finished(Instant::now()) {
                self.found(&name, &found, replies);
            }
        } else if let Some(UnderWay { id, request, address, until, stage }) =
            self.under_way.remove(&token)
        {
            let one = |stage| UnderWay { id, request, address, until, stage };
            match stage {
                Stage::Trying(trying) => {
                    replies.unwatch(&trying.socket);
                    let tried = trying.ready();
                    self.go_on(token, one(Stage::Resolving), tried, replies);
                }
                Stage::Resolving => drop(self.under_way.insert(token, one(Stage::Resolving))),
            }
        }
    }

    fn detail(&self, id: ClientId, ask: &Ask) -> Option<Vec<u8>> {
        self.orders.address(self.clients.get(&id)?, ask)
    }

    fn deadline(&self) -> Option<Instant> {
        let of_one = |it: &UnderWay| match &it.stage {
            Stage::Resolving => it.until,
            Stage::Trying(trying) => it.until.min(trying.until),
        };
        self.under_way.values().map(of_one).min()
    }

    fn tick(&mut self, now: Instant, replies: &mut Replies) {
        let late: Vec<_> = self.under_way.extract_if(.., |_, it| it.until <= now).collect();
        for (_, one) in late {
            answer(one.id, one.request, Err(Refusal::Timeout), replies);
        }
        let next = |_: &u32, it: &mut UnderWay| matches!(&it.stage, Stage::Trying(trying) if trying.until <= now);
        let next: Vec<_> = self.under_way.extract_if(.., next).collect();
        for (token, UnderWay { id, request, address, until, stage }) in next {
            let one = UnderWay { id, request, address, until, stage: Stage::Resolving };
            if let Stage::Trying(trying) = stage {
                let tried = trying.late();
                self.go_on(token, one, tried, replies);
            }
        }
    }
}

/// Tries the first of the addresses that a name has.
fn first(address: &ConnectAddress, found: &[IpAddr], until: Instant) -> Result<Tried, Refusal> {
    let (kind, port) = match address {
        ConnectAddress::Tcp { port, .. } => (SocketType::STREAM, *port),
        ConnectAddress::Udp { port, .. } => (SocketType::DGRAM, *port),
        ConnectAddress::Unix(_) | ConnectAddress::Wild { .. } => return Err(Refusal::NotGranted),
    };
    if found.is_empty() {
        return Err(Refusal::NotResolved);
    }
    let left: VecDeque<_> = found.iter().map(|ip| SocketAddr::new(*ip, port)).collect();
    Ok(Trying::begin(left, kind, until))
}

fn answer(id: ClientId, request: u64, done: Result<OwnedFd, Refusal>, replies: &mut Replies) {
    mark::reached("socket.connect.done");
    let (answer, fd) = match done {
        Ok(fd) => (Answer::Done, Some(fd)),
        Err(refusal) => (Answer::Refused(refusal), None),
    };
    replies.answer(id, request, answer, fd);
    mark::reached("socket.connect.told");
}
