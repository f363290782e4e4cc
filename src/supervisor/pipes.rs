//! Pipes: a fresh one for every pair of instances that the policy joins by one.
//!
//! Two layers of this library get theirs when both are confined, each its own end over its control
//! socket. A foreign program finds its end at its standard input or output when it starts; the
//! other end waits here until the instance that it is for can have it. So a program's pipes live as
//! long as the program: when the other side of one has died, the program reads end of file or is
//! told that nobody reads, finishes, and is begun anew with new pipes for the peer's next life.
//!
//! The supervisor keeps no end that somebody has, or there would never be an end of file.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::fs::Mode;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

use super::child::Child;
use super::roster::FIRST_WAIT;
use super::{Life, Supervisor};
use crate::ident::Instance;
use crate::mark;
use crate::policy::plan::{PipePlan, Plan, Program, RestartOn, Stream};
use crate::prepare::upgrade::state::{Fd, Luggage, State};
use crate::sys::inherit::own_streams;
use crate::wire::control::ToLayer;
use crate::wire::life::Ending;

/// The pipes of programs that aren't all where they belong.
#[derive(Default)]
pub(super) struct Pipes {
    /// Ends that wait for the other side.
    pub(super) ends: Vec<WaitingEnd>,
    /// Places of layers that have ended in order and were left down.
    pub(super) finished: BTreeSet<usize>,
}

impl Pipes {
    /// What waits, for a program that takes this one's place.
    pub(super) fn carry(&self, state: &mut State, luggage: &mut Luggage) {
        let end =
            |it: &WaitingEnd| (it.pipe, it.place as u64, it.holder.clone(), luggage.add(&it.end));
        state.ends = self.ends.iter().map(end).collect();
        state.finished = self.finished.iter().map(|&place| place as u64).collect();
    }

    /// What the program before has left.
    pub(super) fn carried(state: &mut State) -> io::Result<Self> {
        let place = |place: u64| usize::try_from(place).map_err(io::Error::other);
        let ends = std::mem::take(&mut state.ends).into_iter();
        let end = |(pipe, at, holder, end): (u16, u64, Instance, Fd)| {
            Ok(WaitingEnd { pipe, place: place(at)?, holder, end: end.take()? })
        };
        Ok(Self {
            ends: ends.map(end).collect::<io::Result<_>>()?,
            finished: state.finished.iter().copied().map(place).collect::<io::Result<_>>()?,
        })
    }

    /// Ends of pipes that are others from now on wait for nobody.
    pub(super) fn forget_changed(&mut self, old: &Plan, new: &Plan) {
        let of = |plan: &Plan, pipe: u16| plan.facilities.pipes.get(usize::from(pipe)).cloned();
        self.ends.retain(|end| of(old, end.pipe) == of(new, end.pipe));
    }
}

/// An end that waits for its instance.
pub(super) struct WaitingEnd {
    pipe: u16,
    /// The seat that it is for.
    place: usize,
    /// The program that has the other end.
    pub(super) holder: Instance,
    end: OwnedFd,
}

/// The two ends of a pipe.
struct Ends {
    reader: OwnedFd,
    writer: OwnedFd,
}

impl Ends {
    /// Makes a pipe that holds as much as its policy says and that nobody can open again.
    fn make(plan: &PipePlan) -> io::Result<Self> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        let capacity = usize::try_from(plan.capacity).map_err(io::Error::other)?;
        fcntl_setpipe_size(&writer, capacity).map_err(|errno| {
            io::Error::new(
                io::Error::from(errno).kind(),
                format!(
                    "`[pipe.{}] capacity`: {errno}; /proc/sys/fs/pipe-max-size and \
                     pipe-user-pages-soft bound it",
                    plan.name
                ),
            )
        })?;
        // Both ends are one inode. By it, an end could be opened again as the other one.
        rustix::fs::fchmod(&writer, Mode::empty())?;
        Ok(Self { reader, writer })
    }
}

/// What a program finds at its standard streams, where its policy attaches something.
#[derive(Debug, Default)]
pub struct Standard {
    /// Ends of pipes, and what is the daemon's own.
    pub streams: [Option<OwnedFd>; 3],
    /// Who has the other end of one of them has died before.
    pub severed: bool,
}

impl Supervisor<'_> {
    /// The pipes of the program that is about to start at `place` as `instance`.
    pub(super) fn standard_ends(
        &mut self,
        place: usize,
        instance: &Instance,
    ) -> io::Result<Standard> {
        let plan = &self.plan.layers[self.places[place].seat.layer];
        let streams = plan.streams().map(|stream| stream == Some(&Stream::Inherited));
        let mut standard = Standard { streams: own_streams(streams)?, severed: false };
        for (pipe, partner, stream) in self.program_pipes(place) {
            let plan = &self.plan.facilities.pipes[usize::from(pipe)];
            let writes = plan.from == instance.layer;
            let mine = |end: &WaitingEnd| end.pipe == pipe && end.place == place;
            let end = if let Some(found) = self.pipes.ends.iter().position(mine) {
                mark::reached("pipe.start.taken");
                let WaitingEnd { holder, end, .. } = self.pipes.ends.remove(found);
                standard.severed |= self.children().all(|child| child.instance != holder);
                end
            } else {
                let Ends { reader, writer } = Ends::make(plan)?;
                let (end, other) = if writes { (writer, reader) } else { (reader, writer) };
                mark::reached("pipe.start.made");
                // Nobody comes any more: then this is end of file, or that nobody reads.
                if !matches!(self.places[partner].life, Life::Down) {
                    let holder = instance.clone();
                    self.pipes.ends.push(WaitingEnd { pipe, place: partner, holder, end: other });
                }
                end
            };
            standard.streams[stream] = Some(end);
        }
        Ok(standard)
    }

    /// Joins the layer at `place`, which has just become ready, with all whom pipes join it to.
    pub(super) fn join_pipes(&mut self, place: usize) -> io::Result<()> {
        self.deliver_ends();
        let Some((own, own_key)) = self.person(place) else { return Ok(()) };
        for (pipe, plan) in (0..).zip(self.plan.facilities.pipes.clone()) {
            let writes = plan.from == own.layer;
            if !(writes || plan.to == own.layer) || self.has_program(&plan) {
                continue;
            }
            let peer_layer = if writes { &plan.to } else { &plan.from };
            for other in 0..self.places.len() {
                let person = self.person(other).filter(|(peer, _)| peer.layer == *peer_layer);
                let Some((peer, key)) = person else { continue };
                let Ends { reader, writer } = Ends::make(&plan)?;
                rustix::io::ioctl_fionbio(&reader, true)?;
                rustix::io::ioctl_fionbio(&writer, true)?;
                mark::reached("pipe.join.made");
                let (near, far) = if writes { (writer, reader) } else { (reader, writer) };
                self.tell(place, &ToLayer::Pipe { pipe, peer, key }, Some(&near));
                mark::reached("pipe.join.half");
                let told = ToLayer::Pipe { pipe, peer: own.clone(), key: own_key };
                self.tell(other, &told, Some(&far));
                mark::reached("pipe.join.told");
            }
        }
        Ok(())
    }

    /// Gives every end that waits for a layer of this library to it, if it is confined.
    fn deliver_ends(&mut self) {
        let mut kept = Vec::new();
        for end in std::mem::take(&mut self.pipes.ends) {
            let layer = &self.plan.layers[self.places[end.place].seat.layer];
            let runs = matches!(layer.program, Program::Run(_));
            if !runs || !self.is_there(end.place) || self.is_confining(&end.holder) {
                kept.push(end);
                continue;
            }
            // It is the layer's alone from here on, flags and all.
            if rustix::io::ioctl_fionbio(&end.end, true).is_ok() {
                mark::reached("pipe.deliver.before");
                let told = ToLayer::Pipe { pipe: end.pipe, peer: end.holder, key: [0; 32] };
                self.tell(end.place, &told, Some(&end.end));
                mark::reached("pipe.deliver.told");
            }
        }
        self.pipes.ends = kept;
    }

    /// What the end of the life at `place` means for the programs at the other ends of its pipes,
    /// and for ends that wait for it.
    pub(super) fn part_pipes(&mut self, place: usize, gone: &Instance) {
        mark::reached("pipe.part.begin");
        match self.places[place].life {
            Life::Down | Life::Spare => self.pipes.ends.retain(|end| end.place != place),
            Life::Waiting(_) => self.revive_partners(place),
            Life::Running(_) => {}
        }
        for (pipe, plan) in (0..).zip(&self.plan.facilities.pipes) {
            if plan.from != gone.layer && plan.to != gone.layer {
                continue;
            }
            for other in 0..self.places.len() {
                if !self.program_pipes(other).iter().any(|it| (it.0, it.1) == (pipe, place)) {
                    continue;
                }
                let Life::Running(child) = &mut self.places[other].life else { continue };
                // Ends that still wait show that these two never met.
                let unmet = self.pipes.ends.iter().any(|end| {
                    end.pipe == pipe
                        && (end.place == place && end.holder == child.instance
                            || end.place == other && end.holder == *gone)
                });
                child.severed |= !unmet;
            }
        }
        mark::reached("pipe.part.end");
    }

    /// The next life at `place` finds its programs running, though they have finished. They may
    /// have done so because of the end of this one: a process closes its pipes before it is seen to
    /// have ended, so a program can have read end of file and be gone by then.
    fn revive_partners(&mut self, place: usize) {
        for other in 0..self.places.len() {
            let joined = self.program_pipes(other).iter().any(|it| it.1 == place);
            let restart = &self.plan.layers[self.places[other].seat.layer].restart;
            if joined && restart.on != RestartOn::Never && self.pipes.finished.remove(&other) {
                self.places[other].life = Life::Waiting(Instant::now() + FIRST_WAIT);
            }
        }
    }

    /// How the end of a program counts: nobody reading its standard output any more is none of its
    /// own faults.
    pub(super) fn judged(&self, place: usize, ending: Ending) -> Ending {
        let plan = &self.plan.layers[self.places[place].seat.layer];
        let writes = matches!(plan.stdout, Some(Stream::Pipe(_)));
        if writes && ending == Ending::Killed(libc::SIGPIPE) { Ending::Exited(0) } else { ending }
    }

    /// Whether the program at `place` that has just ended is begun anew whatever its end was: the
    /// other side of a pipe of its died, which is no failure of its own, and is coming back.
    pub(super) fn begins_anew(&self, place: usize, child: &Child, ending: Ending) -> Anew {
        let restart = &self.plan.layers[self.places[place].seat.layer].restart;
        if !child.severed || restart.on == RestartOn::Never {
            return Anew::AsEver;
        }
        let partners = self.program_pipes(place);
        let alone = partners.iter().any(|it| matches!(self.places[it.1].life, Life::Down));
        match ending {
            _ if !alone => Anew::At(Instant::now() + FIRST_WAIT),
            // There is nothing left to read, or nobody to write to.
            Ending::Exited(0) => Anew::Over,
            _ => Anew::AsEver,
        }
    }

    /// Whether the program at `place` has to wait: an end of its former life's pipes still waits to
    /// be taken up, or the program at the other end hasn't finished with the former one.
    pub(super) fn is_held(&self, place: usize) -> bool {
        let pipes = self.program_pipes(place);
        let layer = &self.places[place].seat.instance.layer;
        let index = self.places[place].seat.instance.index;
        let left = |end: &WaitingEnd| end.holder.layer == *layer && end.holder.index == index;
        let finishes = |it: &(u16, usize, usize)| match &self.places[it.1].life {
            Life::Running(child) => child.severed,
            _ => false,
        };
        !pipes.is_empty() && (self.pipes.ends.iter().any(left) || pipes.iter().any(finishes))
    }

    /// The pipes at the standard input and output of the program at `place`, each with the place of
    /// the copy that it is joined to, and its stream: of several copies, each has the one with its own number, or,
    /// where the other side has fewer, takes turns. Empty if no program runs there.
    fn program_pipes(&self, place: usize) -> Vec<(u16, usize, usize)> {
        let seat = &self.places[place].seat;
        let layer = &self.plan.layers[seat.layer];
        if matches!(layer.program, Program::Run(_)) {
            return Vec::new();
        }
        let mut pipes = Vec::new();
        for (number, pipe) in (0..).zip(&self.plan.facilities.pipes) {
            let Some(stream) = layer.stream_of(&pipe.name) else { continue };
            let partner = if stream == 0 { &pipe.from } else { &pipe.to };
            let seats = (0..self.places.len())
                .filter(|&other| self.places[other].seat.instance.layer == *partner);
            let copies: Vec<usize> = seats.collect();
            if let Some(turn) = usize::from(seat.instance.index).checked_rem(copies.len()) {
                pipes.push((number, copies[turn], stream));
            }
        }
        pipes
    }

    fn has_program(&self, pipe: &PipePlan) -> bool {
        let mut layers = self.plan.layers.iter();
        layers.any(|layer| {
            (layer.name == pipe.from || layer.name == pipe.to)
                && matches!(layer.program, Program::Exec(_))
        })
    }

    fn is_confining(&self, instance: &Instance) -> bool {
        self.children().any(|child| child.instance == *instance && !child.is_serving())
    }
}

/// What follows the end of a program whose pipe was severed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anew {
    /// What `restart` says.
    AsEver,
    /// It is begun anew at this time, and that isn't counted.
    At(Instant),
    /// It has done what there was to do.
    Over,
}
