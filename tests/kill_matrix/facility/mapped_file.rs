//! Memory-mapped files: `w` commits, `r` and `m` read. Content is whole and has its generation
//! alone; a killed writer leaves the content before or the new one. A killed supervisor leaves no
//! lock, and the next daemon goes on with what was committed, or finishes the making of the file.
//!
//! The first life of `m` ends by itself.

#![allow(clippy::needless_pass_by_value, reason = "the library gives it")]

use std::path::Path;
use std::process::Child;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use cofferdam::Layer;
use cofferdam::ipc::mapped_file::MappedFile;
use rustix::fs::FlockOperation;
use rustix::process::{Pid, Signal, kill_process};

use super::{Facility, Outcome, Runs, lives, newest};
use crate::begin::begin;
use crate::case::Story;
use crate::parties::say;

pub(crate) const FACILITY: Facility = Facility {
    name: "mapped-file",
    policy: r#"
[mapped-file.state]
path = "DIR/state"
size = "32KiB"
durable = true
grant = { w = "rw", r = "r", m = "r" }
[mapped-file.fixed]
path = "DIR/policy.toml"
size = "4KiB"
grant = { m = "r" }
"#,
    layers: &[
        ("w", Runs::Blocking(w)),
        ("r", Runs::Blocking(r)),
        ("m", Runs::Async(|layer| Box::pin(m(layer)))),
    ],
    marks: &[
        ("supervisor", "mapped-file.make.opened", 1),
        ("supervisor", "mapped-file.make.locked", 1),
        ("supervisor", "mapped-file.make.sized", 1),
        ("supervisor", "mapped-file.make.allocated", 1),
        ("supervisor", "mapped-file.make.formatted", 1),
        ("supervisor", "mapped-file.make.ready", 1),
        ("supervisor", "mapped-file.make.copied", 1),
        ("supervisor", "mapped-file.make.sealed", 1),
        ("supervisor", "mapped-file.grant.given", 2),
        ("supervisor", "mapped-file.grant.given", 6),
        ("supervisor", "supervisor.start.spawned", 4),
        ("supervisor", "supervisor.admit.confined", 2),
        ("supervisor", "supervisor.hand-over.object", 3),
        ("supervisor", "supervisor.hand-over.done", 2),
        ("supervisor", "supervisor.hand-over.done", 4),
        ("supervisor", "supervisor.reap.reaped", 1),
        ("supervisor", "supervisor.reap.announced", 1),
        ("w", "mapped-file.map.begin", 1),
        ("w", "mapped-file.map.mapped", 1),
        ("w", "mapped-file.commit.writer", 1),
        ("w", "mapped-file.commit.writer", 3),
        ("w", "mapped-file.commit.begin", 4),
        ("w", "mapped-file.commit.voided", 1),
        ("w", "mapped-file.commit.voided", 5),
        ("w", "mapped-file.commit.half", 4),
        ("w", "mapped-file.commit.copied", 5),
        ("w", "mapped-file.commit.content-synced", 4),
        ("w", "mapped-file.commit.header-half", 1),
        ("w", "mapped-file.commit.header-half", 5),
        ("w", "mapped-file.commit.header-copied", 4),
        ("w", "mapped-file.commit.counted", 1),
        ("w", "mapped-file.commit.counted", 4),
        ("w", "mapped-file.commit.header-synced", 5),
        ("w", "mapped-file.commit.done", 4),
        ("w", "mapped-file.read.copied", 2),
        ("r", "mapped-file.map.mapped", 1),
        ("r", "mapped-file.read.headers", 3),
        ("r", "mapped-file.read.copied", 4),
        ("m", "mapped-file.map.mapped", 1),
        ("m", "mapped-file.read.headers", 2),
        ("m", "mapped-file.read.copied", 2),
    ],
    check,
};

/// The file's size, in bytes.
const SIZE: u64 = 32 << 10;

/// The largest content, in bytes.
const CONTENT: u64 = 12_000;

/// From these marks of a commit on the new content counts.
const NEW: [&str; 3] = ["counted", "header-synced", "done"];

/// No daemon takes so long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// Commits again and again, by turns in both ways.
fn w(layer: Layer) -> Outcome {
    let life = layer.instance().generation;
    let file = layer.mapped_file("state").map_err(text)?;
    let mut bytes = Vec::new();
    let mut number = file.read_into(&mut bytes).map_err(text)?;
    if number != 0 && newest::parse(&bytes, CONTENT).is_none_or(|(found, _)| found != number) {
        say(format!("torn {number}"));
    }
    say(format!("resumed {number}"));
    while !layer.is_stopping() {
        number += 1;
        say(format!("putting {number}"));
        let content = newest::body(number, life, CONTENT);
        let committed = if number % 2 == 0 {
            file.commit(&content)
        } else {
            file.update(|bytes| *bytes = content)
        };
        say(format!("put {}", committed.map_err(text)?));
        say(format!("on {number}"));
        lives::tell_descriptors();
        std::thread::sleep(Duration::from_millis(1));
        layer.attend().map_err(text)?;
    }
    Ok(())
}

/// Reads every content that it comes to see.
fn r(layer: Layer) -> Outcome {
    let file = layer.mapped_file("state").map_err(text)?;
    let (mut last, mut bytes) = (file.generation().map_err(text)?, Vec::new());
    say(format!("found {last}"));
    while !layer.is_stopping() {
        look(&file, &mut last, &mut bytes)?;
        std::thread::sleep(Duration::from_millis(1));
        layer.attend().map_err(text)?;
    }
    Ok(())
}

/// The same in a task; it reads a file besides that nobody writes.
async fn m(layer: Layer) -> Outcome {
    let file = layer.mapped_file("state").map_err(text)?;
    let fixed = layer.mapped_file("fixed").map_err(text)?;
    let (mut last, mut bytes) = (file.generation().map_err(text)?, Vec::new());
    say(format!("found {last}"));
    let mut seen = 0;
    while !layer.is_stopping() && (seen < 3 || layer.instance().generation > 1) {
        seen += u64::from(look(&file, &mut last, &mut bytes)?);
        if !fixed.read().map_err(text)?.starts_with(b"cofferdam = 1\n") {
            return Err("the copy isn't what it was made of".into());
        }
        if file.commit(b"").is_ok() {
            return Err("it may only read, and committed".into());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

/// Reads the content, and says so if it is another one than before.
fn look(file: &MappedFile, last: &mut u64, bytes: &mut Vec<u8>) -> Result<bool, String> {
    let now = file.read_into(bytes).map_err(text)?;
    if now < *last {
        return Err(format!("{now} after {last}"));
    }
    if now == *last {
        return Ok(false);
    }
    *last = now;
    newest::say_saw(now, bytes, CONTENT);
    say(format!("on {now}"));
    lives::tell_descriptors();
    Ok(true)
}

fn text(error: impl ToString) -> String {
    error.to_string()
}

fn check(story: &Story) -> Result<(), String> {
    newest::check_ends(story)?;
    lives::check_descriptors(story, &["w", "r", "m"])?;
    newest::check(story, ["w", "r", "m"], "mapped-file.commit.", &NEW)?;
    let mark = |line: &str| Some(line.split_once("mark mapped-file.")?.1.to_owned());
    match story.lines.iter().find_map(|line| mark(line)) {
        Some(mark) if story.victim == "supervisor" => check_next_daemon(&mark),
        _ => Ok(()),
    }
}

/// Kills a whole daemon at a mark of making or of its first commit, and has another one go on.
fn check_next_daemon(mark: &str) -> Result<(), String> {
    let (actor, expected) = match mark.split_once('.') {
        Some(("make", _)) => ("supervisor", 0),
        Some(("commit", point)) => ("w", u64::from(NEW.contains(&point))),
        _ => return Ok(()),
    };
    let directory = tempfile::tempdir().map_err(text)?;
    let mark = format!("mapped-file.{mark}");
    let mut first = Daemon::start(directory.path(), &format!("{actor} {mark} 1"))?;
    first.until(&format!("mark {mark}"))?;
    first.child.kill().map_err(text)?;
    first.end()?;
    let mut second = Daemon::start(directory.path(), "")?;
    for sign in ["w/0.g1: resumed ", "w/0.g1: put ", "r/0.g1: saw ", "m/0.g2: saw "] {
        second.until(sign)?;
    }
    kill_process(Pid::from_child(&second.child), Signal::TERM).map_err(text)?;
    let story = second.end()?;
    newest::check_ends(&story)?;
    newest::check(&story, ["w", "r", "m"], "", &[])?;

    let resumed = story.numbers("w", "resumed ");
    if resumed != [expected] {
        return Err(format!("{mark}: the next daemon found {resumed:?}, not {expected}"));
    }
    let file = std::fs::File::open(directory.path().join("state")).map_err(text)?;
    if file.metadata().map_err(text)?.len() != SIZE {
        return Err(format!("{mark}: the file lost its size"));
    }
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)
        .map_err(|error| format!("{mark}: a lock is left: {error}"))
}

/// A daemon of this facility beside the case's own.
struct Daemon {
    child: Child,
    coming: Receiver<String>,
    story: Story,
}

impl Daemon {
    fn start(directory: &Path, stop: &str) -> Result<Self, String> {
        let policy = FACILITY.whole_policy(directory);
        std::fs::write(directory.join("policy.toml"), policy).map_err(text)?;
        let (child, coming) = begin(&FACILITY, stop, directory).map_err(text)?;
        Ok(Self { child, coming, story: Story::default() })
    }

    /// Waits for a line that holds `sign`.
    fn until(&mut self, sign: &str) -> Result<(), String> {
        loop {
            let line = self.coming.recv_timeout(PATIENCE).map_err(|error| {
                let from = self.story.lines.len().saturating_sub(20);
                format!("never '{sign}' ({error}):\n  {}", self.story.lines[from..].join("\n  "))
            })?;
            self.story.lines.push(line);
            if self.story.lines.last().is_some_and(|line| line.contains(sign)) {
                return Ok(());
            }
        }
    }

    /// Waits until it has ended, and tells all that it has said.
    fn end(mut self) -> Result<Story, String> {
        while let Ok(line) = self.coming.recv_timeout(PATIENCE) {
            self.story.lines.push(line);
        }
        self.child.wait().map_err(text)?;
        Ok(std::mem::take(&mut self.story))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
