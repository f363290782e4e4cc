//! The framework's proxy: an `exec` layer's way to every host beneath a domain, and to hosts that are
//! told a credential which the layer never sees.
//!
//! A program finds it by its environment, at an address that stands for it within the layer. The
//! layer's init asks for a connection there as for any other, and the proxy hands one over: so it
//! knows by the socket that asked whose connection it is. It speaks HTTP (`CONNECT`, and requests to
//! `http://`) and SOCKS 5.
//!
//! | file | what it does |
//! |---|---|
//! | `orders` | what it learns of the plan |
//! | `door` | makes the connection whose other end a layer gets |
//! | `serve` | one connection from begin to end |
//! | `head`, `body`, `socks` | reads what a layer says, strictly |
//! | `host`, `rules`, `address` | which host is meant, whether the policy lets it, and where it may lead |
//! | `reach` | looks a name up once, and connects to what was judged |
//! | `credential` | what is put into requests, and the TLS by which they go on |
//! | `relay` | bytes both ways |
//! | `notes` | what the logs say of it |
//!
//! One thread answers those who ask for connections, a second one serves all of them, and a few look up
//! names.

mod address;
mod body;
mod credential;
mod door;
mod head;
mod host;
mod notes;
mod orders;
mod reach;
mod relay;
mod rules;
mod serve;
mod socks;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::LocalSet;

use self::credential::Credential;
use self::notes::{Asker, Notes};
pub(crate) use self::orders::{Orders, files, listen, ports, serves, view};
pub(crate) use self::rules::HTTP;
use self::serve::Serving;
use crate::ident::{Instance, Name};
use crate::layer::Layer;
use crate::layer::service::{self, ClientId, Replies, Service};
use crate::wire::broker::{Answer, Ask, Refusal};
use crate::wire::control::FromLayer;

/// What the helper is called, as a layer and as a function. No policy may use the name.
pub(crate) const NAME: &str = "cofferdam-proxy";

/// Where a layer finds it: of the range for measurements between networks (RFC 2544), from whose other
/// end addresses stand for names.
pub(crate) const ADDRESS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 19, 255, 254), 3128);

/// Connections of one instance at once.
pub(crate) const MOST: usize = 128;

/// Threads that look up names.
pub(crate) const LOOKING_UP: usize = 8;
/// Bytes of the stack of each: the C library's resolver keeps its buffers there.
const STACK: usize = 512 << 10;

/// What a connection costs, in bytes: what is on its way, a request's head, and TLS.
pub(crate) const CONNECTION: u64 = 256 << 10;

/// Serves until the supervisor says stop, or is gone.
pub(crate) fn run(layer: &Layer) -> io::Result<()> {
    let orders = Orders::decode(layer.settings())?;
    let door = held(&layer.0.listeners, orders::DOOR)?;
    let read = |stated| Credential::read(layer, stated);
    let credentials: Vec<_> = orders.credentials.iter().map(read).collect();
    for (stated, read) in orders.credentials.iter().zip(&credentials) {
        if let Err(why) = read {
            super::run::say(&format!("the credential for {} can't be used: {why}", stated.header));
        }
    }
    let (guests, come) = mpsc::unbounded_channel();
    let desk = layer.0.desk.clone();
    let rules = orders.rules.keys().cloned().collect();
    let serving = std::thread::Builder::new().name("connections".to_owned());
    serving.spawn(move || serve(orders, credentials, Notes::new(desk), come))?;
    service::serve(layer, Proxy { door, known: rules, guests, clients: BTreeMap::new() })
}

/// What this life was handed under a name. It is no use of anything that a policy grants, so it isn't
/// reported.
fn held(table: &Mutex<BTreeMap<Name, OwnedFd>>, name: &str) -> io::Result<OwnedFd> {
    let table = table.lock().unwrap_or_else(PoisonError::into_inner);
    let found = table.get(name).ok_or_else(|| io::Error::other("it wasn't handed over"))?;
    found.try_clone()
}

/// A connection that a layer was given.
struct Guest {
    asker: Asker,
    near: OwnedFd,
    /// Held as long as it lasts.
    room: tokio::sync::OwnedSemaphorePermit,
    /// Ends with the layer's life.
    life: watch::Receiver<()>,
}

/// Serves connections, for as long as there may be more.
fn serve(
    orders: Orders,
    credentials: Vec<Result<Credential, String>>,
    notes: Notes,
    mut come: mpsc::UnboundedReceiver<Guest>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(LOOKING_UP)
        .thread_stack_size(STACK)
        .build()?;
    let rules: BTreeMap<Name, Rc<_>> =
        orders.rules.into_iter().map(|(layer, rules)| (layer, Rc::new(rules))).collect();
    let (credentials, notes) = (Rc::new(credentials), Rc::new(notes));
    LocalSet::new().block_on(&runtime, async {
        while let Some(Guest { asker, near, room, mut life }) = come.recv().await {
            let Some(rules) = rules.get(&asker.instance.layer).map(Rc::clone) else { continue };
            let (credentials, notes) = (Rc::clone(&credentials), Rc::clone(&notes));
            let serving = Serving { asker, rules, credentials, notes };
            let Ok(near) = TcpStream::from_std(near.into()) else { continue };
            let _ = near.set_nodelay(true);
            tokio::task::spawn_local(async move {
                let _room = room;
                tokio::select! {
                    _ = serving.serve(near) => {}
                    // Nobody says anything; it only ends.
                    _ = life.changed() => {}
                }
            });
        }
    });
    Ok(())
}

/// The helper towards those who ask for connections.
struct Proxy {
    door: OwnedFd,
    /// Layers that may ask.
    known: Vec<Name>,
    guests: mpsc::UnboundedSender<Guest>,
    clients: BTreeMap<ClientId, Client>,
}

struct Client {
    instance: Instance,
    room: Arc<Semaphore>,
    life: watch::Sender<()>,
}

impl Proxy {
    fn give(&self, id: ClientId, replies: &Replies) -> Result<OwnedFd, Refusal> {
        let client = self.clients.get(&id).ok_or(Refusal::NotGranted)?;
        let Client { instance, room, life } = client;
        if !self.known.contains(&instance.layer) {
            return Err(Refusal::NotGranted);
        }
        let room = Arc::clone(room).try_acquire_owned().map_err(|_| Refusal::Limit)?;
        let system = |error: io::Error| Refusal::System(error.raw_os_error().unwrap_or(libc::EIO));
        let (near, far) = door::pair(&self.door).map_err(system)?;
        let asker = Asker { instance: instance.clone(), who: replies.who(instance) };
        let guest = Guest { asker, near, room, life: life.subscribe() };
        self.guests.send(guest).map_err(|_| Refusal::System(libc::EIO))?;
        Ok(far)
    }
}

impl Service for Proxy {
    fn joined(&mut self, id: ClientId, instance: &Instance) {
        let (instance, room) = (instance.clone(), Arc::new(Semaphore::new(MOST)));
        self.clients.insert(id, Client { instance, room, life: watch::Sender::new(()) });
    }

    fn begun(&mut self, _: &mut Replies) {}

    fn asked(&mut self, id: ClientId, request: u64, ask: Ask, replies: &mut Replies) {
        let given = match ask {
            // Which one is meant, the connection itself will say.
            Ask::Connect { .. } => self.give(id, replies),
            _ => Err(Refusal::NotGranted),
        };
        let (answer, fd) = match given {
            Ok(fd) => (Answer::Done, Some(fd)),
            Err(refusal) => (Answer::Refused(refusal), None),
        };
        replies.answer(id, request, answer, fd);
    }

    fn told(&mut self, _: ClientId, words: FromLayer, _: &mut Replies) -> bool {
        matches!(words, FromLayer::Resumed)
    }

    /// It is answered at once.
    fn withdrawn(&mut self, _: ClientId, _: u64, _: &mut Replies) {}

    fn departed(&mut self, id: ClientId, _: &mut Replies) {
        self.clients.remove(&id);
    }

    fn detail(&self, _: ClientId, _: &Ask) -> Option<Vec<u8>> {
        Some(b"the proxy".to_vec())
    }
}
