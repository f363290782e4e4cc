//! The helper for Unix paths.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

use super::local::Host;
use super::orders::Orders;
use super::{MAX_UNDER_WAY, system};
use crate::ident::{Instance, Name};
use crate::layer::Layer;
use crate::layer::lanes::Lanes;
use crate::layer::service::{self, ClientId, Replies, Service};
use crate::mark;
use crate::policy::plan::ConnectAddress;
use crate::wire::broker::{Answer, Ask, Refusal};
use crate::wire::control::{FromLayer, Object, host_part};

/// What the helper is called, as a layer and as a function. No policy may use the name.
pub(crate) const NAME: &str = "cofferdam-paths";

/// Bytes of a client's thread's stack.
const STACK: usize = 64 << 10;

/// What [`Service::ready`] is told when a thread has done something.
const DONE: u32 = 0;

/// Serves until the supervisor says stop, or is gone.
pub(crate) fn run(layer: &Layer) -> io::Result<()> {
    let orders = Orders::decode(layer.settings())?;
    let root = layer.0.objects.get(Object::Host, 0, host_part::ROOT);
    let root = root.ok_or_else(|| io::Error::other("there is no root"))?.try_clone()?;
    let host = Arc::new(Host::enter(root)?);
    service::serve(
        layer,
        Paths { orders, host, clients: BTreeMap::new(), lanes: Lanes::new(STACK)? },
    )
}

/// The helper at work. Each client has a thread: a path may lead through a file system that hangs.
struct Paths {
    orders: Orders,
    host: Arc<Host>,
    clients: BTreeMap<ClientId, Client>,
    lanes: Lanes<Finished>,
}

struct Client {
    layer: Name,
    under_way: usize,
    /// This life of it.
    life: Arc<()>,
}

struct Finished {
    id: ClientId,
    request: u64,
    life: Arc<()>,
    done: Result<OwnedFd, Errno>,
}

impl Paths {
    fn begin(&mut self, id: ClientId, request: u64, number: u16) -> Result<(), Refusal> {
        let client = self.clients.get_mut(&id).ok_or(Refusal::NotGranted)?;
        let targets = self.orders.targets.get(&client.layer).ok_or(Refusal::NotGranted)?;
        let Some(Some(ConnectAddress::Unix(path))) = targets.get(usize::from(number)) else {
            return Err(Refusal::NotGranted);
        };
        if client.under_way >= MAX_UNDER_WAY {
            return Err(Refusal::Limit);
        }
        let (host, path, life) = (Arc::clone(&self.host), path.clone(), Arc::clone(&client.life));
        let work = move || Finished { id, request, life, done: host.connect(&path) };
        self.lanes.run(id, work).map_err(|_| Refusal::System(libc::EAGAIN))?;
        client.under_way += 1;
        Ok(())
    }
}

impl Service for Paths {
    fn joined(&mut self, id: ClientId, client: &Instance) {
        let layer = client.layer.clone();
        self.clients.insert(id, Client { layer, under_way: 0, life: Arc::default() });
    }

    fn begun(&mut self, replies: &mut Replies) {
        // It is always there to be watched.
        let _ = replies.watch(self.lanes.bell(), DONE, EventFlags::IN);
    }

    fn asked(&mut self, id: ClientId, request: u64, ask: Ask, replies: &mut Replies) {
        mark::reached("socket.connect.asked");
        let begun = match ask {
            Ask::Connect { address } => self.begin(id, request, address),
            _ => Err(Refusal::NotGranted),
        };
        if let Err(refusal) = begun {
            replies.answer(id, request, Answer::Refused(refusal), None);
        }
    }

    fn told(&mut self, _: ClientId, words: FromLayer, _: &mut Replies) -> bool {
        matches!(words, FromLayer::Resumed)
    }

    /// It comes at once, or its thread hangs.
    fn withdrawn(&mut self, id: ClientId, request: u64, replies: &mut Replies) {
        replies.answer(id, request, Answer::Refused(Refusal::Timeout), None);
    }

    fn departed(&mut self, id: ClientId, _: &mut Replies) {
        self.clients.remove(&id);
    }

    fn detail(&self, id: ClientId, ask: &Ask) -> Option<Vec<u8>> {
        self.orders.address(&self.clients.get(&id)?.layer, ask)
    }

    fn ready(&mut self, _: u32, replies: &mut Replies) {
        for Finished { id, request, life, done } in self.lanes.finished() {
            let client = self.clients.get_mut(&id).filter(|it| Arc::ptr_eq(&it.life, &life));
            let Some(client) = client else { continue };
            client.under_way -= 1;
            mark::reached("socket.connect.done");
            let (answer, fd) = match done {
                Ok(fd) => (Answer::Done, Some(fd)),
                Err(errno) => (Answer::Refused(system(errno)), None),
            };
            replies.answer(id, request, answer, fd);
            mark::reached("socket.connect.told");
        }
    }
}
