//! Starting a daemon, reading its log as it comes, ending it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// No step takes so long unless something hangs.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A running daemon; dropping it kills it.
pub(crate) struct Daemon {
    child: Child,
    lines: Receiver<String>,
    /// Every line so far.
    pub(crate) seen: Vec<String>,
    directory: TempDir,
}

impl Daemon {
    /// This program as the daemon `functions` with a policy. `DIR` in the policy is the
    /// directory of the test.
    pub(crate) fn start(functions: &str, policy: &str) -> Self {
        Self::start_with(functions, policy, |_| {})
    }

    /// The same, after `prepare` has put something into the directory.
    pub(crate) fn start_with(
        functions: &str,
        policy: &str,
        prepare: impl FnOnce(&std::path::Path),
    ) -> Self {
        let directory = directory();
        prepare(directory.path());
        let path = write_policy(&directory, policy);
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--daemon", functions]).arg(path);
        Self::run(command, directory)
    }

    /// A daemon that has ended, once more in the same directory, with another policy.
    pub(crate) fn again(&mut self, functions: &str, policy: &str) -> Self {
        let empty = tempfile::tempdir().unwrap();
        let directory = std::mem::replace(&mut self.directory, empty);
        let path = write_policy(&directory, policy);
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--daemon", functions]).arg(path);
        Self::run(command, directory)
    }

    /// `cofferdam run` with a policy.
    pub(crate) fn command_line(policy: &str) -> Self {
        Self::command_line_with(policy, &[])
    }

    /// The same, with flags.
    pub(crate) fn command_line_with(policy: &str, flags: &[&str]) -> Self {
        let directory = directory();
        let path = write_policy(&directory, policy);
        let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
        command.arg("run").args(flags).arg(path);
        Self::run(command, directory)
    }

    pub(crate) fn run(mut command: Command, directory: TempDir) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines, seen: Vec::new(), directory }
    }

    /// The directory of the test, which is there as long as this.
    #[allow(dead_code, reason = "each test program uses a part")]
    pub(crate) fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Waits for a line that holds `text`, among those after the last one waited for.
    pub(crate) fn line(&mut self, text: &str) -> String {
        self.line_in(text, PATIENCE)
    }

    /// The same, with another patience.
    pub(crate) fn line_in(&mut self, text: &str, patience: Duration) -> String {
        let end = Instant::now() + patience;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("no line {text:?} in time: {self}"),
                Err(RecvTimeoutError::Disconnected) => panic!("ended without {text:?}: {self}"),
            }
        }
    }

    /// Waits until `instance` is confined, and gives its process. An `exec` layer's program may
    /// print before the supervisor has said so: then wait for the program's line first.
    pub(crate) fn confined(&mut self, instance: &str) -> Pid {
        let text = format!("{instance} is confined, pid ");
        let seen = self.seen.iter().find(|line| line.contains(&text)).cloned();
        let line = seen.unwrap_or_else(|| self.line(&text));
        let pid = line.split("pid ").nth(1).unwrap().split(':').next().unwrap();
        Pid::from_raw(pid.parse().unwrap()).unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits for its end, and gives its exit code.
    pub(crate) fn end(&mut self) -> Option<i32> {
        let status = self.wait();
        self.seen.extend(self.lines.iter());
        status.code()
    }

    fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "it doesn't end: {self}");
            // What nobody reads would hold it up.
            self.seen.extend(self.lines.recv_timeout(Duration::from_millis(10)));
        }
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

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a process is there, a zombie aside.
pub(crate) fn is_alive(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().starts_with(" Z"))
}

/// Waits for something that has no line of its own.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn directory() -> TempDir {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(directory.path(), open).unwrap();
    directory
}

fn write_policy(directory: &TempDir, policy: &str) -> std::path::PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = directory.path().join("policy.toml");
    let text = policy.replace("DIR", directory.path().to_str().unwrap());
    std::fs::write(&path, format!("cofferdam = 1\nname = \"test\"\n{text}")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    path
}
