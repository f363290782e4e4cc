//! Layers with as many copies as there is to do.
//!
//! Each copy tells how much it has in its hands. That is believed as far as it goes: who lies has the
//! layer's copies begin or end, within the policy's bounds.

use std::time::{Duration, Instant};

use super::child::Child;
use super::{Life, Supervisor};
use crate::policy::plan::Elastic;
use crate::wire::life::Load;

/// For how long all copies are busy before one more begins: what is shorter is no lack of copies.
const GROWS_AFTER: Duration = Duration::from_millis(20);

/// What a layer's load calls for.
enum Act {
    /// One more copy, at this place.
    Begin(usize),
    /// One more, but there may be none.
    Full(usize),
    /// One copy less, at this place.
    Spare(usize),
}

impl Supervisor<'_> {
    /// The copy at a place has something else in its hands.
    pub(super) fn has_in_hand(&mut self, place: usize, load: Load) {
        if let Life::Running(child) = &mut self.places[place].life {
            (child.load, child.loaded) = (load, Instant::now());
        }
        self.tell_standing(place);
    }

    /// Begins and ends copies of a layer.
    pub(super) fn look_after_load(&mut self, layer: usize, now: Instant) {
        match self.called_for(layer) {
            Some((Act::Begin(place), at)) if at <= now => {
                self.places[place].life = Life::Waiting(now);
                self.changed(place);
            }
            Some((Act::Full(all), at)) if at <= now => self.tell_full(layer, all),
            Some((Act::Spare(place), at)) if at <= now => {
                if let Life::Running(child) = &mut self.places[place].life {
                    child.spared = true;
                    self.log
                        .note(&format!("{} has nothing to do, and is to finish", child.instance));
                }
                self.end_in_order(place);
            }
            _ => {}
        }
    }

    /// When there is a copy of a layer to begin or to end.
    pub(super) fn load_deadline(&self, layer: usize, now: Instant) -> Option<Instant> {
        match self.called_for(layer)? {
            (Act::Full(_), _) if self.told_full(layer, now) => None,
            (_, at) => Some(at),
        }
    }

    /// What a layer's load calls for, and when.
    fn called_for(&self, layer: usize) -> Option<(Act, Instant)> {
        let Elastic { min, idle, .. } = self.plan.layers[layer].elastic?;
        if self.stopping {
            return None;
        }
        let (mut there, mut coming, mut spare) = (Vec::<(usize, &Child)>::new(), 0, None);
        for &place in self.places.of(layer) {
            let it = &self.places[place];
            match &it.life {
                _ if it.retired => {}
                Life::Running(child) if child.stale || child.is_serving() => {
                    if !child.stale && child.deadline.is_none() {
                        there.push((place, child));
                    }
                }
                Life::Running(_) | Life::Waiting(_) => coming += 1,
                Life::Spare => spare = spare.or(Some(place)),
                Life::Down => {}
            }
        }
        let all = there.len() + coming;
        if let Some(place) = spare.filter(|_| all < usize::from(min)) {
            return Some((Act::Begin(place), Instant::now()));
        }
        let busy = |(_, child): &&(usize, &Child)| child.load == Load::Busy;
        let is_busy = there.iter().filter(busy).count();
        if coming == 0 && is_busy == there.len() {
            let at = there.iter().map(|(_, child)| child.loaded).max()? + GROWS_AFTER;
            return Some((spare.map_or(Act::Full(all), Act::Begin), at));
        }
        // One that had nothing for so long is one too many: the last of those that have nothing ends,
        // and none while all others are busy.
        let mut idles = there.iter().filter(|(_, child)| child.load == Load::Idle);
        let at = idles.clone().map(|(_, child)| child.loaded).min()? + idle;
        let (place, _) = idles.next_back()?;
        let is_spared = all > usize::from(min) && there.len() - is_busy > 1;
        is_spared.then_some((Act::Spare(*place), at))
    }
}
