//! The probe as a daemon, and what became of its layers' attacks.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::process::{PATIENCE, Process, write_policy};

/// A daemon, ended when dropped.
pub(crate) struct Daemon(Process);

/// What became of an attack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It did what it wanted.
    Worked(String),
    /// The kernel answered this.
    Errno(String),
    /// The filter killed the process; the call's name, if the kernel's log could be read.
    Filtered(Option<String>),
    /// The process ended otherwise, as the supervisor said.
    Ended(String),
}

impl Daemon {
    /// Starts the probe under `policy`; `attack` is `LAYER:NAME,...`.
    pub(crate) fn start(policy: &str, attack: &str, facts: &[(String, String)]) -> Self {
        let facts =
            facts.iter().flat_map(|(key, value)| ["--fact".to_owned(), format!("{key}={value}")]);
        Self::begin(Command::new(super::probe()), policy, attack, facts)
    }

    /// The same, with more said to the probe's process before it starts.
    pub(crate) fn start_by(
        shell: &str,
        policy: &str,
        attack: &str,
        environment: &[(&str, &str)],
    ) -> Self {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &format!("{shell}; exec \"$0\" \"$@\"")]).arg(super::probe());
        command.envs(environment.iter().copied());
        Self::begin(command, policy, attack, [])
    }

    fn begin(
        mut command: Command,
        policy: &str,
        attack: &str,
        facts: impl IntoIterator<Item = String>,
    ) -> Self {
        let directory = tempfile::tempdir().expect("a directory for the policy");
        let path = write_policy(directory.path(), &renamed(policy));
        command.arg("--policy").arg(path).args(["--attack", attack]).args(facts);
        Self::spawn(&mut command, directory)
    }

    /// Starts any daemon; `directory` is kept as long as it runs.
    pub(crate) fn spawn(command: &mut Command, directory: TempDir) -> Self {
        Self(Process::spawn(command.stdout(Stdio::null()), directory))
    }

    /// The supervisor's number.
    pub(crate) fn pid(&self) -> i32 {
        self.0.pid().as_raw_nonzero().get()
    }

    /// How many lines there are: what comes later comes after this mark.
    pub(crate) fn mark(&self) -> usize {
        self.0.said()
    }

    /// Everything said so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lines(0)
    }

    /// Waits for a line after `mark` from which `find` makes something.
    pub(crate) fn wait<T>(&self, mark: usize, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        let found = self.wait_for(PATIENCE, mark, find);
        found.unwrap_or_else(|| {
            panic!("waited in vain for {what}; the log:\n{}", self.lines().join("\n"))
        })
    }

    /// The same, for that long at most; `None` too if the daemon has ended without it.
    pub(crate) fn wait_for<T>(
        &self,
        time: Duration,
        mark: usize,
        find: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        self.0.find(mark, time, find).ok().map(|(found, _)| found)
    }

    /// Waits until `instance` is confined, and gives its process number.
    pub(crate) fn confined(&self, instance: &str) -> i32 {
        self.wait(0, &format!("{instance} is confined"), |line| pid_of(line, instance))
    }

    /// The same, but only looks at what is said after `mark`.
    pub(crate) fn confined_after(&self, mark: usize, instance: &str) -> i32 {
        self.wait(mark, &format!("{instance} is confined"), |line| pid_of(line, instance))
    }

    /// Starts the attacks of these instances, once every one of `all` is confined.
    pub(crate) fn go(&self, targets: &[String], all: &[String]) {
        for instance in all {
            let _ = self.confined(instance);
        }
        for instance in targets {
            let pid = self.confined(instance);
            let ready = format!("{instance}: READY");
            self.wait(0, &ready, |line| (line == ready).then_some(()));
            kill(Pid::from_raw(pid), Signal::SIGUSR1).expect("the attacker hears its signal");
        }
    }

    /// What became of the attack of `instance`.
    pub(crate) fn outcome(&self, instance: &str) -> Outcome {
        self.wait(0, &format!("what became of {instance}"), |line| outcome_in(line, instance))
    }

    /// The call that `instance` was killed for, if the kernel's log has told by now. It drops
    /// what comes too fast.
    pub(crate) fn named(&self, instance: &str) -> Option<String> {
        self.lines().iter().find_map(|line| named_in(line, instance))
    }

    /// Whether `instance` showed, after its attack, that what it may do still works.
    pub(crate) fn is_well(&self, instance: &str) -> bool {
        let well = format!("{instance}: ALIVE well");
        self.wait(0, &format!("{instance}: ALIVE"), |line| {
            line.starts_with(&format!("{instance}: ALIVE")).then(|| line == well)
        })
    }

    /// Waits for a sign of life of `instance` after `mark`, with all of `channels` answering.
    pub(crate) fn beats(&self, mark: usize, instance: &str, channels: &[&str]) {
        let start = format!("{instance}: BEAT");
        self.wait(mark, &format!("{start} {channels:?}"), |line| {
            let answering: Vec<_> = line.strip_prefix(&start)?.split_whitespace().collect();
            channels.iter().all(|channel| answering.contains(channel)).then_some(())
        });
    }

    /// Sends the supervisor a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("the supervisor is there");
    }

    /// Asks it to stop, waits, and gives how it ended and what it said.
    pub(crate) fn stop(mut self) -> (ExitStatus, Vec<String>) {
        self.signal(Signal::SIGTERM);
        let status = self.ended();
        (status, self.lines())
    }

    /// Waits for its end.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        self.0.wait()
    }

    /// Its open descriptors and its memory in KiB.
    pub(crate) fn weight(&self) -> (usize, usize) {
        let descriptors = count(Path::new(&format!("/proc/{}/fd", self.pid())));
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let memory = status.ok().and_then(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
            line.split_whitespace().next()?.parse().ok()
        });
        (descriptors, memory.unwrap_or(0))
    }

    /// The processor time that the supervisor has used so far.
    pub(crate) fn processor_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("it runs");
        let (_, fields) = stat.rsplit_once(") ").expect("a name in brackets");
        let ticks = fields.split(' ').skip(11).take(2).map(|n| n.parse::<u64>().expect("ticks"));
        // The kernel counts in hundredths of a second here (USER_HZ).
        Duration::from_millis(ticks.sum::<u64>() * 10)
    }

    /// Everything that runs under it, however deep.
    pub(crate) fn descendants(&self) -> Vec<i32> {
        let parents = parents();
        let is_below = |pid: i32| {
            let mut above = pid;
            while let Some(&parent) = parents.get(&above) {
                if parent == self.pid() {
                    return true;
                }
                above = parent;
            }
            false
        };
        parents.keys().copied().filter(|&pid| is_below(pid)).collect()
    }

    /// Its children, dead ones that nobody has reaped too.
    pub(crate) fn children(&self) -> usize {
        children_of(self.pid())
    }
}

/// The policy under a name that no other test's daemon has at this time: layers of daemons of one
/// name are the same users, so the kernel's log couldn't tell them apart.
fn renamed(policy: &str) -> String {
    static DAEMONS: AtomicU32 = AtomicU32::new(0);
    let number = DAEMONS.fetch_add(1, Ordering::Relaxed);
    let (before, rest) = policy.split_once("name = \"").expect("a name");
    let (name, after) = rest.split_once('"').expect("a name");
    format!("{before}name = \"{name}-{}-{number}\"{after}", std::process::id())
}

fn count(directory: &Path) -> usize {
    std::fs::read_dir(directory).map_or(0, Iterator::count)
}

/// Waits until none of these processes is left, not even dead and unburied.
pub(crate) fn wait_until_gone(pids: &[i32]) {
    let left = left_after(PATIENCE, pids);
    assert!(left.is_empty(), "still there: {left:?}");
}

/// Which of these processes are left after that long; returns as soon as none is.
pub(crate) fn left_after(time: Duration, pids: &[i32]) -> Vec<i32> {
    let until = Instant::now() + time;
    loop {
        let alive = parents();
        let left: Vec<i32> = pids.iter().copied().filter(|pid| alive.contains_key(pid)).collect();
        if left.is_empty() || Instant::now() > until {
            return left;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Processes whose parent this is.
fn children_of(parent: i32) -> usize {
    parents().values().filter(|&&other| other == parent).count()
}

/// Every process and its parent.
pub(crate) fn parents() -> BTreeMap<i32, i32> {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, rest) = stat.rsplit_once(") ")?;
        Some((pid, rest.split(' ').nth(1)?.parse().ok()?))
    })
    .collect()
}

/// `cofferdam: a/0.g1 is confined, pid 12: ...`
fn pid_of(line: &str, instance: &str) -> Option<i32> {
    let rest = line.strip_prefix("cofferdam: ")?.strip_prefix(instance)?;
    let digits = rest.strip_prefix(" is confined, pid ")?;
    digits.split(':').next()?.parse().ok()
}

fn outcome_in(line: &str, instance: &str) -> Option<Outcome> {
    if let Some(said) = line.strip_prefix(instance).and_then(|rest| rest.strip_prefix(": RESULT "))
    {
        let (_, result) = said.split_once(' ')?;
        return Some(match result.strip_prefix("worked: ") {
            Some(what) => Outcome::Worked(what.to_owned()),
            None => Outcome::Errno(result.to_owned()),
        });
    }
    let said = line.strip_prefix("cofferdam: ")?.strip_prefix(instance)?.strip_prefix(' ')?;
    if said.starts_with("was killed by SIGSYS") {
        return Some(Outcome::Filtered(None));
    }
    let is_end = said.starts_with("was killed") || said.starts_with("ended with");
    is_end.then(|| Outcome::Ended(said.to_owned()))
}

/// `cofferdam: a/0.g1 made the system call ptrace in a way ...`, or `ptrace(0, 1) and was ...`.
fn named_in(line: &str, instance: &str) -> Option<String> {
    let rest = line.strip_prefix("cofferdam: ")?.strip_prefix(instance)?;
    let call = rest.strip_prefix(" made the system call ")?;
    Some(call.split([' ', '(']).next()?.to_owned())
}

/// The signal that ended a process.
pub(crate) fn signal_of(status: ExitStatus) -> Option<i32> {
    status.signal()
}
