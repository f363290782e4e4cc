//! The lives of layers: starting, letting in, burying.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use super::child::{Breach, Child, Stage};
use super::own::Role;
use super::pipes::Anew;
use super::roster::{Decision, Ending};
use super::spawn::StartError;
use super::{Life, Outcome, Place, Supervisor};
use crate::confine::Receipt;
use crate::mark;
use crate::policy::plan::Program;
use crate::wire::control::{FromLayer, Object, ToLayer};

/// How long a layer may take to confine itself. It takes milliseconds; on a machine that is
/// starved of processor time it may take seconds.
const CONFINING: Duration = Duration::from_secs(30);

/// Control messages heard from one layer in one turn, so that none holds up the others.
const HEARD_IN_A_TURN: usize = 16;

impl Supervisor<'_> {
    /// Starts every layer whose time has come.
    pub(super) fn start_what_is_due(&mut self) {
        let now = Instant::now();
        for place in 0..self.places.len() {
            let due = matches!(self.places[place].life, Life::Waiting(at) if at <= now);
            let held = self.is_held(place) || self.waits_for_log(place);
            if due && self.is_wanted(place) && !held && !self.witness_is_spent(place) {
                self.start(place, now);
            }
        }
    }

    fn start(&mut self, place: usize, now: Instant) {
        let instance = self.places[place].seat.begin(now);
        let image = self.places[place].seat.layer;
        let started = self
            .standard_ends(place, &instance)
            .and_then(|standard| Ok((standard, self.ring_for(image, &instance)?)))
            .map_err(StartError::from)
            .and_then(|(standard, ring)| {
                self.images[image].spawn(instance.clone(), &standard, ring.as_ref())
            });
        match started {
            Ok(mut child) => {
                mark::reached("supervisor.start.spawned");
                child.deadline = Some(now + CONFINING);
                self.places[place].life = Life::Running(Box::new(child));
                self.note_spawn(&instance);
            }
            Err(error) => {
                self.log.say(&format!("{instance} can't be started: {error}"));
                self.places[place].life = Life::Down;
                self.stop(Outcome::Refused);
            }
        }
    }

    /// Hears what a layer says of itself.
    pub(super) fn hear(&mut self, place: usize) {
        for _ in 0..HEARD_IN_A_TURN {
            let Life::Running(child) = &mut self.places[place].life else { return };
            if child.breached || child.mute || !self.hears(place) {
                return;
            }
            let Life::Running(child) = &mut self.places[place].life else { return };
            match (child.hear(), child.stage) {
                (Ok(None), _) => return,
                (Ok(Some(FromLayer::Ready { key, receipt })), Stage::Confining) => {
                    match Receipt::from_bytes(&receipt) {
                        Some(receipt) => self.admit(place, key, &receipt),
                        None => self.breach(place, Breach::Protocol),
                    }
                }
                (Ok(Some(words @ FromLayer::Failed(_))), Stage::Confining)
                | (
                    Ok(Some(words @ (FromLayer::Exited { .. } | FromLayer::Killed { .. }))),
                    Stage::Serving(_),
                ) if child.last_words.is_none() => child.last_words = Some(words),
                (Ok(Some(FromLayer::Ask { request, ask })), Stage::Serving(_)) => {
                    self.asked(place, request, &ask);
                }
                (Ok(Some(FromLayer::Closed { file })), Stage::Serving(_)) => {
                    self.closed(place, file);
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
                (Ok(Some(FromLayer::Withdraw { request })), Stage::Serving(_)) => {
                    self.withdrawn(place, request);
                }
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
        child.stage = Stage::Serving(key);
        child.deadline = None;
        let (instance, pid) = (child.instance.clone(), child.pid);
        self.log.say(&format!("{instance} is confined, pid {pid}: {}", receipt.summary()));
        if self.receipts {
            self.log.print(&receipt.to_string());
        }
        self.note_receipt(&instance, receipt);
        if let Err(error) = self.hand_over(place) {
            self.log.say(&format!("{instance} can't be given what it needs: {error}"));
            self.kill(place);
            self.stop(Outcome::Refused);
        }
    }

    /// Gives a confined layer what it holds from the start, and its peers.
    fn hand_over(&mut self, place: usize) -> Result<(), StartError> {
        let image = &mut self.images[self.places[place].seat.layer];
        let mut messages = Vec::new();
        for listening in &mut image.listeners {
            let socket = listening.hand_over()?;
            messages.push((ToLayer::Listener(listening.name.clone()), socket));
        }
        for file in &image.files {
            messages.push((ToLayer::File(file.name.clone()), file.open()?));
        }
        let layer = &self.plan.layers[self.places[place].seat.layer].name;
        messages.extend(self.objects.of(layer)?);
        messages.extend(image.of_own(&self.objects)?);
        if matches!(image.plan.program, Program::Run(_)) {
            let counts = self.switchboard.open(place, layer, &self.plan.facilities)?;
            let (kind, number, part) = (Object::SignalCounts, 0, 0);
            messages.extend(counts.map(|fd| (ToLayer::Object { kind, number, part }, fd)));
        }
        for (message, fd) in &messages {
            mark::reached("supervisor.hand-over.object");
            self.tell(place, message, Some(fd));
        }
        if self.role(place) == Some(Role::Auditor) {
            self.hand_over_rings(place);
        }
        mark::reached("supervisor.hand-over.done");
        self.introduce(place)?;
        self.join_services(place)?;
        self.join_pipes(place)?;
        self.tell(place, &ToLayer::Start, None);
        Ok(())
    }

    /// Clears away a process that has ended, and decides what follows.
    pub(super) fn bury(&mut self, place: usize) {
        self.hear(place);
        let Life::Running(child) = &mut self.places[place].life else { return };
        let Some(mut ending) = child.ending() else { return };
        let Life::Running(mut child) = std::mem::replace(&mut self.places[place].life, Life::Down)
        else {
            return;
        };
        for pipe in child.output.drain(..) {
            pipe.drain(self.log);
        }
        match child.last_words {
            Some(FromLayer::Exited { code }) => ending = Ending::Exited(code.into()),
            Some(FromLayer::Killed { signal }) => ending = Ending::Killed(signal.into()),
            _ => {}
        }
        mark::reached("supervisor.bury.reaped");
        self.report(&child, ending);
        self.note_exit(&child.instance, ending);
        self.forget_asks(place);
        self.leftovers.extend(child.cgroup.take());
        self.forget_connections(&child.instance);
        self.announce_departure(&child);
        mark::reached("supervisor.bury.announced");
        self.tell_helpers(place, &child);
        self.switchboard.close(place);
        if matches!(child.last_words, Some(FromLayer::Failed(_))) {
            return self.stop(Outcome::Refused);
        }
        if self.auditor_halts(place, ending) {
            return;
        }
        if self.stopping && !(ending.is_failure() && self.is_wanted(place)) {
            return;
        }
        // It did something else, and did it unconfined: no success, and no better the next time.
        if !child.is_serving() && ending == Ending::Exited(0) {
            return self.stop(Outcome::Refused);
        }
        if child.is_serving() {
            self.rekey_queues(&child.instance.layer);
        }
        self.follow(place, &child, ending);
        if !self.stopping {
            self.part_pipes(place, &child.instance);
        }
    }

    /// Decides what follows the end of `child`.
    fn follow(&mut self, place: usize, child: &Child, ending: Ending) {
        let ending = self.judged(place, ending);
        match self.begins_anew(place, child, ending) {
            Anew::At(at) => return self.places[place].life = Life::Waiting(at),
            Anew::Over => return,
            Anew::AsEver => {}
        }
        match self.places[place].seat.ended(ending, Instant::now()) {
            Decision::RestartAt(at) => self.places[place].life = Life::Waiting(at),
            // Nobody hears of it again, so the daemon's exit code does.
            Decision::LeaveDown if ending.is_failure() => self.outcome = Outcome::GaveUp,
            Decision::LeaveDown => drop(self.finished.insert(place)),
            Decision::StopDaemon => {
                self.log.say(&format!(
                    "{} has failed too often: the daemon stops (`restart` in [layer.{}])",
                    child.instance, child.instance.layer
                ));
                self.stop(Outcome::GaveUp);
            }
        }
    }

    /// Says how a layer ended.
    fn report(&mut self, child: &Child, ending: Ending) {
        let name = &child.instance;
        let text = match (&child.last_words, ending) {
            (Some(FromLayer::Failed(why)), _) => format!("{name} could not be confined: {why}"),
            (None, Ending::Exited(code)) if !child.is_serving() => format!(
                "{name} ended with exit code {code} before it was confined: every layer runs the \
                 whole program again, whose `main` must come to `Daemon::main` before anything else"
            ),
            (_, Ending::Exited(code)) => format!("{name} ended with exit code {code}"),
            (_, Ending::Killed(libc::SIGSYS)) => self.denied(child),
            (_, Ending::Killed(signal)) => {
                let signal = nix::sys::signal::Signal::try_from(signal)
                    .map_or_else(|_| format!("signal {signal}"), |s| s.as_str().to_owned());
                format!("{name} was killed by {signal}")
            }
        };
        self.log.say(&text);
    }

    pub(super) fn breach(&mut self, place: usize, breach: Breach) {
        let name = self.places[place].seat.instance.clone();
        self.log.say(&format!("{name} is killed: {breach}"));
        self.note_breach(&name, &breach.to_string());
        self.kill(place);
        if let Life::Running(child) = &mut self.places[place].life {
            child.breached = true;
        }
    }

    pub(super) fn kill(&self, place: usize) {
        if let Life::Running(child) = &self.places[place].life {
            child.kill();
        }
    }

    /// Tells a layer something; one that can't be told is ended.
    pub(super) fn tell(&mut self, place: usize, message: &ToLayer, fd: Option<&OwnedFd>) {
        let Life::Running(child) = &self.places[place].life else { return };
        if let Err(breach) = child.tell(message, fd.map(AsFd::as_fd)) {
            self.breach(place, breach);
        }
    }
}
