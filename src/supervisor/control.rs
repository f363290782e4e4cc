//! The door at which people ask the daemon how it is, and tell it what to do.
//!
//! Who comes is let in if the kernel says that it is root or the daemon's own user, and handed to a
//! helper ([`crate::layer::control`]), which is started for it. What the caller says, that one
//! reads. The supervisor tells it how each instance is whenever that changes, so nobody's question
//! comes here; a command does, in fixed layout, by a caller's number. Who that is the supervisor
//! knows for itself.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::net::{SocketFlags, accept_with, sockopt};
use rustix::time::ClockId;

use super::child::Breach;
use super::reload::Asker;
use super::{Life, Outcome, Supervisor};
use crate::confine::cgroup::Group;
use crate::mark;
use crate::policy::plan::Ready;
use crate::prepare::own::Role;
use crate::prepare::upgrade::facts::Stage as ChildStage;
use crate::prepare::upgrade::state::{self, Luggage};
use crate::sys::clock::nanoseconds;
use crate::wire::control::{Command, ToLayer};
use crate::wire::life::{Stage, Standing};

/// Callers at a time; others wait in the socket's own queue.
const MOST: usize = 8;

/// Where callers come in.
pub(super) struct Door {
    /// Listens.
    pub socket: OwnedFd,
    callers: BTreeMap<u32, Caller>,
    next: u32,
}

/// Somebody who was let in.
struct Caller {
    uid: u32,
    pid: i32,
    /// The connection, until the helper has it.
    line: Option<OwnedFd>,
}

impl Door {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self { socket, callers: BTreeMap::new(), next: 1 }
    }

    /// Itself and who is there, for a program that takes this one's place.
    pub(super) fn carry(&self, luggage: &mut Luggage) -> state::Door {
        let callers = self.callers.iter().map(|(&number, it)| (number, it.uid, it.pid)).collect();
        state::Door { socket: luggage.add(&self.socket), callers, next: self.next }
    }

    /// What the program before has left.
    pub(super) fn carried(from: state::Door) -> io::Result<Self> {
        let caller = |(number, uid, pid)| (number, Caller { uid, pid, line: None });
        let callers = from.callers.into_iter().map(caller).collect();
        Ok(Self { socket: from.socket.take()?, callers, next: from.next })
    }

    /// Whether somebody was let in whom the helper hasn't heard of.
    pub(super) fn has_new(&self) -> bool {
        self.callers.values().any(|caller| caller.line.is_some())
    }

    /// Whether one more may come in.
    pub(super) fn is_open(&self) -> bool {
        self.callers.len() < MOST
    }

    fn let_in(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        while self.is_open() {
            let Ok(line) = accept_with(&self.socket, flags) else { return };
            let Ok(peer) = sockopt::socket_peercred(&line) else { continue };
            if peer.uid.is_root() || peer.uid == rustix::process::geteuid() {
                let (uid, pid) = (peer.uid.as_raw(), peer.pid.as_raw_nonzero().get());
                self.callers.insert(self.next, Caller { uid, pid, line: Some(line) });
                self.next += 1;
            }
        }
    }
}

impl Supervisor<'_> {
    /// Lets in who waits at the door, and starts the helper for them.
    pub(super) fn answer_door(&mut self) {
        let Some(helper) = self.place_of(Role::Control) else { return };
        if let Some(door) = &mut self.door {
            door.let_in();
        }
        if matches!(self.places[helper].life, Life::Down) {
            self.places[helper].life = Life::Waiting(Instant::now());
        }
        if self.is_there(helper) {
            self.hand_over_callers(helper);
        }
    }

    /// Tells the helper, which has just become ready, how everybody is and who has come.
    pub(super) fn begin_control(&mut self, helper: usize) {
        (0..self.places.len()).for_each(|place| self.tell_standing(place));
        self.hand_over_callers(helper);
    }

    fn hand_over_callers(&mut self, helper: usize) {
        let callers = self.door.iter_mut().flat_map(|door| &mut door.callers);
        let waiting = callers.filter_map(|(&caller, it)| Some((caller, it.line.take()?)));
        for (caller, line) in waiting.collect::<Vec<_>>() {
            self.tell(helper, &ToLayer::Caller { caller }, Some(&line));
            mark::reached("supervisor.control.caller-told");
        }
    }

    /// Nobody is left whom the helper had heard, for it has ended.
    pub(super) fn forget_callers(&mut self, place: usize) {
        if self.role(place) == Some(Role::Control)
            && let Some(door) = &mut self.door
        {
            door.callers.retain(|_, caller| caller.line.is_some());
        }
    }

    /// Says the helper of one caller that it is gone.
    pub(super) fn caller_gone(&mut self, helper: usize, caller: u32) {
        let known = self.door.as_mut().and_then(|door| door.callers.remove(&caller));
        if known.is_none() {
            self.breach(helper, Breach::Protocol);
        }
    }

    /// Does what a caller asks for, in words that the helper sent.
    pub(super) fn command(&mut self, helper: usize, caller: u32, command: Command) {
        let Some(Caller { uid, pid, .. }) =
            self.door.as_ref().and_then(|it| it.callers.get(&caller))
        else {
            return self.breach(helper, Breach::Protocol);
        };
        let who = format!("uid {uid}, pid {pid}");
        match command {
            Command::Stop => {
                self.note_command(None, "stop", &who);
                self.log.say(&format!("stopping: {who} asks for it"));
                self.stop(Outcome::Fine);
            }
            Command::Reload { gain } => {
                self.reload(Asker { caller: Some(caller), who, gain, program: false });
            }
            Command::Upgrade { gain } => {
                self.reload(Asker { caller: Some(caller), who, gain, program: true });
            }
            Command::Restart(seat) => match usize::try_from(seat).ok() {
                Some(place)
                    if place < self.places.len()
                        && place != helper
                        && !self.places[place].retired =>
                {
                    self.note_command(Some(place), "restart", &who);
                    let layer = &self.places[place].seat.instance;
                    let copy = format!("{}/{}", layer.layer, layer.index);
                    self.log.say(&format!("{copy} is restarted: {who} asks for it"));
                    self.renew(place);
                }
                _ => self.breach(helper, Breach::Protocol),
            },
        }
    }

    /// Ends the life at a place in order and begins the next, whatever the policy says of restarts.
    fn renew(&mut self, place: usize) {
        if self.stopping {
            return;
        }
        match &mut self.places[place].life {
            Life::Running(child) if child.is_serving() && child.deadline.is_none() => {
                child.renewed = true;
                self.end_in_order(place);
            }
            // It begins already, or ends.
            Life::Running(_) => {}
            life => {
                *life = Life::Waiting(Instant::now());
                self.pipes.finished.remove(&place);
                self.changed(place);
            }
        }
    }

    /// The instance at a place is not what it was.
    pub(super) fn changed(&mut self, place: usize) {
        self.places[place].since = nanoseconds(ClockId::Monotonic);
        self.tell_standing(place);
    }

    /// Tells the helper how the instance at a place is, if somebody asks.
    pub(super) fn tell_standing(&mut self, place: usize) {
        let Ok(seat) = u32::try_from(place) else { return };
        let helpers = [Role::Control, Role::Metrics].map(|role| self.place_of(role));
        for helper in helpers.into_iter().flatten() {
            if self.is_there(helper) {
                let standing = Box::new(self.standing(place, seat));
                self.tell(helper, &ToLayer::Standing(standing), None);
            }
        }
    }

    /// Tells the helper that serves numbers, which has just become ready, of everybody.
    pub(super) fn begin_metrics(&mut self) {
        for place in 0..self.places.len() {
            self.tell_standing(place);
            self.tell_counters(place);
        }
    }

    /// Hands that helper what the kernel counts of the instance at a place.
    pub(super) fn tell_counters(&mut self, place: usize) {
        let helper = self.place_of(Role::Metrics).filter(|&it| self.is_there(it));
        let (Some(helper), Ok(seat)) = (helper, u32::try_from(place)) else { return };
        let Life::Running(child) = &self.places[place].life else { return };
        let counters = child.cgroup.as_ref().map_or(Vec::new(), Group::counters);
        for (counter, file) in counters {
            self.tell(helper, &ToLayer::Counter { seat, counter }, Some(&file));
        }
    }

    /// Whether a layer says by itself when it is ready.
    fn tells(&self, place: usize) -> bool {
        self.plan.layers[self.places[place].seat.layer].ready == Ready::Told
    }

    fn standing(&self, place: usize, seat: u32) -> Standing {
        let it = &self.places[place];
        let (mut pid, mut receipt, mut load) = (0, Vec::new(), None);
        let elastic = self.plan.layers[it.seat.layer].elastic;
        let stage = match &it.life {
            Life::Down if it.retired => Stage::Gone,
            Life::Down => Stage::Down,
            Life::Spare => Stage::Spare,
            Life::Waiting(_) => Stage::Waiting,
            Life::Running(child) => {
                pid = child.pid.as_raw_nonzero().get().unsigned_abs();
                receipt.clone_from(&child.receipt);
                load = elastic.map(|_| child.load);
                match child.stage {
                    ChildStage::Confining => Stage::Confining,
                    ChildStage::Serving(_) if child.deadline.is_some() || it.former => {
                        Stage::Finishing
                    }
                    // One that finishes something runs until it has.
                    ChildStage::Serving(_) if !child.ready && self.tells(place) => Stage::Confining,
                    ChildStage::Serving(_) => Stage::Running,
                }
            }
        };
        let (instance, last) = (it.seat.instance.clone(), it.last.as_deref().cloned());
        Standing { seat, instance, stage, since: it.since, pid, receipt, load, last }
    }
}
