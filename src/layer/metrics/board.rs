//! What is known of each instance, and the text of it.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::time::ClockId;

use crate::confine::cgroup::Counter;
use crate::handle::numbers::{self, Life, Numbers, Usage};
use crate::ident::Name;
use crate::layer::order::Order;
use crate::sys::clock::nanoseconds;
use crate::wire::life::{Ending, Load, Stage, Standing};

/// For how long a text is good: whoever asks more often gets the same, and costs the kernel nothing.
const FRESH: Duration = Duration::from_millis(100);

/// The most of a counter's file that is read.
const COUNTER: usize = 1024;

/// Pairs of a layer and how its lives ended, at most.
const ENDS: usize = 4096;

/// All instances, by their places.
pub(super) struct Board {
    daemon: Name,
    standings: BTreeMap<u32, Standing>,
    counters: BTreeMap<(u32, Counter), OwnedFd>,
    ends: BTreeMap<(String, String), u64>,
    text: Option<(Instant, String)>,
}

impl Board {
    pub(super) fn new(daemon: Name) -> Self {
        let (standings, counters) = (BTreeMap::new(), BTreeMap::new());
        Self { daemon, standings, counters, ends: BTreeMap::new(), text: None }
    }

    /// Takes up what the supervisor said.
    pub(super) fn obey(&mut self, order: Order) {
        match order {
            Order::Standing(standing) => self.put(*standing),
            Order::Counter { seat, counter, file } => {
                if let Some(counter) = Counter::ALL.get(usize::from(counter)) {
                    self.counters.insert((seat, *counter), file);
                }
            }
            _ => {}
        }
    }

    fn put(&mut self, standing: Standing) {
        let seat = standing.seat;
        if standing.pid == 0 {
            self.counters.retain(|(of, _), _| *of != seat);
        }
        if let Some(end) = &standing.last {
            let before = self.standings.get(&seat).map(|it| it.last.as_ref());
            // What had ended before this life of ours began is not known whole.
            if before.is_some_and(|last| last.map(|it| &it.instance) != Some(&end.instance)) {
                let place = (end.instance.layer.to_string(), how(end.ending));
                if self.ends.len() < ENDS || self.ends.contains_key(&place) {
                    *self.ends.entry(place).or_default() += 1;
                }
            }
        }
        if standing.stage == Stage::Gone {
            self.standings.remove(&seat);
        } else {
            self.standings.insert(seat, standing);
        }
    }

    /// The numbers as text.
    pub(super) fn text(&mut self) -> &str {
        let now = Instant::now();
        let old = self.text.take().filter(|(at, _)| now < *at + FRESH);
        let fresh = old.unwrap_or_else(|| (now, numbers::text(&self.numbers())));
        &self.text.insert(fresh).1
    }

    fn numbers(&self) -> Numbers {
        // Times are told by a clock that nobody sets.
        let ahead = nanoseconds(ClockId::Realtime).saturating_sub(nanoseconds(ClockId::Monotonic));
        let there = self.standings.values().filter(|it| it.stage != Stage::Spare);
        let life = |it: &Standing| Life {
            instance: it.instance.clone(),
            runs: it.pid > 0,
            since: it.since + ahead,
            lives: it.instance.generation,
            refused: 0,
            denied: 0,
        };
        let busy = |it: &Standing| Some((it.instance.clone(), it.load? == Load::Busy));
        let usage = |it: &Standing| (it.instance.clone(), self.usage(it.seat));
        Numbers {
            daemon: self.daemon.to_string(),
            is_up: true,
            lives: there.clone().map(life).collect(),
            ends: self.ends.clone().into_iter().collect(),
            busy: there.clone().filter_map(busy).collect(),
            usage: there.map(usage).collect(),
            ..Numbers::default()
        }
    }

    fn usage(&self, seat: u32) -> Usage {
        let read = |counter: Counter| {
            let mut bytes = [0; COUNTER];
            let length = rustix::io::pread(self.counters.get(&(seat, counter))?, &mut bytes[..], 0);
            counter.number(std::str::from_utf8(&bytes[..length.ok()?]).ok()?)
        };
        Usage {
            memory: read(Counter::Memory).or_else(|| read(Counter::OldMemory)),
            memory_limit: None,
            cpu: read(Counter::Cpu).or_else(|| read(Counter::OldCpu)),
            tasks: read(Counter::Tasks),
        }
    }
}

/// How a life ended, as the audit log says it.
fn how(ending: Ending) -> String {
    match ending {
        Ending::Exited(code) => format!("exit {code}"),
        Ending::Killed(number) => nix::sys::signal::Signal::try_from(number)
            .map_or_else(|_| format!("signal {number}"), |signal| signal.as_str().to_owned()),
    }
}
