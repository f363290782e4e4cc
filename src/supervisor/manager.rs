//! What a service manager is told of the daemon (`sd_notify(3)`): that it is ready, that it stops,
//! and, where a watchdog waits for that, that it is alive.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::net::SendFlags;

use super::Supervisor;
use super::listen::Listening;
use crate::prepare::upgrade::state::{self, Luggage};
use crate::prepare::{MOST_PASSED, kept_name};
use crate::sys::passing;

/// A service manager that wants to hear of the daemon.
#[derive(Debug)]
pub(crate) struct ServiceManager {
    /// A datagram socket that leads to it.
    pub socket: OwnedFd,
    /// After how long without a word it takes the daemon for dead.
    pub watchdog: Option<Duration>,
}

/// What it was told.
#[derive(Debug)]
pub(super) struct Manager {
    socket: Option<OwnedFd>,
    /// How often it is told that the daemon lives, and when next.
    watchdog: Option<(Duration, Instant)>,
    knows: bool,
}

impl Manager {
    pub(super) fn new(manager: Option<ServiceManager>) -> Self {
        // Twice in that time, as sd_watchdog_enabled(3) advises.
        let every = manager.as_ref().and_then(|manager| manager.watchdog).map(|time| time / 2);
        let watchdog = every.map(|every| (every, Instant::now()));
        Self { socket: manager.map(|manager| manager.socket), watchdog, knows: false }
    }

    /// What a program must know that takes this one's place.
    pub(super) fn carry(&self, luggage: &mut Luggage) -> Option<state::Manager> {
        let every = self.watchdog.map(|(every, _)| every);
        let socket = luggage.add(self.socket.as_ref()?);
        Some(state::Manager { socket, every, knows: self.knows })
    }

    /// What the program before has left.
    pub(super) fn carried(from: Option<state::Manager>) -> io::Result<Self> {
        let (every, knows) = from.as_ref().map_or((None, false), |it| (it.every, it.knows));
        let socket = from.map(|it| it.socket.take()).transpose()?;
        Ok(Self { socket, watchdog: every.map(|every| (every, Instant::now())), knows })
    }

    /// Tells it something; lost if it doesn't read.
    pub(super) fn tell(&self, what: &str) {
        if let Some(socket) = &self.socket {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            let _ = rustix::net::send(socket, what.as_bytes(), flags);
        }
    }

    /// When the watchdog has to hear of the daemon.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.watchdog.map(|(_, at)| at)
    }

    /// Tells the watchdog, if it is time. What calls this is the loop that does all else.
    pub(super) fn tell_alive(&mut self) {
        let now = Instant::now();
        if let Some((every, _)) = self.watchdog.filter(|(_, at)| *at <= now) {
            self.tell("WATCHDOG=1");
            self.watchdog = Some((every, now + every));
        }
    }
}

impl Supervisor<'_> {
    /// Has it keep the listening sockets, so that a supervisor that comes after a crash finds them with
    /// whoever waits there; and let go of those that were there `before` and aren't any more.
    pub(super) fn keep_listeners(&self, before: &BTreeSet<String>) {
        let Some(socket) = &self.manager.socket else { return };
        let kept = self.listening().take(usize::from(MOST_PASSED)).collect::<BTreeMap<_, _>>();
        for (name, listener) in &kept {
            let what = format!("FDSTORE=1\nFDNAME={name}");
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            let _ = passing::send(socket, what.as_bytes(), Some(listener.as_fd()), flags);
        }
        for gone in before.iter().filter(|name| !kept.contains_key(*name)) {
            self.manager.tell(&format!("FDSTOREREMOVE=1\nFDNAME={gone}"));
        }
    }

    /// The listening sockets, by what a manager calls them.
    pub(super) fn listening(&self) -> impl Iterator<Item = (String, &OwnedFd)> {
        self.images.iter().flat_map(|image| {
            let name = |it: &Listening| kept_name(&image.data.plan.name, &it.plan.name);
            image.listeners.iter().map(move |it| (name(it), it.socket()))
        })
    }

    /// Tells the service manager once that every layer of the policy has been ready.
    pub(super) fn tell_manager_if_ready(&mut self) {
        let mut stated = (0..self.places.len())
            .filter(|&it| self.role(it).is_none() && !self.places[it].retired);
        if !self.manager.knows && stated.all(|place| self.places[place].seat.was_ready) {
            self.manager.knows = true;
            self.manager.tell("READY=1\nSTATUS=all layers are ready");
        }
    }
}
