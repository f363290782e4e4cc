//! What helpers have in common: layers of the framework's own that do something for others.
//!
//! Every client has a socket of its own to the helper, which the supervisor made: who asks is known
//! by the socket. One thread, one loop: it reads a few requests of each client in turn, has the
//! [`Service`] decide, answers, and records each act in its own ring of reports, by the client's
//! name. It waits for no client. A client that breaks the layout, or gives two requests that wait
//! the same number, loses its socket, and the supervisor ends it; one that asks too much or reads
//! no answers is read no more for a while.

mod acts;
mod allowance;
mod replies;

use std::io;
use std::time::Instant;

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;

pub(crate) use self::acts::Act;
pub(crate) use self::replies::{ClientId, Replies};
use self::replies::{Read, is_foreign};
use super::Layer;
use super::order::{Order, Orders};
use crate::ident::Instance;
use crate::ipc::patience::Patience;
use crate::mark::reached;
use crate::wire::broker::{Answer, Ask, Refusal};
use crate::wire::control::{FromLayer, MAX_CONTROL};

/// What a helper does.
pub(crate) trait Service {
    /// A client has come. It is told before anything that the client says.
    fn joined(&mut self, id: ClientId, client: &Instance);

    /// Every client that lives has joined, once. Whoever hasn't, of whom the life before knew, has
    /// ended meanwhile.
    fn begun(&mut self, replies: &mut Replies);

    /// A client asks for something. The answer may come later.
    fn asked(&mut self, id: ClientId, request: u64, ask: Ask, replies: &mut Replies);

    /// A client says something else. False: that breaks the rules.
    fn told(&mut self, id: ClientId, words: FromLayer, replies: &mut Replies) -> bool;

    /// A client no longer waits for the answer. It gets one all the same.
    fn withdrawn(&mut self, id: ClientId, request: u64, replies: &mut Replies);

    /// A client has ended.
    fn departed(&mut self, id: ClientId, replies: &mut Replies);

    /// A descriptor is ready for which [`Replies::watch`] asked.
    fn ready(&mut self, token: u32, replies: &mut Replies) {
        let _ = (token, replies);
    }

    /// What the log shall say of a request besides its numbers; a path is there already.
    fn detail(&self, id: ClientId, ask: &Ask) -> Option<Vec<u8>> {
        let _ = (id, ask);
        None
    }

    /// When [`tick`](Self::tick) has something to do next.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// The time has come.
    fn tick(&mut self, now: Instant, replies: &mut Replies) {
        let _ = (now, replies);
    }
}

/// The control socket.
const CONTROL: u64 = u64::MAX;

/// What is read of one client in one turn, so that none holds up the others.
const TURN: usize = 16;

/// What is read of a client that has ended: more than its socket holds.
const LAST_WORDS: usize = 4096;

/// Events that are looked at together.
const EVENTS: usize = 64;

/// Serves until the supervisor says stop; an error says that it is gone, or what the system
/// refused.
pub(crate) fn serve(layer: &Layer, service: impl Service) -> io::Result<()> {
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    let control = layer.0.inbox.socket();
    epoll::add(&epoll, &control, EventData::new_u64(CONTROL), EventFlags::IN)?;
    let replies = Replies::new(epoll, layer.0.desk.clone());
    let (room, events) = (vec![0; MAX_CONTROL], Vec::with_capacity(EVENTS));
    let patience = Patience::default();
    let mut server = Server { layer, service, replies, room, events, patience };
    server.take_orders()?;
    server.service.begun(&mut server.replies);
    reached("service.begun");
    server.serve()
}

/// A helper at work.
struct Server<'a, S> {
    layer: &'a Layer,
    service: S,
    replies: Replies,
    /// What was read last.
    room: Vec<u8>,
    events: Vec<Event>,
    patience: Patience,
}

impl<S: Service> Server<'_, S> {
    fn serve(&mut self) -> io::Result<()> {
        loop {
            self.wait()?;
            let events = std::mem::take(&mut self.events);
            for event in &events {
                match event.data.u64() {
                    CONTROL => {
                        self.layer.attend()?;
                        // Asked before orders are taken: what came before the stop is among them.
                        let stops = self.layer.is_stopping();
                        self.take_orders()?;
                        if stops {
                            self.replies.forget_all();
                            return Ok(());
                        }
                    }
                    token => match (ClientId::try_from(token), event.flags) {
                        (Ok(id), flags) if flags.contains(EventFlags::OUT) => {
                            self.replies.flush(id);
                        }
                        (Ok(id), _) => self.read_client(id, TURN, false),
                        // Its upper half only says what it is.
                        (Err(_), _) => {
                            let token = u32::try_from(token & u64::from(u32::MAX));
                            self.service.ready(token.unwrap_or_default(), &mut self.replies);
                        }
                    },
                }
            }
            self.events = events;
            self.tick();
        }
    }

    /// Waits until something happens or is due.
    fn wait(&mut self) -> io::Result<()> {
        let Self { service, replies, events, patience, .. } = self;
        let epoll = &replies.epoll;
        let mut look = |timeout: Option<&Timespec>| {
            events.clear();
            match epoll::wait(epoll, spare_capacity(events), timeout) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(io::Error::from(error)),
            }
            Ok((!events.is_empty()).then_some(()))
        };
        // Who asks again does so at once, most of the time: to be woken for it takes longer.
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        if patience.look(|| look(Some(&zero)))?.is_some() {
            return Ok(());
        }
        let due = service.deadline().into_iter().chain(replies.deadline()).min();
        let begin = Instant::now();
        let timeout = due.map(|at| at.saturating_duration_since(begin));
        // A time beyond what the kernel can tell is none.
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        look(timeout.as_ref())?;
        patience.slept(begin.elapsed());
        Ok(())
    }

    fn tick(&mut self) {
        if self.replies.deadline().is_none() && self.service.deadline().is_none() {
            return;
        }
        let now = Instant::now();
        self.replies.tick(now);
        if self.service.deadline().is_some_and(|at| at <= now) {
            self.service.tick(now, &mut self.replies);
        }
    }

    /// Takes up what the supervisor has said.
    fn take_orders(&mut self) -> io::Result<()> {
        let came: Vec<_> = self.layer.0.orders.iter().flat_map(Orders::take).collect();
        for order in came {
            match order {
                Order::Client { seat, client, socket, .. } => {
                    self.service.joined(seat, &client);
                    self.replies.join(seat, client, socket)?;
                    reached("service.client.joined");
                }
                Order::ClientGone { seat } => {
                    reached("service.client.gone");
                    self.read_client(seat, LAST_WORDS, true);
                    self.service.departed(seat, &mut self.replies);
                    self.replies.forget(seat);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Reads what a client says, at most so much.
    fn read_client(&mut self, id: ClientId, most: usize, gone: bool) {
        for _ in 0..most {
            match self.replies.read(id, &mut self.room, gone) {
                Read::Nothing => break,
                Read::Words(words) => {
                    if !self.take(id, words) {
                        return self.shut_out(id);
                    }
                }
                Read::Broken => return self.shut_out(id),
            }
        }
        self.replies.rest(id, Instant::now());
    }

    /// Takes up one thing that a client says. False: it breaks the rules.
    fn take(&mut self, id: ClientId, words: FromLayer) -> bool {
        match words {
            FromLayer::Ask { request, ask } if !is_foreign(&ask) => {
                let mut act = Act::of(&ask);
                if let Some(detail) = self.service.detail(id, &ask) {
                    act.detail = detail;
                }
                if !self.replies.take_up(id, request, act) {
                    return false;
                }
                if self.replies.is_full(id) {
                    let refused = Answer::Refused(Refusal::Limit);
                    self.replies.answer(id, request, refused, None);
                } else {
                    self.service.asked(id, request, ask, &mut self.replies);
                }
                true
            }
            FromLayer::Withdraw { request } => {
                self.service.withdrawn(id, request, &mut self.replies);
                true
            }
            words @ (FromLayer::Release { .. }
            | FromLayer::Closed { .. }
            | FromLayer::Holds(_)
            | FromLayer::Resumed) => self.service.told(id, words, &mut self.replies),
            _ => false,
        }
    }

    /// Hears nothing more of a client that broke the rules, and has the supervisor end it.
    fn shut_out(&mut self, id: ClientId) {
        let Some(client) = self.replies.shut_out(id) else { return };
        let broke = FromLayer::Broke { seat: id, generation: client.generation };
        // If it can't be said the supervisor is gone, which the loop sees.
        let _ = self.layer.0.inbox.say(&broke);
    }
}
