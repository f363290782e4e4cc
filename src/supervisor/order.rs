//! In which order layers start: who waits until whom is ready, and who waits in vain.

use super::{Life, Outcome, Place, Supervisor};
use crate::policy::plan::Ready;
use crate::wire::life::Ending;

impl Supervisor<'_> {
    /// Whether somebody that comes first was never ready so far.
    pub(super) fn waits_for_first(&self, place: usize) -> bool {
        self.firsts(place).any(|first| !first.seat.was_ready)
    }

    /// Leaves those down whose turn can't come any more, and says why.
    pub(super) fn give_up_those_behind(&mut self) {
        for place in &self.waiting | self.places.touched() {
            let lost = |first: &Place| !first.seat.was_ready && matches!(first.life, Life::Down);
            let waits = matches!(self.places[place].life, Life::Waiting(_));
            let Some(first) = self.firsts(place).find(|first| waits && lost(first)) else {
                continue;
            };
            let (first, instance) = (&first.seat.instance.layer, &self.places[place].seat.instance);
            self.log.say(&format!(
                "{}/{} is not started: {first}, which it comes `after`, is down and never was ready",
                instance.layer, instance.index
            ));
            self.places[place].life = Life::Down;
            self.outcome = Outcome::GaveUp(Ending::UNBEGUN);
            self.tell_if_down(place);
            self.changed(place);
        }
    }

    fn firsts(&self, place: usize) -> impl Iterator<Item = &Place> {
        let firsts = self.relations.firsts(self.places[place].seat.layer);
        firsts.iter().flat_map(|&it| self.places.each_of(it)).filter(|it| !it.retired)
    }

    /// The instance at a place has come so far; it is ready if that is what its policy waits for.
    pub(super) fn comes_to(&mut self, place: usize, what: Ready) {
        let ready = self.plan.layers[self.places[place].seat.layer].ready;
        if what == if ready == Ready::Told { ready } else { Ready::Confined } {
            self.watch_health(place);
        }
        if what != ready {
            return;
        }
        let Place { seat, life, .. } = &mut self.places[place];
        seat.was_ready = true;
        if let Life::Running(child) = life {
            child.ready = true;
        }
        self.changed(place);
        self.tell_manager_if_ready();
    }
}
