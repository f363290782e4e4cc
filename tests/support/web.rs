//! Starting the example `web` and asking it things with curl.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal};

use super::process::Process;
#[allow(unused_imports, reason = "each test program uses a part")]
pub(crate) use super::process::{PATIENCE, directory as open_directory, eventually};

/// A running `web`; dropping it kills it.
pub(crate) struct Web {
    process: Process,
    pub(crate) address: SocketAddr,
    pub(crate) site: PathBuf,
    pub(crate) certificate: Option<PathBuf>,
}

/// What curl got.
pub(crate) struct Answer {
    pub(crate) status: String,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Web {
    /// The demo, on a free port.
    pub(crate) fn demo() -> Self {
        Self::start(&[])
    }

    /// With these arguments besides `--listen`.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let directory = open_directory();
        let mut command = command(directory.path(), arguments);
        let mut process = Process::spawn(command.stdout(Stdio::piped()), directory);
        let mut lines = BufReader::new(process.stdout().unwrap()).lines().map_while(Result::ok);
        let mut line = |prefix: &str| {
            let line = lines.find_map(|line| line.strip_prefix(prefix).map(str::to_owned));
            line.unwrap_or_else(|| panic!("no line {prefix:?}: {}", process.text()))
        };
        let address = line("listening on https://").trim_end_matches('/').parse().unwrap();
        let site = line("serving ").trim().into();
        let words = line("try ");
        let certificate = words.split(' ').skip_while(|word| *word != "--cacert").nth(1);
        let certificate = certificate.map(PathBuf::from);
        // Nobody reads on, and nobody may be stopped by that.
        std::thread::spawn(move || lines.count());

        let mut web = Self { process, address, site, certificate };
        eventually("it listens", || {
            assert_eq!(web.process.has_ended(), None, "{}", web.log());
            TcpStream::connect(address).is_ok()
        });
        web
    }

    /// The supervisor's process.
    pub(crate) fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// The processes of its layers, by their titles: `parser/0.g1`.
    pub(crate) fn layers(&self) -> BTreeMap<String, Pid> {
        let supervisor = self.pid().as_raw_nonzero().to_string();
        let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let path = entry.ok()?.path();
            let pid = Pid::from_raw(path.file_name()?.to_str()?.parse().ok()?)?;
            // After the command, which may hold anything but ends at the last parenthesis, come
            // the state and the parent (proc_pid_stat(5)).
            let stat = fs::read_to_string(path.join("stat")).ok()?;
            let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?;
            let title = fs::read(path.join("cmdline")).ok()?;
            let title = title.split(|byte| *byte == 0).next()?;
            let title = String::from_utf8_lossy(title.strip_prefix(b"cofferdam-layer:")?);
            (parent == supervisor).then(|| (title.into_owned(), pid))
        });
        processes.collect()
    }

    /// The process of one copy, in whatever life: `parser/0`.
    pub(crate) fn layer(&self, copy: &str) -> Option<(String, Pid)> {
        let is_it = |title: &str| title.rsplit_once(".g").is_some_and(|(name, _)| name == copy);
        self.layers().into_iter().find(|(title, _)| is_it(title))
    }

    /// What it has said on standard error.
    pub(crate) fn log(&self) -> String {
        self.process.text()
    }

    /// A path for a test's own file.
    pub(crate) fn scratch(&self, name: &str) -> PathBuf {
        self.process.directory().join(name)
    }

    /// Puts a file into the document root.
    pub(crate) fn put(&self, name: &str, bytes: &[u8]) {
        let path = self.site.join(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    }

    /// A curl command for `path` that checks the certificate.
    pub(crate) fn curl(&self, path: &str) -> Command {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--path-as-is", "--max-time", "60"]);
        if let Some(certificate) = &self.certificate {
            curl.arg("--cacert").arg(certificate);
        }
        curl.arg(format!("https://localhost:{}{path}", self.address.port()));
        curl
    }

    /// Asks for `path` and takes the answer apart.
    pub(crate) fn get(&self, path: &str, arguments: &[&str]) -> Answer {
        let output = self.curl(path).arg("--include").args(arguments).output().unwrap();
        let failed = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{path}: {failed}\n{}", self.log());
        let end = output.stdout.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(output.stdout[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().to_owned();
        Answer { status, head, body: output.stdout[end + 4..].to_vec() }
    }

    /// Asks for an upgrade, to the same program, and waits until no life of before is left.
    pub(crate) fn upgrade(&self) {
        let done = || self.log().lines().filter(|line| *line == "cofferdam: upgraded").count();
        let before = done();
        self.process.signal(Signal::USR2);
        eventually("it is upgraded", || {
            assert!(!self.log().contains("nothing is upgraded"), "{}", self.log());
            done() > before
        });
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        self.process.signal(Signal::TERM);
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.process.wait()
    }
}

impl Answer {
    /// The value of a header, or nothing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap_or("")
    }
}

/// Runs `web` to its end, for arguments with which it doesn't start.
pub(crate) fn run(arguments: &[&str]) -> (ExitStatus, String) {
    let directory = open_directory();
    let mut command = command(directory.path(), arguments);
    let mut process = Process::spawn(command.stdout(Stdio::null()), directory);
    (process.wait(), process.text())
}

/// Bytes without a pattern that a misplaced chunk could hide in.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn command(directory: &Path, arguments: &[&str]) -> Command {
    let program = std::env::current_exe().unwrap();
    let program = program.parent().unwrap().with_file_name("examples").join("web");
    assert!(
        program.exists(),
        "{} is missing: build it with `cargo build --example web`",
        program.display()
    );
    let mut command = Command::new(program);
    if !arguments.contains(&"--listen") {
        command.args(["--listen", "127.0.0.1:0"]);
    }
    command.args(arguments).env("TMPDIR", directory);
    command
}
