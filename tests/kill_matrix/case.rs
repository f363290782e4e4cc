//! One case: who stops where, who is killed, and what is seen of it.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::begin::begin;
use crate::facility::{End, Facility, Runs};

/// Nothing takes so long unless something hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often everybody must show after the kill that it gets on.
const SIGNS: usize = 2;

/// One case of the matrix.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub facility: &'static Facility,
    pub actor: &'static str,
    pub mark: &'static str,
    pub nth: u32,
    pub victim: &'static str,
}

/// What was seen of a case, for the facility's check.
#[derive(Debug, Default)]
pub(crate) struct Story {
    /// Who was killed.
    pub victim: &'static str,
    /// Whether it was there to be killed: at some marks it has not been started yet.
    pub was_there: bool,
    /// Where the case took place: its gate and policy, and what `DIR` in the policy stands for.
    pub directory: PathBuf,
    /// Every line of the daemon's log.
    pub lines: Vec<String>,
    /// How many of them had come when the daemon was asked to stop; all, if it wasn't.
    pub before_stop: usize,
    /// How long the slowest survivor took until it got on.
    pub longest: Duration,
    /// How many descriptors the supervisor held when all had got on, and nothing was under way;
    /// 0 if it was killed, or can't be looked into.
    pub held: usize,
}

/// Every case of a facility: each mark, and at each everybody in turn.
pub(crate) fn all(facility: &'static Facility) -> impl Iterator<Item = Case> {
    let layers = facility.layers.iter().map(|(name, _)| *name).chain(["supervisor"]);
    // The framework's own layers that have a part in it.
    let mut helpers: Vec<_> = facility.marks.iter().map(|(actor, _, _)| *actor).collect();
    helpers.retain(|actor| actor.starts_with("cofferdam-"));
    helpers.sort_unstable();
    helpers.dedup();
    let victims: Vec<_> = layers.chain(helpers).collect();
    facility.marks.iter().flat_map(move |&(actor, mark, nth)| {
        victims.clone().into_iter().map(move |victim| Case { facility, actor, mark, nth, victim })
    })
}

impl Case {
    /// Runs it; an error says what did not hold.
    pub(crate) fn run(&self) -> Result<Story, String> {
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let mut run = Run::start(self, directory.path());
        let end = End::default();
        let result = std::thread::scope(|scope| {
            let outside = self.facility.outside();
            let runs = outside.map(|outside| {
                let (end, directory) = (&end, directory.path());
                scope.spawn(move || (outside.run)(directory, end))
            });
            let story = self.steps(&mut run, directory.path(), &end);
            end.comes();
            let outcome = runs.map_or(Ok(Ok(())), std::thread::ScopedJoinHandle::join);
            let story = story?;
            outcome
                .unwrap_or_else(|_| Err("it panicked".into()))
                .map_err(|why| format!("outside: {why}"))?;
            outside.map_or(Ok(()), |outside| (outside.after)(directory.path(), &story))?;
            Ok(story)
        });
        result.map_err(|why: String| {
            let from = run.lines.len().saturating_sub(60);
            format!("{why}\n  {}", run.lines[from..].join("\n  "))
        })
    }

    fn steps(&self, run: &mut Run, directory: &Path, end: &End) -> Result<Story, String> {
        run.line(|line| line.ends_with(&format!("mark {}", self.mark)))
            .map_err(|why| format!("it never came to the mark: {why}"))?;
        let everybody: Vec<Pid> = run.pids.values().copied().collect();
        let killed_at = Instant::now();
        let here = run.lines.len();
        let victim = run.find(self.victim);
        if self.victim == "supervisor" {
            end.comes();
        }
        if let Some(pid) = victim {
            kill_process(pid, Signal::KILL).map_err(|error| error.to_string())?;
        }
        // Not made anew: somebody may look at it as memory.
        let gate = std::fs::OpenOptions::new().write(true).open(directory.join("gate"));
        gate.and_then(|gate| gate.write_all_at(b"1", 0)).map_err(|error| error.to_string())?;

        if self.victim == "supervisor" {
            run.child.wait().map_err(|error| error.to_string())?;
            run.until("every layer is gone", |_| everybody.iter().all(|&pid| !is_alive(pid)))?;
        } else {
            for &(layer, runs) in self.facility.layers {
                if !matches!(runs, Runs::Exec) {
                    run.gets_on(layer, here)?;
                }
            }
        }
        let longest = killed_at.elapsed();
        let (mut held, mut before_stop) = (0, usize::MAX);
        if self.victim != "supervisor" {
            end.comes();
            let pids: Vec<Pid> = run.pids.values().copied().collect();
            held = run.held();
            before_stop = run.lines.len();
            kill_process(Pid::from_child(&run.child), Signal::TERM).map_err(|e| e.to_string())?;
            run.until("the daemon ends", |run| {
                run.child.try_wait().is_ok_and(|end| end.is_some())
            })?;
            run.drain();
            if let Some(left) = pids.iter().find(|&&pid| is_alive(pid)) {
                return Err(format!("process {} is left over", left.as_raw_nonzero()));
            }
        }
        run.drain();
        let lines = std::mem::take(&mut run.lines);
        let (was_there, directory) = (victim.is_some(), directory.to_owned());
        let before_stop = before_stop.min(lines.len());
        let victim = self.victim;
        let story = Story { victim, was_there, directory, lines, before_stop, longest, held };
        let checked = (self.facility.check)(&story);
        run.lines.clone_from(&story.lines);
        checked.map(|()| story)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { facility, actor, mark, nth, victim } = self;
        write!(f, "{} {actor} at {mark}#{nth}, {victim} killed", facility.name)
    }
}

impl Story {
    /// What the lives of `layer` have said, without the name, in order.
    pub(crate) fn of<'a>(&'a self, layer: &str) -> impl Iterator<Item = &'a str> {
        let begin = format!("{layer}/");
        self.lines.iter().filter_map(move |line| {
            line.strip_prefix(begin.as_str()).and_then(|rest| Some(rest.split_once(": ")?.1))
        })
    }

    /// The numbers in the lines of `layer` that begin with `word`.
    pub(crate) fn numbers(&self, layer: &str, word: &str) -> Vec<u64> {
        let rest = |line: &str| line.strip_prefix(word)?.trim().parse().ok();
        self.of(layer).filter_map(rest).collect()
    }
}

/// The daemon of a case, while it runs.
struct Run {
    child: Child,
    coming: Receiver<String>,
    lines: Vec<String>,
    /// The living process of each layer, as far as the log tells.
    pids: BTreeMap<String, Pid>,
}

impl Run {
    fn start(case: &Case, directory: &Path) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let open = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        open(directory, 0o755);
        let policy = directory.join("policy.toml");
        std::fs::write(&policy, case.facility.whole_policy(directory)).unwrap();
        open(&policy, 0o644);
        let stop = format!("{} {} {}", case.actor, case.mark, case.nth);
        let (child, coming) = begin(case.facility, &stop, directory).unwrap();
        Self { child, coming, lines: Vec::new(), pids: BTreeMap::new() }
    }

    /// Takes in a line of the log.
    fn hear(&mut self, line: String) {
        if let Some((name, pid)) = line.split_once(" is confined, pid ") {
            let layer = name.trim_start_matches("cofferdam: ").split('/').next().unwrap_or(name);
            let pid = pid.split(':').next().and_then(|pid| Pid::from_raw(pid.parse().ok()?));
            self.pids.extend(pid.map(|pid| (layer.to_owned(), pid)));
        }
        self.lines.push(line);
    }

    /// The process of a party, also of one that is still confining itself and of which the log
    /// tells nothing.
    fn find(&self, party: &str) -> Option<Pid> {
        let supervisor = Pid::from_child(&self.child);
        if party == "supervisor" {
            return Some(supervisor);
        }
        let title = format!("cofferdam-layer:{party}/");
        let parent = format!("\nPPid:\t{}\n", supervisor.as_raw_nonzero());
        let processes = std::fs::read_dir("/proc").ok()?.filter_map(Result::ok);
        processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find_map(
            |pid: i32| {
                let read = |file| std::fs::read(format!("/proc/{pid}/{file}")).ok();
                let is_it = read("cmdline")?.starts_with(title.as_bytes())
                    && String::from_utf8_lossy(&read("status")?).contains(&parent)
                    && !String::from_utf8_lossy(&read("stat")?).contains(") Z ");
                Pid::from_raw(pid).filter(|_| is_it)
            },
        )
    }

    fn next(&mut self, end: Instant) -> Result<(), String> {
        match self.coming.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                self.hear(line);
                Ok(())
            }
            Err(RecvTimeoutError::Timeout) => Err("it takes too long".into()),
            Err(RecvTimeoutError::Disconnected) => Err("the daemon has ended".into()),
        }
    }

    /// The same, but no longer than until `end`, however much the others have to say.
    fn next_in_time(&mut self, end: Instant) -> Result<(), String> {
        if Instant::now() > end { Err("it takes too long".into()) } else { self.next(end) }
    }

    fn line(&mut self, is_it: impl Fn(&str) -> bool) -> Result<(), String> {
        let end = Instant::now() + PATIENCE;
        loop {
            self.next_in_time(end)?;
            if self.lines.last().is_some_and(|line| is_it(line)) {
                return Ok(());
            }
        }
    }

    /// Waits until `layer` has shown signs of life among the lines from `here` on.
    fn gets_on(&mut self, layer: &str, here: usize) -> Result<(), String> {
        let begin = format!("{layer}/");
        let end = Instant::now() + PATIENCE;
        let sign = |line: &&String| line.starts_with(&begin) && line.contains(": on ");
        while self.lines[here..].iter().filter(sign).count() < SIGNS {
            self.next_in_time(end).map_err(|why| format!("{layer} doesn't get on: {why}"))?;
        }
        Ok(())
    }

    fn until(&mut self, what: &str, holds: impl Fn(&mut Self) -> bool) -> Result<(), String> {
        let end = Instant::now() + PATIENCE;
        while !holds(self) {
            if Instant::now() > end {
                return Err(format!("never: {what}"));
            }
            // What nobody reads would hold it up.
            if let Ok(line) = self.coming.recv_timeout(Duration::from_millis(2)) {
                self.hear(line);
            }
        }
        Ok(())
    }

    /// The fewest descriptors that the supervisor is seen to hold, for it also opens some for a
    /// moment.
    fn held(&self) -> usize {
        let fds = format!("/proc/{}/fd", self.child.id());
        let look = |_| {
            std::thread::sleep(Duration::from_micros(500));
            std::fs::read_dir(&fds).map_or(0, Iterator::count)
        };
        (0..10).map(look).min().unwrap_or(0)
    }

    /// What is left to read, until everybody who could write has gone.
    fn drain(&mut self) {
        let end = Instant::now() + PATIENCE;
        while self.next(end).is_ok() {}
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a process is there, a zombie aside.
fn is_alive(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().starts_with(" Z"))
}
