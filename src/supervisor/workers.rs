//! Workers: layers each of whose lives serves one connection.
//!
//! A worker accepts by itself, and says so before it reads a byte: until then it is as trustworthy
//! as its program, and afterwards it has let go of the listening socket. The supervisor counts who
//! serves whom, and has others wait in its place. What a worker says of its source is believed once.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};

use super::child::Breach;
use super::{Life, Supervisor};
use crate::mark;
use crate::policy::plan::Workers;
use crate::prepare::upgrade::facts::Serves;
use crate::prepare::upgrade::moment::Moment;
use crate::prepare::upgrade::state::{Fd, Luggage};
use crate::wire::broker::{Answer, Refusal, SOURCE};
use crate::wire::control::ToLayer;

/// How often it is told that no worker is left: a flood of connections is no flood of lines.
const TOLD_AGAIN: Duration = Duration::from_mins(1);

/// Connections of a layer that wait for a process, accepted and unread. Those that are not accepted
/// yet wait in the socket's own queue, and nobody keeps their time.
#[derive(Default)]
pub(super) struct Held {
    waiting: VecDeque<(OwnedFd, Instant)>,
    /// How many were closed, and not told of.
    closed: u64,
    /// When it was told last.
    told: Option<Instant>,
}

impl Held {
    /// The one that has waited longest.
    pub(super) fn next(&mut self) -> Option<OwnedFd> {
        Some(self.waiting.pop_front()?.0)
    }
}

/// Writes down who waits.
pub(super) fn carry(held: &BTreeMap<usize, Held>, luggage: &mut Luggage) -> Vec<(u64, Fd, Moment)> {
    let all = held.iter().flat_map(|(layer, it)| it.waiting.iter().map(|one| (*layer, one)));
    all.map(|(layer, (line, since))| (layer as u64, luggage.add(line), (*since).into())).collect()
}

/// Who waited as the program before has left them.
pub(super) fn carried(from: Vec<(u64, Fd, Moment)>) -> io::Result<BTreeMap<usize, Held>> {
    let mut held = BTreeMap::<usize, Held>::new();
    for (layer, line, since) in from {
        let layer = usize::try_from(layer).map_err(io::Error::other)?;
        held.entry(layer).or_default().waiting.push_back((line.take()?, since.into()));
    }
    Ok(held)
}

impl Supervisor<'_> {
    /// Whether connections of a layer are accepted in the stead of a process: nobody is there, or will be,
    /// until one that serves another has ended.
    pub(super) fn holds(&self, layer: usize) -> bool {
        let held = self.held.get(&layer).map_or(0, |it| it.waiting.len());
        let nobody = |it: &super::Place| match &it.life {
            Life::Running(child) => child.serves.is_some() || child.deadline.is_some(),
            Life::Down => true,
            Life::Waiting(_) | Life::Spare => it.retired,
        };
        !self.stopping && held < Workers::MOST_HELD && self.places.each_of(layer).all(nobody)
    }

    pub(super) fn wait_of(&self, layer: usize) -> Option<Duration> {
        self.plan.layers[layer].workers.as_ref()?.wait
    }

    /// Accepts who waits for a process of a layer.
    pub(super) fn hold(&mut self, layer: usize) {
        let Some(listening) = self.images[layer].listeners.first() else { return };
        let held = self.held.entry(layer).or_default();
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        while held.waiting.len() < Workers::MOST_HELD {
            match accept_with(listening.socket(), flags) {
                Ok(line) => held.waiting.push_back((line, Instant::now())),
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(_) => return,
            }
        }
    }

    /// When the first that waits has waited for long enough.
    pub(super) fn held_deadline(&self) -> Option<Instant> {
        let first = |(layer, held): (&usize, &Held)| {
            let (_, since) = held.waiting.front()?;
            Some(*since + self.wait_of(*layer).unwrap_or_default())
        };
        self.held.iter().filter_map(first).min()
    }

    /// Closes those that have waited for as long as their layer's policy says.
    pub(super) fn close_what_waited(&mut self) {
        let now = Instant::now();
        let mut tell = Vec::new();
        for (&layer, held) in &mut self.held {
            let workers = self.plan.layers[layer].workers.as_ref();
            let wait = workers.and_then(|it| it.wait).unwrap_or_default();
            while held.waiting.pop_front_if(|(_, since)| *since + wait <= now).is_some() {
                mark::reached("supervisor.held.closed");
                held.closed += 1;
            }
            if held.closed > 0 {
                tell.push((layer, wait));
            }
        }
        for (layer, wait) in tell {
            self.tell_closed(layer, wait, now);
        }
    }

    /// At once the first time, and then how many there were since, once a minute.
    fn tell_closed(&mut self, layer: usize, wait: Duration, now: Instant) {
        let Some(held) = self.held.get_mut(&layer) else { return };
        if held.told.is_some_and(|at| now < at + TOLD_AGAIN) {
            return;
        }
        held.told = Some(now);
        let closed = std::mem::take(&mut held.closed);
        let (name, wait) = (&self.plan.layers[layer].name, wait.as_millis());
        self.log.say(&format!(
            "[layer.{name}] {} closed, having waited {wait} ms for a process: `wait` says how long, \
             `instances` how many there may be",
            if closed == 1 { "1 connection was".to_owned() } else { format!("{closed} connections were") }
        ));
    }

    /// The worker at a place has accepted a connection.
    pub(super) fn serves(&mut self, place: usize, request: u64, source: [u8; SOURCE]) {
        let (layer, now) = (self.places[place].seat.layer, Instant::now());
        let plan = &self.plan.layers[layer];
        let bound = plan.listen.first().and_then(|listen| listen.per_source);
        let serving = |place: &&super::Place| match &place.life {
            Life::Running(child) => child.serves.as_ref().is_some_and(|it| it.source == source),
            _ => false,
        };
        let others = self.places.each_of(layer).filter(serving).count();
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
        let seats = self.places.of(layer);
        let waiting = seats.iter().filter(|&&it| waits(&self.places[it].life)).count();
        let spare = |it: &&usize| matches!(self.places[**it].life, Life::Spare);
        let missing = usize::from(warm).saturating_sub(waiting);
        let next: Vec<usize> = seats.iter().filter(spare).take(missing).copied().collect();
        let all = seats.len();
        if waiting == 0 && next.is_empty() {
            self.tell_full(layer, all);
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

    /// Asks one to finish that has served its connection for as long as it may.
    pub(super) fn end_long_served(&mut self, place: usize) {
        let instance = &self.places[place].seat.instance;
        self.log.say(&format!(
            "{instance} has served its connection for as long as `lifetime` allows, and is to finish"
        ));
        self.end_in_order(place);
    }
}
