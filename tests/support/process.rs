//! A daemon's supervisor as a child of the test: its log as it comes, and its end.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// No step takes so long unless something hangs.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A running daemon; dropping it kills it, and all its layers with it.
pub(crate) struct Process {
    child: Child,
    log: Arc<Log>,
    directory: TempDir,
}

#[derive(Default)]
struct Log {
    /// Every line so far, and whether there will be more.
    lines: Mutex<(Vec<String>, bool)>,
    more: Condvar,
}

/// Why a line did not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Absent {
    /// Not in time.
    Late,
    /// The log has ended without it.
    Ended,
}

impl Process {
    /// Starts it; `directory` is kept as long as it runs.
    pub(crate) fn spawn(command: &mut Command, directory: TempDir) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let log = Arc::<Log>::default();
        let (stderr, sink) = (child.stderr.take().unwrap(), Arc::clone(&log));
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                // Floods aren't kept.
                if line.ends_with(b"ffffffff") {
                    continue;
                }
                let line = String::from_utf8_lossy(&line).into_owned();
                sink.lines.lock().unwrap().0.push(line);
                sink.more.notify_all();
            }
            sink.lines.lock().unwrap().1 = true;
            sink.more.notify_all();
        });
        Self { child, log, directory }
    }

    /// The supervisor's process.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Hands the directory over to who goes on in it, and takes an empty one instead.
    pub(crate) fn take_directory(&mut self) -> TempDir {
        std::mem::replace(&mut self.directory, directory())
    }

    /// The directory of the test, which is there as long as this.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Its standard output, if the command had a pipe made for it.
    pub(crate) fn stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// How many lines it has said so far.
    pub(crate) fn said(&self) -> usize {
        self.log.lines.lock().unwrap().0.len()
    }

    /// Its lines so far, from that one on.
    pub(crate) fn lines(&self, from: usize) -> Vec<String> {
        self.log.lines.lock().unwrap().0[from..].to_vec()
    }

    /// Everything that it has said so far, to be shown when a test fails.
    pub(crate) fn text(&self) -> String {
        self.lines(0).join("\n")
    }

    /// Waits for a line from which `find` makes something, the line `from` or a later one, and gives
    /// the number of the next.
    pub(crate) fn find<T>(
        &self,
        from: usize,
        patience: Duration,
        mut find: impl FnMut(&str) -> Option<T>,
    ) -> Result<(T, usize), Absent> {
        let until = Instant::now() + patience;
        let mut lines = self.log.lines.lock().unwrap();
        let mut next = from;
        loop {
            while next < lines.0.len() {
                next += 1;
                if let Some(found) = find(&lines.0[next - 1]) {
                    return Ok((found, next));
                }
            }
            let left = until.saturating_duration_since(Instant::now());
            if lines.1 || left.is_zero() {
                return Err(if lines.1 { Absent::Ended } else { Absent::Late });
            }
            lines = self.log.more.wait_timeout(lines, left).unwrap().0;
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for its end, and then for its log's.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.has_ended() {
                break status;
            }
            assert!(Instant::now() < until, "it doesn't end:\n{}", self.text());
            std::thread::sleep(Duration::from_millis(5));
        };
        // A layer that outlives it would keep the log open; that is for the test to find.
        let _ = self.find(self.said(), PATIENCE, |_| None::<()>);
        status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for something that has no line of its own.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a process is there, a zombie aside.
pub(crate) fn is_alive(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().starts_with(" Z"))
}

/// A directory that other users may go through, as a layer is one.
pub(crate) fn directory() -> TempDir {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(directory.path(), open).unwrap();
    directory
}

/// Writes a policy that everybody may read.
pub(crate) fn write_policy(directory: &Path, text: &str) -> std::path::PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = directory.join("policy.toml");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    path
}
