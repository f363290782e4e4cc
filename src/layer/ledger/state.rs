//! What the ledger's next life must know, in memory that outlives it.
//!
//! ```text
//! kind u64
//! then for each semaphore: next fence u64, and for each of its permits:
//!   status u64, seat u64, generation u64, request u64, until u64 (nanoseconds of
//!   CLOCK_MONOTONIC; 0: no end)
//! ```
//! The status is the only word that counts, and it is written by one store: 0 for a permit that is
//! free, 1 for one that its last holder left behind, and for one that is leased the fence, shifted
//! by two bits, of which bit 1 is set, and bit 0 if it had been left behind before. So a change is
//! there as a whole or not at all, whenever this process is killed: to lease, the other words are
//! written first, of a permit that is free, where nobody looks at them; then the status; then the
//! next fence, which a reader takes no smaller than that of any lease.
//!
//! What no ledger writes isn't taken up at all: then nobody knows who holds what, and to begin anew
//! would give permits out twice.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::book::{ClientIndex, Journal, Lease, Past};
use crate::mark::reached;
use crate::policy::plan::SemaphorePlan;
use crate::sys::mapping::{Mapping, WORD};

/// What the first word says.
const KIND: u64 = u64::from_le_bytes(*b"cfd-led1");

/// Words of a permit.
const PERMIT: usize = 5;

/// Fences are smaller: in the life of a machine nobody leases so often.
const FENCES: u64 = 1 << 60;

const FREE: u64 = 0;
const LEFT: u64 = 1;
const LEASED: u64 = 2;

/// How many bytes these semaphores take; 0: nothing is to be kept.
pub(crate) fn bytes(plans: &[SemaphorePlan]) -> usize {
    let words = plans.iter().map(|plan| 1 + permits(plan) * PERMIT).sum::<usize>();
    if words == 0 { 0 } else { (1 + words) * WORD }
}

fn permits(plan: &SemaphorePlan) -> usize {
    usize::try_from(plan.permits).unwrap_or(0)
}

/// The memory, and which permit is which.
#[derive(Debug)]
pub(super) struct State {
    memory: Mapping,
    books: Vec<Book>,
    /// Which life of a client sits at a place.
    generations: BTreeMap<ClientIndex, u64>,
    clock: Clock,
}

/// One semaphore.
#[derive(Debug)]
struct Book {
    /// Where its next fence stands; its permits are behind it.
    at: usize,
    /// Permits that are free, and free ones that were left behind.
    free: Vec<usize>,
    left: Vec<usize>,
    /// The permit of each lease.
    leased: BTreeMap<u64, usize>,
}

/// A moment by both of its names. The first was taken first: an end that is told by it is never
/// later than the ledger's own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    nanoseconds: u64,
    instant: Instant,
}

impl Clock {
    pub(super) fn now() -> Self {
        let nanoseconds = Duration::try_from(clock_gettime(ClockId::Monotonic));
        let nanoseconds = nanoseconds.unwrap_or_default().as_nanos();
        let nanoseconds = u64::try_from(nanoseconds).unwrap_or(u64::MAX);
        Self { nanoseconds, instant: Instant::now() }
    }

    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub(super) fn nanoseconds(self, at: Instant) -> u64 {
        let after = at.saturating_duration_since(self.instant).as_nanos();
        let before = self.instant.saturating_duration_since(at).as_nanos();
        let number = |time: u128| u64::try_from(time).unwrap_or(u64::MAX);
        self.nanoseconds.saturating_add(number(after)).saturating_sub(number(before)).max(1)
    }

    fn instant(self, nanoseconds: u64) -> Instant {
        // What is over is over, however long; and no clock comes to what it can't tell.
        let after = Duration::from_nanos(nanoseconds.saturating_sub(self.nanoseconds));
        self.instant.checked_add(after).unwrap_or(self.instant)
    }
}

/// Where the permits of the semaphore at `at` stand.
fn places(at: usize, permits: usize) -> impl Iterator<Item = usize> {
    (0..permits).map(move |permit| at + (1 + permit * PERMIT) * WORD)
}

/// Looks whether a ledger can have written what stands at `at` of a semaphore: its fences are
/// within their bound, and each names one lease.
fn check(memory: &Mapping, at: usize, permits: usize) -> io::Result<()> {
    let mut fences = BTreeSet::new();
    for status in places(at, permits).map(|place| memory.load(place)) {
        if status >> 2 >= FENCES || status & LEASED > 0 && !fences.insert(status >> 2) {
            return Err(foreign("it has leases that no ledger gives"));
        }
    }
    if memory.load(at) > FENCES {
        return Err(foreign("it has leases that no ledger gives"));
    }
    Ok(())
}

fn foreign(why: &str) -> io::Error {
    let why = format!("what the ledger must know of its life before can't be believed: {why}");
    io::Error::new(io::ErrorKind::InvalidData, why)
}

impl State {
    /// Maps the memory that the supervisor holds.
    pub(super) fn map(fd: &OwnedFd, plans: &[SemaphorePlan], clock: Clock) -> io::Result<Self> {
        let size = bytes(plans);
        let memory = Mapping::sealed(fd.as_fd(), size, true)?;
        match memory.load(0) {
            KIND => {}
            0 if (WORD..size).step_by(WORD).all(|at| memory.load(at) == 0) => {
                memory.store_release(0, KIND);
            }
            _ => return Err(foreign("it does not say that it is a ledger's")),
        }
        let mut at = WORD;
        let mut books = Vec::new();
        for plan in plans {
            let (free, left, leased) = (Vec::new(), Vec::new(), BTreeMap::new());
            books.push(Book { at, free, left, leased });
            check(&memory, at, permits(plan))?;
            at += (1 + permits(plan) * PERMIT) * WORD;
        }
        Ok(Self { memory, books, generations: BTreeMap::new(), clock })
    }

    /// This life of a client sits at a place.
    pub(super) fn joined(&mut self, place: ClientIndex, generation: u64) {
        self.generations.insert(place, generation);
    }

    /// Reads what the life before has written. A lease whose holder has ended since was left behind.
    pub(super) fn past(&mut self, plans: &[SemaphorePlan]) -> Vec<Past> {
        let Self { memory, books, generations, clock } = self;
        let mut all = Vec::new();
        for ((number, plan), book) in (0..).zip(plans).zip(books) {
            let mut past =
                Past { fence: memory.load(book.at).max(1), abandoned: 0, held: Vec::new() };
            // Later than so no lease ends.
            let last = |most| clock.instant.checked_add(most);
            for place in places(book.at, permits(plan)) {
                let status = memory.load_acquire(place);
                let word = |nth| memory.load(place + nth * WORD);
                let fence = status >> 2;
                past.fence = past.fence.max(fence.saturating_add(1));
                let lease = Lease {
                    semaphore: number,
                    fence,
                    place: u32::try_from(word(1)).unwrap_or(u32::MAX),
                    request: word(3),
                    until: plan.lease.and_then(last).map(|last| clock.instant(word(4)).min(last)),
                    abandoned: status & LEFT > 0,
                };
                if status & LEASED > 0 && generations.get(&lease.place) == Some(&word(2)) {
                    book.leased.insert(fence, place);
                    past.held.push(lease);
                } else if status == FREE {
                    book.free.push(place);
                } else {
                    memory.store_release(place, LEFT);
                    book.left.push(place);
                    past.abandoned += 1;
                }
            }
            // Those that were left behind lose their fence, so it is kept here first.
            memory.store_release(book.at, past.fence);
            all.push(past);
        }
        all
    }

    /// When a lease ends, as its holder is told.
    pub(super) fn nanoseconds(&self, at: Instant) -> u64 {
        self.clock.nanoseconds(at)
    }
}

impl Journal for State {
    fn leased(&mut self, lease: &Lease) {
        let Some(book) = self.books.get_mut(usize::from(lease.semaphore)) else { return };
        // The ledger leases no more permits than there are, and what was left behind goes first.
        let from = if lease.abandoned { &mut book.left } else { &mut book.free };
        let Some(place) = from.pop() else { return };
        let generation = self.generations.get(&lease.place).copied().unwrap_or(0);
        let until = lease.until.map_or(0, |at| self.clock.nanoseconds(at));
        let words = [lease.place.into(), generation, lease.request, until];
        for (nth, word) in (1..).zip(words) {
            self.memory.store(place + nth * WORD, word);
        }
        reached("ledger.lease.written");
        let left = if lease.abandoned { LEFT } else { 0 };
        self.memory.store_release(place, lease.fence << 2 | LEASED | left);
        reached("ledger.lease.published");
        self.memory.store_release(book.at, lease.fence + 1);
        book.leased.insert(lease.fence, place);
    }

    fn over(&mut self, semaphore: u16, fence: u64, abandoned: bool) {
        let Some(book) = self.books.get_mut(usize::from(semaphore)) else { return };
        let Some(place) = book.leased.remove(&fence) else { return };
        reached("ledger.over.before");
        self.memory.store_release(place, if abandoned { LEFT } else { FREE });
        reached("ledger.over.written");
        if abandoned { book.left.push(place) } else { book.free.push(place) }
    }
}

#[cfg(test)]
mod tests;
