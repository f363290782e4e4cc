//! A daemon of this very program, or of the command line, whose log is read line by line.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use super::process::{Absent, Process, write_policy};
#[allow(unused_imports, reason = "each test program uses a part")]
pub(crate) use super::process::{PATIENCE, directory, eventually, is_alive};

/// A running daemon; dropping it kills it.
pub(crate) struct Daemon {
    process: Process,
    /// Every line up to the last one waited for.
    pub(crate) seen: Vec<String>,
}

impl Daemon {
    /// This program as the daemon `functions` with a policy. `DIR` in the policy is the
    /// directory of the test.
    pub(crate) fn start(functions: &str, policy: &str) -> Self {
        Self::start_with(functions, policy, |_| {})
    }

    /// The same, after `prepare` has put something into the directory.
    pub(crate) fn start_with(functions: &str, policy: &str, prepare: impl FnOnce(&Path)) -> Self {
        Self::start_by(functions, policy, prepare, |_| {})
    }

    /// The same, after `more` has changed how its process is started.
    pub(crate) fn start_by(
        functions: &str,
        policy: &str,
        prepare: impl FnOnce(&Path),
        more: impl FnOnce(&mut Command),
    ) -> Self {
        let directory = directory();
        prepare(directory.path());
        let path = write_policy(directory.path(), &whole(policy, directory.path()));
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--daemon", functions]).arg(path);
        more(&mut command);
        Self::run(command, directory)
    }

    /// A daemon that has ended, once more in the same directory, with another policy.
    pub(crate) fn again(&mut self, functions: &str, policy: &str) -> Self {
        let directory = self.take_directory();
        let path = write_policy(directory.path(), &whole(policy, directory.path()));
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--daemon", functions]).arg(path);
        Self::run(command, directory)
    }

    /// Hands the directory of a daemon that has ended over to the next one.
    pub(crate) fn take_directory(&mut self) -> TempDir {
        self.process.take_directory()
    }

    /// `cofferdam run` with a policy.
    pub(crate) fn command_line(policy: &str) -> Self {
        Self::command_line_with(policy, &[])
    }

    /// The same, with flags.
    pub(crate) fn command_line_with(policy: &str, flags: &[&str]) -> Self {
        Self::command_line_prepared(policy, flags, |_| {})
    }

    /// The same, after `prepare` has put something into the directory.
    pub(crate) fn command_line_prepared(
        policy: &str,
        flags: &[&str],
        prepare: impl FnOnce(&Path),
    ) -> Self {
        let directory = directory();
        prepare(directory.path());
        let path = write_policy(directory.path(), &whole(policy, directory.path()));
        let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
        command.arg("run").args(flags).arg(path);
        Self::run(command, directory)
    }

    pub(crate) fn run(mut command: Command, directory: TempDir) -> Self {
        command.stdout(Stdio::null());
        Self { process: Process::spawn(&mut command, directory), seen: Vec::new() }
    }

    /// The directory of the test, which is there as long as this.
    pub(crate) fn directory(&self) -> &Path {
        self.process.directory()
    }

    pub(crate) fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// Waits for a line that holds `text`, among those after the last one waited for.
    pub(crate) fn line(&mut self, text: &str) -> String {
        self.line_in(text, PATIENCE)
    }

    /// The same, with another patience.
    pub(crate) fn line_in(&mut self, text: &str, patience: Duration) -> String {
        let from = self.seen.len();
        let found = self.process.find(from, patience, |line| line.contains(text).then_some(()));
        let until = found.map_or(usize::MAX, |((), next)| next);
        let new = self.process.lines(from).into_iter().take(until.saturating_sub(from));
        self.seen.extend(new);
        match found {
            Ok(_) => self.seen[until - 1].clone(),
            Err(Absent::Late) => panic!("no line {text:?} in time: {self}"),
            Err(Absent::Ended) => panic!("ended without {text:?}: {self}"),
        }
    }

    /// The same, or `None` if there is none before `patience` is over.
    pub(crate) fn line_within(&mut self, text: &str, patience: Duration) -> Option<String> {
        let from = self.seen.len();
        let found = self.process.find(from, patience, |line| line.contains(text).then_some(()));
        let ((), until) = match found {
            Ok(found) => found,
            Err(Absent::Late) => return None,
            Err(Absent::Ended) => panic!("ended without {text:?}: {}", self.process.text()),
        };
        self.seen.extend(self.process.lines(from).into_iter().take(until - from));
        self.seen.last().cloned()
    }

    /// Waits until `instance` is confined, and gives its process. An `exec` layer's program may
    /// print before the supervisor has said so: then wait for the program's line first.
    pub(crate) fn confined(&mut self, instance: &str) -> Pid {
        // Another name may end like this one.
        let text = format!(": {instance} is confined, pid ");
        let seen = self.seen.iter().find(|line| line.contains(&text)).cloned();
        let line = seen.unwrap_or_else(|| self.line(&text));
        let pid = line.split("pid ").nth(1).unwrap().split(':').next().unwrap();
        Pid::from_raw(pid.parse().unwrap()).unwrap()
    }

    /// Whether some line holds that, waited for or not.
    pub(crate) fn seen(&self, text: &str) -> bool {
        self.lines().iter().any(|line| line.contains(text))
    }

    /// All lines so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.process.lines(0)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits for its end, and gives its exit code.
    pub(crate) fn end(&mut self) -> Option<i32> {
        let status = self.process.wait();
        self.seen.extend(self.process.lines(self.seen.len()));
        status.code()
    }

    /// Asks it to stop and waits for its end.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.end()
    }

    /// How many lines so far hold `text`.
    pub(crate) fn count(&self, text: &str) -> usize {
        self.seen.iter().filter(|line| line.contains(text)).count()
    }
}

impl std::fmt::Display for Daemon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\n{}", self.seen.join("\n"))
    }
}

/// The policy with the lines that every policy begins with, and the directory in place of `DIR`.
fn whole(policy: &str, directory: &Path) -> String {
    let policy = policy.replace("DIR", directory.to_str().unwrap());
    format!("cofferdam = 1\nname = \"test\"\n{policy}")
}
