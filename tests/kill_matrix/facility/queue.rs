//! Message queues: two senders and a receiver. What was accepted is received once, in order; what
//! a killed sender had not got in is in no queue, and a killed receiver takes one message along.
//!
//! The first life of `b` ends by itself, so that the queues get new keys: when `a` has begun, which
//! it says on a third queue, and `r`, because `jobs` holds less than that life sends.

// A layer's function is given its layer.
#![allow(clippy::needless_pass_by_value)]

use std::collections::BTreeMap;
use std::time::Duration;

use cofferdam::Layer;
use cofferdam::ipc::queue::{Event, Queue, QueueError};

use super::lives::{self, LIFE, numbers};
use super::{Facility, Outcome, Runs};
use crate::case::Story;
use crate::parties::say;

pub(crate) const FACILITY: Facility = Facility {
    name: "queue",
    policy: r#"
[queue.jobs]
send = ["a", "b"]
receive = ["r"]
depth = 4
max = "64B"
priorities = 2
on-full = "block"
wait = "1h"
[queue.drops]
send = ["a"]
receive = ["r"]
depth = 2
max = "64B"
on-full = "drop-oldest"
[queue.begun]
send = ["a"]
receive = ["b"]
depth = 1
max = "64B"
on-full = "reject"
"#,
    layers: &[
        ("a", Runs::Async(|layer| Box::pin(a(layer)))),
        ("b", Runs::Blocking(b)),
        ("r", Runs::Blocking(r)),
    ],
    marks: &[
        ("supervisor", "queue.make.named", 1),
        ("supervisor", "queue.make.named", 2),
        ("supervisor", "queue.make.unlinked", 2),
        ("supervisor", "supervisor.start.spawned", 2),
        ("supervisor", "supervisor.admit.confined", 1),
        ("supervisor", "supervisor.admit.confined", 3),
        ("supervisor", "supervisor.hand-over.object", 2),
        ("supervisor", "supervisor.hand-over.object", 7),
        ("supervisor", "supervisor.hand-over.done", 2),
        ("supervisor", "supervisor.hand-over.done", 3),
        ("supervisor", "supervisor.reap.reaped", 1),
        ("supervisor", "supervisor.reap.announced", 1),
        ("supervisor", "queue.rekey.begun", 1),
        ("supervisor", "queue.rekey.made", 1),
        ("supervisor", "queue.rekey.receivers", 1),
        ("supervisor", "queue.rekey.senders", 1),
        ("cofferdam-ledger", "queue.room.asked", 1),
        ("cofferdam-ledger", "queue.room.made", 1),
        ("cofferdam-ledger", "queue.room.made", 3),
        ("a", "queue.key.taken", 1),
        ("a", "queue.send.begun", 1),
        ("a", "queue.send.begun", 7),
        ("a", "queue.send.new-key", 1),
        ("a", "queue.send.new-key", 3),
        ("a", "queue.send.new-key", 4),
        ("a", "queue.send.sealed", 2),
        ("a", "queue.send.no-room", 1),
        ("a", "queue.send.full", 1),
        ("a", "queue.send.room", 1),
        ("a", "queue.send.room", 3),
        ("a", "queue.send.accepted", 1),
        ("a", "queue.send.accepted", 6),
        ("b", "queue.send.begun", 1),
        ("b", "queue.send.sealed", 2),
        ("b", "queue.send.accepted", 2),
        ("r", "queue.receive.begun", 2),
        ("r", "queue.receive.taken", 1),
        ("r", "queue.receive.taken", 6),
        ("r", "queue.receive.unknown-key", 1),
        ("r", "queue.receive.opened", 1),
        ("r", "queue.receive.opened", 5),
        ("r", "queue.key.taken", 1),
    ],
    check,
};

/// Messages that `jobs` and `drops` hold.
const DEPTHS: [(&str, usize); 2] = [("jobs", 4), ("drops", 2)];

/// How many messages the first life of `b` sends.
const FIRST_LIFE: usize = 9;

/// How long to wait after a round.
const PAUSE: Duration = Duration::from_millis(1);

/// Numbers of `layer`'s messages, which say their priority in `jobs`.
fn numbers_of(layer: &Layer) -> impl Iterator<Item = u64> {
    let first = layer.instance().generation * LIFE;
    first + 1..
}

fn priority(number: u64) -> u8 {
    u8::from(number.is_multiple_of(2))
}

async fn a(layer: Layer) -> Outcome {
    let work = async {
        let (jobs, drops) = (queue(&layer, "jobs")?, queue(&layer, "drops")?);
        let begun = queue(&layer, "begun")?;
        for number in numbers_of(&layer) {
            say(format!("tries-jobs {number}"));
            jobs.send(number.to_le_bytes(), priority(number)).await.map_err(text)?;
            say(format!("sent-jobs {number}"));
            // Faster than they are received.
            for number in [number * 2, number * 2 + 1] {
                say(format!("tries-drops {number}"));
                let sent = drops.send(number.to_le_bytes(), 0).await.map_err(text)?;
                say(format!("sent-drops {number}"));
                say(format!("dropped {}", sent.dropped));
            }
            say(format!("tries-begun {number}"));
            match begun.send(b"", 0).await {
                Ok(_) | Err(QueueError::Full { .. }) => {}
                Err(error) => return Err(text(error)),
            }
            say(format!("on {number}"));
            lives::tell_descriptors_beside_helpers(&layer);
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    };
    tokio::select! {
        result = work => result,
        () = layer.stopping() => Ok(()),
    }
}

fn b(layer: Layer) -> Outcome {
    let jobs = queue(&layer, "jobs")?;
    let numbers = numbers_of(&layer);
    let first_life = layer.instance().generation == 1;
    for number in numbers.take(if first_life { FIRST_LIFE } else { usize::MAX }) {
        layer.attend().map_err(text)?;
        if layer.is_stopping() {
            break;
        }
        say(format!("tries-jobs {number}"));
        // Its wait is as long as it needs; asked to finish, it doesn't wait.
        while let Err(error) = jobs.try_send(number.to_le_bytes(), priority(number)) {
            layer.attend().map_err(text)?;
            match error {
                QueueError::Full { .. } if layer.is_stopping() => return Ok(()),
                QueueError::Full { .. } => std::thread::sleep(PAUSE),
                error => return Err(text(error)),
            }
        }
        say(format!("sent-jobs {number}"));
        say(format!("on {number}"));
        lives::tell_descriptors();
        std::thread::sleep(PAUSE);
    }
    let begun = queue(&layer, "begun")?.blocking();
    while first_life && !layer.is_stopping() {
        match begun.recv(Some(PAUSE)) {
            Ok(_) | Err(QueueError::Stopping) => break,
            Err(QueueError::Nothing) => {}
            Err(error) => return Err(text(error)),
        }
    }
    Ok(())
}

/// Receives, and finishes only when it has found the queues empty.
fn r(layer: Layer) -> Outcome {
    let (jobs, drops) = (queue(&layer, "jobs")?, queue(&layer, "drops")?);
    let mut on = 0;
    let mut epoch = jobs.epoch();
    let deaf = String::from_utf8_lossy(layer.settings()).contains("unknown-key");
    let deaf = deaf && layer.instance().generation == 1;
    loop {
        // Where a case is about that, it learns of a new key by the first message that has it: until
        // then it doesn't even ask whether to finish, which looks at the control socket too.
        let hears = !deaf || epoch > 1;
        if hears {
            layer.attend().map_err(text)?;
        }
        let stopping = hears && layer.is_stopping();
        let mut found = false;
        for (queue, name) in [(&jobs, "jobs"), (&drops, "drops")] {
            match queue.try_recv().map_err(text)? {
                Some(Event::Message(message)) => {
                    let number = message.body.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
                    say(format!("got-{name}-{} {}", message.from.layer, number.unwrap_or(0)));
                    epoch = epoch.max(message.epoch);
                    found = true;
                }
                Some(Event::Refused(refused)) => say(format!("refused {refused:?}")),
                None => {}
            }
        }
        if stopping && !found {
            return Ok(());
        }
        on += 1;
        say(format!("on {on}"));
        lives::tell_descriptors();
        std::thread::sleep(if stopping { Duration::ZERO } else { PAUSE * 2 });
    }
}

fn queue(layer: &Layer, name: &str) -> Result<Queue, String> {
    layer.queue(name).map_err(text)
}

fn text(error: impl ToString) -> String {
    error.to_string()
}

fn check(story: &Story) -> Result<(), String> {
    lives::check_descriptors(story, &["a", "b", "r"])?;
    if let Some(line) = story.of("r").find(|line| line.starts_with("refused")) {
        return Err(line.to_owned());
    }
    for (sender, queue) in [("a", "jobs"), ("b", "jobs"), ("a", "drops")] {
        check_order(story, sender, queue).map_err(|why| format!("{queue} from {sender}: {why}"))?;
    }
    // Who takes the supervisor takes the lines of the last moments too.
    if story.victim != "supervisor" {
        check_kept(story)?;
        check_dropped(story)?;
        check_killed_sender(story)?;
    }
    check_names()
}

/// What was tried, by sender's life and priority, in order.
fn tried(story: &Story, sender: &str, queue: &str) -> BTreeMap<(u64, u8), Vec<u64>> {
    let mut tried = BTreeMap::<_, Vec<u64>>::new();
    for (life, lines) in lives::of(story, sender) {
        for number in numbers(&lines, &format!("tries-{queue}")) {
            let priority = if queue == "jobs" { priority(number) } else { 0 };
            tried.entry((life, priority)).or_default().push(number);
        }
    }
    tried
}

fn got(story: &Story, sender: &str, queue: &str) -> Vec<u64> {
    let lines: Vec<_> = story.of("r").collect();
    numbers(&lines, &format!("got-{queue}-{sender}"))
}

/// Nothing comes twice, and of one sender and priority nothing overtakes.
fn check_order(story: &Story, sender: &str, queue: &str) -> Result<(), String> {
    let got = got(story, sender, queue);
    for (lane, tried) in tried(story, sender, queue) {
        let mut last = 0;
        for number in got.iter().filter(|number| tried.contains(number)) {
            if *number <= last {
                return Err(format!("{number} after {last}, lane {lane:?}"));
            }
            last = *number;
        }
    }
    Ok(())
}

/// Of `jobs` everything that was accepted is received: but for what a killed receiver had in its
/// hands, and what came when the last receiver had found the queue empty and gone.
fn check_kept(story: &Story) -> Result<(), String> {
    let mut missing = Vec::new();
    let mut late = 0;
    for sender in ["a", "b"] {
        let got = got(story, sender, "jobs");
        let lines: Vec<_> = story.of(sender).collect();
        let sent = numbers(&lines, "sent-jobs");
        for tried in tried(story, sender, "jobs").values() {
            let last = tried.iter().rposition(|number| got.contains(number));
            for (place, number) in tried.iter().enumerate() {
                if sent.contains(number) && !got.contains(number) {
                    let is_last_life = tried_last(story, sender, *number);
                    if last.is_none_or(|last| place > last) && is_last_life {
                        late += 1;
                    } else {
                        missing.push(*number);
                    }
                }
            }
        }
    }
    if missing.len() > usize::from(story.victim == "r") || late > DEPTHS[0].1 {
        return Err(format!("{missing:?} were accepted and are lost, {late} came too late"));
    }
    Ok(())
}

/// Whether a message is of its sender's last life.
fn tried_last(story: &Story, sender: &str, number: u64) -> bool {
    lives::of(story, sender).last_key_value().is_some_and(|(life, _)| number / LIFE == *life)
}

/// Of `drops` as many are missing as senders were told.
fn check_dropped(story: &Story) -> Result<(), String> {
    let (lines, got) = (story.of("a").collect::<Vec<_>>(), got(story, "a", "drops"));
    let told: u64 = numbers(&lines, "dropped").iter().sum();
    let tried = numbers(&lines, "tries-drops").len();
    let sent = numbers(&lines, "sent-drops").len();
    let missing = |of: usize| u64::try_from(of.saturating_sub(got.len())).unwrap_or(u64::MAX);
    let killed = |layer| u64::from(story.victim == layer);
    let held = u64::try_from(DEPTHS[1].1).unwrap_or(0);
    // A call that was under way when its layer ended may have cost one too.
    let most = told + held + killed("r") + killed("a") + 1;
    if missing(sent) > most || missing(tried) < told {
        return Err(format!("{sent} sent, {} received, {told} dropped", got.len()));
    }
    Ok(())
}

/// The message that a sender had in its hands when it was killed: received if it was accepted,
/// and otherwise not.
fn check_killed_sender(story: &Story) -> Result<(), String> {
    let mark = format!("{}/0.g1: mark queue.send.", story.victim);
    let Some(place) = story.lines.iter().position(|line| line.starts_with(&mark)) else {
        return Ok(());
    };
    let begin = format!("{}/0.g1: tries-", story.victim);
    let tried = story.lines[..place].iter().rev().find_map(|line| line.strip_prefix(&begin));
    let Some((queue, number)) = tried.and_then(|tried| tried.split_once(' ')) else {
        return Err("no message at the mark".into());
    };
    let number = number.parse().map_err(text)?;
    let is_there = got(story, story.victim, queue).contains(&number);
    let accepted = story.lines[place].ends_with(".accepted");
    // An accepted message may have had to go for a newer one.
    if (accepted && !is_there && queue == "jobs") || (!accepted && is_there) {
        return Err(format!("{queue} {number}: accepted {accepted}, received {is_there}"));
    }
    Ok(())
}

/// No queue has left its name. Root's are in a namespace that ends with the supervisor; another
/// user's is left only by a supervisor that is killed in the moment in which it has one.
fn check_names() -> Result<(), String> {
    let Ok(names) = std::fs::read_dir("/dev/mqueue") else { return Ok(()) };
    let mut names = names.filter_map(Result::ok).map(|entry| entry.file_name());
    match names.find(|name| name.to_string_lossy().starts_with("cofferdam-")) {
        Some(name) if rustix::process::geteuid().is_root() => {
            Err(format!("{} is left", name.display()))
        }
        _ => Ok(()),
    }
}
