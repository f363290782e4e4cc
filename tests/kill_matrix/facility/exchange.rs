//! A policy, or a program, that takes the place of another, again and again: whoever is killed meanwhile,
//! no message is lost that was accepted, but for the one in the hand of who is killed; none comes twice; and
//! nothing is left over.

use std::fs;
use std::path::Path;
use std::time::Duration;

use cofferdam::Layer;
use cofferdam::ipc::queue::Event;
use rustix::process::{Pid, Signal, kill_process};

use super::lives::{self, LIFE, numbers};
use super::{End, Facility, Outcome, Outside, Runs, check_supervisor};
use crate::case::Story;
use crate::parties::say;

const POLICY: &str = r#"
[layer.get]
RUN get"
syscalls = ["@core"]
limits = { files = 100 }
[layer.put]
RUN put"
syscalls = ["@core"]
after = ["get"]
[queue.jobs]
send = ["put"]
receive = ["get"]
depth = 4
max = "64B"
on-full = "block"
wait = "1h"
"#;

const LAYERS: &[(&str, Runs)] = &[("put", Runs::Blocking(put)), ("get", Runs::Blocking(get))];

pub(crate) const RELOAD: Facility = Facility {
    name: "reload",
    policy: POLICY,
    layers: LAYERS,
    marks: &[
        ("supervisor", "supervisor.reload.prepared", 1),
        ("supervisor", "supervisor.reload.exchanged", 1),
        ("supervisor", "supervisor.reap.reaped", 1),
        ("supervisor", "supervisor.reap.announced", 1),
        ("supervisor", "supervisor.reload.prepared", 2),
        ("supervisor", "supervisor.reload.exchanged", 2),
        ("put", "queue.send.sealed", 8),
        ("get", "queue.receive.taken", 8),
    ],
    check,
};

pub(crate) const UPGRADE: Facility = Facility {
    name: "upgrade",
    policy: POLICY,
    layers: LAYERS,
    marks: &[
        ("supervisor", "supervisor.upgrade.quiet", 1),
        ("supervisor", "supervisor.upgrade.written", 1),
        // From here on it is the new program that stops.
        ("supervisor", "supervisor.upgrade.resumed", 1),
        ("supervisor", "supervisor.reload.prepared", 1),
        ("supervisor", "supervisor.reload.exchanged", 1),
        ("supervisor", "supervisor.reap.reaped", 1),
        ("put", "queue.send.sealed", 8),
        ("get", "queue.receive.taken", 8),
    ],
    check,
};

pub(crate) const RELOADS: Outside = Outside { run: reloads, after };

pub(crate) const UPGRADES: Outside = Outside { run: upgrades, after };

/// Messages that the queue holds.
const DEPTH: usize = 4;

const PAUSE: Duration = Duration::from_millis(2);

/// Between two reloads or upgrades. One that comes while another is under way waits.
const EACH: Duration = Duration::from_millis(400);

fn put(layer: Layer) -> Outcome {
    let jobs = layer.queue("jobs").map_err(text)?;
    let mut number = layer.instance().generation * LIFE;
    while !layer.is_stopping() {
        layer.attend().map_err(text)?;
        if jobs.try_send(number.to_le_bytes(), 0).is_ok() {
            say(format!("sent {number}"));
            number += 1;
            say(format!("on {number}"));
            lives::tell_descriptors();
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// Receives, and finishes only when it has found the queue empty.
fn get(layer: Layer) -> Outcome {
    let jobs = layer.queue("jobs").map_err(text)?;
    for on in 1_u64.. {
        layer.attend().map_err(text)?;
        let stopping = layer.is_stopping();
        match jobs.try_recv().map_err(text)? {
            Some(Event::Message(message)) => {
                let number = message.body.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
                say(format!("got {}", number.unwrap_or(0)));
            }
            Some(Event::Refused(refused)) => say(format!("refused {refused:?}")),
            None if stopping => return Ok(()),
            None => std::thread::sleep(PAUSE),
        }
        say(format!("on {on}"));
        lives::tell_descriptors();
    }
    Ok(())
}

fn text(error: impl ToString) -> String {
    error.to_string()
}

fn reloads(directory: &Path, end: &End) -> Outcome {
    let policy = directory.join("policy.toml");
    again_and_again(directory, end, Signal::HUP, || {
        let before = fs::read_to_string(&policy).map_err(text)?;
        let other = if before.contains("files = 100") { "files = 101" } else { "files = 100" };
        let after = before.replace("files = 100", other).replace("files = 101", other);
        fs::write(&policy, after).map_err(text)
    })
}

fn upgrades(directory: &Path, end: &End) -> Outcome {
    again_and_again(directory, end, Signal::USR2, || Ok(()))
}

fn again_and_again(
    directory: &Path,
    end: &End,
    signal: Signal,
    change: impl Fn() -> Outcome,
) -> Outcome {
    while !end.has_come() {
        std::thread::sleep(EACH);
        if let Some(daemon) = daemon_of(directory)
            && !end.has_come()
        {
            change()?;
            // It may have been killed just now.
            let _ = kill_process(daemon, signal);
        }
    }
    Ok(())
}

/// The supervisor of a case, once it has a layer: from then on no signal ends it that it doesn't know.
fn daemon_of(directory: &Path) -> Option<Pid> {
    let policy = directory.join("policy.toml").display().to_string();
    let processes = || {
        let numbers = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
        numbers.filter_map(|it| it.file_name().to_str()?.parse::<i32>().ok())
    };
    let line = |pid: i32| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let is_child = |pid: i32, of: u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.contains(&format!("\nPPid:\t{of}\n"))
    };
    let own = std::process::id();
    let daemon = processes().find(|&pid| line(pid).contains(&policy) && is_child(pid, own))?;
    let layer = |pid| line(pid).starts_with("cofferdam-layer:");
    processes().any(|pid| layer(pid) && is_child(pid, daemon.unsigned_abs())).then_some(())?;
    Pid::from_raw(daemon)
}

fn after(_: &Path, story: &Story) -> Outcome {
    check_supervisor(story)
}

fn check(story: &Story) -> Outcome {
    lives::check_descriptors(story, &["put", "get"])?;
    if let Some(line) = story.of("get").find(|line| line.starts_with("refused")) {
        return Err(line.to_owned());
    }
    let lines = |layer| story.of(layer).collect::<Vec<_>>();
    let (sent, mut got) = (numbers(&lines("put"), "sent"), numbers(&lines("get"), "got"));
    got.sort_unstable();
    let twice = |[one, next]: &[u64; 2]| (one == next).then_some(*one);
    if let Some(number) = got.array_windows().find_map(twice) {
        return Err(format!("{number} came twice"));
    }
    // Who takes the supervisor takes the lines of the last moments too.
    if story.victim == "supervisor" {
        return Ok(());
    }
    let lost = |sent: &[u64]| {
        let lost = sent.iter().filter(|number| got.binary_search(number).is_err());
        lost.copied().collect::<Vec<_>>()
    };
    // The daemon may have been asked to stop before another receiver was there: then the queue was full.
    let is_killed = story.victim == "get";
    let waited = if is_killed && lost(&sent).len() > 1 { DEPTH.min(sent.len()) } else { 0 };
    let lost = lost(&sent[..sent.len() - waited]);
    if lost.len() > usize::from(is_killed) {
        return Err(format!("{lost:?} were accepted and are lost"));
    }
    Ok(())
}
