//! Shared memory: `w` publishes and sends on a ring, `r` reads both, `m` reads what is published.
//! An object is whole and has its number alone; a killed publisher leaves the one before or the new
//! one, a killed producer the ring without the message or with it. A killed consumer gets again what
//! it had not taken, and nothing that it had.
//!
//! The first life of `m` ends by itself.

#![allow(clippy::needless_pass_by_value, reason = "the library gives it")]

use std::time::Duration;

use cofferdam::Layer;
use cofferdam::ipc::region::RegionError;

use super::lives::{self, LIFE, numbers};
use super::{Facility, Outcome, Runs, newest};
use crate::case::Story;
use crate::parties::say;

pub(crate) const FACILITY: Facility = Facility {
    name: "region",
    policy: r#"
[region.objects]
size = "4KiB"
grant = { w = "rw", r = "r", m = "r" }
[region.ring]
size = "4KiB"
grant = { w = "rw", r = "rw" }
[region.plain]
size = "8KiB"
grant = { w = "rw", m = "r" }
"#,
    layers: &[
        ("w", Runs::Blocking(w)),
        ("r", Runs::Blocking(r)),
        ("m", Runs::Async(|layer| Box::pin(m(layer)))),
    ],
    marks: &[
        ("supervisor", "region.make.sealed", 1),
        ("supervisor", "region.make.closed", 3),
        ("supervisor", "region.grant.given", 2),
        ("supervisor", "region.grant.given", 8),
        ("supervisor", "supervisor.start.spawned", 4),
        ("supervisor", "supervisor.admit.confined", 2),
        ("supervisor", "supervisor.hand-over.object", 3),
        ("supervisor", "supervisor.hand-over.done", 2),
        ("supervisor", "supervisor.hand-over.done", 4),
        ("supervisor", "supervisor.reap.reaped", 1),
        ("supervisor", "supervisor.reap.announced", 1),
        ("w", "region.map.mapped", 1),
        ("w", "region.publish.formatted", 1),
        ("w", "region.part.taken", 1),
        ("w", "region.publish.resumed", 1),
        ("w", "region.ring.formatted", 1),
        ("w", "region.part.taken", 2),
        ("w", "region.send.resumed", 1),
        ("w", "region.publish.begin", 5),
        ("w", "region.publish.opened", 1),
        ("w", "region.publish.opened", 6),
        ("w", "region.publish.half", 5),
        ("w", "region.publish.copied", 5),
        ("w", "region.publish.digested", 3),
        ("w", "region.publish.numbered", 1),
        ("w", "region.publish.numbered", 5),
        ("w", "region.publish.named", 1),
        ("w", "region.publish.named", 4),
        ("w", "region.publish.woken", 5),
        ("w", "region.send.begin", 9),
        ("w", "region.send.framed", 1),
        ("w", "region.send.framed", 12),
        ("w", "region.send.half", 9),
        ("w", "region.send.copied", 13),
        ("w", "region.send.sleeping", 1),
        ("w", "region.send.told", 9),
        ("w", "region.send.waking", 2),
        ("w", "region.send.done", 11),
        ("w", "region.write.begin", 2),
        ("w", "region.write.copied", 3),
        ("r", "region.map.begin", 1),
        ("r", "region.receive.resumed", 1),
        ("r", "region.receive.begin", 5),
        ("r", "region.receive.framed", 6),
        ("r", "region.receive.half", 7),
        ("r", "region.receive.copied", 8),
        ("r", "region.receive.sleeping", 2),
        ("r", "region.receive.told", 5),
        ("r", "region.receive.waking", 1),
        ("r", "region.receive.done", 9),
        ("r", "region.read.named", 2),
        ("r", "region.read.measured", 2),
        ("r", "region.read.copied", 3),
        ("r", "region.read.taken", 2),
        ("r", "region.read.sleeping", 2),
        ("m", "region.map.mapped", 1),
        ("m", "region.read.measured", 2),
        ("m", "region.read.copied", 3),
        ("m", "region.read.taken", 3),
    ],
    check,
};

/// The largest object, in bytes; four slots of it fill the region.
const OBJECT: u64 = 930;

/// The largest message, in bytes; the ring holds some four.
const MESSAGE: u64 = 1200;

/// Messages that go out together: more than the ring holds.
const BURST: u64 = 6;

/// How long a thread waits before it looks whether it shall stop.
const A_WHILE: Option<Duration> = Some(Duration::from_millis(5));

/// Publishes an object, then sends some messages.
fn w(layer: Layer) -> Outcome {
    let life = layer.instance().generation;
    let objects = layer.region("objects").map_err(text)?;
    let mut publisher = objects.publisher::<[u8]>().map_err(text)?;
    say(format!("resumed {}", publisher.last()));
    let mut ring = layer.region("ring").map_err(text)?.ring_producer().map_err(text)?;
    let mut sent = 0;
    // Each part is there once, whoever died with it.
    if objects.publisher::<[u8]>().is_ok() {
        return Err("a second publisher".into());
    }
    loop {
        let number = publisher.last() + 1;
        say(format!("putting {number}"));
        let now = publisher.publish(&newest::body(number, life, OBJECT)).map_err(text)?;
        say(format!("put {now}"));
        let plain = layer.region("plain").map_err(text)?;
        plain.write_at(&[7; 100], 4060).map_err(text)?;
        for _ in 0..BURST {
            sent += 1;
            say(format!("sending {}", life * LIFE + sent));
            let message = newest::body(sent, life, MESSAGE);
            while let Err(error) = ring.blocking().send(&message, A_WHILE) {
                if is_over(&layer, &error)? {
                    return Ok(());
                }
            }
            say(format!("sent {}", life * LIFE + sent));
        }
        say(format!("on {sent}"));
        lives::tell_descriptors();
        std::thread::sleep(Duration::from_millis(1));
        layer.attend().map_err(text)?;
        if layer.is_stopping() {
            return Ok(());
        }
    }
}

/// Reads the newest object, then some messages: by turns slower and faster than they come.
fn r(layer: Layer) -> Outcome {
    let mut objects = layer.region("objects").map_err(text)?.subscriber::<[u8]>();
    say(format!("found {}", objects.latest().map_or(0, |object| object.number)));
    let mut seen = objects.number();
    let mut ring = layer.region("ring").map_err(text)?.ring_consumer().map_err(text)?;
    let mut message = Vec::new();
    for got in 1.. {
        while let Err(error) = ring.blocking().recv(&mut message, A_WHILE) {
            if is_over(&layer, &error)? {
                return Ok(());
            }
        }
        match newest::parse(&message, MESSAGE) {
            Some((number, life)) => say(format!("got {}", life * LIFE + number)),
            None => say(format!("torn {got}")),
        }
        if got % 3 == 0 {
            match objects.blocking().changed(Some(Duration::from_millis(1))) {
                Ok(object) => {
                    newest::say_saw(object.number, object.value, OBJECT);
                    if object.number < seen {
                        return Err(format!("{} after {seen}", object.number));
                    }
                    seen = object.number;
                }
                Err(error) => {
                    if is_over(&layer, &error)? {
                        return Ok(());
                    }
                }
            }
            say(format!("on {got}"));
            lives::tell_descriptors();
        }
        if (got / BURST).is_multiple_of(2) {
            std::thread::sleep(Duration::from_micros(200));
        }
        layer.attend().map_err(text)?;
        if layer.is_stopping() {
            return Ok(());
        }
    }
    Ok(())
}

/// Reads every object that comes.
async fn m(layer: Layer) -> Outcome {
    let mut objects = layer.region("objects").map_err(text)?.subscriber::<[u8]>();
    say(format!("found {}", objects.latest().map_or(0, |object| object.number)));
    for on in 1.. {
        tokio::select! {
            object = objects.changed() => newest::say_saw(object.number, object.value, OBJECT),
            () = layer.stopping() => break,
        }
        let plain = layer.region("plain").map_err(text)?;
        plain.read_at(&mut [0; 100], 4060).map_err(text)?;
        if plain.write_at(&[0], 0).is_ok() {
            return Err("it may only read, and wrote".into());
        }
        say(format!("on {on}"));
        lives::tell_descriptors();
        if layer.instance().generation == 1 && on == 4 {
            break;
        }
    }
    Ok(())
}

/// Whether a wait ended because the layer shall; an error if it ended as none should.
fn is_over(layer: &Layer, error: &RegionError) -> Result<bool, String> {
    match error {
        RegionError::Stopping => Ok(true),
        RegionError::Timeout => {
            layer.attend().map_err(text)?;
            Ok(layer.is_stopping())
        }
        other => Err(other.to_string()),
    }
}

fn text(error: impl ToString) -> String {
    error.to_string()
}

fn check(story: &Story) -> Result<(), String> {
    newest::check_ends(story)?;
    lives::check_descriptors(story, &["w", "r", "m"])?;
    newest::check(story, ["w", "r", "m"], "region.publish.", &["named", "woken"])?;
    check_ring(story)
}

/// That what was sent came in order and once, but for the message that a killed consumer had taken.
fn check_ring(story: &Story) -> Result<(), String> {
    let producer = lives::of(story, "w");
    // Up to where a life of the producer that was killed has sent: at least, and at most.
    let end = |life: u64| {
        let lines = producer.get(&life).map_or(&[][..], Vec::as_slice);
        let last = |word| numbers(lines, word).last().map_or(0, |id| id % LIFE);
        let (sent, sending) = (last("sent"), last("sending"));
        match newest::killed_at(story, "w").and_then(|mark| mark.strip_prefix("region.send.")) {
            Some("told" | "waking" | "done") => (sending, sending),
            Some(_) => (sent, sent),
            None => (sent, sending),
        }
    };
    let mut missing = 0;
    let mut before = (1, 0);
    for id in story.numbers("r", "got") {
        let (life, number) = (id / LIFE, id % LIFE);
        missing += match life.checked_sub(before.0) {
            Some(0) if number > before.1 => number - before.1 - 1,
            Some(1) if before.1 <= end(before.0).1 => {
                end(before.0).0.saturating_sub(before.1) + number - 1
            }
            _ => return Err(format!("message {number} of life {life} after {before:?}")),
        };
        before = (life, number);
    }
    let mark = newest::killed_at(story, "r").map(|mark| mark.strip_prefix("region.receive."));
    let taken = match mark {
        Some(Some("told" | "waking" | "done")) => 1..=1,
        None if story.victim == "r" => 0..=1,
        _ => 0..=0,
    };
    if taken.contains(&missing) {
        return Ok(());
    }
    Err(format!("{missing} messages never came, and {taken:?} may be missing"))
}
