//! What a channel knows: its links, the calls that wait, and what came in. No waiting here.

mod backlog;
mod calls;
mod inbox;
mod incoming;
mod links;
mod notice;
mod outgoing;
mod owing;
mod send_operation;

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::Waker;

use tokio::io::unix::AsyncFd;

use self::backlog::{Backlog, Retained};
use self::calls::Call;
pub(super) use self::inbox::Item;
use self::inbox::{Inbox, Load};
pub(super) use self::notice::Notice;
use self::owing::{Owing, expired};
pub(super) use self::send_operation::{SendOperation, SendOutcome, SendRequest, Target};
use super::Method;
use crate::channel::datagram::Buffer;
use crate::channel::endpoint::LinkTap;
use crate::channel::introduce::Step;
use crate::channel::{Endpoint, Introducing, LinkError, Rules};
use crate::ident::Instance;
use crate::mark;
use crate::report::Tap;
use crate::wire::limits::TURN;

/// Why a call was declined whose time was over before a handler saw it.
pub(super) const EXPIRED: &str = "its deadline passed before it was begun";
/// Why a call was declined whose caller gave it up.
const CANCELLED: &str = "its caller gave it up";
/// Why a call was declined whose handler ended.
pub(super) const FORSAKEN: &str = "the handler ended without an answer";

/// Everything behind a channel's mutex.
pub(super) struct State {
    pub(super) rules: Arc<Rules>,
    /// Where the ends of links report.
    tap: Option<Tap>,
    methods: Vec<Method>,
    /// In the order of introduction: of two links to one copy of the peer, the older comes first.
    pub(super) links: Vec<Link>,
    next_link: u64,
    turn: usize,
    pub(super) calls: HashMap<u32, Call>,
    next_call: u32,
    inbox: Inbox,
    /// Whether instances of the peer may still come.
    outlook: Outlook,
    /// Peers that ended and have no successor yet, by index.
    lost: HashMap<u16, Instance>,
    /// What was published last, for peers that come later.
    retained: Vec<Retained>,
    buffer: Buffer,
    /// The bytes of notices and of what is published, while a link takes them.
    scratch: Vec<u8>,
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
    /// The number of its first record in reports.
    first: u64,
    pub(super) phase: Phase,
    pub(super) watch: Option<Arc<AsyncFd<Arc<OwnedFd>>>>,
    /// The supervisor says that the instance has ended: what is queued is all there will be.
    departed: bool,
    /// The peer takes nothing more; what it sent may still be in the socket.
    mute: bool,
    /// Calls of ours that it has not answered.
    calls: usize,
    /// Calls of its that we have not answered.
    owing: Owing,
    /// What of the inbox came from it.
    load: Load,
    /// What is to be said of calls, and found the socket full.
    notices: VecDeque<Notice>,
    /// What was published, and found the socket full.
    backlog: Backlog,
    /// A message went out since this task last waited: the next one may share a record.
    pub(super) warm: bool,
}

/// Whether instances of the peer may still come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outlook {
    /// They may.
    Open,
    /// None will.
    Down,
    /// None will, and `recv` has been told.
    Told,
}

pub(super) enum Phase {
    Meeting(Box<Introducing>),
    Open(Box<Endpoint>),
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

impl State {
    pub(super) fn new(rules: Arc<Rules>, tap: Option<Tap>) -> Self {
        let named = rules.plan.methods.iter().map(|method| Method::named(method.name.clone()));
        let mut methods: Vec<_> = named.collect();
        if methods.is_empty() {
            methods.push(Method::UNNAMED);
        }
        Self {
            rules,
            tap,
            methods,
            links: Vec::new(),
            next_link: 0,
            turn: 0,
            calls: HashMap::new(),
            next_call: 0,
            inbox: Inbox::default(),
            outlook: Outlook::Open,
            lost: HashMap::new(),
            retained: Vec::new(),
            buffer: Buffer::default(),
            scratch: Vec::new(),
            receivers: Vec::new(),
            senders: Vec::new(),
            to_wake: Vec::new(),
            sleepers: Vec::new(),
            changed: false,
            nudged: false,
            asked: false,
        }
    }

    /// The next thing for `recv`. Calls whose time is over are declined, and not given to it.
    pub(super) fn take(&mut self) -> Option<Item> {
        loop {
            let (item, load) = self.inbox.pop()?;
            if let Some((id, load)) = load
                && let Some(link) = self.links.iter_mut().find(|link| link.id == id)
            {
                link.load -= load;
            }
            match item {
                Item::Request { link, number, call, deadline, .. } if expired(deadline) => {
                    mark::reached("message.request.expired");
                    self.decline(link, number, call, EXPIRED);
                }
                item => {
                    mark::reached("message.event.taken");
                    return Some(item);
                }
            }
        }
    }

    /// Looks at every link once, without asking whether its socket is ready.
    pub(super) fn pump(&mut self) {
        self.asked = false;
        let mut place = 0;
        let mut budget = TURN;
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
                    mark::reached("message.link.opened");
                    let socket = Arc::clone(meeting.socket());
                    let tap = self.tap.clone().map(|tap| {
                        let link = &self.links[place];
                        let peer = tap.who(&link.instance);
                        LinkTap::new(tap, peer, link.first)
                    });
                    let endpoint = Endpoint::new(socket, *session, Arc::clone(&self.rules));
                    let endpoint = endpoint.tapped(tap);
                    self.links[place].phase = Phase::Open(Box::new(endpoint));
                    self.catch_up(place);
                    self.announce(place);
                    Pumped::Progress
                }
                Err(error) => self.end(place, &error),
            };
        }
        if let Err(error) = self.flush_link(place) {
            return self.end(place, &error);
        }
        if self.must_wait(place) {
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
                // What only waits for its time needs no room.
                let waits = endpoint.paced().is_some() && !endpoint.unsent();
                let room = link.has_unsent() && !endpoint.pressed() && !waits;
                (!self.must_wait(place), room)
            }
        }
    }

    /// Whether a link may not be read now.
    fn must_wait(&self, place: usize) -> bool {
        let endpoint = match &self.links[place].phase {
            Phase::Open(endpoint) => Some(endpoint),
            Phase::Meeting(_) => None,
        };
        endpoint.is_some_and(|endpoint| endpoint.held_up())
            || (self.inbox.is_full() && !self.may_spill(place))
            || self.behind(place)
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
        self.to_wake.extend(self.links.iter_mut().flat_map(|link| link.owing.wakers()));
        self.changed = true;
    }
}

impl Link {
    pub(super) fn socket(&self) -> Arc<OwnedFd> {
        Arc::clone(match &self.phase {
            Phase::Meeting(meeting) => meeting.socket(),
            Phase::Open(endpoint) => endpoint.socket(),
        })
    }

    /// Whether something waits here for its socket to have room.
    pub(super) fn has_unsent(&self) -> bool {
        let Phase::Open(endpoint) = &self.phase else { return false };
        let waits = || !self.notices.is_empty() || !self.backlog.is_empty();
        !self.mute && (endpoint.unsent() || waits())
    }
}
