//! Stopping: who is asked when, and who is killed.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::{Life, Outcome, Place, Supervisor};
use crate::policy::plan::Program;
use crate::wire::control::ToLayer;

/// How long the kernel may take to end a process that was killed, before it is killed once more.
const AGAIN: Duration = Duration::from_secs(10);

impl Supervisor<'_> {
    /// From now on nothing is started and everything is asked to finish.
    pub(super) fn stop(&mut self, outcome: Outcome) {
        if !self.stopping {
            self.stopping = true;
            self.outcome = outcome;
            self.manager.tell("STOPPING=1");
            self.places.touch_all();
        }
        // Nobody comes for them any more.
        self.pipes.ends.clear();
        self.held.clear();
        for place in 0..self.places.len() {
            let waits = matches!(self.places[place].life, Life::Waiting(_) | Life::Spare);
            if waits && !self.is_wanted(place) {
                self.places[place].life = Life::Down;
                self.tell_if_down(place);
                self.changed(place);
            }
        }
    }

    /// Waits for none of the policy's layers any more. The framework's own still finish: they write
    /// down what happened to the others, and have [`GRACE`] for it from when those have ended.
    pub(super) fn stop_at_once(&self) {
        for place in (0..self.places.len()).filter(|&place| self.role(place).is_none()) {
            self.kill(place);
        }
    }

    /// Asks those layers to finish that no running layer may still call, so that work under way
    /// is carried to its end. Layers that call each other in a circle are asked together.
    pub(super) fn stop_what_is_next(&mut self) {
        if !self.stopping {
            return;
        }
        // The witness passes on what everybody says to the end, and the auditor hears of that.
        let running: Vec<usize> = (0..self.places.len())
            .filter(|&place| matches!(self.places[place].life, Life::Running(_)))
            .filter(|&place| !self.waits_for_others(place))
            .collect();
        for place in self.first_to_finish(running) {
            let Life::Running(child) = &self.places[place].life else { continue };
            // Who still confines itself is asked once that is done.
            if child.is_serving() && child.deadline.is_none() {
                self.end_in_order(place);
            }
        }
    }

    /// Those of some that run which none of them may still call, or all where they call each other in a
    /// circle.
    pub(super) fn first_to_finish(&self, running: Vec<usize>) -> Vec<usize> {
        let layer_of = |place: usize| self.places[place].seat.layer;
        let run: BTreeSet<usize> = running.iter().map(|&place| layer_of(place)).collect();
        let is_used = |place| self.relations.is_used(layer_of(place), |it| run.contains(&it));
        let mut next: Vec<usize> = running.iter().copied().filter(|&it| !is_used(it)).collect();
        if next.is_empty() {
            // A program in the circle is fed by pipes, and ends with what feeds it.
            let own = |place: &&usize| {
                let layer = &self.plan.layers[self.places[**place].seat.layer];
                matches!(layer.program, Program::Run(_))
            };
            next = running.iter().filter(own).copied().collect();
        }
        if next.is_empty() {
            next = running;
        }
        next
    }

    /// Asks the instance at a place to finish within its grace.
    pub(super) fn end_in_order(&mut self, place: usize) {
        let Place { seat, life: Life::Running(child), .. } = &mut self.places[place] else {
            return;
        };
        let plan = &self.plan.layers[seat.layer];
        child.deadline = Some(Instant::now() + plan.grace);
        match plan.program {
            Program::Run(_) => self.ask_to_stop(place),
            Program::Exec(_) => self.terminate(place),
        }
        self.changed(place);
    }

    fn ask_to_stop(&mut self, place: usize) {
        self.tell(place, &ToLayer::Stop, None);
        self.release_reports(place);
        if let Some(audit) = self.audit.as_ref().filter(|_| self.is_auditor(place)) {
            audit.nudge();
        }
    }

    /// Kills one that should have ended by now, or asks one to finish that has served for long enough.
    pub(super) fn end_if_late(&mut self, place: usize, now: Instant) {
        let Life::Running(child) = &mut self.places[place].life else { return };
        if child.ends_at().is_none_or(|at| at > now) {
            return;
        }
        if child.deadline.is_none() {
            return self.end_long_served(place);
        }
        let why = if child.is_serving() { "finish" } else { "confine itself" };
        self.log.say(&format!("{} did not {why} in time and is killed", child.instance));
        child.deadline = Some(now + AGAIN);
        child.kill();
    }

    /// Asks another program to finish, in the way that it knows: its init passes SIGTERM on.
    fn terminate(&self, place: usize) {
        if let Life::Running(child) = &self.places[place].life {
            child.terminate();
        }
    }
}
