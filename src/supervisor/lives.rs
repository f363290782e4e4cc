//! The lives of layers: starting, admitting, reaping.

use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::child::{Breach, Child};
use super::outbox::{Outbox, Overrun};
use super::pipes::Anew;
use super::poll::Source;
use super::roster::Decision;
use super::start_error::StartError;
use super::workers::Held;
use super::{Life, Outcome, Place, Supervisor};
use crate::confine::Receipt;
use crate::ident::Instance;
use crate::mark;
use crate::policy::plan::{OnReload, Program, Ready};
use crate::prepare::own::Role;
use crate::prepare::upgrade::facts::Stage;
use crate::sys::poller::Interest;
use crate::wire::control::{FromLayer, Object, Service, ToLayer};
use crate::wire::life::{End, Ending, LimitMet};

/// How long a layer may take to confine itself. It takes milliseconds; on a machine that is
/// starved of processor time it may take seconds.
const CONFINING: Duration = Duration::from_secs(30);

/// Control messages handled of one layer in one turn, so that none holds up the others.
const MESSAGES_IN_A_TURN: usize = 16;

impl Supervisor<'_> {
    /// Starts every layer whose time has come.
    pub(super) fn start_what_is_due(&mut self) {
        let now = Instant::now();
        for place in &self.waiting | self.places.touched() {
            let due = matches!(self.places[place].life, Life::Waiting(at) if at <= now);
            if due && !self.is_wanted(place) {
                // What it was needed for has passed while it waited.
                self.places[place].life = Life::Down;
                self.changed(place);
            } else if due && !self.must_wait(place) && !self.witness_is_spent(place) {
                self.start(place, now);
            }
        }
    }

    /// Whether what is due at a place has to wait for what another does first.
    pub(super) fn must_wait(&self, place: usize) -> bool {
        self.waits_for_writer(place)
            || self.is_held(place)
            || self.waits_for_first(place)
            || self.waits_for_log(place)
            || self.waits_for_keys(place)
            || self.waits_for_stale(place)
    }

    fn start(&mut self, place: usize, now: Instant) {
        let instance = self.places[place].seat.begin(now);
        self.places[place].fresh = false;
        let image = self.places[place].seat.layer;
        let started = self
            .standard_ends(place, &instance)
            .and_then(|standard| Ok((standard, self.ring_for(image, &instance)?)))
            .map_err(StartError::from)
            .and_then(|(standard, ring)| {
                self.images[image].spawn(&instance, &standard, ring.as_ref())
            });
        match started {
            Ok(mut child) => {
                mark::reached("supervisor.start.spawned");
                child.deadline = Some(now + CONFINING);
                self.places[place].life = Life::Running(Box::new(child));
                self.hand_over_new_ring(&instance);
                self.note_spawn(&instance);
                self.changed(place);
                self.tell_counters(place);
                if let Err(error) = self.hand_over_output(place) {
                    self.log.say(&format!("what {instance} prints can't be written: {error}"));
                }
            }
            Err(error) => {
                self.log.say(&format!("{instance} can't be started: {error}"));
                self.could_not_start(place, &instance, error.lasts());
            }
        }
    }

    /// A life that could not begin counts as one that failed, and the policy says what follows.
    /// Only what no later attempt will mend stops the daemon, and only where the layer never ran.
    fn could_not_start(&mut self, place: usize, instance: &Instance, lasts: bool) {
        self.places[place].life = Life::Down;
        self.forget_ring(instance);
        self.pipes.ends.retain(|end| end.holder != *instance);
        if lasts && !self.has_run(place) {
            return self.stop(Outcome::Refused);
        }
        self.decide(place, instance, Ending::UNBEGUN);
        if !self.stopping {
            self.part_pipes(place, instance);
        }
        self.fill(place);
        self.tell_if_down(place);
        self.changed(place);
        self.give_up_those_behind();
    }

    /// Whether any copy of the layer at a place has ever been confined.
    fn has_run(&self, place: usize) -> bool {
        self.places.each_of(self.places[place].seat.layer).any(|place| place.seat.has_run)
    }

    /// Handles what a layer says of itself.
    pub(super) fn serve_control(&mut self, place: usize) {
        let layer = &self.plan.layers[self.places[place].seat.layer];
        let has_init = matches!(layer.program, Program::Exec(_));
        let tells = layer.ready == Ready::Told;
        let takes = layer.reload == OnReload::Told;
        let is_elastic = layer.elastic.is_some();
        for _ in 0..MESSAGES_IN_A_TURN {
            let Life::Running(child) = &mut self.places[place].life else { return };
            // Who doesn't read isn't listened to either. An init asks for nothing.
            if child.breached || child.mute || child.outbox.is_behind() {
                return;
            }
            if !(has_init || self.takes_turn(place)) {
                return;
            }
            let Life::Running(child) = &mut self.places[place].life else { return };
            match (child.receive(), child.stage) {
                (Ok(None), _) => return,
                (Ok(Some(FromLayer::Ready { key, receipt })), Stage::Confining) => {
                    match Receipt::from_bytes(&receipt) {
                        Some(receipt) => self.admit(place, key, &receipt),
                        None => self.breach(place, Breach::Protocol),
                    }
                }
                (Ok(Some(words @ FromLayer::Failed(_))), Stage::Confining)
                    if child.last_words.is_none() =>
                {
                    child.last_words = Some(words);
                }
                (Ok(Some(FromLayer::Up)), Stage::Serving(_)) if tells && !child.ready => {
                    self.comes_to(place, Ready::Told);
                }
                (Ok(Some(FromLayer::Well)), Stage::Serving(_)) if child.health.is_asked() => {
                    self.watch_health(place);
                }
                // It may have taken them too late, and be about to end.
                (Ok(Some(FromLayer::Reloaded)), Stage::Serving(_)) if takes => child.owes = None,
                (Ok(Some(FromLayer::Load(load))), Stage::Serving(_)) if is_elastic => {
                    self.has_in_hand(place, load);
                }
                // Of an end that isn't its own, only the init of another program can tell.
                (
                    Ok(Some(words @ (FromLayer::Exited { .. } | FromLayer::Killed { .. }))),
                    Stage::Serving(_),
                ) if has_init && child.last_words.is_none() => child.last_words = Some(words),
                (Ok(Some(FromLayer::Ask { request, ask })), Stage::Serving(_)) => {
                    self.asked(place, request, &ask);
                }
                (Ok(Some(FromLayer::Broke { seat, generation })), Stage::Serving(_))
                    if self.has_client(place, seat) =>
                {
                    self.broke(seat, generation);
                }
                (Ok(Some(FromLayer::Taken { ring })), Stage::Serving(_))
                    if self.role(place) == Some(Role::Auditor) =>
                {
                    self.taken(ring);
                }
                (Ok(Some(FromLayer::Log { halt, text })), Stage::Serving(_))
                    if self.role(place) == Some(Role::Auditor) =>
                {
                    self.log_says(halt, &text);
                }
                (Ok(Some(FromLayer::Printed { seat, generation })), Stage::Serving(_))
                    if self.role(place) == Some(Role::Log) =>
                {
                    self.printed(place, seat, generation);
                }
                (Ok(Some(FromLayer::Command { caller, command })), Stage::Serving(_))
                    if self.role(place) == Some(Role::Control) =>
                {
                    self.command(place, caller, command);
                }
                (Ok(Some(FromLayer::Meet(meeting))), Stage::Serving(_))
                    if self.role(place) == Some(Role::Service(Service::Hosts)) =>
                {
                    if let Err(error) = self.meet(&meeting) {
                        self.log.say(&format!("no link to another host can be made: {error}"));
                    }
                }
                (Ok(Some(FromLayer::CallerGone { caller })), Stage::Serving(_))
                    if self.role(place) == Some(Role::Control) =>
                {
                    self.caller_gone(place, caller);
                }
                // Whatever a layer asks for here has been answered at once.
                (Ok(Some(FromLayer::Withdraw { .. })), Stage::Serving(_)) => {}
                (Ok(Some(_)), _) => return self.breach(place, Breach::Protocol),
                (Err(breach), _) => return self.breach(place, breach),
            }
        }
    }

    /// Lets a confined layer in, if it is confined as its policy asks.
    fn admit(&mut self, place: usize, key: [u8; 32], receipt: &Receipt) {
        let Place { seat, life: Life::Running(child), .. } = &mut self.places[place] else {
            return;
        };
        let plan = &self.plan.layers[seat.layer];
        let missing = receipt.missing_against(plan);
        if !missing.is_empty() {
            let names: Vec<_> = missing.iter().map(|protection| protection.name()).collect();
            self.log.say(&format!(
                "{} runs without {}, which its policy demands; add it to `optional` in [layer.{}] \
                 to run without, `cofferdam doctor` tells why",
                child.instance,
                names.join(", "),
                child.instance.layer
            ));
            child.kill();
            return self.stop(Outcome::Refused);
        }
        mark::reached("supervisor.admit.confined");
        if child.stale {
            return self.kill(place);
        }
        child.stage = Stage::Serving(key);
        child.receipt = receipt.to_bytes().to_vec();
        child.deadline = None;
        seat.has_run = true;
        let (instance, pid) = (child.instance.clone(), child.pid);
        self.log.note(&format!("{instance} is confined, pid {pid}: {}", receipt.summary()));
        if self.receipts {
            self.log.print(&receipt.to_string());
        }
        self.note_receipt(&instance, receipt);
        self.changed(place);
        self.comes_to(place, Ready::Confined);
        if let Err(error) = self.hand_over(place) {
            // It was all there when the daemon began, so this may pass: it counts as a failure.
            self.log.say(&format!("{instance} can't be given what it needs: {error}"));
            self.kill(place);
        }
    }

    /// Gives a confined layer what it holds from the start, and its peers.
    fn hand_over(&mut self, place: usize) -> Result<(), StartError> {
        let image = &mut self.images[self.places[place].seat.layer];
        let mut messages = Vec::new();
        for listening in &mut image.listeners {
            let socket = listening.hand_over()?;
            messages.push((ToLayer::Listener(listening.plan.name.clone()), socket));
        }
        let held = self.held.get_mut(&self.places[place].seat.layer);
        messages.extend(held.and_then(Held::next).map(|fd| (ToLayer::Connection, fd)));
        for file in &image.data.files {
            messages.push((ToLayer::File(file.name.clone()), file.open()?));
        }
        let layer = &self.plan.layers[self.places[place].seat.layer].name;
        messages.extend(self.objects.of(layer)?);
        messages.extend(image.of_own()?);
        if matches!(image.data.plan.program, Program::Run(_)) {
            let counts = self.switchboard.open(place, layer, &self.plan.facilities)?;
            let (kind, number, part) = (Object::SignalCounts, 0, 0);
            messages.extend(counts.map(|fd| (ToLayer::Object { kind, number, part }, fd)));
        }
        for (message, fd) in &messages {
            mark::reached("supervisor.hand-over.object");
            self.tell(place, message, Some(fd));
        }
        match self.role(place) {
            Some(Role::Auditor) => self.hand_over_rings(place),
            Some(Role::Log) => self.begin_writing(place)?,
            Some(Role::Control) => self.begin_control(place),
            Some(Role::Metrics) => self.begin_metrics(),
            _ => {}
        }
        mark::reached("supervisor.hand-over.done");
        self.introduce(place)?;
        self.join_services(place)?;
        self.join_pipes(place)?;
        self.tell_who_is_down(place);
        // What it prints comes after the line that it is confined.
        self.flush_log();
        self.tell(place, &ToLayer::Start, None);
        Ok(())
    }

    /// Clears away a process that has ended, and decides what follows.
    pub(super) fn reap(&mut self, place: usize) {
        self.serve_control(place);
        let Life::Running(child) = &mut self.places[place].life else { return };
        let Some(ending) = child.ending() else { return };
        self.poller.set(Source::Control(place).number(), &child.control, Interest::empty());
        self.poller.set(Source::Process(place).number(), &child.process, Interest::empty());
        let Life::Running(mut child) = std::mem::replace(&mut self.places[place].life, Life::Down)
        else {
            return;
        };
        let ending = child.program_ending(ending);
        self.forget_callers(place);
        self.clear_away(place, &mut child, ending);
        self.changed(place);
        if ending == Ending::Exited(0) {
            self.comes_to(place, Ready::Finished);
        }
        self.give_up_those_behind();
    }

    fn clear_away(&mut self, place: usize, child: &mut Child, ending: Ending) {
        mark::reached("supervisor.reap.reaped");
        let limit = self.limit_met(place, child, ending);
        self.note_exit(&child.instance, ending, limit.map_or("", LimitMet::key));
        self.report(place, child, ending, limit);
        self.leftovers.groups.extend(child.cgroup.take());
        self.announce_departure(place, child);
        mark::reached("supervisor.reap.announced");
        self.tell_helpers(place, child);
        self.switchboard.close(place);
        if child.stale && !self.stopping {
            if child.is_serving() {
                self.rekey_queues(&child.instance.layer);
            }
            self.follow(place, child, ending);
            self.part_pipes(place, &child.instance);
            return self.tell_if_down(place);
        }
        if matches!(child.last_words, Some(FromLayer::Failed(_))) && !self.has_run(place) {
            return self.stop(Outcome::Refused);
        }
        if self.auditor_halts(place, ending) {
            return;
        }
        // One of our own that an upgrade has ended meanwhile is needed as long as others run.
        if self.stopping && !((ending.is_failure() || child.stale) && self.is_wanted(place)) {
            return self.tell_if_down(place);
        }
        // It did something else, unconfined, or a filter beneath us ended it: no better next time.
        let unconfined = matches!(ending, Ending::Exited(0) | Ending::Killed(libc::SIGSYS));
        if !child.is_serving() && unconfined {
            return self.stop(Outcome::Refused);
        }
        if child.is_serving() {
            self.rekey_queues(&child.instance.layer);
        }
        self.follow(place, child, ending);
        if !self.stopping {
            self.part_pipes(place, &child.instance);
        }
        self.fill(place);
        self.tell_if_down(place);
    }

    /// Decides what follows the end of `child`.
    fn follow(&mut self, place: usize, child: &Child, ending: Ending) {
        if self.places[place].retired {
            return self.places[place].life = Life::Down;
        }
        if child.renewed {
            return self.places[place].life = Life::Waiting(Instant::now());
        }
        if child.stale {
            let (seat, now) = (&self.places[place].seat, Instant::now());
            let life = Life::first(&self.images[seat.layer].data, seat.instance.index, now);
            let is_own = self.role(place).is_some();
            let again = if is_own { Life::Waiting(now) } else { life };
            return self.places[place].life = again;
        }
        // Whatever became of it, it was that connection's alone, or had nothing to do.
        if child.serves.is_some() || child.spared {
            return self.places[place].life = Life::Spare;
        }
        let mut ending = self.judged(place, ending);
        // It was being killed; that it was quicker doesn't make it an end in order.
        if child.breached && !ending.is_failure() {
            ending = Ending::Killed(libc::SIGKILL);
        }
        match self.begins_anew(place, child, ending) {
            Anew::At(at) => return self.places[place].life = Life::Waiting(at),
            Anew::Over => return,
            Anew::AsEver => {}
        }
        self.decide(place, &child.instance, ending);
    }

    /// Has the policy decide what follows the end of `instance`.
    fn decide(&mut self, place: usize, instance: &Instance, ending: Ending) {
        // Of a layer that never ran, it was the system that refused it.
        let outcome = if self.has_run(place) { Outcome::GaveUp(ending) } else { Outcome::Refused };
        match self.places[place].seat.ended(ending, Instant::now()) {
            Decision::RestartAt(at) => self.places[place].life = Life::Waiting(at),
            // Nobody hears of it again, so the daemon's exit code does.
            Decision::LeaveDown if ending.is_failure() => self.outcome = outcome,
            Decision::LeaveDown => drop(self.pipes.finished.insert(place)),
            Decision::StopDaemon => {
                self.log.say(&format!(
                    "{instance} has failed too often: the daemon stops (`restart` in [layer.{}])",
                    instance.layer
                ));
                self.stop(outcome);
            }
        }
    }

    /// Has the writer of the log say how a layer ended, behind what it printed.
    fn report(&mut self, place: usize, child: &Child, ending: Ending, limit: Option<LimitMet>) {
        let Ok(seat) = u32::try_from(place) else { return };
        let failure = match &child.last_words {
            Some(FromLayer::Failed(why)) => Some(why.clone()),
            _ => None,
        };
        let (instance, culprit) = (child.instance.clone(), child.printing.culprit);
        let served = child.is_serving();
        let end = End { seat, instance, culprit, ending, served, failure, limit };
        self.places[place].last = Some(Box::new(end.clone()));
        self.log.tell_end(end);
        self.keep_output(seat, Rc::clone(&child.printing));
    }

    /// Which of its limits ended a layer, as far as the signal or its control group tells.
    fn limit_met(&self, place: usize, child: &Child, ending: Ending) -> Option<LimitMet> {
        let limits = &self.plan.layers[self.places[place].seat.layer].limits;
        if ending == Ending::Killed(libc::SIGXFSZ) {
            return Some(LimitMet::FileSize(limits.file_size));
        }
        if ending == Ending::Killed(libc::SIGKILL)
            && let Some(within) = child.health.overdue()
        {
            return Some(LimitMet::Health(within));
        }
        let strikes = child.cgroup.as_ref().filter(|_| ending.is_failure())?.strikes();
        if ending == Ending::Killed(libc::SIGKILL) && strikes.memory > 0 {
            return Some(LimitMet::Memory(limits.memory));
        }
        let (refused, most) = (strikes.tasks, limits.tasks);
        (refused > 0).then_some(LimitMet::Tasks { refused, most })
    }

    pub(super) fn breach(&mut self, place: usize, breach: Breach) {
        let name = self.places[place].seat.instance.clone();
        self.log.say(&format!("{name} is killed: {breach}"));
        self.note_breach(&name, &breach.to_string());
        self.kill(place);
        if let Life::Running(child) = &mut self.places[place].life {
            child.breached = true;
            child.outbox = Outbox::default();
        }
        self.hold_notes(place);
    }

    pub(super) fn kill(&self, place: usize) {
        if let Life::Running(child) = &self.places[place].life {
            child.kill();
        }
    }

    /// Tells a layer something; one that can't be told is ended.
    pub(super) fn tell(&mut self, place: usize, message: &ToLayer, fd: Option<&OwnedFd>) {
        let Life::Running(child) = &mut self.places[place].life else { return };
        if child.breached {
            return;
        }
        let fd = fd.map(AsFd::as_fd);
        let posted = child.outbox.post(child.control.as_fd(), message, fd, Instant::now());
        if let Err(Overrun) = posted {
            self.breach(place, Breach::Deaf);
        }
        self.hold_notes(place);
    }

    /// Tells a layer what waits, as far as its control socket takes it.
    pub(super) fn flush_outbox(&mut self, place: usize) {
        let Life::Running(child) = &mut self.places[place].life else { return };
        if !child.outbox.is_empty() {
            child.flush(Instant::now());
            self.hold_notes(place);
        }
    }

    /// The auditor must know of a ring before it is told, in another ring, that the reporter has
    /// ended: so the supervisor's own acts wait for what it has still to be told.
    fn hold_notes(&mut self, place: usize) {
        let Life::Running(child) = &self.places[place].life else { return };
        let waits = !child.outbox.is_empty();
        if self.is_auditor(place)
            && let Some(audit) = &mut self.audit
        {
            audit.held = waits;
        }
    }

    /// Tries again where the kernel couldn't, and ends whom nothing can be told.
    pub(super) fn flush_late_outbox(&mut self, place: usize, now: Instant) {
        let Life::Running(child) = &self.places[place].life else { return };
        if child.breached || child.outbox.deadline().is_none_or(|at| at > now) {
            return;
        }
        if child.outbox.is_overdue(now) {
            self.breach(place, Breach::Deaf);
        } else {
            self.flush_outbox(place);
        }
    }
}
