//! The ledger: a layer of the framework's own that leases permits of semaphores, and makes room in
//! queues that are full.
//!
//! It holds a socket to each layer that may ask, the receiving ends of queues whose oldest message
//! may go for a newer one, and nothing else: no file, no key, so what it takes out of a queue it
//! can't read. Its books are in memory that the supervisor holds ([`state`]). When it is killed, the
//! next life finds there who holds what. Those who wait ask again, in any order; those whose holder
//! has ended meanwhile were left behind; and those whose holder speaks of them no more were given
//! back.

mod book;
mod room;
mod state;

use std::io;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use self::book::{Expired, Ledger, Reply, Request, Turn, Verdict};
use self::room::Rooms;
use self::state::{Clock, State};
use super::Layer;
use super::run::say;
use super::service::{Act, ClientId, Replies, Service, serve};
use crate::ident::Instance;
use crate::mark::reached;
use crate::policy::plan::{Plan, QueuePlan, SemaphorePlan};
use crate::report::{Facility, Verdict as Became};
use crate::wire::broker::{Answer, Ask, FOR_EVER, Refusal};
use crate::wire::control::{FromLayer, Object};
use crate::wire::report::acts;

pub(crate) use self::state::bytes as state_bytes;

/// What the ledger is called, as a layer and as a function. No policy may use the name.
pub(crate) const NAME: &str = "cofferdam-ledger";

/// Memory that a client takes, in bytes: what waits, and what it is still to be told.
pub(crate) const CLIENT: u64 = 128 << 10;

/// Memory that a permit takes, in bytes.
pub(crate) const PERMIT: u64 = 512;

/// A semaphore whose leases run out again and again says so this often.
const SAYING: Duration = Duration::from_secs(1);

/// All that the ledger must know.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Orders {
    semaphores: Vec<SemaphorePlan>,
    queues: Vec<QueuePlan>,
}

impl Orders {
    /// What of a plan is the ledger's.
    pub(crate) fn of(plan: &Plan) -> Self {
        let all = &plan.facilities;
        Self { semaphores: all.semaphores.clone(), queues: all.queues.clone() }
    }

    /// As a layer's settings.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, postcard::Error> {
        postcard::to_stdvec(self)
    }
}

/// Runs the ledger until the supervisor says stop, or is gone.
pub(super) fn run(layer: &Layer) -> io::Result<()> {
    let orders: Orders = postcard::from_bytes(layer.settings()).map_err(io::Error::other)?;
    let state = match layer.0.objects.get(Object::State, 0, 0) {
        Some(fd) => Some(State::map(&fd, &orders.semaphores, Clock::now())?),
        None => None,
    };
    let said = vec![Said::default(); orders.semaphores.len()];
    let rooms = Rooms::new(&orders.queues, &layer.0.objects);
    let books = state.map_or(Books::None, Books::Closed);
    serve(layer, Office { semaphores: orders.semaphores, books, said, rooms, early: Vec::new() })
}

/// The ledger at work.
struct Office {
    semaphores: Vec<SemaphorePlan>,
    books: Books,
    said: Vec<Said>,
    rooms: Rooms,
    /// Requests of clients that have yet to say what they hold: who, the number, the semaphore and
    /// the wait.
    early: Vec<(ClientId, u64, (u16, u32))>,
}

/// The books of all semaphores.
enum Books {
    /// There are no semaphores.
    None,
    /// Not read yet: it isn't known yet who lives.
    Closed(State),
    Open(Ledger<State>),
}

/// What the log has been told of late holders of one semaphore.
#[derive(Clone, Debug, Default)]
struct Said {
    at: Option<Instant>,
    unsaid: u64,
}

impl Service for Office {
    fn joined(&mut self, id: ClientId, client: &Instance) {
        match &mut self.books {
            Books::None => {}
            Books::Closed(state) => state.joined(id, client.generation),
            Books::Open(ledger) => ledger.journal().joined(id, client.generation),
        }
    }

    fn begun(&mut self, replies: &mut Replies) {
        self.books = match std::mem::replace(&mut self.books, Books::None) {
            Books::Closed(mut state) => {
                let past = state.past(&self.semaphores);
                Books::Open(Ledger::new(&self.semaphores, state, past))
            }
            books => books,
        };
        self.tick(Instant::now(), replies);
    }

    fn asked(&mut self, id: ClientId, request: u64, ask: Ask, replies: &mut Replies) {
        match ask {
            Ask::Acquire { semaphore, wait } => {
                self.acquire(id, request, (semaphore, wait), replies);
            }
            Ask::MakeRoom { queue, priority } => {
                self.rooms.make((id, request), (queue, priority), replies);
            }
            _ => replies.answer(id, request, Answer::Refused(Refusal::NotGranted), None),
        }
    }

    fn told(&mut self, id: ClientId, words: FromLayer, replies: &mut Replies) -> bool {
        let now = Instant::now();
        match (words, &mut self.books) {
            (FromLayer::Release { semaphore, fence }, _) => {
                self.release(id, semaphore, fence, replies);
            }
            (FromLayer::Holds(leases), Books::Open(ledger)) => {
                for (semaphore, fence) in leases {
                    ledger.claim(id, semaphore, fence);
                }
            }
            (FromLayer::Resumed, Books::Open(ledger)) => {
                let (over, turn) = ledger.resumed(id, now);
                for (semaphore, fence) in over {
                    note(replies, id, (semaphore, fence), acts::RELEASE, Became::Allowed);
                }
                reached("ledger.client.resumed");
                self.carry_out(&turn, replies);
                for (id, request, ask) in
                    self.early.extract_if(.., |it| it.0 == id).collect::<Vec<_>>()
                {
                    self.acquire(id, request, ask, replies);
                }
            }
            (FromLayer::Resumed, _) => {}
            _ => return false,
        }
        true
    }

    fn withdrawn(&mut self, id: ClientId, request: u64, replies: &mut Replies) {
        reached("semaphore.withdraw.heard");
        if self.early.extract_if(.., |it| (it.0, it.1) == (id, request)).next().is_some() {
            let over = Answer::Refused(Refusal::Timeout);
            return replies.answer(id, request, over, None);
        }
        let Books::Open(ledger) = &mut self.books else { return };
        let turn = ledger.withdraw(id, request, Instant::now());
        reached("semaphore.withdraw.booked");
        self.carry_out(&turn, replies);
    }

    /// Its permits go on to the next holders, who learn of it.
    fn departed(&mut self, id: ClientId, replies: &mut Replies) {
        reached("semaphore.death.heard");
        self.early.retain(|it| it.0 != id);
        let Books::Open(ledger) = &mut self.books else { return };
        let turn = ledger.died(id, Instant::now());
        reached("semaphore.death.booked");
        self.carry_out(&turn, replies);
    }

    fn deadline(&self) -> Option<Instant> {
        let Books::Open(ledger) = &self.books else { return None };
        ledger.next_deadline()
    }

    fn tick(&mut self, now: Instant, replies: &mut Replies) {
        let Books::Open(ledger) = &mut self.books else { return };
        let turn = ledger.tick(now);
        if !turn.expired.is_empty() {
            reached("semaphore.expiry.booked");
        }
        self.carry_out(&turn, replies);
    }
}

impl Office {
    /// Leases a permit, or lets the request wait.
    fn acquire(
        &mut self,
        id: ClientId,
        request: u64,
        (semaphore, wait): (u16, u32),
        replies: &mut Replies,
    ) {
        reached("semaphore.acquire.heard");
        let plan = self.semaphores.get(usize::from(semaphore));
        let client = replies.client(id);
        let granted = plan.zip(client).is_some_and(|(it, who)| it.holders.contains(&who.layer));
        let (true, Books::Open(ledger)) = (granted, &mut self.books) else {
            return replies.answer(id, request, Answer::Refused(Refusal::NotGranted), None);
        };
        if ledger.comes_early(id, request) {
            return self.early.push((id, request, (semaphore, wait)));
        }
        let wait = (wait != FOR_EVER).then(|| Duration::from_millis(wait.into()));
        let request = Request { place: id, number: request, semaphore, wait };
        let turn = ledger.acquire(request, Instant::now());
        reached("semaphore.acquire.booked");
        self.carry_out(&turn, replies);
    }

    /// Takes a lease back that its holder no longer needs. One that isn't its own, or no longer,
    /// changes nothing.
    fn release(&mut self, id: ClientId, semaphore: u16, fence: u64, replies: &mut Replies) {
        reached("semaphore.release.heard");
        let Books::Open(ledger) = &mut self.books else { return };
        let (known, turn) = ledger.release(id, semaphore, fence, Instant::now());
        reached("semaphore.release.booked");
        if known {
            note(replies, id, (semaphore, fence), acts::RELEASE, Became::Allowed);
        }
        self.carry_out(&turn, replies);
        if !known {
            let late = Expired { place: id, semaphore, fence };
            self.say_of(late, "gives back a lease that it doesn't hold any more", replies);
        }
    }

    /// Tells everybody what follows.
    fn carry_out(&mut self, turn: &Turn, replies: &mut Replies) {
        for expired in &turn.expired {
            let Expired { place, semaphore, fence } = *expired;
            note(replies, place, (semaphore, fence), acts::EXPIRE, Became::Failed);
            let what = "has held a lease for its whole time; the permit goes on";
            self.say_of(*expired, what, replies);
        }
        let Books::Open(ledger) = &mut self.books else { return };
        for &Reply { place, request, verdict } in &turn.replies {
            let answer = match verdict {
                Verdict::Refused(why) => Answer::Refused(why),
                Verdict::Leased { semaphore, fence, abandoned, until } => {
                    reached("semaphore.lease.before");
                    let until = until.map(|at| ledger.journal().nanoseconds(at));
                    Answer::Leased { semaphore, fence, abandoned, until }
                }
            };
            reached("ledger.answer.before");
            replies.answer(place, request, answer, None);
            reached("ledger.answer.sent");
        }
    }

    /// Says what a holder does that its policy would rather not see, once in a while.
    fn say_of(&mut self, late: Expired, what: &str, replies: &Replies) {
        let Expired { place, semaphore, fence } = late;
        let number = usize::from(semaphore);
        let (Some(plan), Some(said), Some(client)) =
            (self.semaphores.get(number), self.said.get_mut(number), replies.client(place))
        else {
            return;
        };
        let now = Instant::now();
        if said.at.is_some_and(|at| now < at + SAYING) {
            said.unsaid += 1;
            return;
        }
        let more = match std::mem::take(&mut said.unsaid) {
            0 => String::new(),
            unsaid => format!(" ({unsaid} like this before)"),
        };
        said.at = Some(now);
        say(&format!("{client} {what}: [semaphore.{}] lease {fence}{more}", plan.name));
    }
}

/// Records that a lease has ended.
fn note(
    replies: &Replies,
    id: ClientId,
    (semaphore, fence): (u16, u64),
    how: u32,
    verdict: Became,
) {
    let mut act = Act::new(Facility::Semaphore, semaphore, how);
    (act.facts.sequence, act.facts.verdict) = (fence, verdict);
    replies.record(id, &act);
}
