//! The end of a ring that reports go into.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::time::ClockId;

use crate::policy::plan::LogFull;
use crate::ring::{self, AT_PRODUCER_SLEEPS, Producer};
use crate::sys::clock::nanoseconds;
use crate::sys::mapping::Mapping;
use crate::wire::report::{Facts, HASH, HEAD, Head, WHOLE, What};
use crate::wire::trace::TRACE;

/// How long a reporter sleeps at a time while it waits for room. The auditor wakes it; this only
/// bounds what a lost wake-up costs.
const NAP: Duration = Duration::from_millis(20);

/// Where in the ring's own words the producer counts its reports once some have found no room:
/// what it couldn't say before it died is known by that.
pub const AT_COUNT: usize = ring::AT_PRODUCER;

/// Where in the ring's own words the supervisor says that the layer is asked to stop: then nobody
/// waits for room any more, and what finds none is counted.
pub const AT_STOP: usize = 24;

/// Writes reports into the ring of this process.
#[derive(Debug)]
pub struct Reporter {
    memory: Mapping,
    on_full: LogFull,
    state: Mutex<State>,
    /// It says nothing any more, for tests of layers that hide what they do.
    #[cfg(feature = "testing")]
    mute: std::sync::atomic::AtomicBool,
}

#[derive(Debug)]
struct State {
    producer: Producer,
    /// The number of the next report.
    number: u64,
    /// Reports before it that found no room, and that nothing has been said of.
    lost: u64,
    /// The auditor's position is impossible: it can't be trusted, and nothing reaches it.
    broken: bool,
}

/// A report whose room is reserved and whose message is written, of which the auditor sees nothing
/// before it is finished.
#[derive(Debug)]
#[must_use = "the auditor sees nothing of it before it is finished"]
pub struct Pending<'a> {
    reporter: &'a Reporter,
    /// `None`: there was no room, which is counted.
    state: Option<MutexGuard<'a, State>>,
    what: What,
    message: usize,
    /// Room for detail and payload.
    extra: usize,
    reported: u64,
}

impl Reporter {
    /// Takes a ring up: sealed memory of `bytes` bytes that is all zeros.
    pub fn new(fd: BorrowedFd<'_>, bytes: usize, on_full: LogFull) -> io::Result<Self> {
        let memory = Mapping::sealed(fd, bytes, true)?;
        if !ring::format(&memory) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the memory is no ring"));
        }
        let producer = Producer::resume(&memory);
        let state = State { producer, number: 0, lost: 0, broken: false };
        Ok(Self {
            memory,
            on_full,
            state: Mutex::new(state),
            #[cfg(feature = "testing")]
            mute: std::sync::atomic::AtomicBool::default(),
        })
    }

    /// Whether a report of `length` bytes finds room now, or needn't wait for some: for who can wait
    /// otherwise than by its thread. It is no promise where several threads report.
    pub fn has_room(&self, length: usize) -> bool {
        let room = ring::room(self.memory.size());
        // Whatever is longer than half of the ring waits until that much is free.
        room - ring::used(&self.memory) >= length.min(room / 2) || !self.waits()
    }

    /// Nobody waits for room from now on; what finds none is counted.
    pub fn never_wait(&self) {
        self.memory.store(AT_STOP, 1);
    }

    /// Whether who finds no room waits for some.
    fn waits(&self) -> bool {
        self.on_full != LogFull::Count && self.memory.load(AT_STOP) == 0
    }

    /// Reports an act, with no more of the message than its hash.
    pub fn report(&self, facts: &Facts, message: &[u8], detail: &[u8]) {
        self.begin(message, detail.len()).finish(facts, detail, &[]);
    }

    /// Writes `message` into a report, before it is known what there is to say of it: it may be
    /// changed in place from then on. `extra` is room for detail and payload.
    ///
    /// Waits for room if the policy says so and the layer isn't asked to stop, by its thread: a task
    /// waits [before](Self::has_room). A report that is longer than the ring is lost.
    pub fn begin(&self, message: &[u8], extra: usize) -> Pending<'_> {
        let reported = nanoseconds(ClockId::Monotonic);
        let hash;
        let (what, message) = match message.len() {
            0 => (What::Bare, message),
            length if length <= WHOLE => (What::Message, message),
            _ => {
                hash = blake3::hash(message);
                (What::Hash, &hash.as_bytes()[..HASH])
            }
        };
        #[cfg(feature = "testing")]
        if self.mute.load(std::sync::atomic::Ordering::Relaxed) {
            return Pending { reporter: self, state: None, what, message: 0, extra, reported };
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = if self.reserve(&mut state, HEAD + message.len() + TRACE + extra) {
            state.producer.put(&self.memory, HEAD, message);
            Some(state)
        } else {
            state.lost += 1;
            state.number += 1;
            self.memory.store(AT_COUNT, state.number);
            None
        };
        Pending { reporter: self, state, what, message: message.len(), extra, reported }
    }

    /// Writes over a part of the ring, for tests of layers that lie.
    #[cfg(feature = "testing")]
    pub(super) fn scribble(&self, at: usize, bytes: &[u8]) {
        self.memory.copy_in(at, bytes);
    }

    /// Says that `count` reports were lost from `number` on, for tests of layers that lie.
    #[cfg(feature = "testing")]
    pub(super) fn claim_loss(&self, number: u64, count: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if self.reserve(&mut state, HEAD) {
            self.put_loss(&mut state, number, count);
        }
    }

    /// Says nothing from now on.
    #[cfg(feature = "testing")]
    pub(super) fn fall_silent(&self) {
        self.mute.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    /// Whether there is room for a report of `length` bytes, behind what must be said of losses
    /// before.
    fn reserve(&self, state: &mut State, length: usize) -> bool {
        let most = ring::capacity(self.memory.size());
        if state.broken || length > most {
            return false;
        }
        loop {
            if state.lost > 0 && self.fits(state, HEAD) {
                self.tell_losses(state);
            }
            if state.lost == 0 && self.fits(state, length) {
                return true;
            }
            if state.broken || !self.waits() {
                return false;
            }
            match state.producer.arm_wakeup(&self.memory) {
                Ok(true) => self.memory.wait(AT_PRODUCER_SLEEPS, 1, NAP),
                Ok(false) => {}
                Err(_) => state.broken = true,
            }
        }
    }

    fn fits(&self, state: &mut State, length: usize) -> bool {
        let room = state.producer.reserve(&self.memory, length);
        state.broken |= room.is_err();
        room.unwrap_or(false)
    }

    fn tell_losses(&self, state: &mut State) {
        let lost = std::mem::take(&mut state.lost);
        self.put_loss(state, state.number - lost, lost);
    }

    fn put_loss(&self, state: &mut State, number: u64, count: u64) {
        use crate::wire::report::{Facility, Side};
        let facts = Facts { length: count, ..Facts::new(Facility::None, 0, Side::None) };
        let reported = nanoseconds(ClockId::Monotonic);
        let head = Head { what: What::Loss, facts, number, reported, message: 0, detail: 0 };
        state.producer.put(&self.memory, 0, &head.encode());
        state.producer.publish(&self.memory, HEAD);
    }
}

impl Pending<'_> {
    /// Says what there is to say, and gives the report to the auditor. Detail and payload that are
    /// longer than the room that was asked for are left out.
    pub fn finish(self, facts: &Facts, detail: &[u8], payload: &[u8]) {
        let Some(mut state) = self.state else { return };
        let fits = detail.len() + payload.len() <= self.extra;
        let (detail, payload) = if fits { (detail, payload) } else { (&[][..], &[][..]) };
        let head = Head {
            what: self.what,
            facts: *facts,
            number: state.number,
            reported: self.reported,
            // Both are bounded by the ring, which is at most 64 MiB.
            message: u32::try_from(self.message).unwrap_or(0),
            detail: u32::try_from(detail.len()).unwrap_or(0),
        };
        let memory = &self.reporter.memory;
        let mut at = HEAD + self.message;
        state.producer.put(memory, 0, &head.encode());
        let trace = facts.trace.map(|trace| trace.to_bytes());
        let trace = trace.as_ref().map_or(&[][..], |trace| trace);
        for part in [trace, detail, payload] {
            if !part.is_empty() {
                state.producer.put(memory, at, part);
                at += part.len();
            }
        }
        state.producer.publish(memory, at);
        state.number += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use rustix::fs::SealFlags;

    use super::*;
    use crate::ring::Consumer;
    use crate::wire::report::{Facility, Report, Side};

    const BYTES: usize = 1 << 14;

    fn ring(on_full: LogFull) -> (Reporter, Mapping) {
        let fd = crate::sys::memory::create("test").unwrap();
        rustix::fs::ftruncate(&fd, BYTES as u64).unwrap();
        rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW).unwrap();
        let memory = Mapping::sealed(fd.as_fd(), BYTES, true).unwrap();
        (Reporter::new(fd.as_fd(), BYTES, on_full).unwrap(), memory)
    }

    fn facts(sequence: u64) -> Facts {
        Facts { sequence, ..Facts::new(Facility::Channel, 1, Side::Sender) }
    }

    #[test]
    fn short_messages_go_in_whole_and_long_ones_hashed() {
        let (reporter, memory) = ring(LogFull::Block);
        let (short, long) = (vec![1; WHOLE], vec![2; WHOLE + 1]);
        reporter.report(&facts(5), &short, b"detail");
        reporter.begin(&long, 6).finish(&facts(6), b"de", b"payl");
        reporter.report(&facts(7), b"", b"");
        let mut consumer = Consumer::resume(&memory);
        let mut bytes = Vec::new();
        let hash = blake3::hash(&long);
        for (number, message, detail, payload) in [
            (0, &short[..], &b"detail"[..], &b""[..]),
            (1, &hash.as_bytes()[..], b"de", b"payl"),
            (2, b"", b"", b""),
        ] {
            assert!(consumer.receive(&memory, &mut bytes).unwrap());
            let report = Report::decode(&bytes).unwrap();
            assert_eq!(report.head.number, number);
            assert_eq!(report.head.facts, facts(5 + number));
            assert_eq!((report.message, report.detail, report.payload), (message, detail, payload));
        }
        assert!(!consumer.receive(&memory, &mut bytes).unwrap());
    }

    #[test]
    fn what_finds_no_room_is_counted_and_told() {
        let (reporter, memory) = ring(LogFull::Count);
        for n in 0..1000 {
            reporter.report(&facts(n), &[0; 100], b"");
        }
        let mut consumer = Consumer::resume(&memory);
        let mut bytes = Vec::new();
        let mut held = 0;
        while consumer.receive(&memory, &mut bytes).unwrap() {
            assert_eq!(Report::decode(&bytes).unwrap().head.number, held);
            held += 1;
        }
        assert!(held > 10 && held < 1000);
        assert_eq!(memory.load(AT_COUNT), 1000);
        reporter.report(&facts(1000), b"", b"");
        assert!(consumer.receive(&memory, &mut bytes).unwrap());
        let loss = Report::decode(&bytes).unwrap().head;
        assert_eq!((loss.what, loss.number), (What::Loss, held));
        assert_eq!(loss.facts.length, 1000 - held);
        assert!(consumer.receive(&memory, &mut bytes).unwrap());
        assert_eq!(Report::decode(&bytes).unwrap().head.number, 1000);
    }

    #[test]
    fn who_waits_for_room_loses_nothing() {
        let (reporter, memory) = ring(LogFull::Block);
        std::thread::scope(|scope| {
            scope.spawn(|| (0..5000).for_each(|n| reporter.report(&facts(n), &[0; 100], b"")));
            let mut consumer = Consumer::resume(&memory);
            let mut bytes = Vec::new();
            for n in 0..5000 {
                while !consumer.receive(&memory, &mut bytes).unwrap() {
                    std::thread::yield_now();
                }
                assert_eq!(Report::decode(&bytes).unwrap().head.number, n);
            }
        });
    }

    #[test]
    fn who_is_asked_to_stop_waits_no_longer() {
        let (reporter, memory) = ring(LogFull::Block);
        let mut count = 0;
        while reporter.has_room(500) {
            reporter.report(&facts(count), &[0; 100], b"");
            count += 1;
        }
        std::thread::scope(|scope| {
            let waiting =
                scope.spawn(|| (0..100).for_each(|_| reporter.report(&facts(0), &[0; 100], b"")));
            while memory.load(AT_PRODUCER_SLEEPS) == 0 {
                std::thread::yield_now();
            }
            assert!(!waiting.is_finished());
            memory.store(AT_STOP, 1);
        });
        assert!(reporter.has_room(500), "nobody waits for room any more");
        assert_eq!(memory.load(AT_COUNT), count + 100, "all are counted");
    }

    #[test]
    fn an_unfinished_report_is_none() {
        let (reporter, memory) = ring(LogFull::Block);
        drop(reporter.begin(b"never", 0));
        reporter.report(&facts(1), b"told", b"");
        let mut bytes = Vec::new();
        assert!(Consumer::resume(&memory).receive(&memory, &mut bytes).unwrap());
        assert_eq!(Report::decode(&bytes).unwrap().message, b"told");
    }
}
