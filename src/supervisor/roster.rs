//! The table of instances: who is in which life, and what follows when one ends.
//!
//! Pure: time comes in as a parameter, and every decision is a return value.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::ident::Instance;
use crate::policy::plan::{GiveUp, LayerPlan, Plan, Restart, RestartOn};
pub(super) use crate::prepare::upgrade::facts::Seat;
use crate::wire::life::Ending;

/// The first wait before a restart. Long enough that a layer that fails at once can't keep a
/// processor busy with forking, short enough that a person doesn't notice a single crash.
pub const FIRST_WAIT: Duration = Duration::from_millis(10);

/// An instance that lived this long has shown that it works: its waits begin anew.
pub const PROVEN_AFTER: Duration = Duration::from_secs(10);

/// What follows an ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Start it again at this time.
    RestartAt(Instant),
    /// It stays down; the others go on.
    LeaveDown,
    /// The policy's restarts are used up and it says to stop: the whole daemon stops.
    StopDaemon,
}

impl Seat {
    /// That of copy `index` of a layer. `has_run`: the daemon runs already, and isn't stopped where
    /// this can't begin.
    pub fn new(layer: usize, plan: &LayerPlan, index: u16, has_run: bool) -> Self {
        Self {
            layer,
            instance: Instance { layer: plan.name.clone(), index, generation: 0 },
            has_run,
            was_ready: !is_waited_for(plan, index),
            restart: restart_of(plan),
            started: None,
            failures_in_a_row: 0,
            recent_restarts: VecDeque::new(),
        }
    }

    /// Its next life is one of another kind, so nobody has seen one of them ready.
    pub fn begin_anew(&mut self, plan: &LayerPlan) {
        self.was_ready = !is_waited_for(plan, self.instance.index);
    }

    /// From now on this plan says what follows an ending.
    pub fn restart_by(&mut self, plan: &LayerPlan) {
        self.restart = restart_of(plan);
    }

    /// Begins the next life and names it.
    pub fn begin(&mut self, now: Instant) -> Instance {
        self.instance.generation += 1;
        self.started = Some(now);
        self.instance.clone()
    }

    /// Decides what follows the end of the present life.
    pub fn ended(&mut self, ending: Ending, now: Instant) -> Decision {
        let again = match self.restart.on {
            RestartOn::Never => false,
            RestartOn::Failure => ending.is_failure(),
            RestartOn::Always => true,
        };
        if !again {
            return Decision::LeaveDown;
        }
        let started = self.started.unwrap_or(now);
        if !ending.is_failure() {
            // It did what it was there for, so nothing holds the next life up. Two begin a moment
            // apart, or one that has nothing to do would keep a processor busy.
            self.failures_in_a_row = 0;
            return Decision::RestartAt(now.max(started + FIRST_WAIT));
        }
        let lived = now - started;
        self.failures_in_a_row = if lived >= PROVEN_AFTER { 0 } else { self.failures_in_a_row + 1 };

        let within = self.restart.within;
        self.recent_restarts.retain(|&at| now - at < within);
        if self.recent_restarts.len() >= self.restart.max as usize {
            return match self.restart.then {
                GiveUp::StopDaemon => Decision::StopDaemon,
                GiveUp::LeaveDown => Decision::LeaveDown,
            };
        }
        self.recent_restarts.push_back(now);
        Decision::RestartAt(now + self.wait())
    }

    /// Nothing after the first failure that follows a proven life, then doubling.
    fn wait(&self) -> Duration {
        match self.failures_in_a_row {
            0 => Duration::ZERO,
            n => FIRST_WAIT.saturating_mul(1 << (n - 1).min(16)).min(self.restart.backoff),
        }
    }
}

/// Whether those who start after a layer wait for that copy: not for one that is there only when it is
/// needed.
fn is_waited_for(plan: &LayerPlan, index: u16) -> bool {
    plan.turn(index) < plan.first_instances()
}

/// What follows an ending.
fn restart_of(plan: &LayerPlan) -> Restart {
    let mut restart = plan.restart.clone();
    // How many stay is nothing that one of them decides by ending in order.
    if (plan.workers.is_some() || plan.elastic.is_some()) && restart.on == RestartOn::Failure {
        restart.on = RestartOn::Always;
    }
    restart
}

/// A seat for every copy of every layer, in the plan's order.
pub fn seats(plan: &Plan) -> Vec<Seat> {
    let copies = |(layer, plan): (usize, &LayerPlan)| {
        let plan = plan.clone();
        plan.copies().map(move |index| Seat::new(layer, &plan, index, false))
    };
    plan.layers.iter().enumerate().flat_map(copies).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ident::Name;

    fn seat(restart: Restart) -> Seat {
        Seat {
            layer: 0,
            instance: Instance { layer: Name::new("a").unwrap(), index: 0, generation: 0 },
            has_run: false,
            was_ready: false,
            restart,
            started: None,
            failures_in_a_row: 0,
            recent_restarts: VecDeque::new(),
        }
    }

    #[test]
    fn every_life_has_its_own_generation() {
        let (mut seat, now) = (seat(Restart::default()), Instant::now());
        assert_eq!(seat.begin(now).to_string(), "a/0.g1");
        assert_eq!(seat.begin(now).to_string(), "a/0.g2");
    }

    #[test]
    fn a_clean_exit_is_followed_by_a_restart_only_if_always() {
        let now = Instant::now();
        for (on, clean, failed) in [
            (RestartOn::Never, false, false),
            (RestartOn::Failure, false, true),
            (RestartOn::Always, true, true),
        ] {
            let restarts = |ending| {
                let mut seat = seat(Restart { on, ..Restart::default() });
                seat.begin(now);
                matches!(seat.ended(ending, now), Decision::RestartAt(_))
            };
            assert_eq!(restarts(Ending::Exited(0)), clean, "{on:?}");
            assert_eq!(restarts(Ending::Exited(1)), failed, "{on:?}");
            assert_eq!(restarts(Ending::Killed(9)), failed, "{on:?}");
        }
    }

    #[test]
    fn waits_double_and_begin_anew_after_a_proven_life() {
        let start = Instant::now();
        let mut seat = seat(Restart { max: 100, ..Restart::default() });
        let mut wait = |at: Instant, lived: Duration| {
            seat.begin(at);
            match seat.ended(Ending::Killed(11), at + lived) {
                Decision::RestartAt(then) => then - (at + lived),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(wait(start, Duration::ZERO), FIRST_WAIT);
        assert_eq!(wait(start, Duration::ZERO), FIRST_WAIT * 2);
        assert_eq!(wait(start, Duration::ZERO), FIRST_WAIT * 4);
        assert_eq!(wait(start, PROVEN_AFTER), Duration::ZERO);
        assert_eq!(wait(start, Duration::ZERO), FIRST_WAIT);
        for _ in 0..20 {
            wait(start, Duration::ZERO);
        }
        assert_eq!(wait(start, Duration::ZERO), Restart::default().backoff);
    }

    #[test]
    fn an_end_in_order_is_no_failure() {
        let start = Instant::now();
        let always = Restart { on: RestartOn::Always, max: 1, ..Restart::default() };
        let mut seat = seat(always);
        let mut end = |ending, lived| {
            seat.begin(start);
            seat.ended(ending, start + lived)
        };
        // However often, and however soon after a failure.
        for _ in 0..100 {
            let soon = end(Ending::Exited(0), Duration::ZERO);
            assert_eq!(soon, Decision::RestartAt(start + FIRST_WAIT));
        }
        let failed = end(Ending::Killed(9), Duration::ZERO);
        assert_eq!(failed, Decision::RestartAt(start + FIRST_WAIT));
        let lived = FIRST_WAIT * 2;
        assert_eq!(end(Ending::Exited(0), lived), Decision::RestartAt(start + lived));
        assert_eq!(end(Ending::Killed(9), lived), Decision::StopDaemon);
    }

    #[test]
    fn gives_up_as_the_policy_says() {
        let now = Instant::now();
        for (then, decision) in
            [(GiveUp::StopDaemon, Decision::StopDaemon), (GiveUp::LeaveDown, Decision::LeaveDown)]
        {
            let mut seat = seat(Restart { max: 2, then, ..Restart::default() });
            for _ in 0..2 {
                seat.begin(now);
                assert!(matches!(seat.ended(Ending::Killed(9), now), Decision::RestartAt(_)));
            }
            seat.begin(now);
            assert_eq!(seat.ended(Ending::Killed(9), now), decision);
        }
    }

    #[test]
    fn old_restarts_are_forgotten_after_the_window() {
        let start = Instant::now();
        let within = Duration::from_secs(10);
        let mut seat = seat(Restart { max: 1, within, ..Restart::default() });
        for minute in 0..5 {
            let now = start + Duration::from_mins(1) * minute;
            seat.begin(now);
            assert!(matches!(seat.ended(Ending::Killed(9), now), Decision::RestartAt(_)));
        }
    }
}
