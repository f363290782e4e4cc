//! What a channel knows: its links, the calls that wait, and what came in. No waiting here.

use std::collections::{HashMap, HashSet, VecDeque};
use std::mem;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::Waker;

use tokio::io::unix::AsyncFd;

use super::error::{CallError, call_lost};
use super::{Message, Method};
use crate::channel::endpoint::{Buffer, Incoming, Outgoing};
use crate::channel::introduce::Step;
use crate::channel::{Endpoint, Introducing, LinkError, PeerFault, Rules};
use crate::ident::Instance;
use crate::wire::limits::{CALLS, INBOX, INBOX_BYTES, INBOX_DESCRIPTORS, REASON, TIDINGS};
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

    /// Takes a new link up and begins its handshake.
    pub(super) fn introduce(&mut self, instance: Instance, meeting: Introducing) {
        // A generation that the supervisor has replaced won't say more than it has.
        for link in &mut self.links {
            let same = link.instance.index == instance.index;
            link.departed |= same && link.instance.generation < instance.generation;
        }
        self.next_link += 1;
        self.links.push(Link {
            id: self.next_link,
            instance,
            phase: Phase::Meeting(Box::new(meeting)),
            watch: None,
            departed: false,
            mute: false,
            calls: 0,
            owing: HashSet::new(),
            refusals: VecDeque::new(),
            warm: false,
        });
        self.pump();
        self.wake_everyone();
    }

    /// The supervisor says that an instance has ended.
    pub(super) fn departed(&mut self, instance: &Instance) {
        for link in &mut self.links {
            link.departed |= link.instance == *instance;
        }
        self.pump();
        self.wake_everyone();
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
                Ok(Step::Blocked(_)) if departed => self.end(place, &LinkError::Closed),
                Ok(Step::Blocked(_)) => Pumped::Nothing,
                Ok(Step::Done(session)) => {
                    let socket = Arc::clone(meeting.socket());
                    let endpoint = Endpoint::new(socket, session, Arc::clone(&self.rules));
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

    /// Sends what waits on a link. A peer that takes nothing more is only noted: what it sent
    /// before is still to be read.
    pub(super) fn flush_link(&mut self, place: usize) -> Result<bool, LinkError> {
        let Link { phase: Phase::Open(endpoint), mute, refusals, .. } = &mut self.links[place]
        else {
            return Ok(true);
        };
        if *mute || (!endpoint.unsent() && refusals.is_empty()) {
            return Ok(true);
        }
        let before = endpoint.sent();
        let flushed = endpoint.flush().and_then(|mut clear| {
            while let (true, Some((method, call))) = (clear, refusals.front().copied()) {
                clear = refuse(endpoint, method, call, b"the handler ended without an answer")?;
                if clear {
                    refusals.pop_front();
                }
            }
            Ok(clear)
        });
        if endpoint.sent() != before {
            self.to_wake.append(&mut self.senders);
            self.changed = true;
        }
        match flushed {
            Err(LinkError::Closed) => {
                *mute = true;
                self.to_wake.append(&mut self.senders);
                self.changed = true;
                Ok(true)
            }
            other => other,
        }
    }

    /// Sends what waits on every link: a task has come to its end, or the driver has its turn.
    pub(super) fn flush(&mut self) {
        self.nudged = false;
        self.settle();
        let mut place = 0;
        while place < self.links.len() {
            match self.flush_link(place) {
                Ok(_) => place += 1,
                Err(error) => {
                    self.end(place, &error);
                }
            }
        }
    }

    /// The task waits: the next message begins a new burst.
    pub(super) fn settle(&mut self) {
        for link in &mut self.links {
            link.warm = false;
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

    /// Hands a message or a call to the link that has least to do, or to that of `to`.
    pub(super) fn submit(&mut self, to: Option<&Instance>, parcel: &mut Parcel<'_>) -> Submitted {
        let mut tried = 0_u128;
        loop {
            let count = self.links.len().min(128);
            let first = self.turn;
            let best = (0..count)
                .map(|step| (first + step) % count)
                .filter(|place| tried & (1 << place) == 0 && self.fit(*place, to))
                .min_by_key(|place| self.links[*place].calls);
            let Some(place) = best else { break };
            let call = if parcel.kind == Kind::Request { self.fresh_call() } else { 0 };
            match self.hand(place, call, parcel) {
                Ok(Some(ticket)) => {
                    self.turn = self.turn.wrapping_add(1);
                    let link = self.links[place].id;
                    if call != 0 {
                        self.links[place].calls += 1;
                        let method = parcel.method;
                        let (outcome, waker, abandoned) = (None, None, false);
                        let call_ = Call { link, ticket, method, outcome, waker, abandoned };
                        self.calls.insert(call, call_);
                    }
                    return Submitted::Taken { link, ticket, call };
                }
                Ok(None) => tried |= 1 << place,
                Err(LinkError::Closed) => self.links[place].mute = true,
                Err(error) => {
                    self.end(place, &error);
                    tried = 0;
                }
            }
        }
        let gone = to.is_some_and(|to| !self.links.iter().any(|link| link.instance == *to));
        if gone { Submitted::Gone } else { Submitted::Full }
    }

    /// Hands an answer to the link that the call came from.
    pub(super) fn answer(&mut self, link: u64, call: u32, parcel: &mut Parcel<'_>) -> Submitted {
        let Some(place) = self.place(link) else { return Submitted::Gone };
        if self.links[place].mute {
            return Submitted::Gone;
        }
        match self.hand(place, call, parcel) {
            Ok(Some(ticket)) => {
                self.links[place].owing.remove(&call);
                Submitted::Taken { link, ticket, call }
            }
            Ok(None) => Submitted::Full,
            Err(error) => {
                if error == LinkError::Closed {
                    self.links[place].mute = true;
                } else {
                    self.end(place, &error);
                }
                Submitted::Gone
            }
        }
    }

    /// A handler went away without an answer: the caller must not wait for ever.
    pub(super) fn forsake(&mut self, link: u64, method: u16, call: u32) {
        let Some(place) = self.place(link) else { return };
        let link = &mut self.links[place];
        link.owing.remove(&call);
        link.refusals.push_back((method, call));
        if let Err(error) = self.flush_link(place) {
            self.end(place, &error);
        }
    }

    /// Nobody waits for a call's answer any more.
    pub(super) fn abandon(&mut self, call: u32) {
        let Some(entry) = self.calls.get_mut(&call) else { return };
        if entry.outcome.is_some() {
            self.calls.remove(&call);
        } else {
            entry.abandoned = true;
            entry.waker = None;
        }
    }

    /// Whether the kernel has taken what `ticket` stands for. `None`: it never will.
    pub(super) fn sent(&self, link: u64, ticket: u64) -> Option<bool> {
        let link = &self.links[self.place(link)?];
        let Phase::Open(endpoint) = &link.phase else { return None };
        match endpoint.sent() >= ticket {
            true => Some(true),
            false if link.mute => None,
            false => Some(false),
        }
    }

    /// Whether messages wait on some link that still takes any.
    pub(super) fn unsent(&self) -> bool {
        self.links.iter().any(|link| {
            !link.mute && matches!(&link.phase, Phase::Open(endpoint) if endpoint.unsent())
        })
    }

    /// Whether the kernel holds too many descriptors in flight on some link.
    pub(super) fn pressed(&self) -> bool {
        self.links.iter().any(|link| matches!(&link.phase, Phase::Open(end) if end.pressed()))
    }

    /// Whether handlers are at work on requests.
    pub(super) fn owes(&self) -> bool {
        self.links.iter().any(|link| !link.owing.is_empty())
    }

    /// The instances that can be talked to.
    pub(super) fn peers(&self) -> Vec<Instance> {
        let open = (0..self.links.len()).filter(|place| self.fit(*place, None));
        open.map(|place| self.links[place].instance.clone()).collect()
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

    fn place(&self, id: u64) -> Option<usize> {
        self.links.iter().position(|link| link.id == id)
    }

    /// Whether an older link to the same copy is still to be read to its end.
    fn behind(&self, place: usize) -> bool {
        let index = self.links[place].instance.index;
        self.links[..place].iter().any(|older| older.instance.index == index)
    }

    fn fit(&self, place: usize, to: Option<&Instance>) -> bool {
        let link = &self.links[place];
        matches!(link.phase, Phase::Open(_))
            && !link.mute
            && !link.departed
            && link.calls < CALLS
            && to.is_none_or(|to| link.instance == *to)
            && !self.behind(place)
    }

    /// Gives a parcel to a link; its ticket if it was taken.
    fn hand(
        &mut self,
        place: usize,
        call: u32,
        parcel: &mut Parcel<'_>,
    ) -> Result<Option<u64>, LinkError> {
        let Link { phase: Phase::Open(endpoint), warm, .. } = &mut self.links[place] else {
            return Ok(None);
        };
        let mut out = Outgoing {
            kind: parcel.kind,
            method: parcel.method,
            call,
            body: &mut parcel.message.body,
            fds: &mut parcel.message.fds,
            descriptions: parcel.descriptions,
        };
        let taken = endpoint.try_send(&mut out, parcel.hold && *warm)?;
        *warm = true;
        self.asked = true;
        Ok(taken.then(|| endpoint.accepted()))
    }

    /// A call number that no waiting call has, and not 0.
    fn fresh_call(&mut self) -> u32 {
        loop {
            self.next_call = self.next_call.wrapping_add(1);
            if self.next_call != 0 && !self.calls.contains_key(&self.next_call) {
                return self.next_call;
            }
        }
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

    /// Takes a link out: its calls fail at once, and its successor gets its turn.
    fn end(&mut self, place: usize, why: &LinkError) -> Pumped {
        let Link { id, instance, phase, .. } = self.links.remove(place);
        let sent = match &phase {
            Phase::Open(endpoint) => endpoint.sent(),
            Phase::Meeting(_) => 0,
        };
        let was_open = matches!(phase, Phase::Open(_));
        drop(phase);
        self.calls.retain(|_, call| {
            if call.link != id || call.outcome.is_some() {
                return true;
            }
            call.outcome = Some(Err(call_lost(&instance, why, sent >= call.ticket)));
            self.to_wake.extend(call.waker.take());
            !call.abandoned
        });
        let successor = self.links.iter().position(|link| link.instance.index == instance.index);
        match why {
            LinkError::Closed if !was_open || successor.is_some() => {}
            LinkError::Closed => self.tell(Item::Gone(instance.clone())),
            why => self.tell(Item::Broke { peer: instance.clone(), why: why.clone() }),
        }
        if was_open {
            self.lost.entry(instance.index).or_insert(instance);
        }
        if let Some(place) = successor {
            self.announce(place);
        }
        self.wake_everyone();
        Pumped::Ended
    }

    /// A link whose handshake is done and that is next in turn can be used from now on. If it
    /// takes the place of one that ended, the layer is told, once.
    fn announce(&mut self, place: usize) {
        let link = &self.links[place];
        if !matches!(link.phase, Phase::Open(_)) || self.behind(place) {
            return;
        }
        let new = link.instance.clone();
        if let Some(mut old) = self.lost.remove(&new.index) {
            // What nobody has read yet is out of date.
            self.inbox.retain(|item| match item {
                Item::Gone(gone) => *gone != old,
                Item::Restarted { old: before, new } if *new == old => {
                    old = before.clone();
                    false
                }
                _ => true,
            });
            self.tell(Item::Restarted { old, new });
        }
        self.wake_everyone();
    }

    fn tell(&mut self, item: Item) {
        let tiding = |item: &Item| !matches!(item, Item::Request { .. } | Item::Message { .. });
        if self.inbox.len() - self.messages >= TIDINGS
            && let Some(oldest) = self.inbox.iter().position(tiding)
        {
            self.inbox.remove(oldest);
        }
        self.inbox.push_back(item);
        self.to_wake.append(&mut self.receivers);
    }
}

/// Puts a refusal on its way; false if there is no room.
pub(super) fn refuse(
    endpoint: &mut Endpoint,
    method: u16,
    call: u32,
    reason: &[u8],
) -> Result<bool, LinkError> {
    let mut body = reason.to_vec();
    let fds = &mut mem::take(&mut Vec::new());
    let kind = Kind::Refusal;
    let mut out = Outgoing { kind, method, call, body: &mut body, fds, descriptions: &[] };
    endpoint.try_send(&mut out, false)
}

fn reason(bytes: &[u8]) -> Result<String, PeerFault> {
    match std::str::from_utf8(bytes) {
        Ok(text) if bytes.len() <= REASON => Ok(text.to_owned()),
        _ => Err(PeerFault::Reason),
    }
}
