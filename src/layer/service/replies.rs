//! The clients of a helper: what each has asked, and what it is still to be told.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::acts::Act;
use super::allowance::{Allowance, REFUSED, REQUEST};
use crate::ident::Instance;
use crate::report::{Desk, Facts, Verdict, Who};
use crate::sys::passing;
use crate::wire::broker::{Answer, Ask, Refusal};
use crate::wire::control::{FromLayer, ToLayer};

/// A client's place among the daemon's instances. Its next life has the same.
pub(crate) type ClientId = u32;

/// What tells the service's own descriptors from clients.
const OWN: u64 = 1 << 32;

/// Requests of one client that wait for their answer. A layer's own end lets fewer out.
const MAX_PENDING: usize = 256;

/// How long an answer waits whose descriptor the kernel doesn't take: too many are in flight.
const PRESSED: Duration = Duration::from_millis(10);

/// Room for an answer.
const ANSWER: usize = 64;

/// Answers to clients, and whatever else a service says.
pub(crate) struct Replies {
    pub(super) epoll: OwnedFd,
    clients: BTreeMap<ClientId, Client>,
    desk: Desk,
}

/// Where requests come from.
struct Client {
    instance: Instance,
    who: Who,
    /// `None` once it is closed, or was taken away.
    socket: Option<OwnedFd>,
    pending: BTreeMap<u64, Act>,
    /// Answers that there was no room for.
    outbox: VecDeque<(ToLayer, Option<OwnedFd>)>,
    allowance: Allowance,
    /// Nothing is read or sent before.
    rests: Option<Instant>,
    /// What its socket is watched for.
    watched: EventFlags,
}

/// What was read of a client.
pub(super) enum Read {
    /// Something that it says.
    Words(FromLayer),
    /// Nothing for now.
    Nothing,
    /// What breaks the rules.
    Broken,
}

impl Replies {
    pub(super) fn new(epoll: OwnedFd, desk: Desk) -> Self {
        Self { epoll, clients: BTreeMap::new(), desk }
    }

    /// Answers a request, and records what became of it. A descriptor may go with it.
    pub(crate) fn answer(
        &mut self,
        id: ClientId,
        request: u64,
        answer: Answer,
        fd: Option<OwnedFd>,
    ) {
        self.answer_about(id, request, answer, fd, |_| &[]);
    }

    /// The same, with more to say of it for the log: `about` completes the facts, and gives the
    /// message that they are about.
    pub(crate) fn answer_about<'a>(
        &mut self,
        id: ClientId,
        request: u64,
        answer: Answer,
        fd: Option<OwnedFd>,
        about: impl FnOnce(&mut Facts) -> &'a [u8],
    ) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        // Without a request there is no answer; that it has one, this end sees to.
        let Some(mut act) = client.pending.remove(&request) else { return };
        act.answered(&answer);
        let message = about(&mut act.facts);
        act.report(&self.desk, client.who, message);
        if matches!(answer, Answer::Refused(why) if why.verdict() == Verdict::Refused) {
            client.allowance.take(REFUSED);
        }
        client.outbox.push_back((ToLayer::Answer { request, answer }, fd));
        // What waits already goes first.
        if client.outbox.len() == 1 {
            client.send();
        }
        client.watch(&self.epoll, id);
    }

    /// Records an act of a client that is no request.
    pub(crate) fn record(&self, id: ClientId, act: &Act) {
        if let Some(client) = self.clients.get(&id) {
            act.report(&self.desk, client.who, &[]);
        }
    }

    /// Has [`Service::ready`](super::Service::ready) be called with `token` whenever `events` hold
    /// for `fd`, until it is closed.
    pub(crate) fn watch(&self, fd: impl AsFd, token: u32, events: EventFlags) -> io::Result<()> {
        let data = EventData::new_u64(OWN | u64::from(token));
        Ok(epoll::add(&self.epoll, fd, data, events)?)
    }

    /// Ends that, for a descriptor that goes to a client: closing it here isn't enough then.
    pub(crate) fn unwatch(&self, fd: impl AsFd) {
        // It is watched, or there is nothing to end.
        let _ = epoll::delete(&self.epoll, fd);
    }

    /// Who a client is.
    pub(crate) fn client(&self, id: ClientId) -> Option<&Instance> {
        self.clients.get(&id).map(|client| &client.instance)
    }

    /// How the log numbers an instance.
    pub(crate) fn who(&self, instance: &Instance) -> Who {
        self.desk.who(instance)
    }

    pub(super) fn join(
        &mut self,
        id: ClientId,
        instance: Instance,
        socket: OwnedFd,
    ) -> io::Result<()> {
        let watched = EventFlags::IN;
        epoll::add(&self.epoll, &socket, EventData::new_u64(id.into()), watched)?;
        let (pending, outbox) = (BTreeMap::new(), VecDeque::new());
        let who = self.who(&instance);
        let (socket, allowance) = (Some(socket), Allowance::new(Instant::now()));
        let client =
            Client { instance, who, socket, pending, outbox, allowance, rests: None, watched };
        self.clients.insert(id, client);
        Ok(())
    }

    /// Reads what a client says next; `gone`: it has ended, and no rule holds it back any more.
    pub(super) fn read(&mut self, id: ClientId, room: &mut [u8], gone: bool) -> Read {
        let Some(client) = self.clients.get_mut(&id) else { return Read::Nothing };
        let held_back = client.rests.is_some() || !client.outbox.is_empty();
        let Some(socket) = client.socket.as_ref().filter(|_| gone || !held_back) else {
            return Read::Nothing;
        };
        let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
        let length = loop {
            match rustix::net::recv(socket, &mut *room, flags) {
                Ok((_, length)) => break length,
                Err(Errno::AGAIN) => return Read::Nothing,
                // It ended with answers of ours unread. What it said is still to come.
                Err(Errno::CONNRESET | Errno::INTR) => {}
                Err(_) => break 0,
            }
        };
        if length == 0 {
            client.socket = None;
            return Read::Nothing;
        }
        client.allowance.take(REQUEST);
        room.get(..length).and_then(FromLayer::decode).map_or(Read::Broken, Read::Words)
    }

    /// Looks whether a client has to rest now.
    pub(super) fn rest(&mut self, id: ClientId, now: Instant) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        client.rests = client.allowance.rest(now);
        client.watch(&self.epoll, id);
    }

    /// Takes a request up. False: it has the number of another one, of which the log still is to
    /// be told.
    pub(super) fn take_up(&mut self, id: ClientId, request: u64, act: Act) -> bool {
        let Some(client) = self.clients.get_mut(&id) else { return true };
        match client.pending.entry(request) {
            Entry::Occupied(_) => false,
            Entry::Vacant(place) => {
                place.insert(act);
                true
            }
        }
    }

    /// Whether more requests of a client wait than are kept.
    pub(super) fn is_full(&self, id: ClientId) -> bool {
        self.clients.get(&id).is_some_and(|client| client.pending.len() > MAX_PENDING)
    }

    /// A client broke the rules: nothing more is heard of it, and nothing said to it. Gives who it
    /// is.
    pub(super) fn shut_out(&mut self, id: ClientId) -> Option<&Instance> {
        let client = self.clients.get_mut(&id)?;
        client.socket = None;
        client.outbox.clear();
        Some(&client.instance)
    }

    /// A client has ended. What it waits for is recorded as unanswered.
    pub(super) fn forget(&mut self, id: ClientId) {
        let Some(client) = self.clients.remove(&id) else { return };
        for mut act in client.pending.into_values() {
            act.answered(&Answer::Refused(Refusal::Unanswered));
            act.report(&self.desk, client.who, &[]);
        }
    }

    /// Nobody is served any more.
    pub(super) fn forget_all(&mut self) {
        for id in self.clients.keys().copied().collect::<Vec<_>>() {
            self.forget(id);
        }
    }

    /// A client's socket has room again.
    pub(super) fn flush(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        if client.rests.is_none() {
            client.send();
            client.watch(&self.epoll, id);
        }
    }

    /// When the next client need rest no longer.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.clients.values().filter_map(|client| client.rests).min()
    }

    /// Lets those go on who have rested.
    pub(super) fn tick(&mut self, now: Instant) {
        for (&id, client) in &mut self.clients {
            if client.rests.is_some_and(|at| at <= now) {
                client.rests = client.allowance.rest(now);
                if client.rests.is_none() {
                    client.send();
                }
                client.watch(&self.epoll, id);
            }
        }
    }
}

impl Client {
    /// Sends what waits, as far as there is room.
    fn send(&mut self) {
        let Some(socket) = &self.socket else { return self.outbox.clear() };
        while let Some((message, fd)) = self.outbox.front() {
            match send(socket, message, fd.as_ref().map(AsFd::as_fd)) {
                Err(Errno::AGAIN) => return,
                Err(Errno::TOOMANYREFS) => {
                    self.rests = Some(Instant::now() + PRESSED);
                    return;
                }
                // Sent, or nobody is there.
                _ => drop(self.outbox.pop_front()),
            }
        }
    }

    /// Watches the socket for what is wanted of it now.
    fn watch(&mut self, epoll: &OwnedFd, id: ClientId) {
        let wanted = match () {
            () if self.rests.is_some() => EventFlags::empty(),
            () if self.outbox.is_empty() => EventFlags::IN,
            () => EventFlags::OUT,
        };
        if let Some(socket) = self.socket.as_ref().filter(|_| wanted != self.watched)
            && epoll::modify(epoll, socket, EventData::new_u64(id.into()), wanted).is_ok()
        {
            self.watched = wanted;
        }
    }
}

fn send(socket: &OwnedFd, message: &ToLayer, fd: Option<BorrowedFd<'_>>) -> Result<usize, Errno> {
    let mut room = [0; ANSWER];
    let bytes = postcard::to_slice(message, &mut room).map_err(|_| Errno::MSGSIZE)?;
    passing::send(socket, bytes, fd, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
}

/// Whether a request is one that only the supervisor answers.
pub(super) fn is_foreign(ask: &Ask) -> bool {
    matches!(ask, Ask::Signal { .. } | Ask::Serve { .. })
}
