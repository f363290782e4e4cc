//! Semaphores: leasing, waiting, dying, running out, and layers that lie.

// What the daemon runs owns its layer.
#![allow(clippy::needless_pass_by_value)]

use std::os::fd::AsRawFd;
use std::time::Duration;

use cofferdam::Layer;
use cofferdam::ipc::semaphore::AcquireError;
use cofferdam::wire::broker::{Answer, Ask, FOR_EVER, Refusal};
use cofferdam::wire::control::{FromLayer, Service, ToLayer};
use rustix::process::{Signal, kill_process};

use crate::harness::Daemon;
use crate::raw::{hear_on, speak_on};
use crate::{Function, Outcome, Runs, Test, how_many, how_many_in, layer, say, text};

pub(crate) const TESTS: &[Test] = &[
    ("semaphore::a_permit_goes_round", goes_round),
    ("semaphore::the_next_holder_learns_of_a_death", death),
    ("semaphore::a_stopped_holder_loses_its_lease", runs_out),
    ("semaphore::several_are_taken_in_order", in_order),
    ("semaphore::who_waits_is_told_to_stop", told_to_stop),
    ("semaphore::lies_change_nothing", lies),
    ("semaphore::a_flood_holds_nobody_up", flood),
    ("semaphore::random_cancels_leak_nothing", cancels),
    ("semaphore::random_kills_leave_the_permits_exact", kills),
];

pub(crate) const LAYERS: &[Function] = &[
    ("sem_round", Runs::Async(|layer| Box::pin(round(layer)))),
    ("sem_round_blocking", Runs::Blocking(round_blocking)),
    ("sem_holder", Runs::Async(|layer| Box::pin(holder(layer)))),
    ("sem_waiter", Runs::Async(|layer| Box::pin(waiter(layer)))),
    ("sem_orderly", Runs::Async(|layer| Box::pin(orderly(layer)))),
    ("sem_patient", Runs::Blocking(patient)),
    ("sem_liar", Runs::Blocking(liar)),
    ("sem_flooder", Runs::Blocking(flooder)),
    ("sem_canceller", Runs::Async(|layer| Box::pin(canceller(layer)))),
    ("sem_user", Runs::Async(|layer| Box::pin(user(layer)))),
    ("sem_auditor", Runs::Async(|layer| Box::pin(auditor(layer)))),
];

fn goes_round() {
    let policy = layer("a", "sem_round")
        + &layer("b", "sem_round_blocking")
        + "restart = { on = \"never\" }\n[semaphore.one]\npermits = 1\nholders = [\"a\", \"b\"]\n";
    let mut daemon = Daemon::start("-", &policy);
    assert_eq!(daemon.end(), Some(0), "{daemon}");
    for line in
        ["a/0.g1: fences grew", "b/0.g1: fences grew", "would need `[semaphore.two] holders"]
    {
        assert_eq!(daemon.count(line), if line.starts_with('w') { 2 } else { 1 }, "{daemon}");
    }
}

async fn round(layer: Layer) -> Outcome {
    say(layer.semaphore("two").err().map(text).unwrap_or_default());
    let (one, mut last) = (layer.semaphore("one").map_err(text)?, 0);
    for turn in 0..200 {
        let lease = match turn % 3 {
            0 => one.acquire().await.map_err(text)?,
            1 => one.acquire_timeout(Duration::from_mins(1)).await.map_err(text)?,
            _ => match one.try_acquire().await.map_err(text)? {
                Some(lease) => lease,
                None => continue,
            },
        };
        if lease.fence() <= last || lease.abandoned() || lease.remaining().is_some() {
            return Err(format!("{lease:?} after {last}"));
        }
        last = lease.fence();
        // Nobody else has it.
        if one.try_acquire().await.map_err(text)?.is_some() {
            return Err("a doubled permit".into());
        }
        if let Err(AcquireError::Timeout(_)) = one.acquire_timeout(Duration::from_millis(1)).await {
            lease.release().map_err(text)?;
        }
    }
    say("fences grew");
    Ok(())
}

fn round_blocking(layer: Layer) -> Outcome {
    say(layer.semaphore("two").err().map(text).unwrap_or_default());
    let (one, mut last) = (layer.semaphore("one").map_err(text)?.blocking(), 0);
    for turn in 0..200 {
        let lease = match turn % 3 {
            0 => one.acquire().map_err(text)?,
            1 => one.acquire_timeout(Duration::from_mins(1)).map_err(text)?,
            _ => match one.try_acquire().map_err(text)? {
                Some(lease) => lease,
                None => continue,
            },
        };
        if lease.fence() <= last || lease.abandoned() {
            return Err(format!("{lease:?} after {last}"));
        }
        last = lease.fence();
        if one.try_acquire().map_err(text)?.is_some() {
            return Err("a doubled permit".into());
        }
    }
    say("fences grew");
    Ok(())
}

fn death() {
    let policy = layer("a", "sem_holder")
        + &layer("b", "sem_waiter")
        + "[semaphore.one]\npermits = 1\nholders = [\"a\", \"b\"]\n";
    let mut daemon = Daemon::start("-", &policy);
    let pid = daemon.confined("a/0.g1");
    daemon.line("b/0.g1: waiting, held: true");
    kill_process(pid, Signal::KILL).unwrap();
    let line = daemon.line("b/0.g1: got");
    assert!(line.ends_with("abandoned: true"), "{daemon}");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

/// Holds the permit for good.
async fn holder(layer: Layer) -> Outcome {
    let one = layer.semaphore("one").map_err(text)?;
    // The waiter has it from the second life on.
    if layer.instance().generation > 1 {
        layer.stopping().await;
        return Ok(());
    }
    let lease = one.acquire().await.map_err(text)?;
    say(format!("holding {}", lease.fence()));
    tokio::select! {
        () = lease.expired() => {
            let late = lease.check().err().map(text).unwrap_or_default();
            say(format!("late: {late}"));
            drop(lease);
        }
        () = layer.stopping() => return Ok(()),
    }
    layer.stopping().await;
    Ok(())
}

async fn waiter(layer: Layer) -> Outcome {
    let one = layer.semaphore("one").map_err(text)?;
    while one.try_acquire().await.map_err(text)?.is_some() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    say("waiting, held: true");
    let lease = one.acquire().await.map_err(text)?;
    say(format!("got {}, abandoned: {}", lease.fence(), lease.abandoned()));
    // As long as this one is used, whatever others give back.
    tokio::select! {
        () = lease.expired() => {}
        () = layer.stopping() => {}
    }
    Ok(())
}

fn runs_out() {
    let policy = layer("a", "sem_holder")
        + &layer("b", "sem_waiter")
        + "[semaphore.one]\npermits = 1\nholders = [\"a\", \"b\"]\nlease = \"500ms\"\n";
    let mut daemon = Daemon::start("-", &policy);
    let pid = daemon.confined("a/0.g1");
    daemon.line("a/0.g1: holding");
    kill_process(pid, Signal::STOP).unwrap();
    daemon.line("a/0.g1 has held a lease for its whole time; the permit goes on: [semaphore.one]");
    while daemon.count("abandoned: true") == 0 {
        daemon.line("");
    }
    kill_process(pid, Signal::CONT).unwrap();
    // On a busy machine it may have run out before the holder was stopped.
    while daemon.count("a/0.g1: late: `[semaphore.one] lease`: lease ") == 0 {
        daemon.line("");
    }
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

fn in_order() {
    let policy = layer("a", "sem_orderly")
        + "[semaphore.low]\npermits = 2\nholders = [\"a\"]\norder = 1\n\
           [semaphore.high]\npermits = 1\nholders = [\"a\"]\norder = 2\n\
           [semaphore.alone]\npermits = 1\nholders = [\"a\"]\n";
    let mut daemon = Daemon::start("-", &policy);
    assert_eq!(daemon.end(), Some(0), "{daemon}");
    for line in [
        "a/0.g1: `[semaphore.low] order = 1`: this layer holds a permit of the same or a higher",
        "a/0.g1: `[semaphore.alone]` has no `order`: it is never taken while another one is held",
        "a/0.g1: low, then high",
    ] {
        assert_eq!(daemon.count(line), 1, "{daemon}");
    }
}

async fn orderly(layer: Layer) -> Outcome {
    let get = |name: &str| layer.semaphore(name).map_err(text);
    let (low, high, alone) = (get("low")?, get("high")?, get("alone")?);
    let first = high.acquire().await.map_err(text)?;
    for wrong in [&low, &alone] {
        match wrong.acquire().await {
            Err(error @ AcquireError::Order { .. }) => say(error),
            other => return Err(format!("{other:?}")),
        }
    }
    drop(first);
    let _low = low.acquire().await.map_err(text)?;
    let _again = low.acquire().await.map_err(text)?;
    let _high = high.acquire().await.map_err(text)?;
    say("low, then high");
    Ok(())
}

fn told_to_stop() {
    let policy = layer("a", "sem_holder")
        + &layer("b", "sem_patient")
        + "[semaphore.one]\npermits = 1\nholders = [\"a\", \"b\"]\n";
    let mut daemon = Daemon::start("-", &policy);
    let pid = daemon.confined("a/0.g1");
    daemon.line("b/0.g1: waiting");
    // The holder doesn't give it back when it is asked to finish too.
    kill_process(pid, Signal::STOP).unwrap();
    daemon.signal(Signal::TERM);
    daemon.line("b/0.g1: `[semaphore.one]`: this layer is asked to finish");
    kill_process(pid, Signal::CONT).unwrap();
    assert_eq!(daemon.end(), Some(0), "{daemon}");
}

fn patient(layer: Layer) -> Outcome {
    let one = layer.semaphore("one").map_err(text)?.blocking();
    while one.try_acquire().map_err(text)?.is_some() {
        std::thread::sleep(Duration::from_millis(1));
    }
    say("waiting");
    match one.acquire() {
        Err(error @ AcquireError::Stopping(_)) => say(error),
        other => return Err(format!("{other:?}")),
    }
    Ok(())
}

fn lies() {
    let policy = layer("a", "sem_holder")
        + &layer("b", "sem_waiter")
        + &layer("c", "sem_liar")
        + "[semaphore.all]\npermits = 1\nholders = [\"c\"]\n\
           [semaphore.one]\npermits = 1\nholders = [\"a\", \"b\"]\n";
    let mut daemon = Daemon::start("-", &policy);
    let pid = daemon.confined("a/0.g1");
    daemon.line("b/0.g1: waiting");
    for _ in 0..3 {
        daemon.line("c/0.g1: lied");
    }
    // The waiter still waits: neither was the holder's lease given back, nor its own request.
    assert_eq!(daemon.count("b/0.g1: got"), 0, "{daemon}");
    kill_process(pid, Signal::KILL).unwrap();
    daemon.line("b/0.g1: got");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

/// Number 0 is its own semaphore, number 1 is not.
fn liar(layer: Layer) -> Outcome {
    let socket = layer.service_socket(Service::Ledger).ok_or("no ledger")?;
    let socket = socket.as_raw_fd();
    while !layer.is_stopping() {
        for fence in 0..100 {
            speak_on(socket, &FromLayer::Release { semaphore: 1, fence })?;
            speak_on(socket, &FromLayer::Release { semaphore: 0, fence })?;
            speak_on(socket, &FromLayer::Release { semaphore: 77, fence })?;
        }
        for request in 0..1000 {
            speak_on(socket, &FromLayer::Withdraw { request })?;
        }
        for semaphore in [1, 2, u16::MAX] {
            let ask = Ask::Acquire { semaphore, wait: FOR_EVER };
            speak_on(socket, &FromLayer::Ask { request: 5000, ask })?;
            let refused = Answer::Refused(Refusal::NotGranted);
            match hear_on(socket)? {
                ToLayer::Answer { request: 5000, answer } if answer == refused => {}
                other => return Err(format!("{other:?}")),
            }
        }
        say("lied");
        std::thread::sleep(Duration::from_millis(20));
        layer.attend().map_err(text)?;
    }
    Ok(())
}

fn flood() {
    let policy = layer("a", "sem_round")
        + "restart = { on = \"never\" }\n"
        + &layer("c", "sem_flooder")
        + "restart = { on = \"never\" }\n\
           [semaphore.all]\npermits = 1\nholders = [\"c\"]\n\
           [semaphore.one]\npermits = 1\nholders = [\"a\"]\n";
    let mut daemon = Daemon::start("-", &policy);
    assert_eq!(daemon.end(), Some(1), "{daemon}");
    let told = format!("c/0.g1: 1 leased, {} refused", how_many(20_000, 100_000));
    assert_eq!(daemon.count(&told), 1, "{daemon}");
    // And who gives two of them one number is ended. What it printed just before may come later.
    assert_eq!(daemon.count("c/0.g1 is killed: it broke the protocol of a helper"), 1, "{daemon}");
    assert_eq!(daemon.count("a/0.g1: fences grew"), 1, "{daemon}");
}

fn flooder(layer: Layer) -> Outcome {
    let socket = layer.service_socket(Service::Ledger).ok_or("no ledger")?;
    let socket = socket.as_raw_fd();
    let ask = |request| {
        let ask = Ask::Acquire { semaphore: 0, wait: FOR_EVER };
        speak_on(socket, &FromLayer::Ask { request, ask })
    };
    // The first gets it, the next ones wait, all later ones are refused.
    let (mut leased, mut refused) = (0, 0);
    let mut listen = || -> Outcome {
        match hear_on(socket)? {
            ToLayer::Answer { answer: Answer::Leased { .. }, .. } => leased += 1,
            ToLayer::Answer { answer: Answer::Refused(Refusal::Limit), .. } => refused += 1,
            other => return Err(format!("{other:?}")),
        }
        Ok(())
    };
    (0..129).try_for_each(ask)?;
    listen()?;
    // Many at a time, but never more than it could be told at once.
    for batch in 0..how_many_in(&layer, 200, 1_000) {
        let first = 1000 + 100 * u64::try_from(batch).map_err(text)?;
        (first..first + 100).try_for_each(ask)?;
        (0..100).try_for_each(|_| listen())?;
    }
    say(format!("{leased} leased, {refused} refused"));
    // This one still waits.
    ask(1)?;
    loop {
        std::thread::park();
    }
}

fn cancels() {
    let policy = layer("a", "sem_canceller")
        + "restart = { on = \"never\" }\n"
        + &layer("b", "sem_canceller")
        + "restart = { on = \"never\" }\n\
           [semaphore.one]\npermits = 2\nholders = [\"a\", \"b\"]\n";
    let mut daemon = Daemon::start("-", &policy);
    daemon.line("both permits are there");
    daemon.line("both permits are there");
    assert_eq!(daemon.end(), Some(0), "{daemon}");
}

/// Asks and drops the future at a random moment; now and then many at a time.
async fn canceller(layer: Layer) -> Outcome {
    let one = layer.semaphore("one").map_err(text)?;
    let mut chance = Chance(u64::from(layer.instance().layer.as_str().as_bytes()[0]));
    for turn in 0..how_many_in(&layer, 2_000, 10_000) {
        let patience = Duration::from_nanos(chance.below(120_000));
        tokio::select! {
            biased;
            () = busy(patience) => {}
            lease = one.acquire() => drop(lease.map_err(text)?),
        }
        if turn % 64 == 0 {
            // Polled once each and dropped, with no turn for anybody else in between.
            let mut asks: Vec<_> = (0..100).map(|_| Box::pin(one.acquire())).collect();
            for ask in &mut asks {
                tokio::select! { biased; lease = ask => drop(lease), () = async {} => {} }
            }
        }
    }
    // Not one and then the other: two layers that do so could wait for each other.
    let (first, second) = loop {
        let first = one.acquire().await.map_err(text)?;
        if let Some(second) = one.try_acquire().await.map_err(text)? {
            break (first, second);
        }
        drop(first);
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    if one.try_acquire().await.map_err(text)?.is_some() || first.abandoned() || second.abandoned() {
        return Err("a doubled permit, or an abandoned one".into());
    }
    say("both permits are there");
    Ok(())
}

/// Gives way again and again for that long: timers are too coarse.
async fn busy(time: Duration) {
    let begin = std::time::Instant::now();
    while begin.elapsed() < time {
        tokio::task::yield_now().await;
    }
}

/// xorshift: a different course for each seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Fewer than those who want one.
const PERMITS: usize = 10;

/// An instance that dies often waits longer and longer for its next life, so there are many, and
/// in the long form many daemons.
fn kills() {
    const INSTANCES: usize = 25;
    const LIVES: usize = 8;
    for round in 0..how_many(200, 10_000) / (INSTANCES * LIVES) {
        let policy = layer("u", "sem_user")
            + &format!("instances = {INSTANCES}\nrestart = {{ max = 1000 }}\n")
            + &layer("auditor", "sem_auditor")
            + &format!("[semaphore.one]\npermits = {PERMITS}\nholders = [\"u\", \"auditor\"]\n");
        let mut daemon = Daemon::start("-", &policy);
        let mut chance = Chance(round as u64 + 1);
        for _ in 0..INSTANCES * LIVES {
            let mut line = daemon.line("is confined, pid ");
            // Without who writes these lines, all are found.
            while line.contains(" auditor/") || line.contains(" cofferdam-log/") {
                line = daemon.line("is confined, pid ");
            }
            let pid = line.split("pid ").nth(1).unwrap().split(':').next().unwrap();
            let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
            std::thread::sleep(Duration::from_micros(chance.below(8_000)));
            kill_process(pid, Signal::KILL).unwrap();
        }
        for _ in 0..2 {
            daemon.line("the permits are exact");
        }
        assert_eq!(daemon.stop(), Some(0), "{daemon}");
        assert_eq!(daemon.count("doubled"), 0, "{daemon}");
        // Some of them held one, or nothing was tried.
        assert_ne!(daemon.count("its last holder died"), 0, "{daemon}");
    }
}

async fn user(layer: Layer) -> Outcome {
    let one = layer.semaphore("one").map_err(text)?;
    let seed = u64::from(layer.instance().index) * 1000 + layer.instance().generation;
    let mut chance = Chance(seed + 1);
    while !layer.is_stopping() {
        let lease = tokio::select! {
            lease = one.acquire() => lease.map_err(text)?,
            () = layer.stopping() => break,
        };
        if lease.abandoned() {
            say("its last holder died");
        }
        tokio::time::sleep(Duration::from_millis(chance.below(4))).await;
        drop(lease);
    }
    Ok(())
}

/// Takes all permits: if one were lost it would wait for ever, and one too many it would get.
async fn auditor(layer: Layer) -> Outcome {
    let one = layer.semaphore("one").map_err(text)?;
    let rounds = async {
        loop {
            let mut leases = Vec::new();
            for _ in 0..PERMITS {
                let lease = one.acquire().await.map_err(text)?;
                if lease.abandoned() {
                    say("its last holder died");
                }
                leases.push(lease);
            }
            if one.try_acquire().await.map_err(text)?.is_some() {
                return Err("doubled".to_owned());
            }
            drop(leases);
            say("the permits are exact");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        result = rounds => result,
        () = layer.stopping() => Ok(()),
    }
}
