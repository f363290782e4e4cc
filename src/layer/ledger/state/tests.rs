//! What a next life finds: as it was left, cut off in the middle, or never written by a ledger.

use proptest::prelude::*;

use super::super::book::{Ledger, Request};
use super::*;
use crate::ident::Name;
use crate::policy::plan::Audit;
use crate::sys::memory;

/// Places of two clients, and the lives that sit there.
const CLIENTS: [(ClientIndex, u64); 2] = [(3, 1), (5, 2)];

fn plan(permits: u32, lease: Option<u64>) -> SemaphorePlan {
    SemaphorePlan {
        name: Name::new("s").unwrap(),
        permits,
        holders: Vec::new(),
        lease: lease.map(Duration::from_secs),
        order: None,
        audit: Audit::Digest,
    }
}

fn fresh(plans: &[SemaphorePlan]) -> OwnedFd {
    memory::create_sized("state", bytes(plans) as u64).unwrap()
}

/// The next life of the ledger.
fn life(fd: &OwnedFd, plans: &[SemaphorePlan]) -> State {
    let mut state = State::map(fd, plans, Clock::now()).unwrap();
    for (place, generation) in CLIENTS {
        state.joined(place, generation);
    }
    state
}

/// What it finds of each semaphore: the next fence, how many permits were left behind, and the
/// fences of leases.
fn found(state: &mut State, plans: &[SemaphorePlan]) -> Vec<(u64, u32, Vec<u64>)> {
    let fences = |past: &Past| past.held.iter().map(|lease| lease.fence).collect();
    state.past(plans).iter().map(|it| (it.fence, it.abandoned, fences(it))).collect()
}

fn lease(semaphore: u16, fence: u64, place: ClientIndex) -> Lease {
    Lease { semaphore, fence, place, request: 10 + fence, until: None, abandoned: false }
}

/// Writes words past the ledger.
fn scribble(fd: &OwnedFd, plans: &[SemaphorePlan], words: &[(usize, u64)]) {
    let memory = Mapping::sealed(fd.as_fd(), bytes(plans), true).unwrap();
    for &(word, value) in words {
        memory.store(word * WORD, value);
    }
}

fn refusal(fd: &OwnedFd, plans: &[SemaphorePlan]) -> String {
    let error = State::map(fd, plans, Clock::now()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    error.to_string()
}

#[test]
fn leases_outlive_a_kill() {
    let plans = [plan(2, None), plan(3, Some(60))];
    let fd = fresh(&plans);
    let mut state = life(&fd, &plans);
    assert_eq!(found(&mut state, &plans), [(1, 0, vec![]), (1, 0, vec![])]);
    let end = Instant::now() + Duration::from_secs(30);
    let timed = Lease { until: Some(end), ..lease(1, 2, 5) };
    for lease in [lease(0, 1, 3), lease(1, 1, 3), timed] {
        state.leased(&lease);
    }
    state.over(1, 1, true);
    // Killed, and begun anew.
    drop(state);
    let mut state = life(&fd, &plans);
    let past = state.past(&plans);
    assert_eq!(past[0].held, [lease(0, 1, 3)]);
    assert_eq!((past[1].fence, past[1].abandoned), (3, 1));
    let held = past[1].held[0];
    assert_eq!((held.fence, held.place, held.request), (2, 5, 12));
    // It is told by another clock, whose two names were not taken at one instant.
    let apart = end.duration_since(held.until.unwrap());
    assert!(apart < Duration::from_secs(1), "{apart:?}");
    // What is over now is over in the life after, and what was left behind goes first.
    state.over(0, 1, false);
    state.leased(&Lease { abandoned: true, ..lease(1, 3, 3) });
    drop(state);
    let mut state = life(&fd, &plans);
    assert_eq!(found(&mut state, &plans), [(2, 0, vec![]), (4, 0, vec![2, 3])]);
}

#[test]
fn a_change_that_was_cut_off_is_there_or_not() {
    let plans = [plan(2, None)];
    let fd = fresh(&plans);
    drop(life(&fd, &plans));
    // Killed before the status: client 3 was to have it.
    scribble(&fd, &plans, &[(3, 3), (4, 1), (5, 7), (6, 0)]);
    assert_eq!(found(&mut life(&fd, &plans), &plans), [(1, 0, vec![])]);
    // Killed after the status, before the next fence.
    scribble(&fd, &plans, &[(2, 4 << 2 | LEASED)]);
    assert_eq!(found(&mut life(&fd, &plans), &plans), [(5, 0, vec![4])]);
}

#[test]
fn who_has_ended_left_its_permits_behind() {
    let plans = [plan(3, None)];
    let fd = fresh(&plans);
    let mut state = life(&fd, &plans);
    found(&mut state, &plans);
    for (fence, place) in [(1, 3), (2, 5), (3, 5)] {
        state.leased(&lease(0, fence, place));
    }
    drop(state);
    // Another life sits at the one place, and nobody at the other.
    let mut state = State::map(&fd, &plans, Clock::now()).unwrap();
    state.joined(3, 2);
    assert_eq!(found(&mut state, &plans), [(4, 3, vec![])]);
    drop(state);
    // That is so for good, and no fence comes again, whoever comes back.
    assert_eq!(found(&mut life(&fd, &plans), &plans), [(4, 3, vec![])]);
}

#[test]
fn when_all_are_leased_there_is_none_to_lease() {
    let plans = [plan(2, None)];
    let fd = fresh(&plans);
    let mut state = life(&fd, &plans);
    found(&mut state, &plans);
    for fence in 1..=3 {
        state.leased(&lease(0, fence, 3));
    }
    state.over(0, 3, false);
    drop(state);
    let mut state = life(&fd, &plans);
    let past = state.past(&plans);
    assert_eq!(past[0].held.len(), 2);
    let mut ledger = Ledger::new(&plans, state, past);
    let request = Request { place: 5, number: 1, semaphore: 0, wait: Some(Duration::ZERO) };
    let turn = ledger.acquire(request, Instant::now());
    assert_eq!(turn.replies.len(), 1);
    assert!(matches!(turn.replies[0].verdict, super::super::book::Verdict::Refused(_)), "{turn:?}");
}

#[test]
fn foreign_memory_is_refused_and_told() {
    let plans = [plan(2, None)];
    let said = |fd: &OwnedFd| refusal(fd, &plans);
    let other = fresh(&plans);
    scribble(&other, &plans, &[(0, u64::from_le_bytes(*b"cfd-led2"))]);
    assert!(said(&other).ends_with("it does not say that it is a ledger's"));
    // The first word is the first that a ledger writes.
    let torn = fresh(&plans);
    scribble(&torn, &plans, &[(2, 1 << 2 | LEASED)]);
    assert!(said(&torn).ends_with("it does not say that it is a ledger's"));
}

#[test]
fn leases_that_no_ledger_gives_are_refused() {
    let plans = [plan(3, None)];
    let (leased, last) = (|fence: u64| fence << 2 | LEASED, FENCES - 1);
    for words in [
        // A fence that comes twice.
        &[(2, leased(1)), (12, leased(1))][..],
        // Fences after which there are none.
        &[(2, leased(FENCES))],
        &[(2, u64::MAX)],
        &[(7, FENCES << 2)],
        &[(1, FENCES + 1)],
        &[(1, u64::MAX)],
    ] {
        let fd = fresh(&plans);
        drop(life(&fd, &plans));
        scribble(&fd, &plans, words);
        assert!(refusal(&fd, &plans).ends_with("it has leases that no ledger gives"), "{words:?}");
    }
    // The last that is taken leaves room for the next.
    let fd = fresh(&plans);
    drop(life(&fd, &plans));
    scribble(&fd, &plans, &[(2, leased(last)), (3, 3), (4, 1)]);
    assert_eq!(found(&mut life(&fd, &plans), &plans), [(FENCES, 0, vec![last])]);
}

#[test]
fn no_lease_is_longer_than_the_policy_says() {
    let plans = [plan(3, Some(60))];
    let fd = fresh(&plans);
    drop(life(&fd, &plans));
    // For ever, till the end of the clock, and already over.
    for (permit, until) in (0..).zip([0, u64::MAX, 1]) {
        let at = 2 + permit * PERMIT;
        let fence = permit as u64 + 1;
        let words = [fence << 2 | LEASED, 3, 1, fence, until];
        let words: Vec<_> = (at..).zip(words).collect();
        scribble(&fd, &plans, &words);
    }
    let past = life(&fd, &plans).past(&plans);
    let last = Instant::now() + Duration::from_mins(1);
    assert_eq!(past[0].held.len(), 3);
    assert!(past[0].held.iter().all(|lease| lease.until.is_some_and(|at| at <= last)));
}

/// Words that look like what a ledger writes, and others.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..64_u64,
        (0..16_u64, 0..4_u64).prop_map(|(fence, status)| fence << 2 | status),
        any::<u64>(),
    ]
}

proptest! {
    /// Whatever is there: no permit is there twice, and the ledger goes on.
    #[test]
    fn whatever_is_there_no_permit_is_doubled(words in prop::collection::vec(word(), 17)) {
        let plans = [plan(3, Some(1))];
        let fd = fresh(&plans);
        drop(life(&fd, &plans));
        let words: Vec<_> = (1..).zip(words).collect();
        scribble(&fd, &plans, &words[..bytes(&plans) / WORD - 1]);
        if State::map(&fd, &plans, Clock::now()).is_err() {
            return Ok(());
        }
        let mut state = life(&fd, &plans);
        let past = state.past(&plans);
        let held = past[0].held.len();
        prop_assert!(held + past[0].abandoned as usize <= 3);
        let mut ledger = Ledger::new(&plans, state, past);
        let now = Instant::now();
        let mut given = 0;
        for number in 1000..1010 {
            let wait = Some(Duration::ZERO);
            let turn = ledger.acquire(Request { place: 9, number, semaphore: 0, wait }, now);
            let leased = |it: &&super::super::book::Reply| {
                matches!(it.verdict, super::super::book::Verdict::Leased { .. })
            };
            given += turn.replies.iter().filter(leased).count() + turn.expired.len();
        }
        prop_assert!(given <= 3 + held, "{given} beside {held}");
        ledger.tick(now + Duration::from_hours(1));
    }
}
