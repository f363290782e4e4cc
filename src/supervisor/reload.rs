//! A new policy while the daemon runs.
//!
//! What it comes to is prepared by the steward ([`crate::prepare::steward`]), in the order of the
//! plan that holds, so that whatever stays keeps its number. Here the tables are exchanged at once,
//! those whose part is another are asked to finish, and nobody begins anew before all of them have:
//! no life of the new policy meets one of the old on what the two say differently.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::time::ClockId;

use super::image;
use super::listen::Listening;
use super::poll::Source;
use super::roster::Seat;
use super::{Life, Place, Supervisor};
use crate::mark;
use crate::policy::plan::LayerPlan;
use crate::prepare::assembly::{Assembly, Change};
use crate::prepare::own::Role;
use crate::prepare::steward::{Failure, Prepared, Steward, Successor};
pub(super) use crate::prepare::upgrade::facts::Asker;
use crate::sys::clock::nanoseconds;
use crate::sys::memory;
use crate::sys::poller::Interest;
use crate::wire::control::ToLayer;

/// How long a policy may take to be prepared: a name service or a disk may hold up its setup.
const PREPARING: Duration = Duration::from_mins(2);

/// How often it is looked whether anything is half done while a new program waits.
const LOOK: Duration = Duration::from_millis(5);

/// How long lives of a new program may take to be ready before those of the old one go all the same.
pub(super) const COMING: Duration = Duration::from_mins(1);

/// The most who wait for their reload.
const MOST_WAITING: usize = 8;

/// Reloads, and what the next one begins from.
pub(super) struct Reloads {
    /// `None`: it is gone, and nothing can be reloaded any more.
    pub steward: Option<Steward>,
    /// What holds now, sealed.
    pub before: OwnedFd,
    /// Whose users the layers are.
    pub key: Option<String>,
    pub stage: Stage,
    pub waiting: VecDeque<Asker>,
}

pub(super) enum Stage {
    /// Nothing is under way.
    Idle,
    /// The steward has it prepared.
    Preparing(Asker, Instant),
    /// A new program takes over as soon as nothing is half done, which must be by then.
    Rehearsed(Asker, Instant, Box<Successor>),
    /// It holds, and what is changed by it ends and begins.
    Applying(Asker, Instant),
}

impl Asker {
    /// What isn't done where it can't be.
    fn undone(&self) -> &'static str {
        if self.program { "nothing is upgraded" } else { "nothing is reloaded" }
    }
}

impl Reloads {
    pub(super) fn new(steward: Steward, before: OwnedFd, key: Option<String>) -> Self {
        let (steward, waiting) = (Some(steward), VecDeque::new());
        Self { steward, before, key, stage: Stage::Idle, waiting }
    }

    /// When the steward is given up.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.stage {
            Stage::Preparing(_, until) => Some(until),
            Stage::Rehearsed(..) => Some(Instant::now() + LOOK),
            Stage::Applying(_, since) => Some(since + COMING).filter(|&at| at > Instant::now()),
            Stage::Idle => None,
        }
    }
}

impl Supervisor<'_> {
    /// Somebody wants the policy to be read anew, or another program in this one's place.
    pub(super) fn reload(&mut self, asker: Asker) {
        let what = if asker.program { "upgrade" } else { "reload" };
        self.note_command(None, what, &asker.who);
        if self.stopping {
            return self.refuse_reload(&asker, "the daemon stops");
        }
        if self.reloads.waiting.len() >= MOST_WAITING {
            return self.refuse_reload(&asker, "too many reloads wait already");
        }
        self.reloads.waiting.push_back(asker);
        self.begin_reload();
    }

    fn begin_reload(&mut self) {
        let reloads = &mut self.reloads;
        if !matches!(reloads.stage, Stage::Idle) || self.stopping {
            return;
        }
        let Some(asker) = reloads.waiting.pop_front() else { return };
        let reloads = &self.reloads;
        let (before, key) = (&reloads.before, reloads.key.as_deref());
        let sent = match &reloads.steward {
            Some(steward) if asker.program => {
                let state = self.state(None, [].iter()).write();
                state.and_then(|state| steward.rehearse(before, &state, key))
            }
            Some(steward) => steward.ask(before, key),
            None => Err(std::io::Error::other("who prepares them is gone; restart the daemon")),
        };
        if let Err(error) = sent {
            return self.refuse_reload(&asker, &error.to_string());
        }
        let what = if asker.program { "the program is tried" } else { "the policy is read anew" };
        self.log.note(&format!("{what}: {} asks for it", asker.who));
        self.reloads.stage = Stage::Preparing(asker, Instant::now() + PREPARING);
        let now = nanoseconds(ClockId::Monotonic) / 1_000;
        self.manager.tell(&format!("RELOADING=1\nMONOTONIC_USEC={now}"));
    }

    /// Takes what the steward has prepared, once it is all there.
    pub(super) fn hear_steward(&mut self) {
        let Some(steward) = &mut self.reloads.steward else { return };
        let Some(answer) = steward.answer() else { return };
        let stage = std::mem::replace(&mut self.reloads.stage, Stage::Idle);
        let (asker, answer) = match (stage, answer) {
            (Stage::Preparing(asker, _), answer) => (asker, answer),
            (Stage::Rehearsed(asker, ..), Err(failure)) => (asker, Err(failure)),
            (stage, _) => {
                self.reloads.stage = stage;
                return self.reloads.steward = None;
            }
        };
        let done = match answer {
            Err(failure) => return self.give_up(&asker, failure),
            Ok(handed) if asker.program => {
                handed.successor().map(|successor| self.consider(asker.clone(), successor))
            }
            Ok(handed) => handed.prepared().map(|prepared| self.take_over(asker.clone(), prepared)),
        };
        if let Err(error) = done {
            self.give_up(&asker, Failure::Gone(error.to_string()));
        }
    }

    /// Nothing was prepared.
    fn give_up(&mut self, asker: &Asker, failure: Failure) {
        match failure {
            Failure::Refused(why) => self.end_reload(asker, Err(why)),
            Failure::Gone(why) => {
                self.reloads.steward = None;
                let why = format!("who prepares it can't be understood: {why}; restart the daemon");
                self.end_reload(asker, Err(why));
            }
        }
    }

    /// Gives a steward up that takes too long.
    pub(super) fn watch_steward(&mut self) {
        if !matches!(self.reloads.stage, Stage::Preparing(_, until) if until <= Instant::now()) {
            return;
        }
        let stage = std::mem::replace(&mut self.reloads.stage, Stage::Idle);
        self.reloads.steward = None;
        if let Stage::Preparing(asker, _) = stage {
            let why = "it wasn't prepared in two minutes; nothing can be reloaded before a restart";
            self.end_reload(&asker, Err(why.to_owned()));
        }
    }

    /// Says what was prepared. False: it is refused.
    pub(super) fn tell_change(
        &mut self,
        asker: &Asker,
        notes: &str,
        (lines, gains): (&[String], bool),
    ) -> bool {
        self.log.print(notes);
        for line in lines {
            self.log.note(&format!("reload: {line}"));
            self.tell_asker(asker, line, None);
        }
        let why = match () {
            () if self.stopping => "the daemon stops",
            () if gains && !asker.gain => "the policy gains authority",
            // By the policy that holds: the new one can't allow itself what this one forbids.
            () if gains && !self.plan.reload.gain => {
                "the policy gains authority, which `gain` in [reload] of the present one forbids"
            }
            () => return true,
        };
        self.end_reload(asker, Err(why.to_owned()));
        false
    }

    pub(super) fn take_over(&mut self, asker: Asker, prepared: Prepared) {
        let Prepared { assembly, memory, made, notes } = prepared;
        let Some(change) = assembly.change.clone() else {
            return self.end_reload(&asker, Err("it isn't said what changes".to_owned()));
        };
        // Of an upgrade the program before has told, and it has let it pass.
        let told = (&*change.lines, change.gains);
        if !change.program && !self.tell_change(&asker, &notes, told) {
            return;
        }
        let Some(made) = made.filter(|_| !change.is_none) else {
            return self.end_reload(&asker, Ok("the policy is the same as before"));
        };
        match self.exchange(assembly, made, &change) {
            Ok(()) => {
                self.reloads.before = memory;
                self.reloads.stage = Stage::Applying(asker, Instant::now());
                if change.overlaps {
                    self.begin_beside();
                } else {
                    self.end_those_touched(&change);
                    self.tell_settings(&change);
                }
                self.finish_reload();
            }
            Err(why) => self.end_reload(&asker, Err(why)),
        }
    }

    /// Puts the new tables in the place of the old ones. An error has changed nothing.
    fn exchange(
        &mut self,
        assembly: Assembly,
        mut made: crate::prepare::Made,
        change: &Change,
    ) -> Result<(), String> {
        mark::reached("supervisor.reload.prepared");
        let plan = assembly.whole();
        let Assembly { images, relations, reports, settings, policy, .. } = assembly;
        let ground = Rc::clone(&self.images[0].ground);
        let images = image::complete(images, reports, settings, &ground);
        let mut images = images.map_err(|error| error.to_string())?;
        let objects = std::mem::take(&mut made.objects);
        let fifos = std::mem::take(&mut made.fifos);
        self.objects.renew(&plan, &change.kept, objects, fifos).map_err(|e| e.to_string())?;
        let before = self.listening().map(|(name, _)| name).collect();
        for (layer, image) in self.images.iter().enumerate() {
            if let Some(listening) = image.listeners.first() {
                self.poller.set(
                    Source::Waiting(layer).number(),
                    listening.socket(),
                    Interest::empty(),
                );
            }
        }
        let mut sockets: Vec<Vec<Option<Listening>>> = Vec::new();
        for image in &mut self.images {
            sockets.push(std::mem::take(&mut image.listeners).into_iter().map(Some).collect());
        }
        for (number, image) in images.iter_mut().enumerate() {
            image.take_users(&mut made);
            image.listeners = Vec::new();
            let listens = image.data.plan.listen.iter().zip(&change.listen[number]);
            for (plan, from) in listens {
                let there =
                    from.and_then(|(layer, place)| sockets.get_mut(layer)?.get_mut(place)?.take());
                let socket = there.map(|it| it.for_plan(plan));
                let socket = socket.or_else(|| Some(Listening::new(plan, made.listeners.next()?)));
                image.listeners.extend(socket);
            }
            if let Some(old) = self.images.get_mut(number) {
                image.inherit(old, !change.touched[number]);
            }
        }
        for note in &made.notes {
            self.log.note(note);
        }
        self.pipes.forget_changed(&self.plan, &plan);
        self.switchboard.forget_changed(&self.plan.facilities, &plan.facilities);
        (self.plan, self.relations, self.images) = (plan, relations, images);
        self.places.touch_all();
        self.keep_listeners(&before);
        if let Some(audit) = &mut self.audit {
            audit.renumber(&self.images);
        }
        if let Some(helper) = self.place_of(Role::Control).filter(|&it| self.is_there(it)) {
            self.tell(helper, &ToLayer::Policy(policy), None);
        }
        self.log.note(&format!("policy {} takes the place of the one before", policy.short()));
        mark::reached("supervisor.reload.exchanged");
        Ok(())
    }

    /// Ends those in order that hold something else now, or whose place is gone, and makes places
    /// for those that have come.
    fn end_those_touched(&mut self, change: &Change) {
        let now = Instant::now();
        let copies = self.plan.layers.iter().map(LayerPlan::copies).collect::<Vec<_>>();
        for place in 0..self.places.len() {
            let Place { seat, life, retired, fresh, former, .. } = &mut self.places[place];
            if *former {
                continue;
            }
            let was_retired = *retired;
            *retired = !copies[seat.layer].contains(&seat.instance.index);
            seat.restart_by(&self.plan.layers[seat.layer]);
            let own = self.images[seat.layer].data.own.as_ref();
            // Who answers those who asked for this ends by itself, soon after they have gone.
            let answers = own.is_some_and(|own| own.role == Role::Control);
            let is_replaced = change.touched[seat.layer] || change.program && !answers;
            if !(is_replaced || *retired || was_retired) {
                continue;
            }
            if !*retired {
                seat.begin_anew(&self.plan.layers[seat.layer]);
            }
            // Our own know layers by their names and numbers, which stay.
            *fresh = self.images[seat.layer].data.own.is_none();
            match life {
                Life::Running(child) => child.stale = true,
                life if *retired => *life = Life::Down,
                life => {
                    *life = Life::first(&self.images[seat.layer].data, seat.instance.index, now);
                }
            }
            self.pipes.finished.remove(&place);
            self.changed(place);
        }
        for (layer, copies) in copies.into_iter().enumerate() {
            for index in copies {
                let is_it = |it: &Place| it.seat.instance.index == index && !it.former;
                if self.places.each_of(layer).any(is_it) {
                    continue;
                }
                let seat = Seat::new(layer, &self.plan.layers[layer], index, true);
                let image = &self.images[layer].data;
                let fresh = image.own.is_none();
                let place = self.places.push(Place { fresh, ..Place::new(image, seat, now) });
                self.changed(place);
            }
        }
        // There may be more of them now that wait for a connection.
        (0..self.places.len()).for_each(|place| self.fill(place));
    }

    /// Gives those the program's settings that take them without a restart.
    fn tell_settings(&mut self, change: &Change) {
        let told = |it: &Place| change.told[it.seat.layer] && !it.retired;
        for place in (0..self.places.len()).filter(|&it| told(&self.places[it])).collect::<Vec<_>>()
        {
            let layer = self.places[place].seat.layer;
            let (settings, grace) = (&self.images[layer].settings, self.plan.layers[layer].grace);
            let memory = memory::sealed("cofferdam-settings", settings);
            let bytes = u32::try_from(settings.len()).unwrap_or(u32::MAX);
            let Life::Running(child) = &mut self.places[place].life else { continue };
            if child.stale {
                continue;
            }
            match memory {
                Ok(memory) if child.is_serving() => {
                    child.owes = Some(Instant::now() + grace);
                    self.tell(place, &ToLayer::Settings { bytes }, Some(&memory));
                }
                // It began with the former ones.
                _ => self.make_stale(place),
            }
        }
    }

    /// Has one begin anew that was told of settings and hasn't taken them in time.
    pub(super) fn restart_if_it_took_nothing(&mut self, place: usize, now: Instant) {
        let Life::Running(child) = &mut self.places[place].life else { return };
        if child.owes.take_if(|at| *at <= now).is_none() {
            return;
        }
        self.log.say(&format!(
            "{} has not taken the reloaded settings within its `grace`, and is restarted \
             (`reload` in [layer.{}])",
            child.instance, child.instance.layer
        ));
        self.make_stale(place);
    }

    fn make_stale(&mut self, place: usize) {
        let Place { seat, life: Life::Running(child), fresh, .. } = &mut self.places[place] else {
            return;
        };
        (child.stale, *fresh) = (true, true);
        seat.begin_anew(&self.plan.layers[seat.layer]);
    }

    /// Goes on with a reload or an upgrade, if one is under way.
    pub(super) fn go_on_with_reload(&mut self) {
        match self.reloads.stage {
            Stage::Idle => self.begin_reload(),
            Stage::Preparing(..) => {}
            Stage::Rehearsed(..) => self.upgrade_if_quiet(),
            Stage::Applying(..) => {
                self.let_former_go();
                self.ask_stale_to_finish();
                self.finish_reload();
            }
        }
    }

    /// Asks those to finish that a reload ends: who calls others before those, and our own once those have
    /// ended that they work for.
    pub(super) fn ask_stale_to_finish(&mut self) {
        if self.stopping {
            return;
        }
        let stale: Vec<usize> = (0..self.places.len()).filter(|&it| self.is_stale(it)).collect();
        let last = |place| self.own(place).map_or(0, |own| own.last);
        let first = stale.iter().map(|&place| last(place)).min();
        let turn: Vec<usize> = stale.into_iter().filter(|&it| Some(last(it)) == first).collect();
        for place in self.first_to_finish(turn) {
            let Life::Running(child) = &self.places[place].life else { continue };
            if child.deadline.is_none() && child.is_serving() {
                self.end_in_order(place);
            } else if !child.is_serving() {
                self.kill(place);
            }
        }
    }

    fn is_stale(&self, place: usize) -> bool {
        matches!(&self.places[place].life, Life::Running(child) if child.stale)
    }

    /// Whether a place must wait until all have ended that a reload ends.
    pub(super) fn waits_for_stale(&self, place: usize) -> bool {
        self.places[place].fresh && self.children().any(|child| child.stale)
    }

    /// Says that a reload is over, once all that it changes is ready again.
    pub(super) fn finish_reload(&mut self) {
        if !matches!(self.reloads.stage, Stage::Applying(..)) {
            return self.begin_reload();
        }
        let leaves = |place: usize| match &self.places[place].life {
            Life::Running(child) => {
                let goes = child.stale || child.owes.is_some();
                goes || child.outdated && self.role(place) != Some(Role::Control)
            }
            _ => false,
        };
        if (0..self.places.len()).any(|place| leaves(place) || self.comes(place)) {
            return;
        }
        let stage = std::mem::replace(&mut self.reloads.stage, Stage::Idle);
        if let Stage::Applying(asker, _) = stage {
            let done = if asker.program { "upgraded" } else { "reloaded" };
            self.end_reload(&asker, Ok(done));
        }
    }

    /// Whether somebody of the policy's is still to be ready for the first time.
    pub(super) fn comes(&self, place: usize) -> bool {
        let Place { seat, life, retired, .. } = &self.places[place];
        let is_there = *retired || seat.was_ready || matches!(life, Life::Down | Life::Spare);
        !is_there && self.role(place).is_none()
    }

    pub(super) fn end_reload(&mut self, asker: &Asker, result: Result<&str, String>) {
        if !self.stopping {
            self.manager.tell("READY=1");
        }
        match result {
            Ok(what) => {
                self.log.note(what);
                self.tell_asker(asker, what, Some(true));
            }
            Err(why) => self.refuse_reload(asker, &why),
        }
        self.begin_reload();
    }

    /// Whoever asked hears why nothing changes.
    fn refuse_reload(&mut self, asker: &Asker, why: &str) {
        for line in why.lines() {
            self.log.say(&format!("{}: {line}", asker.undone()));
        }
        let mut lines: Vec<&str> = why.trim_end().lines().collect();
        let last = lines.pop().unwrap_or_default().to_owned();
        for line in lines {
            self.tell_asker(asker, line, None);
        }
        self.tell_asker(asker, &format!("{}: {last}", asker.undone()), Some(false));
    }

    fn tell_asker(&mut self, asker: &Asker, text: &str, last: Option<bool>) {
        let helper = self.place_of(Role::Control).filter(|&it| self.is_there(it));
        if let (Some(helper), Some(caller)) = (helper, asker.caller) {
            let text: String = text.chars().take(800).collect();
            self.tell(helper, &ToLayer::Told { caller, text, last }, None);
        }
    }
}
