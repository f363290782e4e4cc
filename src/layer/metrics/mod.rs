//! Who serves the daemon's numbers by HTTP: a layer of the framework's own.
//!
//! The supervisor tells it how each instance is, and hands it the files in which the kernel counts
//! what each uses. Strangers' bytes are read here, and nowhere else: it holds nothing but what it
//! tells anybody who asks. It waits for no client.

mod board;
mod client;
mod request;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};

use self::board::Board;
use self::client::Client;
use super::Layer;
use super::order::Orders;
use crate::ident::Name;
use crate::policy::plan::{ListenAddress, ListenPlan, Pass};
use crate::sys::poller;

/// What this layer is called, as a layer and as a function. No policy may use the name.
pub(crate) const NAME: &str = "cofferdam-metrics";

/// What its listening socket is called.
const DOOR: &str = "metrics";

/// Clients at a time.
const MOST: usize = 32;

/// How long a client that hasn't asked yet has its place, when another one wants it.
const HASTE: Duration = Duration::from_millis(100);

/// Its listening socket.
pub(crate) fn listen(address: SocketAddr) -> Option<ListenPlan> {
    let (name, address) = (Name::new(DOOR).ok()?, ListenAddress::Tcp(address));
    Some(ListenPlan { name, address, pass: Pass::Name, rate: None, per_source: None, max: None })
}

/// Serves until the supervisor says stop, or is gone.
pub(super) fn run(layer: &Layer) -> io::Result<()> {
    let control = layer.0.inbox.socket();
    let door = {
        let listeners = layer.0.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        let door = listeners.get(DOOR);
        door.ok_or_else(|| io::Error::other("its socket wasn't handed over"))?.try_clone()?
    };
    let board = Board::new(layer.0.daemon.clone());
    let mut desk = Desk { layer, control, door, board, clients: VecDeque::new() };
    while desk.turn()? {}
    Ok(())
}

struct Desk<'a> {
    layer: &'a Layer,
    control: Arc<OwnedFd>,
    door: OwnedFd,
    board: Board,
    /// The first came first.
    clients: VecDeque<Client>,
}

impl Desk<'_> {
    /// Takes up what came, and waits for more. False: the daemon stops.
    fn turn(&mut self) -> io::Result<bool> {
        let heard = self.layer.attend();
        for order in self.layer.0.orders.iter().flat_map(Orders::take) {
            self.board.obey(order);
        }
        match heard {
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => return Ok(false),
            heard => heard?,
        }
        if self.layer.0.stop.is_asked() {
            return Ok(false);
        }
        let now = Instant::now();
        self.clients.retain(|client| !client.is_over(now));
        self.wait(now)?;
        Ok(true)
    }

    fn wait(&mut self, now: Instant) -> io::Result<()> {
        let lets_in = self.has_place(now);
        let door = if lets_in { PollFlags::IN } else { PollFlags::empty() };
        let own = [(self.control.as_fd(), PollFlags::IN), (self.door.as_fd(), door)];
        let clients = self.clients.iter().map(|it| (it.fd(), it.interest()));
        let ends = self.clients.iter().map(Client::until);
        // Others may want the place of one that is slow to ask.
        let haste = self.clients.iter().filter(|it| !lets_in && !it.has_asked());
        let due = ends.chain(haste.map(|it| it.came() + HASTE)).min();
        let ready = poller::ready(own.into_iter().chain(clients), due)?;
        for (client, ready) in self.clients.iter_mut().zip(&ready[2..]) {
            client.serve(*ready, &mut self.board);
        }
        if !ready[1].is_empty() {
            self.let_in(Instant::now());
        }
        Ok(())
    }

    /// Whether one more may come in, perhaps in the place of one that is slow to ask.
    fn has_place(&self, now: Instant) -> bool {
        self.clients.len() < MOST || self.slow(now).is_some()
    }

    fn slow(&self, now: Instant) -> Option<usize> {
        self.clients.iter().position(|it| !it.has_asked() && now >= it.came() + HASTE)
    }

    fn let_in(&mut self, now: Instant) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        for _ in 0..MOST {
            if !self.has_place(now) {
                return;
            }
            match accept_with(&self.door, flags) {
                Ok(line) => {
                    if self.clients.len() >= MOST
                        && let Some(slow) = self.slow(now)
                    {
                        self.clients.remove(slow);
                    }
                    self.clients.push_back(Client::new(line, now));
                }
                // One that is gone already; or nobody, or no descriptor, until the next turn.
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(_) => return,
            }
        }
    }
}
