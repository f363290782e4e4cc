//! The ledger against a plain model that only sees what goes in and what comes out.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::ident::Name;
use crate::policy::plan::Audit;

/// What these tests need not keep.
impl Journal for () {
    fn leased(&mut self, _: &Lease) {}
    fn over(&mut self, _: u16, _: u64, _: bool) {}
}

fn plan(permits: u32, lease: Option<u64>, order: Option<u32>) -> SemaphorePlan {
    SemaphorePlan {
        name: Name::new("s").unwrap(),
        permits,
        holders: Vec::new(),
        lease: lease.map(Duration::from_millis),
        order,
        audit: Audit::Digest,
    }
}

fn ask(place: ClientIndex, number: u64, semaphore: u16, wait: Option<u64>) -> Request {
    Request { place, number, semaphore, wait: wait.map(Duration::from_millis) }
}

fn fence(turn: &Turn) -> Option<(u64, bool)> {
    turn.replies.iter().find_map(|reply| match reply.verdict {
        Verdict::Leased { fence, abandoned, .. } => Some((fence, abandoned)),
        Verdict::Refused(_) => None,
    })
}

fn refusal(turn: &Turn) -> Option<Refusal> {
    turn.replies.iter().find_map(|reply| match reply.verdict {
        Verdict::Leased { .. } => None,
        Verdict::Refused(why) => Some(why),
    })
}

#[test]
fn first_come_first_served() {
    let (mut ledger, now) = (Ledger::new(&[plan(1, None, None)], (), Vec::new()), Instant::now());
    assert_eq!(fence(&ledger.acquire(ask(0, 0, 0, None), now)), Some((1, false)));
    for place in 1..4 {
        assert_eq!(ledger.acquire(ask(place, 0, 0, None), now), Turn::default());
    }
    for (fence, next) in (1..).zip(1..4) {
        let (known, turn) = ledger.release(next - 1, 0, fence, now);
        assert!(known);
        assert_eq!(turn.replies[0].place, next);
    }
    assert_eq!(ledger.release(3, 0, 4, now), (true, Turn::default()));
    assert_eq!(ledger.release(3, 0, 4, now), (false, Turn::default()));
}

#[test]
fn nobody_gives_back_what_another_holds() {
    let (mut ledger, now) = (Ledger::new(&[plan(1, None, None)], (), Vec::new()), Instant::now());
    ledger.acquire(ask(0, 0, 0, None), now);
    for (place, semaphore, fence) in [(1, 0, 1), (0, 0, 2), (0, 1, 1), (0, 9, 1)] {
        assert!(!ledger.release(place, semaphore, fence, now).0);
    }
    assert!(ledger.release(0, 0, 1, now).0);
}

#[test]
fn the_next_holder_learns_of_a_death() {
    let (mut ledger, now) = (Ledger::new(&[plan(2, None, None)], (), Vec::new()), Instant::now());
    ledger.acquire(ask(0, 0, 0, None), now);
    ledger.acquire(ask(0, 1, 0, None), now);
    ledger.acquire(ask(1, 0, 0, None), now);
    let turn = ledger.died(0, now);
    assert_eq!(fence(&turn), Some((3, true)));
    assert_eq!(fence(&ledger.acquire(ask(2, 0, 0, None), now)), Some((4, true)));
    ledger.release(2, 0, 4, now);
    assert_eq!(fence(&ledger.acquire(ask(2, 1, 0, None), now)), Some((5, false)));
}

#[test]
fn a_lease_runs_out_at_its_time_and_not_before() {
    let (mut ledger, now) =
        (Ledger::new(&[plan(1, Some(10), None)], (), Vec::new()), Instant::now());
    ledger.acquire(ask(0, 0, 0, None), now);
    ledger.acquire(ask(1, 0, 0, None), now);
    assert_eq!(ledger.next_deadline(), Some(now + Duration::from_millis(10)));
    assert_eq!(ledger.tick(now + Duration::from_millis(9)), Turn::default());
    let turn = ledger.tick(now + Duration::from_millis(10));
    assert_eq!(turn.expired, [Expired { place: 0, semaphore: 0, fence: 1 }]);
    assert_eq!(fence(&turn), Some((2, true)));
    assert!(!ledger.release(0, 0, 1, now + Duration::from_millis(11)).0);
}

#[test]
fn waiting_has_an_end() {
    let (mut ledger, now) = (Ledger::new(&[plan(1, None, None)], (), Vec::new()), Instant::now());
    ledger.acquire(ask(0, 0, 0, None), now);
    assert_eq!(refusal(&ledger.acquire(ask(1, 0, 0, Some(0)), now)), Some(Refusal::Timeout));
    assert_eq!(ledger.acquire(ask(1, 1, 0, Some(5)), now), Turn::default());
    let turn = ledger.tick(now + Duration::from_millis(5));
    assert_eq!((turn.replies[0].request, refusal(&turn)), (1, Some(Refusal::Timeout)));
    ledger.acquire(ask(1, 2, 0, None), now);
    assert_eq!(refusal(&ledger.withdraw(1, 2, now)), Some(Refusal::Timeout));
    assert_eq!(ledger.withdraw(1, 2, now), Turn::default());
    assert_eq!(ledger.release(0, 0, 1, now), (true, Turn::default()));
    assert_eq!(ledger.next_deadline(), None);
}

#[test]
fn few_requests_of_one_instance_wait() {
    let (mut ledger, now) = (Ledger::new(&[plan(1, None, None)], (), Vec::new()), Instant::now());
    ledger.acquire(ask(0, 0, 0, None), now);
    for number in 0..100_000 {
        let turn = ledger.acquire(ask(1, number, 0, None), now);
        let room = usize::try_from(number).unwrap() < MAX_WAITING;
        assert_eq!(refusal(&turn), (!room).then_some(Refusal::Limit));
    }
    assert_eq!(ledger.asks.len(), MAX_WAITING);
    assert_eq!(ledger.acquire(ask(2, 0, 0, None), now), Turn::default());
    // One number twice.
    assert_eq!(refusal(&ledger.acquire(ask(2, 0, 0, None), now)), Some(Refusal::Limit));
}

#[test]
fn several_are_taken_from_low_to_high() {
    let plans = [plan(1, None, Some(1)), plan(1, None, Some(2)), plan(1, None, None)];
    let now = Instant::now();
    for (first, second, fine) in
        [(0, 1, true), (1, 0, false), (0, 2, false), (1, 2, false), (2, 0, true), (2, 1, true)]
    {
        let mut ledger = Ledger::new(&plans, (), Vec::new());
        ledger.acquire(ask(0, 0, first, None), now);
        let turn = ledger.acquire(ask(0, 1, second, None), now);
        assert_eq!(refusal(&turn), (!fine).then_some(Refusal::Order), "{first}, {second}");
    }
}

#[test]
fn who_got_the_higher_one_waits_for_no_lower_one() {
    let now = Instant::now();
    let mut ledger = Ledger::new(&[plan(1, None, Some(1)), plan(1, None, Some(2))], (), Vec::new());
    ledger.acquire(ask(0, 0, 0, None), now);
    assert_eq!(ledger.acquire(ask(1, 0, 0, None), now), Turn::default());
    let turn = ledger.acquire(ask(1, 1, 1, None), now);
    assert_eq!(fence(&turn), Some((1, false)));
    assert_eq!(refusal(&turn), Some(Refusal::Order));
}

#[derive(Clone, Debug)]
enum Event {
    Acquire { place: ClientIndex, semaphore: u16, wait: Option<u64> },
    Release { place: ClientIndex, which: usize },
    Forge { place: ClientIndex, semaphore: u16, fence: u64 },
    Withdraw { place: ClientIndex, which: usize },
    Die { place: ClientIndex },
    Pass { millis: u64 },
}

fn event() -> impl Strategy<Value = Event> {
    let (place, semaphore) = (0..4_u32, 0..4_u16);
    let wait = prop_oneof![Just(None), Just(Some(0)), (1..30_u64).prop_map(Some)];
    prop_oneof![
        6 => (place.clone(), semaphore.clone(), wait)
            .prop_map(|(place, semaphore, wait)| Event::Acquire { place, semaphore, wait }),
        4 => (place.clone(), any::<usize>())
            .prop_map(|(place, which)| Event::Release { place, which }),
        1 => (place.clone(), semaphore, 0..40_u64)
            .prop_map(|(place, semaphore, fence)| Event::Forge { place, semaphore, fence }),
        2 => (place.clone(), any::<usize>())
            .prop_map(|(place, which)| Event::Withdraw { place, which }),
        1 => place.prop_map(|place| Event::Die { place }),
        3 => (0..15_u64).prop_map(|millis| Event::Pass { millis }),
    ]
}

/// What an onlooker knows from requests and answers alone.
struct Model {
    plans: Vec<SemaphorePlan>,
    held: BTreeMap<(u16, u64), ClientIndex>,
    asked: BTreeMap<(ClientIndex, u64), (u16, u64)>,
    highest: Vec<u64>,
    left_behind: Vec<u32>,
    asks: u64,
}

impl Model {
    fn take_in(&mut self, turn: &Turn) {
        for Expired { place, semaphore, fence } in &turn.expired {
            assert_eq!(self.held.remove(&(*semaphore, *fence)), Some(*place));
            self.left_behind[usize::from(*semaphore)] += 1;
        }
        for Reply { place, request, verdict } in &turn.replies {
            let asked = self.asked.remove(&(*place, *request));
            let (wanted, turn_in_line) = asked.expect("one answer to each request");
            if let Verdict::Leased { semaphore, fence, abandoned, .. } = *verdict {
                assert_eq!(semaphore, wanted);
                let highest = &mut self.highest[usize::from(semaphore)];
                assert!(fence > *highest);
                *highest = fence;
                let left = &mut self.left_behind[usize::from(semaphore)];
                assert_eq!(abandoned, *left > 0);
                *left -= u32::from(abandoned);
                self.check_order(*place, semaphore);
                let earlier =
                    self.asked.values().filter(|(s, n)| *s == wanted && *n < turn_in_line);
                assert_eq!(earlier.count(), 0, "first come, first served");
                self.held.insert((semaphore, fence), *place);
            }
        }
    }

    fn check_order(&self, place: ClientIndex, semaphore: u16) {
        let order = |number: u16| self.plans[usize::from(number)].order;
        for ((other, _), holder) in &self.held {
            if *holder == place && *other != semaphore {
                assert!(order(semaphore).is_some());
                assert!(order(*other) < order(semaphore));
            }
        }
    }

    fn compare(&self, ledger: &Ledger<()>) {
        for (number, (plan, book)) in (0..).zip(self.plans.iter().zip(&ledger.books)) {
            let held = self.held.keys().filter(|(semaphore, _)| *semaphore == number).count();
            assert_eq!(book.free as usize + held, plan.permits as usize);
            assert_eq!(book.held.len(), held);
            assert!(book.free == 0 || book.line.is_empty(), "nobody waits while one is free");
            assert_eq!(book.abandoned, self.left_behind[usize::from(number)]);
        }
        let asked: BTreeSet<_> = self.asked.keys().copied().collect();
        assert_eq!(asked, ledger.asks.keys().copied().collect());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn permits_are_exact_whatever_happens(events in prop::collection::vec(event(), 1..250)) {
        let plans = vec![
            plan(1, None, Some(3)),
            plan(2, Some(10), Some(5)),
            plan(3, Some(25), None),
            plan(1, Some(1), Some(9)),
        ];
        let mut ledger = Ledger::new(&plans, (), Vec::new());
        let (highest, left_behind) = (vec![0; 4], vec![0; 4]);
        let (held, asked) = (BTreeMap::new(), BTreeMap::new());
        let mut model = Model { plans, held, asked, highest, left_behind, asks: 0 };
        let mut now = Instant::now();
        for event in events {
            match event {
                Event::Acquire { place, semaphore, wait } => {
                    model.asks += 1;
                    let number = model.asks;
                    model.asked.insert((place, number), (semaphore, model.asks));
                    let turn = ledger.acquire(ask(place, number, semaphore, wait), now);
                    model.take_in(&turn);
                }
                Event::Release { place, which } => {
                    let own = || model.held.iter().filter(|(_, holder)| **holder == place);
                    let Some((&(semaphore, fence), _)) = own().nth(which % own().count().max(1))
                    else {
                        continue;
                    };
                    let (known, turn) = ledger.release(place, semaphore, fence, now);
                    let late = turn.expired.iter().any(|e| (e.semaphore, e.fence) == (semaphore, fence));
                    prop_assert_eq!(known, !late);
                    if known {
                        model.held.remove(&(semaphore, fence));
                    }
                    model.take_in(&turn);
                }
                Event::Forge { place, semaphore, fence } => {
                    if model.held.get(&(semaphore, fence)) != Some(&place) {
                        let (known, turn) = ledger.release(place, semaphore, fence, now);
                        prop_assert!(!known);
                        model.take_in(&turn);
                    }
                }
                Event::Withdraw { place, which } => {
                    let own = || model.asked.keys().filter(|(asker, _)| *asker == place);
                    let Some(&(_, number)) = own().nth(which % own().count().max(1)) else {
                        continue;
                    };
                    model.take_in(&ledger.withdraw(place, number, now));
                    prop_assert!(!model.asked.contains_key(&(place, number)));
                }
                Event::Die { place } => {
                    model.take_in(&ledger.tick(now));
                    model.asked.retain(|(asker, _), _| *asker != place);
                    let gone: Vec<_> = model.held.iter().filter(|(_, h)| **h == place).map(|(k, _)| *k).collect();
                    for key in gone {
                        model.held.remove(&key);
                        model.left_behind[usize::from(key.0)] += 1;
                    }
                    model.take_in(&ledger.died(place, now));
                }
                Event::Pass { millis } => {
                    now += Duration::from_millis(millis);
                    model.take_in(&ledger.tick(now));
                    prop_assert!(ledger.next_deadline().is_none_or(|at| at > now));
                }
            }
            model.compare(&ledger);
        }
        for place in 0..4 {
            model.take_in(&ledger.tick(now));
            let free: u32 = ledger.books.iter().map(|book| book.free).sum();
            prop_assert!(free <= 7);
            model.asked.retain(|(asker, _), _| *asker != place);
            let gone: Vec<_> = model.held.iter().filter(|(_, h)| **h == place).map(|(k, _)| *k).collect();
            for key in gone {
                model.held.remove(&key);
                model.left_behind[usize::from(key.0)] += 1;
            }
            model.take_in(&ledger.died(place, now));
        }
        prop_assert_eq!(ledger.books.iter().map(|book| book.free).sum::<u32>(), 7);
        prop_assert!(ledger.ends.is_empty() && ledger.holding.is_empty() && ledger.asks.is_empty());
    }
}
