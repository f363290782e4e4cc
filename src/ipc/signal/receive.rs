//! Receiving signals: from a descriptor, in order, with their senders.
//!
//! Every granted signal is blocked before the layer's code runs, so none is lost and none
//! interrupts anything. A blocked standard signal waits once (signal(7)): how many there were is
//! in the memory that the supervisor counts in before it sends.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::PollFlags;
use tokio::io::unix::AsyncFd;

use super::slots;
use crate::ident::Name;
use crate::ipc::Blocking;
use crate::ipc::companion::{Companion, Ends, Waiter};
use crate::mark::reached;
use crate::policy::plan::SignalPlan;
use crate::policy::signal::signal_name;
use crate::report::{Desk, Facility, Facts, Side, Tap};
use crate::sys::mapping::{Mapping, WORD};
use crate::sys::socket;

/// A signal that has come, or several of a kind from one sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signal {
    /// Its name, as in the policy: `HUP`.
    pub name: &'static str,
    /// Its number.
    pub number: u8,
    /// The layer that sent it.
    pub from: Name,
    /// The grant by which it was sent.
    pub grant: Name,
    /// How many were sent since the last one like it was received. The kernel merges what waits;
    /// 1 says that nothing was merged.
    pub count: u64,
}

/// Why no signal was received.
#[derive(Debug, thiserror::Error)]
pub enum RecvError {
    /// Nothing came in time.
    #[error("no signal came in time")]
    Timeout,
    /// Nothing has come, and the supervisor asks this layer to finish.
    #[error("the supervisor asks this layer to finish")]
    Stopping,
    /// The system refused.
    #[error("receiving signals: {0}")]
    System(#[from] io::Error),
}

/// The signals of this layer. Each is received once, by one of the handles that there are.
#[derive(Debug)]
pub struct Signals {
    shared: Arc<Inflow>,
    descriptor: Arc<OwnedFd>,
    watch: Option<AsyncFd<Arc<OwnedFd>>>,
    companion: Weak<dyn Companion>,
}

/// What all handles share.
#[derive(Debug)]
pub(crate) struct Inflow {
    descriptor: SignalFd,
    /// How many of each slot were sent, a word each.
    counts: Mapping,
    slots: Vec<Slot>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct Slot {
    signal: u8,
    name: &'static str,
    grant: Name,
    from: Name,
    tap: Option<Tap>,
}

#[derive(Debug, Default)]
struct State {
    /// How many of each slot were received.
    seen: Vec<u64>,
    ready: VecDeque<Signal>,
}

impl Inflow {
    /// Begins to receive for `layer`, whose granted signals are blocked, and to report at `desk` as
    /// the plans say.
    pub(crate) fn new<'a>(
        signals: impl Iterator<Item = (u16, &'a SignalPlan)>,
        layer: &Name,
        counts: &OwnedFd,
        desk: &Desk,
    ) -> io::Result<Self> {
        let plans: BTreeMap<u16, &SignalPlan> = signals.collect();
        let slot = |(grant, signal): (u16, u8)| {
            let plan = plans.get(&grant)?;
            let tap = desk.tap(Facility::Signal, grant, plan.audit);
            let (grant, from) = (plan.name.clone(), plan.from.clone());
            Some(Slot { signal, name: signal_name(signal)?, grant, from, tap })
        };
        let in_order = plans.iter().map(|(number, plan)| (*number, *plan));
        let slots: Vec<Slot> = slots(in_order, layer).filter_map(slot).collect();
        let set: SigSet = slots.iter().filter_map(|slot| signal_of(slot.signal)).collect();
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let descriptor = SignalFd::with_flags(&set, flags)?;
        let counts = Mapping::sealed(counts.as_fd(), WORD * slots.len(), false)?;
        let state = State { seen: vec![0; slots.len()], ready: VecDeque::new() };
        Ok(Self { descriptor, counts, slots, state: Mutex::new(state) })
    }

    /// A signal that was taken in already.
    fn ready(&self) -> Option<Signal> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).ready.pop_front()
    }

    /// The next signal, if one has come.
    fn take(&self) -> io::Result<Option<Signal>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(signal) = state.ready.pop_front() {
                reached("signal.receive.handed");
                return Ok(Some(signal));
            }
            reached("signal.receive.before");
            let Some(rung) = self.descriptor.read_signal()? else { return Ok(None) };
            reached("signal.receive.rung");
            let State { seen, ready } = &mut *state;
            for ((place, slot), seen) in self.slots.iter().enumerate().zip(seen) {
                if u32::from(slot.signal) != rung.ssi_signo {
                    continue;
                }
                let now = self.counts.load_acquire(WORD * place);
                let count = now.wrapping_sub(*seen);
                // A signal that nobody has counted is this layer's own.
                if count == 0 {
                    continue;
                }
                *seen = now;
                slot.report(count, now);
                ready.push_back(Signal {
                    name: slot.name,
                    number: slot.signal,
                    from: slot.from.clone(),
                    grant: slot.grant.clone(),
                    count,
                });
            }
            reached("signal.receive.counted");
        }
    }
}

impl Slot {
    /// Reports signals that have come, the last of which was number `last` of its kind.
    fn report(&self, count: u64, last: u64) {
        let Some(tap) = &self.tap else { return };
        let (method, sequence, length) = (self.signal.into(), last, count);
        let facts = Facts { method, sequence, length, ..tap.facts(Side::Receiver) };
        tap.report(&facts, &[], &[]);
    }
}

impl Signals {
    pub(crate) fn new(shared: Arc<Inflow>, companion: Weak<dyn Companion>) -> io::Result<Self> {
        reached("signal.receive.open");
        // Of its own, for each handle is watched by itself.
        let descriptor = Arc::new(rustix::io::fcntl_dupfd_cloexec(&shared.descriptor, 3)?);
        Ok(Self { shared, descriptor, watch: None, companion })
    }

    /// Receives the next signal. Dropping the future loses none.
    pub async fn recv(&mut self) -> Result<Signal, RecvError> {
        loop {
            if let Some(signal) = self.shared.take()? {
                return Ok(signal);
            }
            let watch = match &self.watch {
                Some(watch) => watch,
                None => self.watch.insert(socket::watch_readable(Arc::clone(&self.descriptor))?),
            };
            let mut ready = watch.readable().await?;
            // What has come since the look above would ring no more.
            if let Some(signal) = self.shared.take()? {
                return Ok(signal);
            }
            ready.clear_ready();
        }
    }

    /// The same verbs, blocking the thread.
    pub fn blocking(&mut self) -> Blocking<&mut Self> {
        Blocking(self)
    }

    fn block(&mut self, time: Option<Duration>) -> Result<Signal, RecvError> {
        // A time limit that lies beyond what the clock can tell is none.
        let deadline = time.and_then(|time| Instant::now().checked_add(time));
        let waiter = Waiter::new(Some(&self.companion), Ends::WithLayer)?;
        loop {
            if let Some(signal) = self.shared.ready() {
                return Ok(signal);
            }
            // Asked first, for who waits has seldom got one already: the descriptor is read once.
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if waiter.sleep([(self.descriptor.as_fd(), PollFlags::IN)], left)? {
                if let Some(signal) = self.shared.take()? {
                    return Ok(signal);
                }
            } else if waiter.is_stopping() {
                return Err(RecvError::Stopping);
            } else if left.is_some_and(|left| left.is_zero()) {
                return Err(RecvError::Timeout);
            }
        }
    }
}

impl Blocking<&mut Signals> {
    /// Receives the next signal, at most for `time`; in a layer that is asked to finish,
    /// [`RecvError::Stopping`] once none is left.
    pub fn recv(&mut self, time: Option<Duration>) -> Result<Signal, RecvError> {
        self.0.block(time)
    }
}

/// The signal of that number, if it can be blocked.
fn signal_of(number: u8) -> Option<nix::sys::signal::Signal> {
    nix::sys::signal::Signal::try_from(i32::from(number)).ok()
}
