//! Message queues between real layers.
//!
//! The reader of most tests only waits in its first life: so the test says when it begins to
//! read, by killing it.
#![allow(clippy::needless_pass_by_value, clippy::unnecessary_wraps)]

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use cofferdam::ipc::queue::{Event, Message, Queue, QueueError};
use cofferdam::{Layer, LayerError};
use rustix::process::{Signal, kill_process};

use crate::harness::Daemon;
use crate::{Function, Outcome, Runs, Test, say, text, wait_for_stop};

pub(crate) const TESTS: &[Test] = &[
    ("queue::the_highest_priority_comes_first_and_then_the_oldest", priorities),
    ("queue::a_full_queue_rejects_if_the_policy_says_so", reject),
    ("queue::a_blocked_sender_gives_up_when_its_time_is_over", gives_up),
    ("queue::a_blocked_sender_goes_on_when_there_is_room", goes_on),
    ("queue::the_oldest_of_the_same_priority_is_dropped", drop_oldest),
    ("queue::ten_thousand_messages_come_exactly_once", exactly_once),
    ("queue::what_was_accepted_outlives_its_sender", sender_dies),
    ("queue::what_was_accepted_outlives_its_receiver", receiver_dies),
    ("queue::what_was_accepted_outlives_all_members", all_die),
    ("queue::a_new_key_follows_each_death", epochs),
    ("queue::misuse_names_the_policys_line", misuse),
    ("queue::a_queue_that_the_kernel_refuses_stops_the_daemon", too_large),
    ("queue::a_layer_makes_no_queue_of_its_own", own_queue),
];

pub(crate) const LAYERS: &[Function] = &[
    ("queue_mixed", Runs::Async(|layer| Box::pin(mixed(layer)))),
    ("queue_counts", Runs::Async(|layer| Box::pin(counts(layer)))),
    ("queue_counts_blocking", Runs::Blocking(counts_blocking)),
    ("queue_reads", Runs::Async(|layer| Box::pin(reads(layer, true)))),
    ("queue_reads_at_once", Runs::Async(|layer| Box::pin(reads(layer, false)))),
    ("queue_reads_blocking", Runs::Blocking(reads_blocking)),
    ("queue_collects", Runs::Async(|layer| Box::pin(collects(layer)))),
    ("queue_floods", Runs::Blocking(floods)),
    ("queue_once_a_life", Runs::Async(|layer| Box::pin(once_a_life(layer)))),
    ("queue_misuses", Runs::Async(|layer| Box::pin(misuses(layer)))),
    ("queue_opens", Runs::Blocking(opens)),
];

/// A policy with a sender `s`, a receiver `r` and the queue `jobs` between them.
fn policy(sender: &str, receiver: &str, queue: &str) -> String {
    let layer = |name: &str, run: &str| {
        format!(
            "[layer.{name}]\nrun = \"{run}\"\nsyscalls = [\"@core\"]\nrestart = {{ max = 1000 }}\n"
        )
    };
    format!(
        "{}{}[queue.jobs]\nsend = [\"s\"]\nreceive = [\"r\"]\n{queue}\n",
        layer("s", sender),
        layer("r", receiver)
    )
}

fn kill(daemon: &mut Daemon, instance: &str) {
    let pid = daemon.confined(instance);
    kill_process(pid, Signal::KILL).unwrap();
}

/// Kills the reader that only waits, and gives what the next one reads: `count` messages.
fn read(daemon: &mut Daemon, count: usize) -> Vec<String> {
    kill(daemon, "r/0.g1");
    got(daemon, count)
}

fn got(daemon: &mut Daemon, count: usize) -> Vec<String> {
    let line = |_| daemon.line("got ").split("got ").nth(1).unwrap().to_owned();
    (0..count).map(line).collect()
}

/// Stops the daemon; nothing was received but `count` messages.
fn ends_with(mut daemon: Daemon, count: usize) {
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert_eq!(daemon.count("got "), count, "{daemon}");
    assert_eq!(daemon.count("refused"), 0, "{daemon}");
}

fn priorities() {
    for reader in ["queue_reads", "queue_reads_blocking"] {
        let mut daemon =
            Daemon::start("-", &policy("queue_mixed", reader, "priorities = 3\ndepth = 10"));
        daemon.line("s/0.g1: sent");
        let expected = ["s 2 c0", "s 2 c1", "s 1 b0", "s 0 a0", "s 0 a1"];
        assert_eq!(read(&mut daemon, 5), expected, "{daemon}");
        ends_with(daemon, 5);
    }
}

fn reject() {
    for sender in ["queue_counts", "queue_counts_blocking"] {
        let queue = "depth = 3\non-full = \"reject\"";
        let mut daemon = Daemon::start("-", &policy(sender, "queue_reads", queue));
        daemon.line("3 not sent: `[queue.jobs] depth = 3`: the queue is full");
        daemon.line("sent 3");
        assert_eq!(read(&mut daemon, 3), ["s 0 0", "s 0 1", "s 0 2"], "{daemon}");
        ends_with(daemon, 3);
    }
}

fn gives_up() {
    for sender in ["queue_counts", "queue_counts_blocking"] {
        let queue = "depth = 3\nwait = \"20ms\"";
        let mut daemon = Daemon::start("-", &policy(sender, "queue_reads", queue));
        daemon.line("3 not sent: `[queue.jobs] wait`: the queue was full for 20ms");
        daemon.line("sent 3");
        assert_eq!(read(&mut daemon, 3), ["s 0 0", "s 0 1", "s 0 2"], "{daemon}");
        ends_with(daemon, 3);
    }
}

fn goes_on() {
    for sender in ["queue_counts", "queue_counts_blocking"] {
        let queue = "depth = 1\nwait = \"1h\"";
        let mut daemon = Daemon::start("-", &policy(sender, "queue_reads_blocking", queue));
        kill(&mut daemon, "r/0.g1");
        // Its lines and the reader's come in any order.
        daemon.line("got s 0 5");
        assert_eq!(daemon.stop(), Some(0), "{daemon}");
        assert_eq!(daemon.count("sent 6"), 1, "{daemon}");
        for number in 0..6 {
            assert_eq!(daemon.count(&format!("got s 0 {number}")), 1, "{daemon}");
        }
    }
}

fn drop_oldest() {
    for reader in ["queue_reads", "queue_reads_blocking"] {
        for sender in ["queue_counts", "queue_counts_blocking"] {
            let queue = "depth = 2\npriorities = 2\non-full = \"drop-oldest\"";
            let mut daemon = Daemon::start("-", &policy(sender, reader, queue));
            daemon.line("sent 6, dropped 4");
            // The ledger's lines and the sender's come in any order.
            let said = "[queue.jobs] is full: 1 messages dropped so far";
            if daemon.count(said) == 0 {
                daemon.line(said);
            }
            let expected = ["s 1 urgent", "s 0 4", "s 0 5"];
            assert_eq!(read(&mut daemon, 3), expected, "{daemon}");
            ends_with(daemon, 3);
        }
    }
}

fn exactly_once() {
    let all = |name: &str, run: &str| {
        format!("[layer.{name}]\nrun = \"{run}\"\ninstances = 2\nsyscalls = [\"@core\"]\n")
    };
    let policy = format!(
        "{}{}[queue.jobs]\nsend = [\"s\"]\nreceive = [\"r\"]\npriorities = 4\nwait = \"1h\"\n",
        all("s", "queue_floods"),
        all("r", "queue_collects")
    );
    let mut daemon = Daemon::start("-", &policy);
    let mut seen = BTreeMap::<String, u32>::new();
    let mut count = 0;
    while count < 10_000 {
        let line = daemon.line("batch ");
        for word in line.split("batch ").nth(1).unwrap().split(' ') {
            *seen.entry(word.to_owned()).or_default() += 1;
            count += 1;
        }
    }
    assert_eq!(daemon.stop(), Some(0));
    assert_eq!(seen.len(), 10_000);
    for sender in 0..2 {
        for number in 0..5_000 {
            assert_eq!(seen.get(&format!("{sender}:{number}")), Some(&1));
        }
    }
    assert_eq!(daemon.count("refused"), 0);
}

const SIX: [&str; 6] = ["s 0 0", "s 0 1", "s 0 2", "s 0 3", "s 0 4", "s 0 5"];

fn sender_dies() {
    let mut daemon = Daemon::start("-", &policy("queue_counts", "queue_reads", ""));
    daemon.line("s/0.g1: sent 6");
    kill(&mut daemon, "s/0.g1");
    daemon.line("s/0.g2: idle");
    assert_eq!(read(&mut daemon, 6), SIX, "{daemon}");
    ends_with(daemon, 6);
}

fn receiver_dies() {
    let mut daemon = Daemon::start("-", &policy("queue_counts_blocking", "queue_reads", ""));
    daemon.line("s/0.g1: sent 6");
    assert_eq!(read(&mut daemon, 6), SIX, "{daemon}");
    ends_with(daemon, 6);
}

fn all_die() {
    for order in [["s/0.g1", "r/0.g1"], ["r/0.g1", "s/0.g1"]] {
        let mut daemon = Daemon::start("-", &policy("queue_counts", "queue_reads", "depth = 8"));
        daemon.line("s/0.g1: sent 6");
        daemon.confined("r/0.g1");
        for instance in order {
            kill(&mut daemon, instance);
        }
        assert_eq!(got(&mut daemon, 6), SIX, "{daemon}");
        ends_with(daemon, 6);
    }
}

fn epochs() {
    let policy = policy("queue_once_a_life", "queue_reads_at_once", "");
    let mut daemon = Daemon::start("-", &policy);
    daemon.line("got s 0 life 1 with key 1");
    kill(&mut daemon, "s/0.g1");
    daemon.line("got s 0 life 2 with key 2");
    kill(&mut daemon, "r/0.g1");
    daemon.line("r/0.g2: reading with key 3");
    kill(&mut daemon, "s/0.g2");
    daemon.line("got s 0 life 3 with key 4");
    kill(&mut daemon, "r/0.g2");
    daemon.line("r/0.g3: reading with key 5");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert_eq!(daemon.count("refused"), 0, "{daemon}");
}

fn misuse() {
    let queue = "max = \"8B\"\npriorities = 2";
    let mut daemon = Daemon::start("-", &policy("queue_misuses", "queue_misuses", queue));
    for line in [
        "s/0.g1: receive: `[queue.jobs] receive` doesn't name this layer",
        "s/0.g1: large: `[queue.jobs] max = \"8B\"`: this message has 9 bytes",
        "s/0.g1: high: `[queue.jobs] priorities = 2`: they are numbered from 0, so there is no",
        "s/0.g1: other: layer 's' has no queue 'other': the policy would need \
         `[queue.other] send = [\"s\"]`",
        "r/0.g1: send: `[queue.jobs] send` doesn't name this layer",
    ] {
        if daemon.count(line) == 0 {
            daemon.line(line);
        }
    }
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

fn too_large() {
    let queue = "depth = 50\nmax = \"12KiB\"";
    let mut daemon = Daemon::start("-", &policy("queue_counts", "queue_reads", queue));
    // Root makes it in an IPC namespace of its own, with settings of its own.
    if rustix::process::geteuid().is_root() {
        daemon.line("sent 6");
        assert_eq!(read(&mut daemon, 6), SIX, "{daemon}");
        return ends_with(daemon, 6);
    }
    assert_eq!(daemon.end(), Some(3), "{daemon}");
    let refused = "cofferdam: [queue.jobs] the kernel gives this user no queue of 50 messages";
    assert_eq!(daemon.count(refused), 1, "{daemon}");
    assert_eq!(daemon.count("confined"), 0, "{daemon}");
}

fn own_queue() {
    let mut daemon = Daemon::start("-", &policy("queue_opens", "queue_reads", ""));
    daemon.line("s/0.g1 was killed by SIGSYS");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert_eq!(daemon.count("opened"), 0, "{daemon}");
}

/// Goes on until the layer is asked to finish.
async fn until_stop(layer: &Layer, work: impl Future<Output = Outcome>) -> Outcome {
    tokio::select! {
        biased;
        result = work => result,
        () = layer.stopping() => Ok(()),
    }
}

fn first_life(layer: &Layer) -> bool {
    layer.instance().generation == 1
}

async fn idle(layer: Layer) -> Outcome {
    say("idle");
    layer.stopping().await;
    Ok(())
}

async fn mixed(layer: Layer) -> Outcome {
    let jobs = layer.queue("jobs").map_err(text)?;
    for (body, priority) in [("a0", 0), ("c0", 2), ("b0", 1), ("a1", 0), ("c1", 2)] {
        jobs.send(body, priority).await.map_err(text)?;
    }
    say("sent");
    layer.stopping().await;
    Ok(())
}

/// The messages of those who count: an urgent one, if there are priorities, and six numbers.
fn counted(jobs: &Queue) -> Vec<(String, u8)> {
    let mut messages: Vec<_> = (0..6).map(|number| (number.to_string(), 0)).collect();
    if matches!(jobs.try_send("urgent", 1), Ok(_) | Err(QueueError::Full { .. })) {
        messages.truncate(6);
    }
    messages
}

/// How the sending went.
#[derive(Default)]
struct Tally {
    sent: u32,
    dropped: u32,
}

impl Tally {
    /// Counts a result; false says that there is no more to try.
    fn add(&mut self, body: &str, result: Result<cofferdam::ipc::queue::Sent, QueueError>) -> bool {
        match result {
            Ok(sent) => {
                self.sent += 1;
                self.dropped += sent.dropped;
                true
            }
            Err(error) => {
                say(format!("{body} not sent: {error}"));
                false
            }
        }
    }

    fn tell(&self) {
        say(format!("sent {}, dropped {}", self.sent, self.dropped));
    }
}

async fn counts(layer: Layer) -> Outcome {
    if !first_life(&layer) {
        return idle(layer).await;
    }
    let jobs = layer.queue("jobs").map_err(text)?;
    until_stop(&layer, async {
        let mut tally = Tally::default();
        for (body, priority) in counted(&jobs) {
            if !tally.add(&body, jobs.send(&body, priority).await) {
                break;
            }
        }
        tally.tell();
        std::future::pending().await
    })
    .await
}

fn counts_blocking(layer: Layer) -> Outcome {
    let jobs = layer.queue("jobs").map_err(text)?;
    let mut tally = Tally::default();
    for (body, priority) in counted(&jobs) {
        if !tally.add(&body, jobs.blocking().send(&body, priority)) {
            break;
        }
    }
    tally.tell();
    wait_for_stop(&layer)
}

fn told(event: Event) -> String {
    match event {
        Event::Message(Message { from, priority, body, .. }) => {
            format!("got {} {priority} {}", from.layer, String::from_utf8_lossy(&body))
        }
        Event::Refused(refused) => format!("refused: {refused:?}"),
    }
}

async fn reads(layer: Layer, waits: bool) -> Outcome {
    let jobs = layer.queue("jobs").map_err(text)?;
    if waits && first_life(&layer) {
        say("waiting");
        layer.stopping().await;
        return Ok(());
    }
    say(format!("reading with key {}", jobs.epoch()));
    until_stop(&layer, async {
        loop {
            let event = jobs.recv().await.map_err(text)?;
            let epoch = match &event {
                Event::Message(message) if !waits => format!(" with key {}", message.epoch),
                _ => String::new(),
            };
            say(told(event) + &epoch);
        }
    })
    .await
}

fn reads_blocking(layer: Layer) -> Outcome {
    let jobs = layer.queue("jobs").map_err(text)?.blocking();
    if first_life(&layer) {
        say("waiting");
        return wait_for_stop(&layer);
    }
    loop {
        match jobs.recv(None) {
            Ok(event) => say(told(event)),
            Err(QueueError::Stopping) => return Ok(()),
            Err(error) => return Err(text(error)),
        }
    }
}

fn floods(layer: Layer) -> Outcome {
    let jobs = layer.queue("jobs").map_err(text)?.blocking();
    let own = layer.instance().index;
    for number in 0..5_000_u32 {
        let priority = u8::try_from(number % 4).unwrap_or(0);
        jobs.send(format!("{own}:{number}"), priority).map_err(text)?;
    }
    wait_for_stop(&layer)
}

async fn collects(layer: Layer) -> Outcome {
    let jobs = layer.queue("jobs").map_err(text)?;
    let mut batch = Vec::new();
    until_stop(&layer, async {
        loop {
            match jobs.recv_timeout(Duration::from_millis(50)).await {
                Ok(Event::Message(message)) => {
                    batch.push(String::from_utf8_lossy(&message.body).into_owned());
                }
                Ok(Event::Refused(refused)) => say(format!("refused: {refused:?}")),
                Err(QueueError::Nothing) if batch.is_empty() => {}
                Err(QueueError::Nothing) => say(format!("batch {}", take(&mut batch))),
                Err(error) => return Err(text(error)),
            }
            if batch.len() == 100 {
                say(format!("batch {}", take(&mut batch)));
            }
        }
    })
    .await
}

fn take(batch: &mut Vec<String>) -> String {
    std::mem::take(batch).join(" ")
}

async fn once_a_life(layer: Layer) -> Outcome {
    let jobs = layer.queue("jobs").map_err(text)?;
    jobs.send(format!("life {}", layer.instance().generation), 0).await.map_err(text)?;
    layer.stopping().await;
    Ok(())
}

async fn misuses(layer: Layer) -> Outcome {
    let jobs = layer.queue("jobs").map_err(text)?;
    let failed = |what: &str, result: Result<(), String>| {
        say(format!("{what}: {}", result.err().unwrap_or_else(|| "worked".into())));
    };
    if layer.instance().layer == "s" {
        failed("receive", jobs.recv().await.map(drop).map_err(text));
        failed("large", jobs.send([0; 9], 0).await.map(drop).map_err(text));
        failed("high", jobs.send([0; 8], 2).await.map(drop).map_err(text));
        let other: Result<_, LayerError> = layer.queue("other");
        failed("other", other.map(drop).map_err(text));
    } else {
        failed("send", jobs.send([0; 8], 0).await.map(drop).map_err(text));
    }
    layer.stopping().await;
    Ok(())
}

fn opens(_layer: Layer) -> Outcome {
    let opened = cofferdam::sys::mqueue::open_to_send(c"/cofferdam-nobodys");
    say(format!("opened {opened:?}"));
    Ok(())
}
