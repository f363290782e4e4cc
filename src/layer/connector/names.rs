//! Looking up names, each by one thread at a time, however many wait for it.
//!
//! Only names of the policy are looked up, so there are no more threads than names. What came of it
//! counts for a moment: a client that asks and withdraws in a loop has nothing looked up that
//! wouldn't be anyway, and one that is slow to answer keeps its thread busy, and no second one.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use crate::layer::lanes::Lanes;
use crate::mark;

/// Addresses of one name that are tried.
pub(super) const MAX_ADDRESSES: usize = 8;

/// How long an answer counts, one that says that there is none included. Short beside what zones
/// set, long beside what it takes to ask in a loop.
const COUNTS: Duration = Duration::from_secs(1);

/// Bytes of a thread's stack: the C library's resolver keeps its buffers there.
const STACK: usize = 512 << 10;

/// What a name costs, in bytes.
pub(crate) const NAME: u64 = (STACK as u64) + (1 << 20);

/// Every name of the policy.
pub(super) struct Names {
    names: BTreeMap<String, Name>,
    lanes: Lanes<(String, Vec<IpAddr>)>,
}

struct Name {
    lane: u32,
    state: State,
}

enum State {
    Unknown,
    /// A thread is at it.
    Busy,
    Known(Vec<IpAddr>, Instant),
}

impl Names {
    /// Nothing is known of these yet.
    pub fn new(names: impl Iterator<Item = String>) -> io::Result<Self> {
        let name = |(lane, text)| (text, Name { lane, state: State::Unknown });
        Ok(Self { names: (0..).zip(names).map(name).collect(), lanes: Lanes::new(STACK)? })
    }

    /// The addresses of `name`, if they are known; `None`: a thread is at it.
    pub fn ask(&mut self, name: &str, now: Instant) -> io::Result<Option<&[IpAddr]>> {
        let known = self.names.get_mut(name).ok_or(io::ErrorKind::NotFound)?;
        match known.state {
            State::Busy => return Ok(None),
            State::Known(_, until) if now < until => {}
            State::Known(..) | State::Unknown => {
                let text = name.to_owned();
                self.lanes.run(known.lane, move || {
                    let found = look_up(&text);
                    (text, found)
                })?;
                known.state = State::Busy;
                mark::reached("socket.resolve.started");
                return Ok(None);
            }
        }
        match &known.state {
            State::Known(found, _) => Ok(Some(found)),
            State::Busy | State::Unknown => Ok(None),
        }
    }

    /// Names that have been looked up since.
    pub fn finished(&mut self, now: Instant) -> Vec<(String, Vec<IpAddr>)> {
        let finished: Vec<_> = self.lanes.finished().collect();
        for (name, found) in &finished {
            if let Some(known) = self.names.get_mut(name) {
                known.state = State::Known(found.clone(), now + COUNTS);
            }
            mark::reached("socket.resolve.answered");
        }
        finished
    }

    /// What is readable when a name has been looked up.
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.lanes.bell()
    }
}

/// Asks the C library, as every program of the host does, and takes what it takes.
fn look_up(name: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for address in (name, 0).to_socket_addrs().into_iter().flatten() {
        if !found.contains(&address.ip()) && found.len() < MAX_ADDRESSES {
            found.push(address.ip());
        }
    }
    mark::reached("socket.resolve.found");
    found
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;

    #[test]
    fn many_who_ask_have_a_name_looked_up_once() {
        let mut names = Names::new(["localhost".to_owned()].into_iter()).unwrap();
        let now = Instant::now();
        for _ in 0..10_000 {
            assert!(names.ask("localhost", now).unwrap().is_none());
        }
        poll(&mut [PollFd::from_borrowed_fd(names.bell(), PollFlags::IN)], None).unwrap();
        assert_eq!(names.finished(now).len(), 1);
        for _ in 0..10_000 {
            let found = names.ask("localhost", now).unwrap().unwrap();
            assert!(found.iter().all(IpAddr::is_loopback) && !found.is_empty());
        }
        assert!(names.finished(now).is_empty());
        assert!(names.ask("localhost", now + COUNTS).unwrap().is_none());
        assert!(names.ask("elsewhere", now).is_err());
    }
}
