//! What the supervisor waits for, and what it does when that comes.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::audit::Audit;
use super::{Life, Supervisor};
use crate::sys::poller::Interest;

/// How often what the kernel wouldn't give back yet (a cgroup) is tried again.
const SWEEP: Duration = Duration::from_millis(50);

/// How long until a descriptor is tried again that the kernel couldn't watch.
const WATCH_AGAIN: Duration = Duration::from_millis(20);

/// What a descriptor belongs to. They are served in this order, so that a place's last words are heard
/// before its end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Signals,
    Door,
    Steward,
    /// Whoever waits for a process of this layer.
    Waiting(usize),
    Control(usize),
    Process(usize),
}

/// What has to be looked at when its time comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// Who is at a place.
    Place(usize),
    /// How many copies a layer has.
    Layer(usize),
}

impl Source {
    /// Its number, by which they are put in order.
    pub(super) fn number(self) -> u64 {
        let (kind, number) = match self {
            Self::Signals => (0, 0),
            Self::Door => (1, 0),
            Self::Steward => (2, 0),
            Self::Waiting(layer) => (3, layer),
            Self::Control(place) => (4, place),
            Self::Process(place) => (5, place),
        };
        kind << 32 | number as u64
    }

    fn of(token: u64) -> Option<Self> {
        let number = usize::try_from(token & u64::from(u32::MAX)).ok()?;
        match token >> 32 {
            0 => Some(Self::Signals),
            1 => Some(Self::Door),
            2 => Some(Self::Steward),
            3 => Some(Self::Waiting(number)),
            4 => Some(Self::Control(number)),
            5 => Some(Self::Process(number)),
            _ => None,
        }
    }
}

impl Supervisor<'_> {
    /// Waits for something to happen and says what.
    pub(super) fn wait(&mut self) -> Vec<Source> {
        let now = Instant::now();
        self.settle(now);
        let timeout = self.next_deadline();
        let timeout = timeout.map(|at| at.saturating_duration_since(Instant::now()));
        let mut ready: Vec<u64> = self.poller.wait(timeout).collect();
        ready.sort_unstable();
        ready.into_iter().filter_map(Source::of).collect()
    }

    /// Sees to it that is waited for what has to be, where something may have changed.
    fn settle(&mut self, now: Instant) {
        // Whether who asks for something is listened to depends on the log then.
        let crowded = self.audit.as_ref().is_some_and(Audit::waits);
        if crowded || std::mem::replace(&mut self.crowded, crowded) {
            self.places.touch_all();
        }
        self.crowded = crowded;
        let mut layers: BTreeSet<usize> = self.held.keys().copied().collect();
        for place in self.places.take_touched() {
            self.watch(place, now);
            layers.insert(self.places[place].seat.layer);
        }
        for layer in layers {
            self.watch_layer(layer, now);
        }
        let look = |it: bool| if it { Interest::IN } else { Interest::empty() };
        if let Some(door) = &self.door {
            self.poller.set(Source::Door.number(), &door.socket, look(door.is_open()));
        }
        match &self.reloads.steward {
            Some(it) => drop(self.poller.set(Source::Steward.number(), &it.socket, Interest::IN)),
            None => self.poller.closed(Source::Steward.number()),
        }
        self.poller.set(Source::Signals.number(), &self.signals, Interest::IN);
    }

    fn watch(&mut self, place: usize, now: Instant) {
        let throttled = self.runs(place).then(|| self.throttled_until(place, now)).flatten();
        let at = match &self.places[place].life {
            Life::Running(child) => {
                let mut interest = child.interest();
                if throttled.is_some() {
                    interest.remove(Interest::IN);
                }
                let heard =
                    self.poller.set(Source::Control(place).number(), &child.control, interest);
                let seen =
                    self.poller.set(Source::Process(place).number(), &child.process, Interest::IN);
                let again = (!(heard && seen)).then(|| now + WATCH_AGAIN);
                child.next_deadline().into_iter().chain(throttled).chain(again).min()
            }
            _ => None,
        };
        self.agenda.set(Due::Place(place), at);
        if matches!(self.places[place].life, Life::Waiting(_)) {
            self.waiting.insert(place);
        } else {
            self.waiting.remove(&place);
        }
    }

    fn watch_layer(&mut self, layer: usize, now: Instant) {
        let mut at = self.load_deadline(layer, now);
        if self.wait_of(layer).is_some()
            && let Some(listening) = self.images[layer].listeners.first()
        {
            let look = if self.holds(layer) { Interest::IN } else { Interest::empty() };
            if !self.poller.set(Source::Waiting(layer).number(), listening.socket(), look) {
                at = at.into_iter().chain([now + WATCH_AGAIN]).min();
            }
        }
        self.agenda.set(Due::Layer(layer), at);
    }

    /// When there is something to do whatever happens.
    fn next_deadline(&self) -> Option<Instant> {
        let waiting = self.waiting.iter().filter_map(|&place| match self.places[place].life {
            // What it waits for is an act of another, which a descriptor tells.
            Life::Waiting(at) => (!self.must_wait(place)).then_some(at),
            _ => None,
        });
        let sweep = (!self.leftovers.groups.is_empty()).then(|| Instant::now() + SWEEP);
        let others = [self.agenda.first(), self.reloads.deadline(), self.held_deadline()];
        let others = others.into_iter().chain([sweep, self.flushes_at(), self.manager.deadline()]);
        waiting.chain(others.flatten()).min()
    }

    /// Does what is to be done by now: lives that are late, or owe an answer, or whom nothing could be
    /// told; and layers of which there are too few, or too many.
    pub(super) fn look_after_who_is_due(&mut self) {
        let now = Instant::now();
        while let Some(due) = self.agenda.take(now) {
            match due {
                Due::Place(place) => {
                    self.places.touch(place);
                    self.flush_late_outbox(place, now);
                    self.end_if_late(place, now);
                    self.look_after_health(place, now);
                    self.restart_if_it_took_nothing(place, now);
                }
                Due::Layer(layer) => {
                    self.look_after_load(layer, now);
                    if let Some(&first) = self.places.of(layer).first() {
                        self.places.touch(first);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_source_comes_back_as_itself_and_last_words_before_the_end() {
        let all = [
            Source::Signals,
            Source::Door,
            Source::Steward,
            Source::Waiting(7),
            Source::Control(70_000),
            Source::Process(69_000),
        ];
        assert!(all.map(Source::number).is_sorted());
        for source in all {
            assert_eq!(Source::of(source.number()), Some(source));
        }
        assert_eq!(Source::of(7 << 32), None);
    }
}
