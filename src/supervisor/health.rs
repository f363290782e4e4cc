//! Whether layers are well: those are asked whose policy says so, from when on they are ready until
//! they are asked to finish. Who doesn't answer in time is killed, which is a failure.

use std::time::Instant;

use super::{Life, Supervisor};
use crate::policy::plan::Health;
use crate::prepare::upgrade::facts::Pulse;
use crate::wire::control::ToLayer;

impl Pulse {
    /// Whether an answer is due.
    pub fn is_asked(self) -> bool {
        matches!(self, Self::AnswerBy(_))
    }

    /// When there is something to do.
    pub fn deadline(self) -> Option<Instant> {
        match self {
            Self::AskAt(at) | Self::AnswerBy(at) => Some(at),
            Self::Unwatched | Self::Lost(_) => None,
        }
    }

    /// The milliseconds within which it didn't answer, if it is killed for that.
    pub fn overdue(self) -> Option<u64> {
        match self {
            Self::Lost(within) => Some(within.as_millis().try_into().unwrap_or(u64::MAX)),
            _ => None,
        }
    }

    /// What follows at `now`, once the time has come; `is_heard`: what it says is read.
    fn next(self, now: Instant, health: Health, is_heard: bool) -> Self {
        match self {
            // Whoever looks that late was held up as well, and looks once more.
            Self::AnswerBy(by) if is_heard && now - by <= health.within => {
                Self::Lost(health.within)
            }
            Self::AskAt(_) | Self::AnswerBy(_) => Self::AnswerBy(now + health.within),
            other => other,
        }
    }
}

impl Supervisor<'_> {
    /// The instance at a place is ready, or has answered: it is asked in a while, if its policy says
    /// so.
    pub(super) fn watch_health(&mut self, place: usize) {
        let Some(health) = self.health_of(place) else { return };
        if let Life::Running(child) = &mut self.places[place].life {
            child.health = Pulse::AskAt(Instant::now() + health.every);
        }
    }

    /// Asks one whose time has come, and kills one who owes an answer.
    pub(super) fn look_after_health(&mut self, place: usize, now: Instant) {
        let Life::Running(child) = &self.places[place].life else { return };
        let pulse = child.health;
        if pulse.deadline().is_none_or(|at| at > now) {
            return;
        }
        let (finishes, behind) = (child.deadline.is_some(), child.outbox.is_behind());
        let next = match self.health_of(place) {
            // Once it was asked to finish, its grace is what counts.
            Some(health) if !finishes => {
                // Its answer may be there while nobody listens to it.
                let is_heard = !behind && self.throttled_until(place, now).is_none();
                pulse.next(now, health, is_heard)
            }
            _ => Pulse::Unwatched,
        };
        if let Life::Running(child) = &mut self.places[place].life {
            child.health = next;
        }
        match next {
            Pulse::AnswerBy(_) if !pulse.is_asked() => {
                self.tell(place, &ToLayer::AreYouWell, None);
            }
            Pulse::Lost(_) => self.kill(place),
            _ => {}
        }
    }

    fn health_of(&self, place: usize) -> Option<Health> {
        self.plan.layers[self.places[place].seat.layer].health
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const HEALTH: Health =
        Health { every: Duration::from_secs(5), within: Duration::from_millis(100) };

    #[test]
    fn who_owes_an_answer_is_lost() {
        let now = Instant::now();
        let asked = Pulse::AskAt(now).next(now, HEALTH, true);
        assert_eq!(asked, Pulse::AnswerBy(now + HEALTH.within));
        let due = asked.deadline().unwrap();
        let lost = asked.next(due, HEALTH, true);
        assert_eq!((lost.overdue(), lost.deadline()), (Some(100), None));
        assert_eq!(lost.next(due, HEALTH, true), lost);
    }

    #[test]
    fn nobody_is_judged_by_one_who_did_not_listen() {
        let now = Instant::now();
        let asked = Pulse::AnswerBy(now);
        let again = Pulse::AnswerBy(now + HEALTH.within);
        assert_eq!(asked.next(now, HEALTH, false), again);
        let late = now + HEALTH.within * 2;
        assert_eq!(asked.next(late, HEALTH, true), Pulse::AnswerBy(late + HEALTH.within));
    }
}
