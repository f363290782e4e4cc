//! Named pipes: two layers read one each, and somebody outside writes lines into both. No line
//! comes twice, in part or out of order; a killed layer takes one line along at most. Who writes
//! never fails while the supervisor lives, and when it was killed, the next daemon begins.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use cofferdam::Layer;
use cofferdam::ipc::fifo::{Event, FifoError};
use rustix::process::{Pid, Signal, kill_process};

use super::lives;
use super::{End, Facility, Outcome, Outside, Runs};
use crate::begin::begin;
use crate::case::Story;
use crate::parties::say;

pub(crate) const FACILITY: Facility = Facility {
    name: "fifo",
    policy: r#"
[fifo.a]
path = "DIR/a"
to = "task"
[fifo.b]
path = "DIR/b"
to = "thread"
"#,
    layers: &[
        ("task", Runs::Async(|layer| Box::pin(task(layer)))),
        ("thread", Runs::Blocking(thread)),
    ],
    marks: &[
        ("supervisor", "fifo.make.cleared", 1),
        ("supervisor", "fifo.make.cleared", 2),
        ("supervisor", "fifo.make.made", 1),
        ("supervisor", "fifo.make.made", 2),
        ("supervisor", "fifo.make.held", 1),
        ("supervisor", "fifo.make.held", 2),
        ("supervisor", "fifo.make.moded", 1),
        ("supervisor", "fifo.make.ready", 1),
        ("supervisor", "fifo.make.ready", 2),
        ("supervisor", "supervisor.start.spawned", 1),
        ("supervisor", "supervisor.start.spawned", 2),
        ("supervisor", "supervisor.admit.confined", 1),
        ("supervisor", "fifo.hand.opened", 1),
        ("supervisor", "fifo.hand.opened", 2),
        ("supervisor", "fifo.hand.made", 1),
        ("supervisor", "fifo.hand.made", 2),
        ("supervisor", "supervisor.hand-over.object", 1),
        ("supervisor", "supervisor.hand-over.object", 2),
        ("supervisor", "supervisor.hand-over.object", 3),
        ("supervisor", "supervisor.hand-over.done", 2),
        ("task", "fifo.look.before", 1),
        ("task", "fifo.look.copied", 1),
        ("task", "fifo.look.copied", 4),
        ("task", "fifo.look.read", 2),
        ("task", "fifo.read.half", 1),
        ("task", "fifo.read.half", 2),
        ("task", "fifo.read.before", 1),
        ("task", "fifo.read.before", 5),
        ("task", "fifo.read.taken", 1),
        ("task", "fifo.read.taken", 5),
        ("task", "fifo.read.added", 3),
        ("task", "fifo.read.line", 1),
        ("task", "fifo.read.line", 6),
        ("thread", "fifo.wait.before", 1),
        ("thread", "fifo.wait.woken", 2),
        ("thread", "fifo.look.copied", 2),
        ("thread", "fifo.look.read", 3),
        ("thread", "fifo.read.half", 1),
        ("thread", "fifo.read.before", 4),
        ("thread", "fifo.read.taken", 1),
        ("thread", "fifo.read.taken", 4),
        ("thread", "fifo.read.line", 2),
    ],
    check,
};

pub(crate) const OUTSIDE: Outside = Outside { run: write_lines, after };

/// Who reads which.
const READERS: [(&str, &str); 2] = [("task", "a"), ("thread", "b")];

const PAUSE: Duration = Duration::from_micros(500);

/// Nothing takes so long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

async fn task(layer: Layer) -> Outcome {
    let mut fifo = layer.fifo("a").map_err(text)?;
    for on in 1.. {
        tokio::select! {
            event = fifo.next() => tell(&event.map_err(text)?, on),
            () = layer.stopping() => break,
        }
    }
    Ok(())
}

#[allow(clippy::needless_pass_by_value)] // as layers are
fn thread(layer: Layer) -> Outcome {
    let mut fifo = layer.fifo("b").map_err(text)?;
    for on in 1.. {
        match fifo.blocking().next() {
            Ok(event) => tell(&event, on),
            Err(FifoError::Stopping) => break,
            Err(error) => return Err(text(error)),
        }
    }
    Ok(())
}

fn tell(event: &Event, on: u64) {
    match event {
        Event::Line(line) => say(format!("got {}", line.0.escape_ascii())),
        Event::TooLong => say("got too much"),
    }
    say(format!("on {on}"));
    lives::tell_descriptors();
}

/// Line `number`, and where it is cut in two if it is written so.
fn line(number: u64) -> (Vec<u8>, usize) {
    let line = format!("{number} of many {number}\n").into_bytes();
    let cut = if number % 4 == 2 { 5 } else { line.len() };
    (line, cut)
}

/// Writes lines as `echo` does, each by opening the FIFO anew; but it tells if that would wait.
fn write_lines(directory: &Path, end: &End) -> Outcome {
    let mut there = [false; READERS.len()];
    for number in 0.. {
        for ((_, fifo), there) in READERS.iter().zip(&mut there) {
            let path = directory.join(fifo);
            let (bytes, cut) = line(number);
            for part in [&bytes[..cut], &bytes[cut..]] {
                while !part.is_empty() {
                    if end.has_come() {
                        return Ok(());
                    }
                    match write(&path, part) {
                        Ok(()) => {
                            *there = true;
                            break;
                        }
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                        // It is not there yet, or not open yet.
                        Err(_) if !*there => {}
                        Err(_) if end.has_come() => return Ok(()),
                        Err(error) => return Err(format!("line {number} to {fifo}: {error}")),
                    }
                    std::thread::sleep(PAUSE);
                }
                std::thread::sleep(PAUSE);
            }
        }
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let mut file = OpenOptions::new().write(true).custom_flags(nonblocking).open(path)?;
    file.write_all(bytes)
}

#[allow(clippy::needless_pass_by_value)] // for `map_err`
fn text(error: impl ToString) -> String {
    error.to_string()
}

fn check(story: &Story) -> Result<(), String> {
    check_descriptors(story)?;
    for (layer, fifo) in READERS {
        let mut next = 0;
        let mut missing = 0;
        for said in story.of(layer).filter_map(|line| line.strip_prefix("got ")) {
            let number = said.split(' ').next().and_then(|number| number.parse().ok());
            let number: u64 = number.ok_or_else(|| format!("{fifo}: no line: {said}"))?;
            if format!("{said}\n").as_bytes() != line(number).0 {
                return Err(format!("{fifo}: line {number} is {said}"));
            }
            if number < next {
                return Err(format!("{fifo}: line {number} comes after {next}"));
            }
            missing += number - next;
            next = number + 1;
        }
        let most = at_most_lost(story, layer);
        if missing > most {
            return Err(format!("{fifo}: {missing} lines are lost, at most {most} may be"));
        }
    }
    Ok(())
}

/// No life has more descriptors in the end than in the beginning, but for the two that a thread
/// makes once, when it waits for the first time.
fn check_descriptors(story: &Story) -> Outcome {
    for (layer, once) in [("task", 0), ("thread", 2)] {
        for (life, lines) in lives::of(story, layer) {
            let held = lives::numbers(&lines, "holds");
            let (Some(early), Some(late)) = (held.first(), held.last()) else { continue };
            if *late > early + once {
                return Err(format!("life {life} of {layer}: descriptors {held:?}"));
            }
        }
    }
    Ok(())
}

/// How many lines a kill may take along: one if the layer may have had one in its hands.
fn at_most_lost(story: &Story, layer: &str) -> u64 {
    let stopped = format!("{layer}/0.g1: mark fifo.");
    let mark = story.lines.iter().find_map(|line| line.strip_prefix(&stopped));
    match mark.filter(|_| story.victim == layer) {
        _ if story.victim != layer => 0,
        Some("read.taken" | "read.added" | "read.line") | None => 1,
        Some(_) => 0,
    }
}

/// A daemon that ended has left no FIFO; one that was killed may have left its own, and the next
/// one begins, takes their places, and leaves none.
fn after(directory: &Path, story: &Story) -> Outcome {
    if story.victim != "supervisor" {
        return check_left(directory, &[]);
    }
    let left: Vec<&str> = READERS.map(|(_, fifo)| fifo).to_vec();
    check_left(directory, &left)?;
    // The next one is killed too, at one of the points that only it comes to.
    let stale = READERS.iter().any(|(_, fifo)| directory.join(fifo).exists());
    let marks: &[&str] = if stale {
        &["fifo.end.before 1", "fifo.make.stale 1", "fifo.end.removed 1", "fifo.make.freed 1"]
    } else {
        &["fifo.end.before 1", "fifo.end.removed 1", "fifo.end.before 2"]
    };
    let mark = marks[story.lines.len() % marks.len()];
    run_once(directory, mark).map_err(|why| format!("next daemon, at {mark}: {why}"))?;
    check_left(directory, &left)?;
    run_once(directory, "none 0").map_err(|why| format!("last daemon: {why}"))?;
    check_left(directory, &[])
}

/// Nothing is in the case's directory but its own files and these FIFOs.
fn check_left(directory: &Path, fifos: &[&str]) -> Outcome {
    for entry in std::fs::read_dir(directory).map_err(text)? {
        let entry = entry.map_err(text)?;
        let is_fifo = entry.file_type().map_err(text)?.is_fifo();
        let name = entry.file_name();
        let is_ours = ["gate", "policy.toml"].iter().any(|file| name == *file);
        let may_be_left = is_fifo && fifos.iter().any(|fifo| name == *fifo);
        if !is_ours && !may_be_left {
            return Err(format!("{} is left over", name.display()));
        }
    }
    Ok(())
}

/// Runs a daemon in the same directory until lines come to its layers, and ends it; if it comes to
/// `mark` meanwhile, it is killed there.
fn run_once(directory: &Path, mark: &str) -> Outcome {
    let stop = format!("supervisor {mark}");
    let (mut child, lines) = begin(&FACILITY, &stop, directory).map_err(text)?;
    let pid = Pid::from_child(&child);
    let end = End::default();
    let result = std::thread::scope(|scope| {
        let writes = scope.spawn(|| write_lines(directory, &end));
        let begun = Instant::now();
        let (mut seen, mut heard) = ([false; READERS.len()], Vec::new());
        let mut killed = false;
        for line in lines {
            if line.starts_with("mark ") {
                end.comes();
                killed = true;
                kill_process(pid, Signal::KILL).map_err(text)?;
            }
            for ((layer, _), seen) in READERS.iter().zip(&mut seen) {
                *seen |= line.starts_with(&format!("{layer}/")) && line.contains(": got ");
            }
            heard.push(line);
            if !end.has_come() && (seen == [true; READERS.len()] || begun.elapsed() > PATIENCE) {
                end.comes();
                kill_process(pid, Signal::TERM).map_err(text)?;
            }
        }
        end.comes();
        writes.join().unwrap_or_else(|_| Err("it panicked".into()))?;
        let got_on = seen == [true; READERS.len()];
        let as_wished = if mark.starts_with("none") { got_on && !killed } else { killed };
        if as_wished { Ok(()) } else { Err(heard.join("\n  ")) }
    });
    let _ = child.kill();
    let _ = child.wait();
    result
}
