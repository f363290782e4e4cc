//! What a loop waits for: descriptors, by epoll(7), and times, in their order.
//!
//! What is looked for on a descriptor is told the kernel when it changes, and not in each turn. So a turn
//! costs what happens in it, however many descriptors there are.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, Event, EventData};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

pub use rustix::event::epoll::EventFlags as Interest;

/// How many that are ready are heard in a turn; the others are in the next, for the kernel takes turns.
const IN_A_TURN: usize = 128;

/// Descriptors that are waited for, each by a number of the caller's.
pub struct Poller {
    epoll: OwnedFd,
    /// What is looked for, as the kernel knows it.
    known: BTreeMap<u64, Interest>,
    events: Vec<Event>,
}

impl Poller {
    /// One that waits for nothing yet.
    pub fn new() -> io::Result<Self> {
        let nothing = Event { flags: Interest::empty(), data: EventData::new_u64(0) };
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            known: BTreeMap::new(),
            events: vec![nothing; IN_A_TURN],
        })
    }

    /// Looks for this on a descriptor from now on; for nothing, not even its end, where that is empty,
    /// which it must be before the descriptor is closed. False: the kernel can't now.
    pub fn set(&mut self, number: u64, fd: impl AsFd, interest: Interest) -> bool {
        let known = self.known.get(&number).copied();
        if interest == known.unwrap_or_default() {
            return true;
        }
        let data = EventData::new_u64(number);
        let done = match known {
            Some(_) if interest.is_empty() => epoll::delete(&self.epoll, fd),
            Some(_) => epoll::modify(&self.epoll, fd, data, interest),
            None => epoll::add(&self.epoll, fd, data, interest),
        };
        match done {
            // One that isn't known to the kernel any more can't be heard of either.
            Ok(()) | Err(Errno::NOENT) if interest.is_empty() => drop(self.known.remove(&number)),
            Ok(()) => drop(self.known.insert(number, interest)),
            Err(errno) => {
                if errno == Errno::NOENT {
                    self.known.remove(&number);
                }
                return false;
            }
        }
        true
    }

    /// Forgets what was closed.
    pub fn closed(&mut self, number: u64) {
        self.known.remove(&number);
    }

    /// Waits until something happens, or for so long, and says where.
    pub fn wait(&mut self, timeout: Option<Duration>) -> impl Iterator<Item = u64> {
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let many = epoll::wait(&self.epoll, &mut self.events[..], timeout.as_ref()).unwrap_or(0);
        self.events.iter().take(many).map(|it| it.data.u64())
    }
}

/// Waits until one of some descriptors is ready, or until that time, and says for each what it is ready for:
/// for nothing, all of them, where the time has come or a signal has.
pub fn ready(
    fds: impl IntoIterator<Item = (impl AsFd, PollFlags)>,
    until: Option<Instant>,
) -> io::Result<Vec<PollFlags>> {
    let fds: Vec<_> = fds.into_iter().collect();
    let mut polled: Vec<_> = fds.iter().map(|(fd, it)| PollFd::new(fd, *it)).collect();
    let timeout = until.map(|at| at.saturating_duration_since(Instant::now()));
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    match poll(&mut polled, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(polled.iter().map(PollFd::revents).collect()),
        Err(error) => Err(error.into()),
    }
}

/// Times, each of something.
#[derive(Debug)]
pub struct Agenda<T> {
    times: BTreeSet<(Instant, T)>,
    of: BTreeMap<T, Instant>,
}

impl<T> Default for Agenda<T> {
    fn default() -> Self {
        Self { times: BTreeSet::new(), of: BTreeMap::new() }
    }
}

impl<T: Copy + Ord> Agenda<T> {
    /// Puts something down for a time in the place of its former one, or crosses it out.
    pub fn set(&mut self, due: T, at: Option<Instant>) {
        let before = match at {
            Some(at) => self.of.insert(due, at),
            None => self.of.remove(&due),
        };
        if let Some(before) = before {
            self.times.remove(&(before, due));
        }
        self.times.extend(at.map(|at| (at, due)));
    }

    /// The first time.
    pub fn first(&self) -> Option<Instant> {
        self.times.first().map(|&(at, _)| at)
    }

    /// Takes the first, if its time has come.
    pub fn take(&mut self, now: Instant) -> Option<T> {
        let &(_, due) = self.times.first().filter(|(at, _)| *at <= now)?;
        self.set(due, None);
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_looked_for_is_not_heard_of() {
        let mut poller = Poller::new().unwrap();
        let (near, far) = rustix::pipe::pipe().unwrap();
        let mut hear = |interest| {
            assert!(poller.set(3, &near, interest));
            poller.wait(Some(Duration::ZERO)).collect::<Vec<_>>()
        };
        assert!(hear(Interest::IN).is_empty());
        rustix::io::write(&far, b"x").unwrap();
        assert_eq!(hear(Interest::IN), [3]);
        drop(far);
        // Not its end either.
        assert!(hear(Interest::empty()).is_empty());
        assert_eq!(hear(Interest::IN), [3]);
    }

    #[test]
    fn an_agenda_has_one_time_for_each() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let mut agenda = Agenda::default();
        agenda.set('a', Some(at(5)));
        agenda.set('a', Some(at(2)));
        agenda.set('a', Some(at(2)));
        agenda.set('b', Some(at(3)));
        agenda.set('c', Some(at(1)));
        agenda.set('c', None);
        assert_eq!(agenda.first(), Some(at(2)));
        assert_eq!(agenda.take(at(1)), None);
        assert_eq!(agenda.take(at(9)), Some('a'));
        assert_eq!(agenda.take(at(9)), Some('b'));
        assert_eq!(agenda.take(at(9)), None);
        assert_eq!(agenda.first(), None);
    }
}
