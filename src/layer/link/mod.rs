//! The helper that carries records to other hosts and back. It has no key: what it carries was sealed
//! by one end of a channel for the other, and whose a connection is, [`hosts`](super::hosts) says, which
//! is the only one to hear what comes on it before.
//!
//! | file | what it does |
//! |---|---|
//! | `frame` | what two of them say to each other |
//! | `line` | a connection, and the links that go through it |
//! | `route` | one link: a socket to an instance of this host, and what is on its way |
//! | `tcp` | calls other hosts, and is called |
//!
//! Each direction of each link has a window: no more is on its way than the other host has room for, so
//! an instance that doesn't read holds up who sends to it, and nobody else.

mod frame;
mod line;
mod route;
mod tcp;

use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::{Arc, PoisonError};

use rustix::net::{RecvFlags, SendFlags};
use tokio::io::unix::AsyncFd;
use tokio::task::LocalSet;

use self::frame::Ends;
use self::line::Line;
use self::route::Out as _;
use super::Layer;
use super::hosts::{FromLink, Orders, ToLink};
use super::order::{Order, Orders as Told};
use crate::ident::{Instance, Name};
use crate::policy::plan::{ListenAddress, ListenPlan, Pass, Plan};
use crate::sys::socket::watch;

/// What the helper is called, as a layer and as a function. No policy may use the name.
pub(crate) use super::hosts::LINK as NAME;

/// The name of the socket on which it listens.
const DOOR: &str = "door";

/// Bytes of a link that are on their way in one direction at most: a few of the largest records.
pub(crate) const WINDOW: u64 = 512 << 10;

/// Where the other hosts reach this one.
pub(crate) fn listen(plan: &Plan) -> Option<ListenPlan> {
    let here = plan.here.as_ref()?;
    let address = ListenAddress::Tcp(plan.host(here.host.as_str())?.address?);
    let name = Name::new(DOOR).ok()?;
    Some(ListenPlan { name, address, pass: Pass::Name, rate: None, per_source: None, max: None })
}

/// The ports at which it calls others.
pub(crate) fn ports(plan: &Plan) -> Vec<u16> {
    let orders = Orders::of(plan);
    let ports = orders.hosts.iter().filter(|host| host.is_met);
    let mut ports: Vec<_> = ports.filter_map(|host| Some(host.address?.port())).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// Serves until the supervisor says stop, or is gone.
pub(super) fn run(layer: &Layer) -> io::Result<()> {
    let orders = Orders::decode(layer.settings())?;
    let door = {
        let listeners = layer.0.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.get(DOOR).map(OwnedFd::try_clone).transpose()?
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, serve(layer, orders, door))
}

async fn serve(layer: &Layer, orders: Orders, door: Option<OwnedFd>) -> io::Result<()> {
    let state = Rc::new(State {
        orders,
        hosts: RefCell::default(),
        lines: RefCell::default(),
        next: RefCell::default(),
        waiting: RefCell::default(),
    });
    if let Some(door) = door {
        tokio::task::spawn_local(tcp::answer(Rc::clone(&state), door));
    }
    for (host, address) in state.calls() {
        tokio::task::spawn_local(tcp::call(Rc::clone(&state), host, address));
    }
    let control = watch(layer.0.inbox.socket())?;
    loop {
        state.take_orders(layer)?;
        let mut ready = control.readable().await?;
        ready.clear_ready();
        layer.attend()?;
        if layer.is_stopping() {
            return Ok(());
        }
    }
}

/// An end of a link whose connection isn't proven yet.
struct Waiting {
    host: u16,
    ends: Ends,
    socket: OwnedFd,
}

/// What all of its tasks share. They run in one thread.
struct State {
    orders: Orders,
    /// The socket to who knows the hosts' keys.
    hosts: RefCell<Option<Arc<OwnedFd>>>,
    /// Connections, by their numbers.
    lines: RefCell<BTreeMap<u32, Rc<Line>>>,
    /// The number of the next.
    next: RefCell<u32>,
    /// Ends of links whose connection isn't proven yet, as far as this helper was told.
    waiting: RefCell<Vec<Waiting>>,
}

impl State {
    /// The hosts that this one calls. Of two hosts one calls: the one whose name comes first, if the
    /// other has an address.
    fn calls(&self) -> Vec<(u16, SocketAddr)> {
        let Some(own) = self.orders.own() else { return Vec::new() };
        let met = (0..).zip(&self.orders.hosts).filter(|(_, host)| host.is_met);
        let called = met.filter_map(|(number, host)| {
            let first = own.name < host.name || own.address.is_none();
            Some((number, host.address.filter(|_| first)?))
        });
        called.collect()
    }

    /// Takes up what the supervisor has said.
    fn take_orders(self: &Rc<Self>, layer: &Layer) -> io::Result<()> {
        let came: Vec<_> = layer.0.orders.iter().flat_map(Told::take).collect();
        for order in came {
            match order {
                Order::Service { socket } => self.meet_hosts(socket)?,
                Order::Relay { channel, near, far, link, socket, .. } => {
                    self.wait_for(channel, near, far, link, socket);
                }
                _ => {}
            }
        }
        self.join_waiting();
        Ok(())
    }

    /// There is another life of who knows the hosts' keys: it knows of no connection yet.
    fn meet_hosts(self: &Rc<Self>, socket: OwnedFd) -> io::Result<()> {
        let socket = Arc::new(socket);
        *self.hosts.borrow_mut() = Some(Arc::clone(&socket));
        for line in self.lines.take().into_values() {
            line.end();
        }
        let watched = watch(socket)?;
        let state = Rc::clone(self);
        tokio::task::spawn_local(async move { state.hear_hosts(watched).await });
        Ok(())
    }

    /// Does what that helper says, until it is gone.
    async fn hear_hosts(self: Rc<Self>, socket: AsyncFd<Arc<OwnedFd>>) {
        let mut bytes = vec![0; 4096];
        loop {
            let Ok(mut ready) = socket.readable().await else { return };
            match rustix::net::recv(socket.get_ref(), &mut bytes[..], RecvFlags::DONTWAIT) {
                Ok((_, length)) if length > 0 => {
                    if let Some(words) = ToLink::decode(&bytes[..length.min(bytes.len())]) {
                        self.told(&words);
                    }
                }
                Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
                Err(rustix::io::Errno::INTR) => {}
                _ => return,
            }
        }
    }

    fn told(self: &Rc<Self>, words: &ToLink) {
        let line = |number: &u32| self.lines.borrow().get(number).cloned();
        match words {
            ToLink::Say { line: number, bytes } => {
                if let Some(line) = line(number) {
                    line.send(&frame::Frame::Hosts(bytes));
                }
            }
            ToLink::Proven { line: number, link } => {
                if let Some(line) = line(number) {
                    line.prove(*link);
                    self.join_waiting();
                }
            }
            ToLink::Close { line: number } => {
                let line = self.lines.borrow_mut().remove(number);
                if let Some(line) = line {
                    line.end();
                }
            }
            ToLink::Gone { line: number, bytes } => {
                if let (Some(line), Ok(gone)) = (line(number), postcard::from_bytes(bytes)) {
                    line.gone(&gone);
                }
            }
        }
    }

    /// Says something to that helper. What finds no room isn't said: a connection that it never hears
    /// of ends by itself.
    fn tell_hosts(&self, words: &FromLink) -> bool {
        let hosts = self.hosts.borrow();
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        hosts
            .as_ref()
            .is_some_and(|socket| rustix::net::send(socket, &words.encode(), flags).is_ok())
    }

    /// Keeps an end of a link until its connection is proven, which the supervisor may say sooner than
    /// the other helper.
    fn wait_for(&self, channel: u16, near: Instance, far: Instance, link: u64, socket: OwnedFd) {
        let edge = self.orders.channels.iter().find(|it| it.number == channel);
        let host = self.orders.host_of(&far.layer, far.index);
        if let (Some(edge), Some(host)) = (edge, host) {
            let ends = Ends { channel: edge.name.clone(), near, far, link };
            let mut waiting = self.waiting.borrow_mut();
            waiting.retain(|it| it.host != host || it.ends.link >= link);
            waiting.push(Waiting { host, ends, socket });
        }
    }

    /// Joins instances of this host to those of others whose connection is proven. Ends of a former
    /// connection are let go.
    fn join_waiting(self: &Rc<Self>) {
        let lines = self.lines.borrow();
        for it in self.waiting.take() {
            let line = lines.values().find(|line| line.is_proven() && line.host() == it.host);
            match line.map(|line| (line, line.link().cmp(&it.ends.link))) {
                None | Some((_, Ordering::Less)) => self.waiting.borrow_mut().push(it),
                Some((line, Ordering::Equal)) => line.join(self, it.ends, it.socket),
                Some((_, Ordering::Greater)) => {}
            }
        }
    }

    /// A link has ended, and what it went through hasn't: one of its ends is gone, or found something
    /// wrong with it.
    fn link_over(&self, line: &Line, Ends { channel, near, far, .. }: &Ends) {
        if let Ok(bytes) = postcard::to_stdvec(&(channel, near, far)) {
            self.tell_hosts(&FromLink::Over { line: line.number(), bytes });
        }
    }

    /// Takes a connection in.
    fn begin(self: &Rc<Self>, stream: tokio::net::TcpStream, host: u16, calls: bool) -> Rc<Line> {
        let number = {
            let mut next = self.next.borrow_mut();
            *next = next.wrapping_add(1);
            *next
        };
        let line = Line::new(number, host, stream);
        self.lines.borrow_mut().insert(number, Rc::clone(&line));
        if !self.tell_hosts(&FromLink::Opened { line: number, host, calls }) {
            self.over(&line);
        }
        line
    }

    /// A connection has ended.
    fn over(&self, line: &Rc<Line>) {
        line.end();
        if self.lines.borrow_mut().remove(&line.number()).is_some() {
            self.tell_hosts(&FromLink::Closed { line: line.number() });
        }
    }
}
