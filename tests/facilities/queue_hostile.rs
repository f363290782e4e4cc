//! Message queues with layers that want more than they were granted, and many that want the same.

// Layers' functions look like this; and a hostile one uses descriptors that it was not given.
#![allow(clippy::needless_pass_by_value, clippy::unnecessary_wraps, unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use cofferdam::Layer;
use cofferdam::ipc::queue::{Event, QueueError};
use cofferdam::sys::mqueue;
use cofferdam::wire::broker::{Answer, Ask, Refusal};
use cofferdam::wire::control::{FromLayer, Service, ToLayer};
use rustix::process::{Signal, kill_process};

use crate::harness::Daemon;
use crate::raw::{hear_on, speak_on};
use crate::{Function, Outcome, Runs, Test, say, text, wait_for_stop};

pub(crate) const TESTS: &[Test] = &[
    ("queue::a_layer_that_only_asks_for_room_is_ended_and_costs_nobody_a_message", flood),
    ("queue::what_many_senders_drop_is_told_to_the_message", many_senders),
    ("queue::a_descriptor_goes_one_way_and_opens_nothing_more", rights),
];

pub(crate) const LAYERS: &[Function] = &[
    ("queue_asks", Runs::Blocking(asks)),
    ("queue_keeps", Runs::Blocking(keeps)),
    ("queue_waits", Runs::Blocking(waits)),
    ("queue_pushes", Runs::Async(|layer| Box::pin(pushes(layer)))),
    ("queue_tallies", Runs::Blocking(tallies)),
    ("queue_tries_all", Runs::Blocking(tries_all)),
    ("queue_takes_unasked", Runs::Blocking(takes_unasked)),
    ("queue_asks_attributes", Runs::Blocking(asks_attributes)),
];

fn layer(name: &str, run: &str, more: &str) -> String {
    format!(
        "[layer.{name}]\nrun = \"{run}\"\nsyscalls = [\"@core\"{more}]\nrestart = {{ max = 1000 }}\n"
    )
}

fn queue(name: &str, send: &str, receive: &str, more: &str) -> String {
    format!("[queue.{name}]\nsend = [{send}]\nreceive = [{receive}]\n{more}\n")
}

fn flood() {
    let full = "depth = 1\non-full = \"drop-oldest\"";
    let policy = layer("asker", "queue_asks", "")
        + &layer("keeper", "queue_keeps", "")
        + &layer("reader", "queue_waits", "")
        + &queue("own", "\"asker\"", "\"reader\"", full)
        + &queue("others", "\"keeper\"", "\"reader\"", full);
    let mut daemon = Daemon::start("-", &policy);
    let reader = daemon.confined("reader/0.g1");
    // As often as it starts.
    for _ in 0..2 {
        daemon.line("is killed: ");
    }
    // What it wanted dropped is still there.
    kill_process(reader, Signal::KILL).unwrap();
    daemon.line("got keeper kept");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert_eq!(daemon.count("keeper/0.g1 is killed"), 0, "{daemon}");
    assert_eq!(daemon.count("reader/0.g2 is killed"), 0, "{daemon}");
}

/// Asks for room everywhere, and breaks the rules in the end.
fn asks(layer: Layer) -> Outcome {
    let socket = layer.service_socket(Service::Ledger).ok_or("no ledger")?;
    let socket = socket.as_raw_fd();
    for (queue, priority) in [(0, 0), (1, 0), (0, 9), (7, 0)].into_iter().cycle().take(400) {
        let ask = Ask::MakeRoom { queue, priority };
        speak_on(socket, &FromLayer::Ask { request: 1, ask })?;
        match hear_on(socket)? {
            // Its own queue is empty.
            ToLayer::Answer { answer: Answer::Done, .. } if (queue, priority) == (1, 0) => {}
            ToLayer::Answer { answer: Answer::Refused(Refusal::NotGranted), .. } => {}
            other => return Err(format!("{other:?}")),
        }
    }
    speak_on(socket, &FromLayer::Exited { code: 0 })?;
    loop {
        std::thread::park();
    }
}

fn keeps(layer: Layer) -> Outcome {
    if layer.instance().generation == 1 {
        layer.queue("others").map_err(text)?.blocking().send(b"kept", 0).map_err(text)?;
    }
    wait_for_stop(&layer)
}

/// Its first life only waits, the next one receives.
fn waits(layer: Layer) -> Outcome {
    let others = layer.queue("others").map_err(text)?.blocking();
    if layer.instance().generation == 1 {
        return wait_for_stop(&layer);
    }
    loop {
        match others.recv(None) {
            Ok(Event::Message(message)) => {
                let body = String::from_utf8_lossy(&message.body).into_owned();
                say(format!("got {} {body}", message.from.layer));
            }
            Ok(Event::Refused(refused)) => say(format!("refused {refused:?}")),
            Err(QueueError::Stopping) => return Ok(()),
            Err(error) => return Err(text(error)),
        }
    }
}

const SENDERS: usize = 3;
const EACH: usize = 400;

fn many_senders() {
    let copies = layer("s", "queue_pushes", "") + &format!("instances = {SENDERS}\n");
    let policy = copies
        + &layer("r", "queue_tallies", "")
        + &queue("jobs", "\"s\"", "\"r\"", "depth = 3\npriorities = 2\non-full = \"drop-oldest\"");
    let mut daemon = Daemon::start("-", &policy);
    let after = |line: &str, word: &str| line.split(word).nth(1).unwrap().parse::<usize>().unwrap();
    let mut gone = 0;
    for _ in 0..SENDERS {
        gone += after(&daemon.line(": threw "), ": threw ");
    }
    // Before the last sender was done the tally may have been as high, so the last one counts.
    daemon.line("empty");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    let tally = daemon.seen.iter().rev().find(|line| line.contains("tally ")).unwrap();
    assert_eq!(after(tally, "tally ") + gone, SENDERS * EACH, "{daemon}");
    assert!(gone > 0, "nothing was dropped, so nothing is shown: {daemon}");
    assert_eq!(daemon.count("refused"), 0, "{daemon}");
}

async fn pushes(layer: Layer) -> Outcome {
    let jobs = layer.queue("jobs").map_err(text)?;
    let mut dropped = 0;
    for number in 0..EACH {
        let priority = u8::from(number % 2 == 0);
        dropped += jobs.send(number.to_le_bytes(), priority).await.map_err(text)?.dropped;
    }
    say(format!("threw {dropped}"));
    layer.stopping().await;
    Ok(())
}

/// Counts what it receives, slowly, until it is asked to finish and finds nothing.
fn tallies(layer: Layer) -> Outcome {
    let jobs = layer.queue("jobs").map_err(text)?.blocking();
    let mut tally = 0;
    loop {
        match jobs.recv(Some(Duration::from_millis(100))) {
            Ok(Event::Message(_)) => tally += 1,
            Ok(Event::Refused(refused)) => say(format!("refused {refused:?}")),
            Err(QueueError::Nothing) => say("empty"),
            Err(QueueError::Stopping) => break,
            Err(error) => return Err(text(error)),
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    say(format!("tally {tally}"));
    Ok(())
}

fn rights() {
    let policy = layer("both", "queue_tries_all", ", \"@file-read\"")
        + &layer("taker", "queue_takes_unasked", "")
        + &layer("looker", "queue_asks_attributes", "")
        + &layer("other", "queue_waits", "")
        + &queue("out", "\"both\", \"taker\"", "\"other\"", "")
        + &queue("in", "\"other\"", "\"both\", \"looker\"", "")
        + &queue("others", "\"other\"", "\"other\"", "");
    let mut daemon = Daemon::start("-", &policy);
    let mut lines =
        ["taker/0.g1 was killed by SIGSYS", "looker/0.g1 was killed by SIGSYS", "tried"]
            .map(|line| (line, false));
    while lines.iter().any(|(_, seen)| !seen) {
        let line = daemon.line("");
        for (text, seen) in &mut lines {
            *seen |= line.contains(*text);
        }
    }
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert_eq!(daemon.count("tried: 1 to send, 1 to receive, 0 both, 0 opened"), 1, "{daemon}");
    assert_eq!(daemon.count("it could"), 0, "{daemon}");
}

/// Uses every descriptor in both directions, and opens it anew in every way.
fn tries_all(layer: Layer) -> Outcome {
    let (mut send, mut receive, mut both, mut opened) = (0, 0, 0, 0);
    let mut buffer = vec![0; 1 << 16];
    for number in 3..128 {
        // SAFETY: used only while nothing is closed: this thread is the only one.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        let sends = mqueue::send(fd, b"x", 0).is_ok();
        let receives = mqueue::receive(fd, &mut buffer).is_ok();
        send += u32::from(sends);
        receive += u32::from(receives);
        both += u32::from(sends && receives);
        for path in [format!("/proc/self/fd/{number}"), format!("/dev/fd/{number}")] {
            opened += u32::from(std::fs::File::open(path).is_ok());
        }
    }
    opened += u32::from(std::fs::read_dir("/dev/mqueue").is_ok());
    say(format!("tried: {send} to send, {receive} to receive, {both} both, {opened} opened"));
    wait_for_stop(&layer)
}

/// A sender that receives.
fn takes_unasked(layer: Layer) -> Outcome {
    if layer.instance().generation == 1 {
        // SAFETY: it need not be open; the filter is in the way first.
        let fd = unsafe { BorrowedFd::borrow_raw(5) };
        let taken = mqueue::receive(fd, &mut [0; 1 << 13]);
        say(format!("it could: {taken:?}"));
    }
    wait_for_stop(&layer)
}

/// A receiver that looks at what the queue holds, by a call that can change it as well.
fn asks_attributes(layer: Layer) -> Outcome {
    if layer.instance().generation == 1 {
        // SAFETY: as above.
        let fd = unsafe { BorrowedFd::borrow_raw(5) };
        say(format!("it could: {:?}", mqueue::attributes(fd)));
    }
    wait_for_stop(&layer)
}
