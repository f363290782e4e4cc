//! The helper that knows the other hosts: it has this host's private key, shakes hands with the same
//! helper of each other host, tells it which instances are here and which keys they have, and has the
//! supervisor introduce those of the other host to those of this one.
//!
//! It has no network. What it says goes by `link`, which has no keys: a connection is
//! nothing but bytes to it until hands were shaken and something was opened that only the other host
//! can have sealed. Nothing is said to a host that is proven but what concerns channels between the two.

mod orders;
mod talk;
mod words;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use zeroize::Zeroizing;

pub(crate) use self::orders::{Orders, files, serves};
use self::talk::{Fault, Line, MOST, Talk};
pub(crate) use self::words::{FromLink, ToLink};
use super::order::{Order, Orders as Told};
use super::run::say;
use super::{Layer, Shared};
use crate::host_key;
use crate::ident::{Instance, Name};
use crate::seal::{Identity, PublicKey};
use crate::wire::control::{FromLayer, Object};
use crate::wire::hosts::Meeting;
use crate::wire::report::MAX_WITNESS;

/// What the helper is called, as a layer and as a function. No policy may use the name.
pub(crate) const NAME: &str = "cofferdam-hosts";

/// What the helper is called that carries what is said.
pub(crate) const LINK: &str = "cofferdam-link";

/// What the file with its private key is called.
pub(crate) const KEY: &str = "cofferdam-host-key";

/// Bytes of the memory that outlives it: the count of links between hosts.
pub(crate) const STATE: usize = 8;

/// How often it says that it is there.
const ALIVE: Duration = Duration::from_secs(2);

/// A host of which nothing was heard for so long can't be reached.
const LOST: Duration = Duration::from_secs(8);

/// How long two wait until they meet again whose link has ended, at first; twice as long each time, up
/// to 4 s.
const AGAIN: Duration = Duration::from_millis(250);

/// How long a connection may take until it is proven whose it is.
const SHAKE: Duration = Duration::from_secs(5);

/// Connections at once whose host isn't proven.
const STRANGERS: usize = 32;

/// Serves until the supervisor says stop, or is gone.
pub(super) fn run(layer: &Layer) -> io::Result<()> {
    let orders = Orders::decode(layer.settings())?;
    let identity = Arc::new(identity(&layer.0)?);
    let is_own = orders.own().is_some_and(|own| own.keys.contains(&identity.public().0));
    if !is_own {
        return Err(io::Error::other("the host's key is none that the policy names for it"));
    }
    let mut desk = Desk {
        layer,
        identity,
        orders,
        carrier: None,
        people: BTreeMap::new(),
        lines: BTreeMap::new(),
        reached: BTreeMap::new(),
        attempts: BTreeMap::new(),
        broken: BTreeMap::new(),
        next: Instant::now() + ALIVE,
    };
    desk.take_orders()?;
    while desk.turn()? {}
    Ok(())
}

/// The host's key, from its file.
fn identity(shared: &Shared) -> io::Result<Identity> {
    let files = shared.files.lock().unwrap_or_else(PoisonError::into_inner);
    let file =
        files.get(KEY).ok_or_else(|| io::Error::other("the host's key wasn't handed over"))?;
    let mut text = Zeroizing::new(vec![0; host_key::MOST]);
    let length = rustix::io::pread(file, &mut text[..], 0)?;
    let key = host_key::parse(&text[..length]);
    let mut key = Zeroizing::new(key.ok_or_else(|| io::Error::other("the host's key is no key"))?);
    Identity::take(&mut key).map_err(io::Error::other)
}

struct Desk<'a> {
    layer: &'a Layer,
    identity: Arc<Identity>,
    orders: Orders,
    /// The socket to who carries what is said, and its seat.
    carrier: Option<(u32, OwnedFd)>,
    /// Instances of this host, by their seats.
    people: BTreeMap<u32, (Instance, [u8; 32])>,
    /// Connections, by their numbers.
    lines: BTreeMap<u32, Line>,
    /// Hosts that are proven.
    reached: BTreeMap<u16, Reached>,
    /// How often a host was called, so that each of its keys has its turn.
    attempts: BTreeMap<u16, usize>,
    /// Links that ended though both of their ends are there.
    broken: BTreeMap<Pair, Broken>,
    /// When something is to be said next.
    next: Instant,
}

/// A channel's number, and the instances that it joins: this host's, and the other's.
type Pair = (u16, Instance, Instance);

/// How often that has happened, and when they are to meet again.
struct Broken {
    times: u32,
    due: Option<Instant>,
}

/// A host that is proven.
struct Reached {
    /// The connection.
    line: u32,
    /// Which link between the two it is.
    link: u64,
    /// Its instances, with their keys.
    people: BTreeMap<Instance, [u8; 32]>,
}

impl Desk<'_> {
    /// Waits for something and does what follows. False: it is to stop.
    fn turn(&mut self) -> io::Result<bool> {
        let control = self.layer.0.inbox.socket();
        let carrier = self.carrier.as_ref().map(|(_, socket)| socket);
        let mut fds = vec![PollFd::new(&control, PollFlags::IN)];
        fds.extend(carrier.map(|socket| PollFd::new(socket, PollFlags::IN)));
        let due = self.broken.values().filter_map(|it| it.due).min();
        let next = due.map_or(self.next, |due| due.min(self.next));
        let rest = next.saturating_duration_since(Instant::now());
        match poll(&mut fds, Timespec::try_from(rest).ok().as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let told = !fds[0].revents().is_empty();
        let heard = fds.get(1).is_some_and(|fd| !fd.revents().is_empty());
        if told {
            self.layer.attend()?;
            if self.layer.is_stopping() {
                return Ok(false);
            }
            self.take_orders()?;
        }
        if heard {
            self.read_carrier();
        }
        if self.next <= Instant::now() {
            self.next = Instant::now() + ALIVE;
            self.tick();
        }
        self.meet_again()?;
        Ok(true)
    }

    /// Takes up what the supervisor has said.
    fn take_orders(&mut self) -> io::Result<()> {
        let came: Vec<_> = self.layer.0.orders.iter().flat_map(Told::take).collect();
        for order in came {
            match order {
                Order::Client { seat, client, socket, .. } if client.layer == *LINK => {
                    self.lose_all();
                    self.carrier = Some((seat, socket));
                }
                Order::Client { seat, client, key, .. } => {
                    if let Some((former, _)) = self.people.insert(seat, (client, key)) {
                        self.tell_of(&former, &Talk::Gone { instance: former.clone() });
                    }
                    self.arrived(seat)?;
                }
                Order::ClientGone { seat } => {
                    if self.carrier.as_ref().is_some_and(|(it, _)| *it == seat) {
                        self.carrier = None;
                        self.lose_all();
                    } else if let Some((former, _)) = self.people.remove(&seat) {
                        self.tell_of(&former, &Talk::Gone { instance: former.clone() });
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// One of this host's instances is there: those hosts hear of it that it may meet, and it meets
    /// who is there.
    fn arrived(&mut self, seat: u32) -> io::Result<()> {
        let Some((instance, key)) = self.people.get(&seat).cloned() else { return Ok(()) };
        self.tell_of(&instance, &Talk::Here { instance: instance.clone(), key });
        for reached in self.reached.values() {
            for (far, key) in &reached.people {
                self.introduce(seat, &instance, far, *key, reached.link)?;
            }
        }
        Ok(())
    }

    /// Has two introduced to each other on each channel between them.
    fn introduce(
        &self,
        seat: u32,
        near: &Instance,
        far: &Instance,
        key: [u8; 32],
        link: u64,
    ) -> io::Result<()> {
        for (edge, other) in self.orders.channels_of(&near.layer) {
            if *other != far.layer {
                continue;
            }
            self.meet(seat, edge.number, near, far, key, link)?;
        }
        Ok(())
    }

    /// Has two introduced to each other on one channel.
    fn meet(
        &self,
        seat: u32,
        channel: u16,
        near: &Instance,
        far: &Instance,
        key: [u8; 32],
        link: u64,
    ) -> io::Result<()> {
        let (copy, generation, life) = (far.index, far.generation, near.generation);
        let meeting = Meeting { seat, life, channel, copy, generation, link, key };
        self.layer.0.inbox.say_surely(&FromLayer::Meet(meeting), SHAKE)
    }

    /// Tells of an instance of this host the others that it may meet.
    fn tell_of(&mut self, instance: &Instance, talk: &Talk) {
        let peers: Vec<_> = self.orders.channels_of(&instance.layer).map(|(_, far)| far).collect();
        let meets = |host: u16| peers.iter().any(|far| self.orders.is_on(far, host));
        let lines = self.reached.iter().filter(|(host, _)| meets(**host));
        let lines: Vec<_> = lines.map(|(_, reached)| reached.line).collect();
        for line in lines {
            self.speak(line, talk);
        }
    }

    /// Says something on a connection.
    fn speak(&mut self, line: u32, talk: &Talk) {
        if let Some(bytes) = self.lines.get_mut(&line).and_then(|it| it.say(talk)) {
            self.send(&ToLink::Say { line, bytes });
        }
    }

    /// Says something to who carries. It reads all the time; if it doesn't, it is as good as gone.
    fn send(&mut self, words: &ToLink) {
        let Some((_, socket)) = &self.carrier else { return };
        let until = Instant::now() + SHAKE;
        let bytes = words.encode();
        loop {
            match rustix::net::send(socket, &bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Err(Errno::AGAIN) if Instant::now() < until => {
                    let second = Timespec { tv_sec: 1, tv_nsec: 0 };
                    let _ = poll(&mut [PollFd::new(socket, PollFlags::OUT)], Some(&second));
                }
                Err(Errno::INTR) => {}
                Err(_) => {
                    self.carrier = None;
                    return self.lose_all();
                }
                Ok(_) => return,
            }
        }
    }

    /// Reads what who carries says.
    fn read_carrier(&mut self) {
        let mut bytes = [0; MOST + 64];
        loop {
            let Some((_, socket)) = &self.carrier else { return };
            let length = match rustix::net::recv(socket, &mut bytes[..], RecvFlags::DONTWAIT) {
                Ok((_, length)) if length > 0 => length.min(bytes.len()),
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => continue,
                _ => {
                    self.carrier = None;
                    return self.lose_all();
                }
            };
            let Some(words) = FromLink::decode(&bytes[..length]) else { continue };
            if let Err(error) = self.told(words) {
                say(&format!("the supervisor takes no more: {error}"));
            }
        }
    }

    fn told(&mut self, words: FromLink) -> io::Result<()> {
        match words {
            FromLink::Opened { line, host, calls } => self.opened(line, host, calls),
            FromLink::Closed { line } => self.closed(line, None),
            FromLink::Heard { line, bytes } => return self.heard(line, &bytes),
            FromLink::Over { line, bytes } => self.link_over(line, &bytes),
        }
        Ok(())
    }

    /// A link has ended. If both of its ends are still there after a moment, they meet again: somebody
    /// in between has altered a record, for instance, or left one out.
    fn link_over(&mut self, line: u32, bytes: &[u8]) {
        let Ok((channel, near, far)) = postcard::from_bytes::<(Name, Instance, Instance)>(bytes)
        else {
            return;
        };
        let number = self.orders.channels.iter().find(|it| it.name == channel).map(|it| it.number);
        let mut reached = self.reached.values();
        let knows = reached.any(|it| it.line == line && it.people.contains_key(&far));
        if let (Some(number), true) = (number, knows) {
            let broken = self.broken.entry((number, near, far));
            let broken = broken.or_insert(Broken { times: 0, due: None });
            broken.due = Some(Instant::now() + AGAIN.saturating_mul(1 << broken.times.min(4)));
            broken.times += 1;
        }
    }

    /// Has those meet again whose time has come.
    fn meet_again(&mut self) -> io::Result<()> {
        let now = Instant::now();
        let is_due = |it: &Broken| it.due.is_some_and(|due| due <= now);
        let due = self.broken.iter().filter(|(_, it)| is_due(it)).map(|(pair, _)| pair.clone());
        for pair in due.collect::<Vec<_>>() {
            let (channel, near, far) = &pair;
            let seat = self.people.iter().find(|(_, (it, _))| it == near).map(|(seat, _)| *seat);
            let reached = self.reached.values().find(|it| it.people.contains_key(far));
            if let (Some(seat), Some(reached)) = (seat, reached) {
                self.meet(seat, *channel, near, far, reached.people[far], reached.link)?;
                if let Some(broken) = self.broken.get_mut(&pair) {
                    broken.due = None;
                }
            } else {
                self.broken.remove(&pair);
            }
        }
        Ok(())
    }

    /// There is a connection to what may be that host.
    fn opened(&mut self, line: u32, host: u16, calls: bool) {
        let Some(keys) = self.orders.met(host).map(|it| it.keys.clone()) else {
            return self.send(&ToLink::Close { line });
        };
        if keys.is_empty() {
            return self.send(&ToLink::Close { line });
        }
        self.make_room();
        if !calls {
            self.lines.insert(line, Line::listen(host));
            return;
        }
        let attempt = self.attempts.entry(host).or_default();
        let key = PublicKey(keys[*attempt % keys.len()]);
        *attempt = attempt.wrapping_add(1);
        match Line::call(&self.orders, &self.identity, host, &key) {
            Ok((it, bytes)) => {
                self.lines.insert(line, it);
                self.send(&ToLink::Say { line, bytes });
            }
            Err(_) => self.send(&ToLink::Close { line }),
        }
    }

    /// Ends what has been longest without proof where there is too much of it: whoever has the key needs
    /// no longer than an answer takes, so strangers can't keep a host out by waiting.
    fn make_room(&mut self) {
        let proven: Vec<_> = self.reached.values().map(|it| it.line).collect();
        let strangers = self.lines.iter().filter(|(line, _)| !proven.contains(line));
        let strangers: Vec<_> = strangers.map(|(line, it)| (it.heard, *line)).collect();
        if let (true, Some((_, oldest))) = (strangers.len() >= STRANGERS, strangers.iter().min()) {
            self.closed(*oldest, None);
            self.send(&ToLink::Close { line: *oldest });
        }
    }

    /// Something came on a connection.
    fn heard(&mut self, line: u32, bytes: &[u8]) -> io::Result<()> {
        let Some(it) = self.lines.get_mut(&line) else { return Ok(()) };
        match it.hear(&self.orders, &self.identity, bytes) {
            Ok((answer, talk)) => {
                let greets = talk.is_none() && it.is_sealed();
                if let Some(bytes) = answer {
                    self.send(&ToLink::Say { line, bytes });
                }
                if greets {
                    let count = self.count() + 1;
                    if let Some(it) = self.lines.get_mut(&line) {
                        it.greeted = count;
                    }
                    self.speak(line, &Talk::Greet { link: count });
                }
                talk.map_or(Ok(()), |talk| self.said(line, talk))
            }
            Err(fault) => {
                self.closed(line, Some(&fault));
                self.send(&ToLink::Close { line });
                Ok(())
            }
        }
    }

    /// Another host says something, and nobody else can have.
    fn said(&mut self, line: u32, talk: Talk) -> io::Result<()> {
        let Some(host) = self.lines.get(&line).map(|it| it.host) else { return Ok(()) };
        let is_proven = self.reached.get(&host).is_some_and(|it| it.line == line);
        match talk {
            Talk::Greet { link } if !is_proven => return self.proven(line, host, link),
            Talk::Here { instance, key } if is_proven && self.orders.may_be(&instance, host) => {
                let Some(reached) = self.reached.get_mut(&host) else { return Ok(()) };
                let count = reached.link;
                let same =
                    |it: &Instance| (&it.layer, it.index) == (&instance.layer, instance.index);
                reached.people.retain(|it, _| !same(it));
                reached.people.insert(instance.clone(), key);
                for (&seat, (near, _)) in &self.people {
                    self.introduce(seat, near, &instance, key, count)?;
                }
            }
            Talk::Gone { instance } if is_proven => {
                if let Some(reached) = self.reached.get_mut(&host) {
                    reached.people.remove(&instance);
                }
                if let Ok(bytes) = postcard::to_stdvec(&instance) {
                    self.send(&ToLink::Gone { line, bytes });
                }
            }
            // It was heard; or it speaks of what isn't its own, which nobody takes from it.
            _ => {}
        }
        Ok(())
    }

    /// A connection is the host's: it takes the place of the former.
    fn proven(&mut self, line: u32, host: u16, theirs: u64) -> io::Result<()> {
        // What this host said, and not what it would say by now: other hosts are counted too.
        let ours = self.lines.get(&line).map_or(0, |it| it.greeted);
        let count = ours.max(theirs);
        // Beyond that the numbers begin anew, alike on both: more than the log can tell apart.
        let count = (count.max(1) - 1) % MAX_WITNESS + 1;
        self.set_count(count.max(self.count()))?;
        if let Some(former) = self.reached.remove(&host) {
            self.lines.remove(&former.line);
            self.send(&ToLink::Close { line: former.line });
        }
        self.reached.insert(host, Reached { line, link: count, people: BTreeMap::new() });
        self.send(&ToLink::Proven { line, link: count });
        say(&format!("host {} is reached", self.orders.name(host)));
        let people: Vec<_> = self.people.values().cloned().collect();
        for (instance, key) in people {
            let mut peers = self.orders.channels_of(&instance.layer);
            let meets = peers.any(|(_, far)| self.orders.is_on(far, host));
            drop(peers);
            if meets {
                self.speak(line, &Talk::Here { instance, key });
            }
        }
        Ok(())
    }

    /// A connection has ended, or is ended.
    fn closed(&mut self, line: u32, why: Option<&Fault>) {
        let Some(it) = self.lines.remove(&line) else { return };
        if self.reached.get(&it.host).is_some_and(|reached| reached.line == line) {
            self.reached.remove(&it.host);
            let why = why.map(|why| format!(": {why}")).unwrap_or_default();
            say(&format!("host {} is no longer reached{why}", self.orders.name(it.host)));
        } else if let Some(why) = why {
            say(&format!("somebody is called host {}: {why}", self.orders.name(it.host)));
        }
    }

    /// Says that it is there, and ends what has been silent for too long.
    fn tick(&mut self) {
        let lines: Vec<_> = self.reached.values().map(|it| it.line).collect();
        for &line in &lines {
            self.speak(line, &Talk::Alive);
        }
        let is_late = |(line, it): (&u32, &Line)| {
            let time = if lines.contains(line) { LOST } else { SHAKE };
            (it.heard.elapsed() >= time).then_some(*line)
        };
        for line in self.lines.iter().filter_map(is_late).collect::<Vec<_>>() {
            self.closed(line, None);
            self.send(&ToLink::Close { line });
        }
    }

    /// Nothing is carried any more, or by somebody else.
    fn lose_all(&mut self) {
        for line in self.lines.keys().copied().collect::<Vec<_>>() {
            self.closed(line, None);
        }
    }

    /// How many links there have been, of this life and those before.
    fn count(&self) -> u64 {
        let mut bytes = [0; STATE];
        let state = self.layer.0.objects.get(Object::State, 0, 0);
        let read = state.is_some_and(|fd| rustix::io::pread(&fd, &mut bytes, 0) == Ok(STATE));
        if read { u64::from_le_bytes(bytes) } else { 0 }
    }

    fn set_count(&self, count: u64) -> io::Result<()> {
        if let Some(fd) = self.layer.0.objects.get(Object::State, 0, 0) {
            rustix::io::pwrite(&fd, &count.to_le_bytes(), 0)?;
        }
        Ok(())
    }
}
