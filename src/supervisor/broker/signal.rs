//! Sending signals for layers: to exactly the process that is meant, by its pidfd.
//!
//! The kernel merges standard signals that wait (signal(7)). So each is counted first, in memory
//! that the receiver may read: the signal is the bell, the count is what the receiver goes by.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::channel::protocol::Bucket;
use crate::confine::init::STOP_PROGRAM;
use crate::ident::Name;
use crate::ipc::signal::slots;
use crate::mark::reached;
use crate::policy::plan::{Facilities, Program};
use crate::prepare::upgrade::state::{Fd, Luggage};
use crate::supervisor::{Life, Supervisor};
use crate::sys::mapping::{Mapping, WORD};
use crate::sys::reopen::reopen;
use crate::sys::{memory, pidfd};
use crate::wire::broker::{EVERY_COPY, Refusal};

/// How often signals were sent, and by whose leave how often they may be.
#[derive(Debug, Default)]
pub struct Switchboard {
    buckets: BTreeMap<u16, Bucket>,
    counts: BTreeMap<usize, Counts>,
}

/// The signals that the present instance of a layer was sent.
#[derive(Debug)]
struct Counts {
    memory: Mapping,
    fd: OwnedFd,
    /// Where each grant's signal stands, and its count.
    slots: BTreeMap<(u16, u8), (usize, u64)>,
}

impl Switchboard {
    /// Begins to count for the new instance at `place`, and gives it the memory to read; `None` if
    /// nobody sends its layer signals.
    pub fn open(
        &mut self,
        place: usize,
        layer: &Name,
        all: &Facilities,
    ) -> io::Result<Option<OwnedFd>> {
        let slots: Vec<(u16, u8)> = slots((0..).zip(&all.signals), layer).collect();
        if slots.is_empty() {
            return Ok(None);
        }
        let bytes = WORD * slots.len();
        let memory = memory::create_fixed("signals", bytes as u64)?;
        let counted = Mapping::sealed(memory.as_fd(), bytes, true)?;
        let reading = reopen(&memory, OFlags::RDONLY)?;
        // So that nobody who holds the reading one opens it again for writing.
        rustix::fs::fchmod(&memory, Mode::empty())?;
        let slots = (0..).step_by(WORD).zip(slots).map(|(at, slot)| (slot, (at, 0))).collect();
        self.counts.insert(place, Counts { memory: counted, fd: memory, slots });
        reached("signal.open.made");
        Ok(Some(reading))
    }

    /// The counts, for a program that takes this one's place.
    pub fn carry(&self, luggage: &mut Luggage) -> Vec<(u64, Fd, Vec<u64>)> {
        let counts = self.counts.iter().map(|(&place, it)| {
            let counts = it.slots.values().map(|&(_, count)| count).collect();
            (place as u64, luggage.add(&it.fd), counts)
        });
        counts.collect()
    }

    /// Those of the program before, of the layers at these places.
    pub fn carried<'p>(
        from: &[(u64, Fd, Vec<u64>)],
        layer_at: impl Fn(usize) -> Option<&'p Name>,
        all: &Facilities,
    ) -> io::Result<Self> {
        let mut counts = BTreeMap::new();
        for (place, fd, counted) in from {
            let place = usize::try_from(*place).map_err(io::Error::other)?;
            let layer = layer_at(place).ok_or(io::ErrorKind::InvalidData)?;
            let slots: Vec<(u16, u8)> = slots((0..).zip(&all.signals), layer).collect();
            let fd = fd.take()?;
            let memory = Mapping::sealed(fd.as_fd(), WORD * slots.len(), true)?;
            let at: BTreeMap<_, _> = slots.into_iter().zip((0..).step_by(WORD)).collect();
            // In the order of the grants, as they are written.
            let slots = at.into_iter().zip(counted).map(|((slot, at), &count)| (slot, (at, count)));
            counts.insert(place, Counts { memory, fd, slots: slots.collect() });
        }
        Ok(Self { counts, ..Self::default() })
    }

    /// What the buckets hold of grants that are others from now on counts no more.
    pub fn forget_changed(&mut self, old: &Facilities, new: &Facilities) {
        let same = |grant: &u16| {
            let of = |all: &Facilities| all.signals.get(usize::from(*grant)).cloned();
            of(old) == of(new)
        };
        self.buckets.retain(|grant, _| same(grant));
    }

    /// The instance at `place` has ended.
    pub fn close(&mut self, place: usize) {
        reached("signal.close.before");
        self.counts.remove(&place);
    }
}

impl Counts {
    fn add(&mut self, grant: u16, signal: u8) {
        if let Some((at, count)) = self.slots.get_mut(&(grant, signal)) {
            *count += 1;
            self.memory.store_release(*at, *count);
        }
    }
}

impl Supervisor<'_> {
    /// Sends a signal for the layer at `from`, or refuses. `whom` is the copy and its generation.
    pub(super) fn signal(
        &mut self,
        from: usize,
        grant: u16,
        whom: (u16, u64),
        signal: u8,
    ) -> Result<(), Refusal> {
        reached("signal.send.heard");
        let plan = self.plan.facilities.signals.get(usize::from(grant));
        let sender = &self.places[from].seat.instance.layer;
        let Some(plan) = plan.filter(|plan| plan.from == *sender && plan.send.contains(&signal))
        else {
            return Err(Refusal::NotGranted);
        };
        let (to, rate) = (plan.to.clone(), plan.rate);
        let targets: Vec<usize> =
            (0..self.places.len()).filter(|&place| self.is_meant(place, &to, whom)).collect();
        if targets.is_empty() {
            return Err(Refusal::PeerDead);
        }
        let now = Instant::now();
        if let Some(rate) = rate
            && !self
                .switchboard
                .buckets
                .entry(grant)
                .or_insert_with(|| Bucket::full(rate, now))
                .take(rate, now)
        {
            return Err(Refusal::Limit);
        }
        reached("signal.send.allowed");
        let mut result = Err(Refusal::PeerDead);
        for place in targets {
            match self.ring(place, grant, signal) {
                Ok(()) => result = Ok(()),
                // It has ended, and nobody has its pidfd's place.
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                Err(error) => {
                    let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
                    return Err(Refusal::System(errno.raw_os_error()));
                }
            }
        }
        result
    }

    /// Whether the instance at `place` is confined, runs, and is the one that is asked for. One
    /// that isn't confined yet could die of a signal that it is about to wait for.
    fn is_meant(&self, place: usize, to: &Name, (index, generation): (u16, u64)) -> bool {
        let Life::Running(child) = &self.places[place].life else { return false };
        let instance = &child.instance;
        child.is_serving()
            && instance.layer == *to
            && (index == EVERY_COPY || index == instance.index)
            && (generation == 0 || generation == instance.generation)
    }

    /// Counts a signal and sends it.
    fn ring(&mut self, place: usize, grant: u16, signal: u8) -> io::Result<()> {
        if let Some(counts) = self.switchboard.counts.get_mut(&place) {
            counts.add(grant, signal);
        }
        reached("signal.send.counted");
        let Life::Running(child) = &self.places[place].life else {
            return Err(Errno::SRCH.into());
        };
        let program = &self.plan.layers[self.places[place].seat.layer].program;
        let number = match (program, i32::from(signal)) {
            (Program::Exec(_), libc::SIGSTOP) => STOP_PROGRAM,
            (_, number) => number,
        };
        pidfd::signal_number(&child.process, number)?;
        reached("signal.send.sent");
        Ok(())
    }
}
