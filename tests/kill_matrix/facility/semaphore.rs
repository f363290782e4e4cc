//! Semaphores: three holders of four semaphores. Permits stay exact, fences rise, and whoever comes
//! after a death learns of it.
//!
//! `one` is a lock, `two` has two permits of which `c` takes both, `rush` sees requests that are
//! withdrawn, and in `brief` every lease runs out. The first life of `b` ends with the lock in its
//! hands. Lines carry the time by the clock of the machine, since the log doesn't keep the order of
//! what several layers say.

// What the daemon runs owns its layer, and errors are mapped.
#![allow(clippy::needless_pass_by_value)]

use std::collections::BTreeMap;
use std::time::Duration;

use cofferdam::Layer;
use cofferdam::ipc::semaphore::{AcquireError, Lease, Semaphore};
use rustix::time::{ClockId, clock_gettime};

use super::lives;
use super::{Facility, Outcome, Runs};
use crate::case::Story;
use crate::parties::say;

pub(crate) const FACILITY: Facility = Facility {
    name: "semaphore",
    policy: r#"
[semaphore.one]
permits = 1
holders = ["a", "b", "c"]
order = 1
[semaphore.two]
permits = 2
holders = ["a", "b", "c"]
order = 2
[semaphore.rush]
permits = 1
holders = ["a", "b", "c"]
[semaphore.brief]
permits = 1
holders = ["b", "c"]
lease = "2ms"
"#,
    layers: &[
        ("a", Runs::Async(|layer| Box::pin(a(layer)))),
        ("b", Runs::Blocking(b)),
        ("c", Runs::Async(|layer| Box::pin(c(layer)))),
    ],
    marks: &[
        ("supervisor", "supervisor.start.spawned", 2),
        ("supervisor", "supervisor.admit.confined", 3),
        ("supervisor", "supervisor.hand-over.done", 2),
        ("supervisor", "supervisor.reap.reaped", 1),
        ("supervisor", "supervisor.reap.announced", 1),
        ("cofferdam-ledger", "semaphore.acquire.heard", 1),
        ("cofferdam-ledger", "semaphore.acquire.heard", 30),
        ("cofferdam-ledger", "semaphore.acquire.booked", 1),
        ("cofferdam-ledger", "semaphore.acquire.booked", 25),
        ("cofferdam-ledger", "semaphore.lease.before", 2),
        ("cofferdam-ledger", "semaphore.lease.before", 20),
        ("cofferdam-ledger", "ledger.answer.before", 9),
        ("cofferdam-ledger", "ledger.answer.sent", 1),
        ("cofferdam-ledger", "ledger.answer.sent", 15),
        ("cofferdam-ledger", "semaphore.release.heard", 1),
        ("cofferdam-ledger", "semaphore.release.heard", 11),
        ("cofferdam-ledger", "semaphore.release.booked", 2),
        ("cofferdam-ledger", "semaphore.release.booked", 12),
        ("cofferdam-ledger", "semaphore.withdraw.heard", 1),
        ("cofferdam-ledger", "semaphore.withdraw.booked", 2),
        ("cofferdam-ledger", "semaphore.death.heard", 1),
        ("cofferdam-ledger", "semaphore.death.booked", 1),
        ("cofferdam-ledger", "semaphore.expiry.booked", 1),
        ("cofferdam-ledger", "semaphore.expiry.booked", 3),
        ("supervisor", "supervisor.service.helper-told", 2),
        ("supervisor", "supervisor.service.client-told", 3),
        ("cofferdam-ledger", "service.client.joined", 2),
        ("cofferdam-ledger", "service.client.gone", 1),
        ("cofferdam-ledger", "ledger.lease.written", 3),
        ("cofferdam-ledger", "ledger.lease.written", 21),
        ("cofferdam-ledger", "ledger.lease.published", 2),
        ("cofferdam-ledger", "ledger.lease.published", 18),
        ("cofferdam-ledger", "ledger.over.before", 2),
        ("cofferdam-ledger", "ledger.over.before", 17),
        ("cofferdam-ledger", "ledger.over.written", 1),
        ("cofferdam-ledger", "ledger.over.written", 19),
        ("a", "semaphore.acquire.before", 1),
        ("a", "broker.ask.sent", 2),
        ("a", "broker.answer.come", 1),
        ("a", "broker.answer.come", 5),
        ("a", "broker.answer.returned", 1),
        ("a", "broker.withdraw.before", 1),
        ("a", "broker.withdraw.sent", 2),
        ("a", "semaphore.acquire.got", 1),
        ("a", "semaphore.acquire.got", 6),
        ("a", "semaphore.release.before", 1),
        ("a", "semaphore.release.sent", 4),
        ("b", "semaphore.acquire.before", 2),
        ("b", "broker.ask.sent", 3),
        ("b", "broker.answer.come", 2),
        ("b", "semaphore.acquire.got", 1),
        ("b", "semaphore.acquire.got", 4),
        ("b", "semaphore.release.before", 1),
        ("b", "semaphore.release.sent", 2),
        ("c", "semaphore.acquire.got", 2),
        ("c", "semaphore.release.before", 1),
        ("c", "semaphore.release.sent", 1),
    ],
    check,
};

/// How long a permit is held, and how long to wait after a round.
const PAUSE: Duration = Duration::from_millis(1);

/// Longer than any wait for a permit. A wait with a time isn't cut short when the layer is asked to
/// finish.
const LONG: Duration = Duration::from_hours(1);

/// How many rounds the first life of `b` goes.
const FIRST_LIFE: u32 = 5;

/// Holds the lock and another permit, and takes requests back.
async fn a(layer: Layer) -> Outcome {
    let get = |name| layer.semaphore(name).map_err(text);
    let (one, two, rush) = (get("one")?, get("two")?, get("rush")?);
    let mut on = 0;
    while !layer.is_stopping() {
        let first = has("one", one.acquire().await.map_err(text)?);
        let second = has("two", two.acquire().await.map_err(text)?);
        tokio::time::sleep(PAUSE).await;
        give("two", second);
        give("one", first);
        withdraw(&rush, on).await?;
        on += 1;
        say(format!("on {on}"));
        lives::tell_descriptors_beside_helpers(&layer);
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// Asks, and may drop the request: in even rounds when the answer may have come, unheard.
async fn withdraw(rush: &Semaphore, round: u32) -> Outcome {
    let mut acquire = std::pin::pin!(rush.acquire());
    let enough = async {
        if round.is_multiple_of(2) {
            std::thread::sleep(PAUSE);
        } else {
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::select! {
        biased;
        lease = &mut acquire => give("rush", has("rush", lease.map_err(text)?)),
        () = enough => {}
    }
    Ok(())
}

/// Waits by blocking.
fn b(layer: Layer) -> Outcome {
    let get = |name| Ok::<_, String>(layer.semaphore(name).map_err(text)?.blocking());
    let (one, two, rush, brief) = (get("one")?, get("two")?, get("rush")?, get("brief")?);
    let mut on = 0;
    while !layer.is_stopping() {
        let lease = has("one", one.acquire_timeout(LONG).map_err(text)?);
        if layer.instance().generation == 1 && on == FIRST_LIFE {
            std::mem::forget(lease);
            return Ok(());
        }
        give("one", lease);
        if let Some(lease) = two.try_acquire().map_err(text)? {
            give("two", has("two", lease));
        }
        match rush.acquire_timeout(PAUSE) {
            Ok(lease) => give("rush", has("rush", lease)),
            Err(AcquireError::Timeout(_)) => {}
            Err(error) => return Err(text(error)),
        }
        if on % 2 == 1 {
            let lease = has("brief", brief.acquire_timeout(LONG).map_err(text)?);
            let end = end(&lease);
            while !lease.is_expired() {
                std::thread::sleep(lease.remaining().unwrap_or_default());
            }
            is_over(lease, end);
        }
        on += 1;
        say(format!("on {on}"));
        lives::tell_descriptors_beside_helpers(&layer);
        std::thread::sleep(PAUSE);
        layer.attend().map_err(text)?;
    }
    Ok(())
}

/// Takes all permits again and again, and at its end.
async fn c(layer: Layer) -> Outcome {
    let get = |name| layer.semaphore(name).map_err(text);
    let (one, two, rush, brief) = (get("one")?, get("two")?, get("rush")?, get("brief")?);
    let mut on = 0;
    loop {
        let is_last = layer.is_stopping();
        all(&one, "one", 1).await?;
        all(&two, "two", 2).await?;
        all(&rush, "rush", 1).await?;
        let lease = has("brief", brief.acquire().await.map_err(text)?);
        let end = end(&lease);
        lease.expired().await;
        is_over(lease, end);
        on += 1;
        say(format!("on {on}"));
        lives::tell_descriptors_beside_helpers(&layer);
        if is_last {
            say("finds all");
            return Ok(());
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Takes all permits: there must be so many, and not one more.
async fn all(semaphore: &Semaphore, name: &str, permits: usize) -> Outcome {
    let mut leases = Vec::new();
    for _ in 0..permits {
        leases.push(has(name, semaphore.acquire().await.map_err(text)?));
    }
    if let Some(lease) = semaphore.try_acquire().await.map_err(text)? {
        say(format!("wrong {name} has a permit too many, {}", lease.fence()));
    }
    tokio::time::sleep(PAUSE).await;
    for lease in leases {
        give(name, lease);
    }
    Ok(())
}

/// Said when it is held for sure.
fn has(name: &str, lease: Lease) -> Lease {
    let (fence, abandoned) = (lease.fence(), u8::from(lease.abandoned()));
    say(format!("has {name} {fence} {} {abandoned}", now()));
    lease
}

/// Said while it is held for sure, and again when it no longer is.
fn give(name: &str, lease: Lease) {
    let fence = lease.fence();
    say(format!("gives {name} {fence} {}", now()));
    if lease.release().is_err() {
        say(format!("wrong {name} {fence} has run out"));
    }
    say(format!("gave {name} {fence} {}", now()));
}

/// A moment until which the lease holds, close to its end; 0 if it has run out already.
fn end(lease: &Lease) -> u128 {
    let now = now();
    match lease.remaining().unwrap_or_default().as_nanos() {
        0 => 0,
        left => now + left,
    }
}

/// Said of a lease that has run out.
fn is_over(lease: Lease, end: u128) {
    let fence = lease.fence();
    say(format!("gives brief {fence} {end}"));
    if lease.release().is_ok() {
        say(format!("wrong brief {fence} has not run out"));
    }
}

/// Nanoseconds of the clock that all processes share.
fn now() -> u128 {
    Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default().as_nanos()
}

fn text(error: impl ToString) -> String {
    error.to_string()
}

/// A lease, as its holder told of it.
#[derive(Debug, Default)]
struct Told {
    has: u128,
    abandoned: bool,
    /// When it was still held, right before it was given back or ran out.
    gives: Option<u128>,
    gave: bool,
}

/// The leases of a semaphore by their fences, and whether each was told of by one holder only.
fn leases(story: &Story, name: &str) -> Result<BTreeMap<u64, Told>, String> {
    let mut leases = BTreeMap::<u64, Told>::new();
    for line in ["a", "b", "c"].iter().flat_map(|layer| story.of(layer)) {
        let mut words = line.split(' ');
        let (verb, of) = (words.next().unwrap_or(""), words.next());
        if !["has", "gives", "gave"].contains(&verb) || of != Some(name) {
            continue;
        }
        let bad = || format!("not to be read: {line}");
        let fence = words.next().and_then(|word| word.parse().ok()).ok_or_else(bad)?;
        let time = words.next().and_then(|word| word.parse().ok()).ok_or_else(bad)?;
        match (verb, leases.get_mut(&fence)) {
            ("has", None) => {
                let abandoned = words.next() == Some("1");
                leases.insert(fence, Told { has: time, abandoned, ..Told::default() });
            }
            ("gives", Some(told)) => told.gives = Some(time),
            ("gave", Some(told)) => told.gave = true,
            _ => return Err(format!("a lease was given twice, or is nobody's: {line}")),
        }
    }
    Ok(leases)
}

fn check(story: &Story) -> Result<(), String> {
    lives::check_descriptors(story, &["a", "b", "c"])?;
    if let Some(line) = story.lines.iter().find(|line| line.contains(": wrong ")) {
        return Err(line.clone());
    }
    let [one, two, rush, brief] = ["one", "two", "rush", "brief"].map(|name| leases(story, name));
    let (one, two, rush, brief) = (one?, two?, rush?, brief?);
    for (name, permits, leases) in
        [("one", 1, &one), ("two", 2, &two), ("rush", 1, &rush), ("brief", 1, &brief)]
    {
        check_holders(leases, permits).map_err(|why| format!("{name}: {why}"))?;
    }
    for (name, leases) in [("one", &one), ("rush", &rush)] {
        check_fences(leases).map_err(|why| format!("{name}: {why}"))?;
    }
    // In `brief` every lease but the first follows on one that ran out or whose holder died.
    if let Some((fence, _)) = brief.iter().find(|(fence, told)| told.abandoned != (**fence > 1)) {
        return Err(format!("brief: {fence} is told the wrong thing of the one before"));
    }
    // Who takes the supervisor takes the lines of the last moments too.
    if story.victim == "supervisor" {
        return Ok(());
    }
    let lost = story.lines.iter().find(|line| line.contains("exit code 1"));
    if let Some(line) = lost {
        return Err(line.clone());
    }
    let is_back = story.victim != "c" || lives::of(story, "c").len() > 1;
    if is_back && !story.of("c").any(|line| line == "finds all") {
        return Err("c did not find all permits in the end".into());
    }
    check_told(&one, false).map_err(|why| format!("one: {why}"))?;
    check_told(&rush, true).map_err(|why| format!("rush: {why}"))?;
    check_left_behind(story, &two).map_err(|why| format!("two: {why}"))
}

/// Never more holders than permits.
fn check_holders(leases: &BTreeMap<u64, Told>, permits: usize) -> Outcome {
    let leases: Vec<_> = leases.iter().collect();
    for (place, (fence, told)) in leases.iter().enumerate() {
        // The ends of those before it, of which it needs one.
        let before = &leases[..place];
        let held = |told: &Told| told.gives.is_some_and(|gives| gives > leases[place].1.has);
        let still: Vec<_> = before.iter().filter(|(_, told)| held(told)).collect();
        if still.len() >= permits {
            return Err(format!("{fence} {told:?} while {still:?} were held"));
        }
    }
    Ok(())
}

/// Of a lock that nobody is late with, fences grow with the time.
fn check_fences(leases: &BTreeMap<u64, Told>) -> Outcome {
    let mut last = 0;
    for (fence, told) in leases {
        if told.has < last {
            return Err(format!("{fence} came before a smaller one"));
        }
        last = told.has;
    }
    Ok(())
}

/// Each lease of a lock says the truth of how the one before ended. Unless requests are withdrawn,
/// there is every lease, but for one of which the killed one couldn't tell.
fn check_told(leases: &BTreeMap<u64, Told>, withdrawn: bool) -> Outcome {
    let last = leases.last_key_value().map_or(0, |(fence, _)| *fence);
    let missing: Vec<u64> = (1..=last).filter(|fence| !leases.contains_key(fence)).collect();
    if missing.len() > 1 && !withdrawn {
        return Err(format!("nobody tells of {missing:?}"));
    }
    for (fence, told) in leases {
        let right = match leases.get(&(fence - 1)) {
            // A permit that comes for nobody goes back, or its layer ends before it can.
            None if withdrawn && *fence > 1 => true,
            None => told.abandoned == (*fence > 1),
            Some(before) if before.gave => !told.abandoned,
            Some(before) if before.gives.is_none() => told.abandoned,
            // It was killed on the way.
            Some(_) => true,
        };
        if !right {
            return Err(format!("{fence} is told the wrong thing of the one before"));
        }
    }
    Ok(())
}

/// As many are told of a permit left behind as were.
fn check_left_behind(story: &Story, two: &BTreeMap<u64, Told>) -> Outcome {
    let last = two.last_key_value().map_or(0, |(fence, _)| *fence);
    let missing = (1..=last).filter(|fence| !two.contains_key(fence)).count();
    let told = two.values().filter(|told| told.abandoned).count();
    let kept = two.values().filter(|told| told.gives.is_none()).count();
    let open = two.values().filter(|told| told.gives.is_some() && !told.gave).count();
    // Its death was heard of before `c` took all for the last time.
    let heard = lives::of(story, story.victim).len() > 1;
    if told > kept + open + missing || (heard && told < kept) {
        return Err(format!("{told} told, {kept} kept, {open} open, {missing} missing"));
    }
    Ok(())
}
