//! The two ends of a region's ring, as a layer uses them.

use std::time::Duration;

use super::error::RegionError;
use super::report::Tally;
use super::wait::{Pace, Patience};
use super::watch::Spot;
use super::{Held, Part, Region};
use crate::ipc::Blocking;
use crate::report::Side;
use crate::ring::{self, Consumer, Fault, Producer};

/// The end of a ring that sends. Not to be cloned: there is one.
#[derive(Debug)]
pub struct RingProducer {
    held: Held,
    end: Producer,
    tally: Option<Tally>,
}

/// The end of a ring that receives. Not to be cloned: there is one.
#[derive(Debug)]
pub struct RingConsumer {
    held: Held,
    end: Consumer,
    tally: Option<Tally>,
}

impl RingProducer {
    pub(super) fn new(region: &Region) -> Result<Self, RegionError> {
        let held = part(region, Part::Producer, ring::AT_PRODUCER, "send on a ring")?;
        let end = Producer::resume(&region.0.memory);
        Ok(Self { held, end, tally: tally(region, Side::Sender) })
    }

    /// The largest message, in bytes: the region, less 328.
    pub fn capacity(&self) -> usize {
        ring::capacity(self.held.0.size())
    }

    /// Sends a message if there is room for it now; false if there isn't.
    ///
    /// While the other end is awake, this takes no system call. What was sent stays in the region
    /// until it is received, whoever dies meanwhile.
    #[inline]
    pub fn try_send(&mut self, message: &[u8]) -> Result<bool, RegionError> {
        self.held.0.fits("message", message.len(), self.capacity())?;
        let sent = self.end.send(&self.held.0.0.memory, message);
        count(&mut self.tally, sent);
        sent.map_err(|fault| broken(&self.held, fault))
    }

    /// Sends a message, and waits for room as long as it takes. Dropping the future sends nothing.
    ///
    /// A task looks some times at once, and then sleeps until the other end wakes it.
    pub async fn send(&mut self, message: &[u8]) -> Result<(), RegionError> {
        let region = self.held.0.clone();
        let mut pace = Pace::default();
        while !self.try_send(message)? {
            pace.pause(&region, || self.arm_wakeup()).await?;
        }
        Ok(())
    }

    /// The same verbs, blocking the thread.
    pub fn blocking(&mut self) -> Blocking<&mut Self> {
        Blocking(self)
    }

    /// Says that this end is about to sleep, and where; `None` if there is no need to.
    fn arm_wakeup(&mut self) -> Result<Option<Spot>, RegionError> {
        let armed = self.end.arm_wakeup(&self.held.0.0.memory);
        let sleeps = armed.map_err(|fault| broken(&self.held, fault))?;
        Ok(sleeps.then_some(Spot { at: ring::AT_PRODUCER_SLEEPS, expected: 1, is_sign: true }))
    }
}

impl RingConsumer {
    pub(super) fn new(region: &Region) -> Result<Self, RegionError> {
        let held = part(region, Part::Consumer, ring::AT_CONSUMER, "receive from a ring")?;
        let end = Consumer::resume(&region.0.memory);
        Ok(Self { held, end, tally: tally(region, Side::Receiver) })
    }

    /// Takes the next message into `message`, in place of what was there; false if there is none.
    ///
    /// A message that this layer had not taken before it died comes again: the one that it was
    /// taking may come twice.
    #[inline]
    pub fn try_recv(&mut self, message: &mut Vec<u8>) -> Result<bool, RegionError> {
        let received = self.end.receive(&self.held.0.0.memory, message);
        count(&mut self.tally, received);
        received.map_err(|fault| broken(&self.held, fault))
    }

    /// Takes the next message, and waits for it as long as it takes. Dropping the future loses
    /// nothing.
    ///
    /// A task looks some times at once, and then sleeps until the other end wakes it.
    pub async fn recv(&mut self, message: &mut Vec<u8>) -> Result<(), RegionError> {
        let region = self.held.0.clone();
        let mut pace = Pace::default();
        while !self.try_recv(message)? {
            pace.pause(&region, || self.arm_wakeup()).await?;
        }
        Ok(())
    }

    /// The same verbs, blocking the thread.
    pub fn blocking(&mut self) -> Blocking<&mut Self> {
        Blocking(self)
    }

    /// Gives up all that is in the ring: the way on after [`RegionError::Broken`], once the
    /// producer has been restarted.
    pub fn skip(&mut self) -> Result<(), RegionError> {
        self.end.skip(&self.held.0.0.memory).map_err(|fault| broken(&self.held, fault))
    }

    /// Says that this end is about to sleep, and where; `None` if there is no need to.
    fn arm_wakeup(&mut self) -> Result<Option<Spot>, RegionError> {
        let armed = self.end.arm_wakeup(&self.held.0.0.memory);
        let sleeps = armed.map_err(|fault| broken(&self.held, fault))?;
        Ok(sleeps.then_some(Spot { at: ring::AT_CONSUMER_SLEEPS, expected: 1, is_sign: true }))
    }
}

impl Blocking<&mut RingProducer> {
    /// Sends a message as soon as there is room, at most after `time`.
    ///
    /// Whether the other end lives can't be seen in shared memory: a time is how to learn it.
    pub fn send(&mut self, message: &[u8], time: Option<Duration>) -> Result<(), RegionError> {
        let region = self.0.held.0.clone();
        let mut patience = Patience::new(time, &region);
        while !self.0.try_send(message)? {
            patience.pause(|| self.0.arm_wakeup())?;
        }
        Ok(())
    }
}

impl Blocking<&mut RingConsumer> {
    /// Takes the next message as soon as there is one, at most after `time`.
    pub fn recv(
        &mut self,
        message: &mut Vec<u8>,
        time: Option<Duration>,
    ) -> Result<(), RegionError> {
        let region = self.0.held.0.clone();
        let mut patience = Patience::new(time, &region);
        while !self.0.try_recv(message)? {
            patience.pause(|| self.0.arm_wakeup())?;
        }
        Ok(())
    }
}

fn tally(region: &Region, side: Side) -> Option<Tally> {
    region.0.tap.clone().map(|tap| Tally::new(tap, side))
}

/// Counts a message that went through, where that is reported.
#[inline]
fn count(tally: &mut Option<Tally>, went: Result<bool, Fault>) {
    if let (Some(tally), Ok(true)) = (tally, went) {
        tally.add();
    }
}

fn part(region: &Region, part: Part, at: usize, act: &'static str) -> Result<Held, RegionError> {
    region.must_write(act)?;
    if !ring::format(&region.0.memory) {
        return Err(region.other_use("a ring"));
    }
    region.take(part, at)
}

fn broken(held: &Held, what: Fault) -> RegionError {
    RegionError::Broken { region: held.0.name().clone(), what }
}
