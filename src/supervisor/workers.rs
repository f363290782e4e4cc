//! Workers: layers each of whose lives serves one connection.
//!
//! A worker accepts by itself, and says so before it reads a byte: until then it is as trustworthy
//! as its program, and afterwards it has let go of the listening socket. The supervisor counts who
//! serves whom, and has others wait in its place. What a worker says of its source is believed once.

use std::time::{Duration, Instant};

use super::child::{Breach, Serves};
use super::{Life, Supervisor};
use crate::policy::plan::Workers;
use crate::wire::broker::{Answer, Refusal, SOURCE};
use crate::wire::control::ToLayer;

/// How often it is told that no worker is left: a flood of connections is no flood of lines.
const TOLD_AGAIN: Duration = Duration::from_mins(1);

impl Supervisor<'_> {
    /// The worker at a place has accepted a connection.
    pub(super) fn serves(&mut self, place: usize, request: u64, source: [u8; SOURCE]) {
        let (layer, now) = (self.places[place].seat.layer, Instant::now());
        let plan = &self.plan.layers[layer];
        let bound = plan.listen.first().and_then(|listen| listen.per_source);
        let serving = |place: &&super::Place| match &place.life {
            Life::Running(child) => child.serves.as_ref().is_some_and(|it| it.source == source),
            _ => false,
        };
        let others = self.places.iter().filter(|it| it.seat.layer == layer).filter(serving).count();
        let until = plan.workers.as_ref().map(|workers| workers.lifetime.map(|time| now + time));
        let refused = bound.is_some_and(|most| others >= most as usize);
        match (&mut self.places[place].life, until) {
            (Life::Running(child), Some(until)) if child.serves.is_none() => {
                child.serves = (!refused).then_some(Serves { source, until });
            }
            _ => return self.breach(place, Breach::Protocol),
        }
        if bound.is_some() {
            let answer = if refused { Answer::Refused(Refusal::Limit) } else { Answer::Done };
            self.tell(place, &ToLayer::Answer { request, answer }, None);
        }
        self.fill(place);
    }

    /// Has as many workers of the layer at a place wait for a connection as its policy says.
    pub(super) fn fill(&mut self, place: usize) {
        let layer = self.places[place].seat.layer;
        let Some(Workers { warm, .. }) = self.plan.layers[layer].workers else { return };
        if self.stopping {
            return;
        }
        let waits = |life: &Life| match life {
            Life::Waiting(_) => true,
            Life::Running(child) => child.serves.is_none() && child.deadline.is_none(),
            Life::Down | Life::Spare => false,
        };
        let of_layer = |it: &usize| self.places[*it].seat.layer == layer;
        let seats: Vec<usize> = (0..self.places.len()).filter(of_layer).collect();
        let waiting = seats.iter().filter(|&&it| waits(&self.places[it].life)).count();
        let spare = |it: &&usize| matches!(self.places[**it].life, Life::Spare);
        let missing = usize::from(warm).saturating_sub(waiting);
        let next: Vec<usize> = seats.iter().filter(spare).take(missing).copied().collect();
        if waiting == 0 && next.is_empty() {
            self.tell_full(layer, seats.len());
        }
        for place in next {
            self.places[place].life = Life::Waiting(Instant::now());
            self.changed(place);
        }
    }

    /// Whether it was told lately that no copy of a layer is left.
    pub(super) fn told_full(&self, layer: usize, now: Instant) -> bool {
        self.full.get(&layer).is_some_and(|&at| now < at + TOLD_AGAIN)
    }

    pub(super) fn tell_full(&mut self, layer: usize, all: usize) {
        let now = Instant::now();
        if self.told_full(layer, now) {
            return;
        }
        self.full.insert(layer, now);
        let (what, key) = match self.plan.layers[layer].elastic {
            None => ("processes serve connections, and more wait until one has ended", "instances"),
            Some(_) => ("instances are busy, and more waits for them", "instances.max"),
        };
        let name = &self.plan.layers[layer].name;
        self.log
            .say(&format!("[layer.{name}] all {all} {what}: `{key}` says how many there may be"));
    }

    /// Asks those to finish that have served their connection for as long as they may.
    pub(super) fn end_long_served(&mut self, now: Instant) {
        for place in 0..self.places.len() {
            let Life::Running(child) = &self.places[place].life else { continue };
            if child.deadline.is_none() && child.ends_at().is_some_and(|at| at <= now) {
                self.log.say(&format!(
                    "{} has served its connection for as long as `lifetime` allows, and is to finish",
                    child.instance
                ));
                self.end_in_order(place);
            }
        }
    }
}
