//! The witness: a layer of the framework's own, through which the links of channels go whose ends
//! might both lie (`witness = true`).
//!
//! It holds the inner ends of two socketpairs for each link, and nothing else: no key, no file. One
//! thread, one loop: wait for a socket that has something and another that has room, report, pass
//! on ([`Relay`]). It keeps at most one datagram for each direction of each link.
//!
//! With it end the links that go through it. The supervisor starts the next one and introduces the
//! ends to each other anew; by its generation the reports of the new links are told from those of
//! the old ones ([`first_sequence`]).

use std::io;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::Layer;
use super::order::{Order, Orders};
use super::run::say;
use crate::channel::datagram::Buffer;
use crate::channel::relay::{End, Passed, Relay};
use crate::ident::Instance;
use crate::policy::plan::Audit;
use crate::report::{Facility, Tap, first_sequence};

/// What the witness is called, as a layer and as a function. No policy may use the name.
pub(crate) const NAME: &str = "cofferdam-witness";

/// Datagrams that are passed on in one direction in one turn, so that no link holds up the others.
const TURN: usize = 64;

/// How long it waits before it tries again where the kernel has too many descriptors in flight.
const PRESSED: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };

/// Relays until the supervisor says stop, or is gone.
pub(super) fn run(layer: &Layer) -> io::Result<()> {
    let mut witness = Witness { layer, halves: Vec::new(), links: Vec::new() };
    witness.take_orders()?;
    witness.serve()
}

/// The witness at work.
struct Witness<'a> {
    layer: &'a Layer,
    /// Links of which one end has come.
    halves: Vec<Half>,
    links: Vec<Link>,
}

struct Half {
    channel: u16,
    near: Instance,
    far: Instance,
    socket: OwnedFd,
}

struct Link {
    channel: u16,
    relay: Relay,
    /// From which ends something may be passed on.
    ready: [bool; 2],
}

impl Witness<'_> {
    /// Runs until the supervisor says stop, or is gone.
    fn serve(&mut self) -> io::Result<()> {
        let control = self.layer.0.inbox.socket();
        let mut buffer = Relay::buffer();
        loop {
            if self.wait(&control)? {
                self.layer.attend()?;
                if self.layer.is_stopping() {
                    return Ok(());
                }
                self.take_orders()?;
            }
            self.links.retain_mut(|link| link.turn(&mut buffer));
        }
    }

    /// Waits until there is something to do. True: the supervisor has said something.
    fn wait(&mut self, control: &OwnedFd) -> io::Result<bool> {
        let mut fds = vec![PollFd::new(control, PollFlags::IN)];
        let mut ends = Vec::new();
        let (mut at_once, mut pressed) = (false, false);
        for (place, link) in self.links.iter().enumerate() {
            at_once |= link.ready != [false; 2];
            pressed |= link.relay.pressed();
            for end in 0..2 {
                let (socket, flags) = link.relay.interest(end);
                // One that is waited for nothing would still say that its other end is closed.
                if !flags.is_empty() {
                    fds.push(PollFd::new(socket, flags));
                    ends.push((place, end, flags));
                }
            }
        }
        let timeout = match (at_once, pressed) {
            (true, _) => Some(Timespec { tv_sec: 0, tv_nsec: 0 }),
            (false, true) => Some(PRESSED),
            (false, false) => None,
        };
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(false),
            Err(errno) => return Err(errno.into()),
        }
        let rings = |fd: &PollFd<'_>| !fd.revents().is_empty();
        let told = rings(&fds[0]);
        let ready: Vec<_> = ends.iter().zip(&fds[1..]).filter(|(_, fd)| rings(fd)).collect();
        let ready: Vec<_> = ready.into_iter().map(|(end, _)| *end).collect();
        for (place, end, flags) in ready {
            let link = &mut self.links[place];
            link.ready[end] |= flags.contains(PollFlags::IN);
            link.ready[1 - end] |= flags.contains(PollFlags::OUT);
        }
        for link in self.links.iter_mut().filter(|link| link.relay.pressed()) {
            link.ready = [true; 2];
        }
        Ok(told)
    }

    /// Takes up what the supervisor has said.
    fn take_orders(&mut self) -> io::Result<()> {
        let came: Vec<_> = self.layer.0.orders.iter().flat_map(Orders::take).collect();
        for order in came {
            match order {
                Order::Relay { channel, near, far, fds, socket, .. } => {
                    self.join(Half { channel, near, far, socket }, fds)?;
                }
                Order::Departed { channel, peer } => {
                    let who = self.tap(channel)?.who(&peer);
                    for link in self.links.iter_mut().filter(|link| link.channel == channel) {
                        link.relay.departed(who);
                        link.ready = [true; 2];
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Keeps one end of a link, or joins it to the other.
    fn join(&mut self, half: Half, fds: u8) -> io::Result<()> {
        let Half { channel, near, far, .. } = &half;
        let fits = |it: &Half| (it.channel, &it.near, &it.far) == (*channel, far, near);
        let Some(place) = self.halves.iter().position(fits) else {
            self.halves.push(half);
            return Ok(());
        };
        let other = self.halves.swap_remove(place);
        let tap = self.tap(half.channel)?;
        let end = |half: Half| End::new(half.socket, tap.who(&half.near));
        let channel = half.channel;
        let ends = [end(other), end(half)];
        let first = first_sequence(self.layer.instance().generation);
        let relay = Relay::new(ends, fds, tap, first);
        self.links.push(Link { channel, relay, ready: [true; 2] });
        Ok(())
    }

    /// Where the records of a channel are reported.
    fn tap(&self, channel: u16) -> io::Result<Tap> {
        let tap = self.layer.0.desk.tap(Facility::Channel, channel, Audit::Digest);
        tap.ok_or_else(|| io::Error::other("there is no log to report to"))
    }
}

impl Link {
    /// Passes on what can be, in both directions. False: the link is over.
    fn turn(&mut self, buffer: &mut Buffer) -> bool {
        for end in 0..2 {
            let mut left = if self.ready[end] { TURN } else { 0 };
            while left > 0 {
                match self.relay.pass(end, buffer) {
                    Passed::Progress => left -= 1,
                    Passed::Nothing => {
                        self.ready[end] = false;
                        break;
                    }
                    Passed::Over => return false,
                    Passed::Broken(error) => {
                        say(&format!("a link of channel number {} ends: {error}", self.channel));
                        return false;
                    }
                }
            }
        }
        true
    }
}
