//! Another program in this process, with all that the supervisor holds.
//!
//! The steward has had it rehearsed ([`crate::prepare::upgrade`]), so what is left is to write down what is
//! held, at a moment when nothing is half done, and to execute it. It finds itself with what the state
//! names, and goes on as after a reload that changes every layer. If the execution fails nothing has
//! changed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::process::Pid;

use super::audit::Audit;
use super::broker::signal::Switchboard;
use super::child::{Child, Printing};
use super::control::Door;
use super::image::{self, Ground};
use super::manager::Manager;
use super::objects::Objects;
use super::outbox::Outbox;
use super::pace::Pace;
use super::pipes::Pipes;
use super::places::Places;
use super::reload::{Asker, COMING, Reloads, Stage};
use super::signals::Signals;
use super::{Leftovers, Life, Outcome, Place, Registered, Supervisor, lockdown, workers};
use crate::confine::cgroup::{Group, Hierarchies};
use crate::layer::logger::log::Log;
use crate::mark;
use crate::prepare::assembly::Assembly;
use crate::prepare::own::Role;
use crate::prepare::steward::{Handed, Steward, Successor};
use crate::prepare::upgrade::state::{self, Fd, Luggage, State};
use crate::prepare::upgrade::take_over;
use crate::sys::poller::{Agenda, Poller};

/// How long a new program waits for a moment when nothing is half done. A layer that doesn't read what it is
/// told is ended before.
const QUIET: Duration = Duration::from_secs(20);

impl Supervisor<'_> {
    /// Has a program take over that was rehearsed, as soon as that can be.
    pub(super) fn consider(&mut self, asker: Asker, successor: Successor) {
        let told = (&*successor.lines, successor.gains);
        if self.tell_change(&asker, &successor.notes, told) {
            let until = Instant::now() + QUIET;
            self.reloads.stage = Stage::Rehearsed(asker, until, Box::new(successor));
        }
    }

    /// Executes a program that waits, if nothing is half done.
    pub(super) fn upgrade_if_quiet(&mut self) {
        let Stage::Rehearsed(_, until, _) = self.reloads.stage else { return };
        let why = match self.half_done() {
            _ if self.stopping => "the daemon stops".to_owned(),
            Some(_) if Instant::now() < until => return,
            Some(what) => format!("{what} all the time; try again"),
            None => self.give_way(),
        };
        let stage = std::mem::replace(&mut self.reloads.stage, Stage::Idle);
        if let Stage::Rehearsed(asker, ..) = stage {
            self.end_reload(&asker, Err(why));
        }
    }

    /// What is under way that isn't carried over.
    fn half_done(&self) -> Option<&'static str> {
        let is_behind = |child: &Child| !child.outbox.is_empty();
        let writer = self.place_of(Role::Log).map(|it| &self.places[it].life);
        let is_read = writer.is_some_and(|life| !matches!(life, Life::Down));
        match () {
            () if self.children().any(is_behind) => Some("a layer has to be told something"),
            () if self.children().any(|it| !it.is_serving()) => Some("a layer is about to begin"),
            () if is_read && !self.leftovers.printing.is_empty() => {
                Some("output of layers has to be written")
            }
            () if !self.log.is_empty() => Some("a line has to be written"),
            () if self.audit.as_ref().is_some_and(Audit::waits) => Some("acts have to be noted"),
            () if self.door.as_ref().is_some_and(Door::has_new) => {
                Some("somebody has to be let in")
            }
            () if !self.late_keys.is_empty() => Some("keys have to be passed on"),
            () if !self.leftovers.groups.is_empty() => Some("a control group has to be removed"),
            () => None,
        }
    }

    /// Executes the program. Comes back with why it couldn't be.
    fn give_way(&self) -> String {
        let Stage::Rehearsed(asker, _, successor) = &self.reloads.stage else {
            return String::new();
        };
        mark::reached("supervisor.upgrade.quiet");
        let prepared = Some((&successor.told, &*successor.fds));
        let askers = std::iter::once(asker).chain(&self.reloads.waiting);
        let state = self.state(prepared, askers);
        mark::reached("supervisor.upgrade.written");
        format!("executing the new program: {}", take_over(&successor.program, &state))
    }

    /// Writes down what is held.
    pub(super) fn state<'a>(
        &self,
        prepared: Option<(&OwnedFd, &[OwnedFd])>,
        askers: impl Iterator<Item = &'a Asker>,
    ) -> State {
        let mut luggage = Luggage::default();
        let luggage = &mut luggage;
        let (groups, claims) = self.images[0].ground.groups.carry();
        let groups = (groups, luggage.all(claims));
        let steward = self.reloads.steward.as_ref();
        let registered = self.registered.as_ref();
        let mut state = State {
            descriptors: Vec::new(),
            before: luggage.add(&self.reloads.before),
            prepared: prepared.map(|(told, fds)| (luggage.add(told), luggage.all(fds))),
            key: self.reloads.key.clone(),
            askers: askers.cloned().collect(),
            comm: rustix::thread::name().map(CString::into_bytes).unwrap_or_default(),
            capabilities: lockdown::held(),
            layers: self.images.iter().map(|image| image.carry(luggage)).collect(),
            groups,
            queues: Vec::new(),
            table: Vec::new(),
            fifos: Vec::new(),
            places: self.places.iter().map(|place| place.carry(luggage)).collect(),
            ends: Vec::new(),
            held: workers::carry(&self.held, luggage),
            finished: Vec::new(),
            counts: self.switchboard.carry(luggage),
            audit: self.audit.as_ref().map(|audit| audit.carry(luggage)),
            door: self.door.as_ref().map(|door| door.carry(luggage)),
            registered: registered.map(|it| (it.path.clone(), luggage.add(&it.lock))),
            manager: self.manager.carry(luggage),
            steward: steward.map(|it| (luggage.add(&it.socket), luggage.add(&it.process))),
            log: state::Log { format: self.log.format(), quiet: self.log.is_hushed() },
            receipts: self.receipts,
        };
        self.objects.carry(&mut state, luggage);
        self.pipes.carry(&mut state, luggage);
        state.descriptors = std::mem::take(luggage).numbers();
        state
    }
}

/// Goes on where the program before has been, and runs until every layer is down. An error is for a person.
pub(crate) fn resume(memory: &OwnedFd, log: &mut Log) -> Result<Outcome, String> {
    let mut state = State::read(memory)?;
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    if let Ok(comm) = CString::new(std::mem::take(&mut state.comm)) {
        let _ = rustix::thread::set_name(&comm);
    }
    // Without a journal there is standard error.
    let _ = log.write_as(state.log.format);
    if state.log.quiet {
        log.hush();
    }
    let text = |error: std::io::Error| error.to_string();
    let (told, fds) = state.prepared.take().ok_or("nothing was prepared")?;
    let mut askers = std::mem::take(&mut state.askers);
    let mut supervisor = Supervisor::carried(state, log)?;
    mark::reached("supervisor.upgrade.resumed");
    let fds = fds.into_iter().map(Fd::take).collect::<Result<_, _>>().map_err(text)?;
    let prepared = Handed::of(told.take().map_err(text)?, fds).prepared().map_err(text)?;
    let asker = askers.remove(0);
    supervisor.reloads.waiting = askers.into();
    if supervisor.reloads.steward.as_ref().is_none_or(|steward| steward.renew().is_err()) {
        supervisor.reloads.steward = None;
    }
    supervisor.log.note(&format!("the program has taken over: {} asked for it", asker.who));
    supervisor.take_over(asker, prepared);
    supervisor.ask_stale_to_finish();
    Ok(supervisor.run())
}

impl<'a> Supervisor<'a> {
    /// The supervisor as the program before has left it.
    fn carried(mut state: State, log: &'a mut Log) -> Result<Self, String> {
        let text = |error: std::io::Error| error.to_string();
        let before = state.before.take().map_err(text)?;
        let assembly = Assembly::read(&before).map_err(text)?;
        if !state.is_of(&assembly) || state.askers.is_empty() && state.prepared.is_some() {
            return Err("the state isn't of the policy".to_owned());
        }
        let plan = assembly.whole();
        log.belong_to(plan.name.as_str());
        let (groups, claims) = state.groups.clone();
        let claims = claims.into_iter().map(Fd::take).collect::<Result<_, _>>().map_err(text)?;
        let ground = Ground::with(|| Hierarchies::carried(groups, claims));
        let ground = Rc::new(ground.map_err(|error| error.to_string())?);
        let Assembly { images, relations, reports, settings, .. } = assembly;
        let images = image::make(images, reports, settings, &ground);
        let mut images = images.map_err(|error| error.to_string())?;
        for (image, from) in images.iter_mut().zip(std::mem::take(&mut state.layers)) {
            image.carried(from).map_err(text)?;
        }
        let objects = Objects::carried(&plan, &mut state).map_err(text)?;
        let pipes = Pipes::carried(&mut state).map_err(text)?;
        let places = std::mem::take(&mut state.places).into_iter().map(Place::carried);
        let places: Places = places.collect::<std::io::Result<_>>().map_err(text)?;
        let layer_at = |place: usize| places.get(place).map(|it: &Place| &it.seat.instance.layer);
        let switchboard = Switchboard::carried(&state.counts, layer_at, &plan.facilities);
        let switchboard = switchboard.map_err(text)?;
        let audit = state.audit.map(|from| Audit::carried(&images, from)).transpose();
        let registered =
            state.registered.map(|(path, lock)| lock.take().map(|lock| Registered { path, lock }));
        let steward = state.steward.map(|(socket, process)| {
            Ok::<_, std::io::Error>(Steward::of(socket.take()?, process.take()?))
        });
        let steward = steward.transpose().map_err(text)?;
        Ok(Self {
            plan,
            relations,
            images,
            objects,
            pipes,
            late_keys: BTreeSet::new(),
            held: workers::carried(state.held).map_err(text)?,
            full: BTreeMap::new(),
            switchboard,
            places,
            waiting: BTreeSet::new(),
            agenda: Agenda::default(),
            poller: Poller::new().map_err(text)?,
            crowded: false,
            signals: Signals::new().map_err(text)?,
            manager: Manager::carried(state.manager).map_err(text)?,
            reloads: Reloads {
                steward,
                before,
                key: state.key,
                stage: Stage::Idle,
                waiting: VecDeque::new(),
            },
            audit: audit.map_err(text)?,
            door: state.door.map(Door::carried).transpose().map_err(text)?,
            registered: registered.transpose().map_err(text)?,
            log,
            leftovers: Leftovers::default(),
            receipts: state.receipts,
            stopping: false,
            outcome: Outcome::Fine,
        })
    }
}

impl Supervisor<'_> {
    /// Begins a life of the new program beside each of the old one, at a place of its own. Those two never
    /// meet: who is former knows the former ones.
    pub(super) fn begin_beside(&mut self) {
        let now = Instant::now();
        for old in 0..self.places.len() {
            let is_own = self.role(old).is_some();
            let place = &mut self.places[old];
            if let Life::Running(child) = &mut place.life {
                child.outdated = true;
            }
            if is_own || place.retired {
                continue;
            }
            place.seat.begin_anew(&self.plan.layers[place.seat.layer]);
            if !matches!(place.life, Life::Running(_)) {
                place.life = Life::Waiting(now);
                continue;
            }
            (place.retired, place.former) = (true, true);
            let seat = place.seat.clone();
            let (layer, index) = (seat.layer, seat.instance.index);
            let new = Place::new(&self.images[layer].data, seat, now);
            let is_free = |it: &usize| {
                let it = &self.places[*it];
                let ended = it.former && matches!(it.life, Life::Down);
                ended && it.seat.instance.index == index
            };
            let number = match self.places.of(layer).iter().copied().find(is_free) {
                Some(free) => {
                    self.places[free] = new;
                    free
                }
                None => self.places.push(new),
            };
            self.changed(number);
            self.changed(old);
        }
    }

    /// Has the lives of the old program finish once those of the new one are ready, or have had the time;
    /// then our own begin anew, for whom nobody of before is left.
    pub(super) fn let_former_go(&mut self) {
        let Stage::Applying(_, since) = &self.reloads.stage else { return };
        let is_late = Instant::now() >= *since + COMING;
        let outdated = |it: &Place| matches!(&it.life, Life::Running(child) if child.outdated);
        let former = |it: &Place| it.former && outdated(it);
        let comes = |place: usize| self.comes(place);
        let goes: Vec<usize> = if self.places.iter().any(former) {
            if !is_late && (0..self.places.len()).any(comes) {
                return;
            }
            (0..self.places.len()).filter(|&it| former(&self.places[it])).collect()
        } else {
            let answers = |place| self.role(place) == Some(Role::Control);
            (0..self.places.len())
                .filter(|&it| outdated(&self.places[it]) && !answers(it))
                .collect()
        };
        for place in goes {
            if let Life::Running(child) = &mut self.places[place].life {
                child.stale = true;
            }
        }
    }
}

impl Place {
    fn carry(&self, luggage: &mut Luggage) -> state::Place {
        let life = match &self.life {
            Life::Down => state::Life::Down,
            Life::Spare => state::Life::Spare,
            Life::Waiting(at) => state::Life::Waiting((*at).into()),
            Life::Running(child) => state::Life::Running(Box::new(child.carry(luggage))),
        };
        let &Self { since, retired, fresh, former, .. } = self;
        let (seat, last) = (self.seat.clone(), self.last.clone());
        state::Place { seat, since, last, retired, fresh, former, life }
    }

    fn carried(from: state::Place) -> std::io::Result<Self> {
        let state::Place { seat, since, last, retired, fresh, former, life } = from;
        let life = match life {
            state::Life::Down => Life::Down,
            state::Life::Spare => Life::Spare,
            state::Life::Waiting(at) => Life::Waiting(at.into()),
            state::Life::Running(child) => {
                Life::Running(Box::new(Child::carried(*child, seat.instance.clone())?))
            }
        };
        let pace = Pace::new(Instant::now());
        Ok(Self { seat, life, since, last, pace, retired, fresh, former })
    }
}

impl Child {
    fn carry(&self, luggage: &mut Luggage) -> state::Child {
        state::Child {
            process: luggage.add(&self.process),
            pid: self.pid.as_raw_nonzero().get(),
            control: luggage.add(&self.control),
            culprit: self.printing.culprit,
            output: luggage.all(&self.printing.output),
            group: self.cgroup.as_ref().map(Group::carry),
            facts: self.facts.clone(),
        }
    }

    fn carried(from: state::Child, instance: crate::ident::Instance) -> std::io::Result<Self> {
        let output = from.output.into_iter().map(Fd::take).collect::<std::io::Result<_>>()?;
        let printing = Printing { instance: instance.clone(), culprit: from.culprit, output };
        Ok(Self {
            instance,
            process: from.process.take()?,
            pid: Pid::from_raw(from.pid).ok_or(std::io::ErrorKind::InvalidData)?,
            control: from.control.take()?,
            outbox: Outbox::default(),
            printing: Rc::new(printing),
            cgroup: from.group.map(Group::carried),
            facts: from.facts,
        })
    }
}
