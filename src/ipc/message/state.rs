//! What a channel knows: its links, the calls that wait, and what came in. No waiting here.

mod links;
mod outgoing;

use std::collections::{HashMap, HashSet, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::Waker;

use tokio::io::unix::AsyncFd;

use super::error::CallError;
use super::{Message, Method};
use crate::channel::datagram::Buffer;
use crate::channel::endpoint::Incoming;
use crate::channel::introduce::Step;
use crate::channel::{Endpoint, Introducing, LinkError, PeerFault, Rules};
use crate::ident::Instance;
use crate::wire::limits::{CALLS, INBOX, INBOX_BYTES, INBOX_DESCRIPTORS, REASON};
use crate::wire::record::{Descriptor, Kind};

/// Everything behind a channel's mutex.
pub(super) struct State {
    pub(super) rules: Arc<Rules>,
    methods: Vec<Method>,
    /// In the order of introduction: of two links to one copy of the peer, the older comes first.
    pub(super) links: Vec<Link>,
    next_link: u64,
    turn: usize,
    pub(super) calls: HashMap<u32, Call>,
    next_call: u32,
    inbox: VecDeque<Item>,
    /// What the messages in the inbox come to.
    messages: usize,
    bytes: usize,
    fds: usize,
    /// Peers that ended and have no successor yet, by index.
    lost: HashMap<u16, Instance>,
    buffer: Buffer,
    pub(super) receivers: Vec<Waker>,
    pub(super) senders: Vec<Waker>,
    /// Whom to wake once the mutex is free.
    pub(super) to_wake: Vec<Waker>,
    /// Event descriptors of threads that wait in `poll(2)`.
    pub(super) sleepers: Vec<Arc<OwnedFd>>,
    pub(super) changed: bool,
    /// The driver was told that messages wait to be flushed.
    pub(super) nudged: bool,
    /// Something was sent and nothing looked for since.
    pub(super) asked: bool,
}

/// One link to one instance.
pub(super) struct Link {
    pub(super) id: u64,
    pub(super) instance: Instance,
    pub(super) phase: Phase,
    pub(super) watch: Option<Arc<AsyncFd<Arc<OwnedFd>>>>,
    /// The supervisor says that the instance has ended: what is queued is all there will be.
    departed: bool,
    /// The peer takes nothing more; what it sent may still be in the socket.
    mute: bool,
    /// Calls of ours that it has not answered.
    calls: usize,
    /// Calls of its that we have not answered.
    owing: HashSet<u32>,
    /// Refusals owed by handlers that were dropped while the socket was full.
    refusals: VecDeque<(u16, u32)>,
    /// A message went out since this task last waited: the next one may share a record.
    pub(super) warm: bool,
}

pub(super) enum Phase {
    Meeting(Box<Introducing>),
    Open(Box<Endpoint>),
}

/// A call that waits for its answer.
pub(super) struct Call {
    link: u64,
    ticket: u64,
    method: u16,
    pub(super) outcome: Option<Result<Message, CallError>>,
    pub(super) waker: Option<Waker>,
    /// Nobody waits any more, but the answer will still come.
    abandoned: bool,
}

/// What waits for `recv`.
pub(super) enum Item {
    Request { link: u64, from: Instance, method: Method, number: u16, call: u32, message: Message },
    Message { from: Instance, method: Method, message: Message },
    Restarted { old: Instance, new: Instance },
    Gone(Instance),
    Broke { peer: Instance, why: LinkError },
}

/// A message on its way to a link.
pub(super) struct Parcel<'a> {
    pub(super) kind: Kind,
    pub(super) method: u16,
    pub(super) message: &'a mut Message,
    pub(super) descriptions: &'a [Descriptor],
    /// May wait a little to share a record.
    pub(super) hold: bool,
}

/// What became of a parcel.
pub(super) enum Submitted {
    /// A link has it, under this ticket. The call's number is 0 for messages.
    Taken { link: u64, ticket: u64, call: u32 },
    /// No link has room, or there is none.
    Full,
    /// The one that it was for is no more.
    Gone,
}

/// What a look at a link came to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Pumped {
    /// Something was done; there may be more.
    Progress,
    /// There is nothing to do until the socket says so.
    Nothing,
    /// There may be something, but it has to wait its turn: for `recv`, or for an older link.
    Stalled,
    /// The link is no more; the links after it have moved up.
    Ended,
}

impl Link {
    pub(super) fn socket(&self) -> Arc<OwnedFd> {
        Arc::clone(match &self.phase {
            Phase::Meeting(meeting) => meeting.socket(),
            Phase::Open(endpoint) => endpoint.socket(),
        })
    }
}

impl State {
    pub(super) fn new(rules: Arc<Rules>) -> Self {
        let named = rules.plan.methods.iter().map(|method| Method(Some(method.name.clone())));
        let mut methods: Vec<_> = named.collect();
        if methods.is_empty() {
            methods.push(Method(None));
        }
        Self {
            rules,
            methods,
            links: Vec::new(),
            next_link: 0,
            turn: 0,
            calls: HashMap::new(),
            next_call: 0,
            inbox: VecDeque::new(),
            messages: 0,
            bytes: 0,
            fds: 0,
            lost: HashMap::new(),
            buffer: Buffer::default(),
            receivers: Vec::new(),
            senders: Vec::new(),
            to_wake: Vec::new(),
            sleepers: Vec::new(),
            changed: false,
            nudged: false,
            asked: false,
        }
    }

    /// The next thing for `recv`.
    pub(super) fn take(&mut self) -> Option<Item> {
        let item = self.inbox.pop_front()?;
        if let Item::Request { message, .. } | Item::Message { message, .. } = &item {
            self.messages -= 1;
            self.bytes -= message.body.len();
            self.fds -= message.fds.len();
        }
        Some(item)
    }

    /// Looks at every link once, without asking whether its socket is ready.
    pub(super) fn pump(&mut self) {
        self.asked = false;
        let mut place = 0;
        let mut budget = crate::wire::limits::TURN;
        while place < self.links.len() {
            match self.pump_link(place) {
                Pumped::Progress if budget > 0 => budget -= 1,
                // An older link that ended may have held up one that comes later, never earlier.
                Pumped::Ended => {}
                _ => place += 1,
            }
        }
    }

    /// Does the next thing that is to be done on a link: a step of the handshake, or one record.
    pub(super) fn pump_link(&mut self, place: usize) -> Pumped {
        let departed = self.links[place].departed;
        if let Phase::Meeting(meeting) = &mut self.links[place].phase {
            return match meeting.step(&mut self.buffer) {
                Ok(Step::Blocked) if departed => self.end(place, &LinkError::Closed),
                Ok(Step::Blocked) => Pumped::Nothing,
                Ok(Step::Done(session)) => {
                    let socket = Arc::clone(meeting.socket());
                    let endpoint = Endpoint::new(socket, *session, Arc::clone(&self.rules));
                    self.links[place].phase = Phase::Open(Box::new(endpoint));
                    self.announce(place);
                    Pumped::Progress
                }
                Err(error) => self.end(place, &error),
            };
        }
        if let Err(error) = self.flush_link(place) {
            return self.end(place, &error);
        }
        if self.behind(place) || self.full() {
            return Pumped::Stalled;
        }
        match self.receive(place) {
            Ok(true) => Pumped::Progress,
            Ok(false) if departed => self.end(place, &LinkError::Closed),
            Ok(false) => Pumped::Nothing,
            Err(error) => self.end(place, &error),
        }
    }

    /// Whether `poll(2)` should look for (input, room) on a link.
    pub(super) fn interest(&self, place: usize) -> (bool, bool) {
        let link = &self.links[place];
        match &link.phase {
            Phase::Meeting(_) => (true, false),
            Phase::Open(endpoint) => {
                let unsent = endpoint.unsent() || !link.refusals.is_empty();
                (!self.full() && !self.behind(place), !link.mute && unsent)
            }
        }
    }

    /// Whether handlers are at work on requests.
    pub(super) fn owes(&self) -> bool {
        self.links.iter().any(|link| !link.owing.is_empty())
    }

    /// Has everyone who waits look again.
    pub(super) fn wake_everyone(&mut self) {
        self.to_wake.append(&mut self.receivers);
        self.to_wake.append(&mut self.senders);
        self.to_wake.extend(self.calls.values_mut().filter_map(|call| call.waker.take()));
        self.changed = true;
    }

    /// Whether the inbox holds as much as it may.
    fn full(&self) -> bool {
        self.messages >= INBOX || self.bytes >= INBOX_BYTES || self.fds >= INBOX_DESCRIPTORS
    }

    fn receive(&mut self, place: usize) -> Result<bool, LinkError> {
        let Self { links, calls, inbox, messages, bytes, fds: carried, methods, buffer, .. } = self;
        let Link { id, instance, phase, calls: waiting, owing, warm, .. } = &mut links[place];
        let Phase::Open(endpoint) = phase else { return Ok(false) };
        let (wake, receivers) = (&mut self.to_wake, &mut self.receivers);
        let mut sink = |incoming: Incoming<'_>| {
            let Incoming { kind, method: number, call, body, fds } = incoming;
            match kind {
                Kind::Reply | Kind::Refusal => {
                    let entry = calls.get_mut(&call).ok_or(PeerFault::Answer(call))?;
                    if entry.link != *id || entry.method != number || entry.outcome.is_some() {
                        return Err(PeerFault::Answer(call));
                    }
                    let outcome = if kind == Kind::Reply {
                        Ok(Message { body: body.into_vec(), fds })
                    } else {
                        let reason = reason(body.as_slice())?;
                        Err(CallError::Refused { peer: instance.clone(), reason })
                    };
                    *waiting -= 1;
                    if entry.abandoned {
                        calls.remove(&call);
                    } else {
                        entry.outcome = Some(outcome);
                        wake.extend(entry.waker.take());
                    }
                    return Ok(());
                }
                Kind::Request if owing.len() >= CALLS || !owing.insert(call) => {
                    return Err(PeerFault::Call(call));
                }
                _ => {}
            }
            let message = Message { body: body.into_vec(), fds };
            *messages += 1;
            *bytes += message.body.len();
            *carried += message.fds.len();
            let method = methods.get(usize::from(number)).cloned().unwrap_or(Method(None));
            let from = instance.clone();
            inbox.push_back(if kind == Kind::Request {
                Item::Request { link: *id, from, method, number, call, message }
            } else {
                Item::Message { from, method, message }
            });
            wake.append(receivers);
            Ok(())
        };
        let received = endpoint.try_recv(buffer, &mut sink)?;
        if received {
            *warm = false;
            self.changed = true;
        }
        Ok(received)
    }
}

fn reason(bytes: &[u8]) -> Result<String, PeerFault> {
    match std::str::from_utf8(bytes) {
        Ok(text) if bytes.len() <= REASON => Ok(text.to_owned()),
        _ => Err(PeerFault::Reason),
    }
}
