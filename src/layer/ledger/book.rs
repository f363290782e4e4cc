//! The ledger of permits: who holds a lease, who waits for one, what is free.
//!
//! Pure: time comes in as a parameter, and everything that follows is a return value, but for what
//! the next life must know, which goes into a [`Journal`] at once. What always holds: the free permits and the leases of a semaphore are as many as its policy says; nobody
//! waits while one is free; fences only grow; and whoever gets a permit holds none of an equal or
//! higher place in the order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::policy::plan::SemaphorePlan;
use crate::wire::broker::Refusal;

/// How many requests of one instance wait at a time. A layer's own end lets fewer out; the rest of
/// its tasks wait there.
pub const MAX_WAITING: usize = 128;

/// Every semaphore of the plan, by its number there.
#[derive(Debug)]
pub struct Ledger<J> {
    books: Vec<Book>,
    journal: J,
    /// Leases of the life before that their holders have not spoken of yet: the number of the
    /// request that each answers, by place, semaphore and fence.
    unclaimed: BTreeMap<(ClientIndex, u16, u64), u64>,
    /// Requests that wait: by who made them, under which number.
    asks: BTreeMap<(ClientIndex, u64), Ticket>,
    /// How many leases of which semaphore somebody holds; no zeros.
    holding: BTreeMap<(ClientIndex, u16), u32>,
    /// What ends when.
    ends: BTreeSet<(Instant, End)>,
    /// The next ticket.
    next: u64,
}

/// A client's place among the daemon's instances.
pub type ClientIndex = u32;

/// Where every change is kept before anybody hears of it.
pub trait Journal {
    /// A permit is leased.
    fn leased(&mut self, lease: &Lease);

    /// A lease is over; its holder left the permit behind, or gave it back.
    fn over(&mut self, semaphore: u16, fence: u64, abandoned: bool);
}

/// A lease, as the journal keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The semaphore's number.
    pub semaphore: u16,
    /// Names it.
    pub fence: u64,
    /// Who holds it.
    pub place: ClientIndex,
    /// The number of the request that it answers.
    pub request: u64,
    /// When it runs out.
    pub until: Option<Instant>,
    /// The permit's last holder left it behind.
    pub abandoned: bool,
}

/// What a semaphore was when the life before ended.
#[derive(Debug)]
pub struct Past {
    /// The next lease's fence.
    pub fence: u64,
    /// How many of the free permits their last holder left behind.
    pub abandoned: u32,
    /// Its leases.
    pub held: Vec<Lease>,
}

/// One semaphore.
#[derive(Debug)]
struct Book {
    lease: Option<Duration>,
    order: Option<u32>,
    free: u32,
    /// How many of the free permits their last holder left behind.
    abandoned: u32,
    /// The next lease's fence.
    fence: u64,
    held: BTreeMap<u64, Held>,
    /// Who waits, in the order of asking.
    line: BTreeMap<u64, Waiting>,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    place: ClientIndex,
    until: Option<Instant>,
    /// The permit's last holder left it behind.
    abandoned: bool,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    place: ClientIndex,
    request: u64,
    until: Option<Instant>,
}

/// Where a request waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Ticket {
    semaphore: u16,
    number: u64,
}

/// What has an end in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Lease { semaphore: u16, fence: u64 },
    Wait(Ticket),
}

/// What follows from one event, in this order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Leases that ran out.
    pub expired: Vec<Expired>,
    /// Answers to give.
    pub replies: Vec<Reply>,
}

/// A lease that ran out while it was held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expired {
    /// Who held it.
    pub place: ClientIndex,
    /// The semaphore's number.
    pub semaphore: u16,
    /// The lease.
    pub fence: u64,
}

/// The answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Who asked.
    pub place: ClientIndex,
    /// Under which number.
    pub request: u64,
    /// What becomes of it.
    pub verdict: Verdict,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A permit is leased.
    Leased {
        /// The semaphore's number.
        semaphore: u16,
        /// The lease; larger than every earlier one of this semaphore.
        fence: u64,
        /// The permit's last holder left it behind.
        abandoned: bool,
        /// When it runs out.
        until: Option<Instant>,
    },
    /// None is.
    Refused(Refusal),
}

/// A request, as the ledger takes it.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Who asks; the caller has seen that the policy lets it.
    pub place: ClientIndex,
    /// The number that it gave the request.
    pub number: u64,
    /// The semaphore's number.
    pub semaphore: u16,
    /// How long it waits; `None` has no end.
    pub wait: Option<Duration>,
}

impl<J: Journal> Ledger<J> {
    /// Goes on from what was: at first every permit is free.
    pub fn new(plans: &[SemaphorePlan], journal: J, past: Vec<Past>) -> Self {
        let mut ledger = Self {
            books: Vec::new(),
            journal,
            unclaimed: BTreeMap::new(),
            asks: BTreeMap::new(),
            holding: BTreeMap::new(),
            ends: BTreeSet::new(),
            next: 0,
        };
        let mut past = past.into_iter();
        for plan in plans {
            let Past { fence, abandoned, held } =
                past.next().unwrap_or(Past { fence: 1, abandoned: 0, held: Vec::new() });
            let taken = u32::try_from(held.len()).unwrap_or(u32::MAX);
            ledger.books.push(Book {
                lease: plan.lease,
                order: plan.order,
                free: plan.permits.saturating_sub(taken),
                abandoned,
                fence,
                held: BTreeMap::new(),
                line: BTreeMap::new(),
            });
            for lease in held {
                ledger.unclaimed.insert((lease.place, lease.semaphore, lease.fence), lease.request);
                ledger.hold(&lease);
            }
        }
        ledger
    }

    /// A holder of the life before says that it has this lease. One that it hasn't changes nothing.
    pub fn claim(&mut self, place: ClientIndex, semaphore: u16, fence: u64) {
        self.unclaimed.remove(&(place, semaphore, fence));
    }

    /// Whether a client of the life before has yet to speak of leases, and this request doesn't: it
    /// may have given them back before it asked.
    pub fn comes_early(&self, place: ClientIndex, number: u64) -> bool {
        let mut of_it =
            self.unclaimed.range((place, 0, 0)..=(place, u16::MAX, u64::MAX)).peekable();
        of_it.peek().is_some() && !of_it.any(|(_, request)| *request == number)
    }

    /// A client of the life before has spoken of all that it has and waits for: the rest of what it
    /// held it has given back, which nobody took in. Gives the leases that are over.
    pub fn resumed(&mut self, place: ClientIndex, now: Instant) -> (Vec<(u16, u64)>, Turn) {
        let mut turn = self.tick(now);
        let of_it = (place, 0, 0)..=(place, u16::MAX, u64::MAX);
        let unclaimed: Vec<_> = self.unclaimed.range(of_it).map(|(key, _)| *key).collect();
        let mut over = Vec::new();
        for (_, semaphore, fence) in unclaimed {
            self.take_back(semaphore, fence, false);
            self.serve(semaphore, now, &mut turn);
            over.push((semaphore, fence));
        }
        (over, turn)
    }

    /// Leases a permit, lets the request wait for one, or refuses it.
    pub fn acquire(&mut self, request: Request, now: Instant) -> Turn {
        let mut turn = self.tick(now);
        let Request { place, number, semaphore, wait } = request;
        if let Some(verdict) = self.answer_again(place, semaphore, number) {
            turn.replies.push(Reply { place, request: number, verdict });
            return turn;
        }
        let mut refuse = |why| {
            turn.replies.push(Reply { place, request: number, verdict: Verdict::Refused(why) });
        };
        let Some(book) = self.books.get(usize::from(semaphore)) else {
            refuse(Refusal::NotGranted);
            return turn;
        };
        let no_time = wait.is_some_and(|wait| wait.is_zero());
        let waits = self.asks.range((place, 0)..=(place, u64::MAX)).count();
        if !self.is_in_order(place, semaphore) {
            refuse(Refusal::Order);
        } else if book.free == 0 && no_time {
            refuse(Refusal::Timeout);
        } else if waits >= MAX_WAITING || self.asks.contains_key(&(place, number)) {
            refuse(Refusal::Limit);
        } else {
            // A wait beyond what the clock can tell has no end.
            let until = wait.and_then(|wait| now.checked_add(wait));
            self.line_up(Waiting { place, request: number, until }, semaphore);
            self.serve(semaphore, now, &mut turn);
        }
        turn
    }

    /// The lease that the life before has given for this request, if the answer got lost.
    fn answer_again(&mut self, place: ClientIndex, semaphore: u16, number: u64) -> Option<Verdict> {
        let mut of_it = self.unclaimed.range((place, semaphore, 0)..=(place, semaphore, u64::MAX));
        let (&key, _) = of_it.find(|(_, request)| **request == number)?;
        self.unclaimed.remove(&key);
        let fence = key.2;
        let Held { until, abandoned, .. } =
            *self.books.get(usize::from(semaphore))?.held.get(&fence)?;
        Some(Verdict::Leased { semaphore, fence, abandoned, until })
    }

    /// Takes a lease back. `false`: there is no such lease of that holder (any more), and nothing
    /// was changed.
    pub fn release(
        &mut self,
        place: ClientIndex,
        semaphore: u16,
        fence: u64,
        now: Instant,
    ) -> (bool, Turn) {
        let mut turn = self.tick(now);
        let held = self.books.get(usize::from(semaphore)).and_then(|book| book.held.get(&fence));
        let known = held.is_some_and(|held| held.place == place);
        if known {
            self.take_back(semaphore, fence, false);
            self.serve(semaphore, now, &mut turn);
        }
        (known, turn)
    }

    /// A request need no longer wait: if it still does, its time has passed. Otherwise it has been
    /// answered already.
    pub fn withdraw(&mut self, place: ClientIndex, request: u64, now: Instant) -> Turn {
        let mut turn = self.tick(now);
        if let Some(&ticket) = self.asks.get(&(place, request)) {
            turn.replies.extend(self.turn_away(ticket, Refusal::Timeout));
        }
        turn
    }

    /// Who sat there has died: what it held was left behind, and it waits for nothing.
    pub fn died(&mut self, place: ClientIndex, now: Instant) -> Turn {
        let mut turn = self.tick(now);
        let asks: Vec<Ticket> =
            self.asks.range((place, 0)..=(place, u64::MAX)).map(|(_, ticket)| *ticket).collect();
        for ticket in asks {
            let _ = self.turn_away(ticket, Refusal::PeerDead);
        }
        let kinds: Vec<u16> =
            self.holding.range((place, 0)..=(place, u16::MAX)).map(|(key, _)| key.1).collect();
        for semaphore in kinds {
            let held = self.books[usize::from(semaphore)].held.iter();
            let fences: Vec<u64> =
                held.filter(|(_, held)| held.place == place).map(|(fence, _)| *fence).collect();
            for fence in fences {
                self.take_back(semaphore, fence, true);
            }
            self.serve(semaphore, now, &mut turn);
        }
        turn
    }

    /// Ends what has run out by `now`: leases first, so that who has waited to the same moment
    /// still gets a permit.
    pub fn tick(&mut self, now: Instant) -> Turn {
        let mut turn = Turn::default();
        while let Some(&(at, end)) = self.ends.first().filter(|(at, _)| *at <= now) {
            match end {
                End::Lease { semaphore, fence } => {
                    if let Some(held) = self.take_back(semaphore, fence, true) {
                        turn.expired.push(Expired { place: held.place, semaphore, fence });
                    }
                    self.serve(semaphore, now, &mut turn);
                }
                End::Wait(ticket) => {
                    turn.replies.extend(self.turn_away(ticket, Refusal::Timeout));
                }
            }
            self.ends.remove(&(at, end));
        }
        turn
    }

    /// When [`tick`](Self::tick) has something to do next.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.ends.first().map(|(at, _)| *at)
    }

    /// Where it keeps what the next life must know.
    pub fn journal(&mut self) -> &mut J {
        &mut self.journal
    }

    /// Whether `place` may take a permit besides what it holds. Several of one semaphore are no
    /// matter of order.
    fn is_in_order(&self, place: ClientIndex, semaphore: u16) -> bool {
        let order = |number: u16| self.books[usize::from(number)].order;
        let wanted = order(semaphore);
        self.holding
            .range((place, 0)..=(place, u16::MAX))
            .filter(|((_, other), _)| *other != semaphore)
            .all(|((_, other), _)| wanted.is_some_and(|it| order(*other).is_none_or(|o| o < it)))
    }

    fn line_up(&mut self, waiting: Waiting, semaphore: u16) {
        let ticket = Ticket { semaphore, number: self.next };
        self.next += 1;
        self.asks.insert((waiting.place, waiting.request), ticket);
        self.ends.extend(waiting.until.map(|at| (at, End::Wait(ticket))));
        self.books[usize::from(semaphore)].line.insert(ticket.number, waiting);
    }

    fn leave_line(&mut self, ticket: Ticket) -> Option<Waiting> {
        let waiting = self.books[usize::from(ticket.semaphore)].line.remove(&ticket.number)?;
        self.asks.remove(&(waiting.place, waiting.request));
        if let Some(at) = waiting.until {
            self.ends.remove(&(at, End::Wait(ticket)));
        }
        Some(waiting)
    }

    fn turn_away(&mut self, ticket: Ticket, why: Refusal) -> Option<Reply> {
        let Waiting { place, request, .. } = self.leave_line(ticket)?;
        Some(Reply { place, request, verdict: Verdict::Refused(why) })
    }

    /// Makes a lease's permit free.
    fn take_back(&mut self, semaphore: u16, fence: u64, abandoned: bool) -> Option<Held> {
        let book = &mut self.books[usize::from(semaphore)];
        let held = book.held.remove(&fence)?;
        self.journal.over(semaphore, fence, abandoned);
        self.unclaimed.remove(&(held.place, semaphore, fence));
        book.free += 1;
        book.abandoned += u32::from(abandoned);
        if let Some(at) = held.until {
            self.ends.remove(&(at, End::Lease { semaphore, fence }));
        }
        if let Some(count) = self.holding.get_mut(&(held.place, semaphore)) {
            *count -= 1;
            if *count == 0 {
                self.holding.remove(&(held.place, semaphore));
            }
        }
        Some(held)
    }

    fn hold(&mut self, lease: &Lease) {
        let &Lease { semaphore, fence, place, until, abandoned, .. } = lease;
        let held = Held { place, until, abandoned };
        self.books[usize::from(semaphore)].held.insert(fence, held);
        self.ends.extend(until.map(|at| (at, End::Lease { semaphore, fence })));
        *self.holding.entry((place, semaphore)).or_default() += 1;
    }

    /// Gives free permits to those who wait longest.
    fn serve(&mut self, semaphore: u16, now: Instant, turn: &mut Turn) {
        loop {
            let book = &mut self.books[usize::from(semaphore)];
            let Some(&number) = book.line.keys().next().filter(|_| book.free > 0) else { return };
            let Some(Waiting { place, request, .. }) =
                self.leave_line(Ticket { semaphore, number })
            else {
                return;
            };
            let book = &mut self.books[usize::from(semaphore)];
            let fence = book.fence;
            book.fence += 1;
            book.free -= 1;
            // What was left behind goes first, so that somebody soon hears of it.
            let abandoned = book.abandoned > 0;
            book.abandoned -= u32::from(abandoned);
            let until = book.lease.and_then(|lease| now.checked_add(lease));
            let lease = Lease { semaphore, fence, place, request, until, abandoned };
            self.journal.leased(&lease);
            self.hold(&lease);
            let verdict = Verdict::Leased { semaphore, fence, abandoned, until };
            turn.replies.push(Reply { place, request, verdict });
            self.turn_away_what_is_out_of_order(place, turn);
        }
    }

    /// Who asks for several at a time may get a higher one first: then it waits for no lower one,
    /// or two layers could wait for each other.
    fn turn_away_what_is_out_of_order(&mut self, place: ClientIndex, turn: &mut Turn) {
        let asks = self.asks.range((place, 0)..=(place, u64::MAX));
        let wrong: Vec<Ticket> = asks
            .map(|(_, ticket)| *ticket)
            .filter(|ticket| !self.is_in_order(place, ticket.semaphore))
            .collect();
        for ticket in wrong {
            turn.replies.extend(self.turn_away(ticket, Refusal::Order));
        }
    }
}

#[cfg(test)]
mod tests;
