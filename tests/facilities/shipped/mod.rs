//! The policies that are shipped for programs which people run: Debian's own program under
//! `cofferdam run`, real work by the real client, an end in order, and what is kept. Then what
//! somebody would try who has taken it over: by the program's own means, and, for any program, by
//! another one in its place.

pub(crate) mod apps;
pub(crate) mod memory;
pub(crate) mod pages;
pub(crate) mod postgresql;
pub(crate) mod script;
pub(crate) mod stolen;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::foreign_servers::has;
use crate::harness::{Daemon, directory};
use crate::support::process::write_policy;
use crate::support::suite::ignore;

/// A shipped policy, with variables set. `DIR` in a variable is the directory of the test.
#[derive(Clone)]
pub(crate) struct Shipped {
    text: String,
    vars: Vec<(&'static str, String)>,
}

impl Shipped {
    pub(crate) fn new(name: &str) -> Self {
        Self { text: shipped(&format!("{name}.toml")), vars: Vec::new() }
    }

    /// Sets a variable, as an administrator would.
    pub(crate) fn var(mut self, name: &'static str, value: impl ToString) -> Self {
        self.vars.push((name, value.to_string()));
        self
    }

    /// Changes the policy, where it says exactly this.
    pub(crate) fn replace(mut self, from: &str, to: &str) -> Self {
        assert_eq!(self.text.matches(from).count(), 1, "{from}");
        self.text = self.text.replace(from, to);
        self
    }

    /// The same policy with another program.
    pub(crate) fn exec(mut self, exec: &str) -> Self {
        let at = self.text.find("\nexec ").unwrap() + 1;
        let end = at + self.text[at..].find("]\n").unwrap() + 1;
        self.text.replace_range(at..end, &format!("exec = {exec}"));
        self
    }

    /// `cofferdam run POLICY --var ...`, after `prepare` has put something into the directory.
    pub(crate) fn start(&self, prepare: impl FnOnce(&Path)) -> Daemon {
        let directory = directory();
        std::fs::write(directory.path().join("secret"), "the secret").unwrap();
        prepare(directory.path());
        self.start_in(directory)
    }

    /// The same where another daemon has been.
    pub(crate) fn start_in(&self, directory: TempDir) -> Daemon {
        let here = directory.path().to_str().unwrap();
        let path = write_policy(directory.path(), &self.text.replace("DIR", here));
        let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
        command.arg("run").arg(path);
        for (name, value) in &self.vars {
            command.arg("--var").arg(format!("{name}={}", value.replace("DIR", here)));
        }
        Daemon::run(command, directory)
    }
}

/// The text of a file that is shipped.
pub(crate) fn shipped(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/foreign");
    std::fs::read_to_string(folder.join(name)).unwrap()
}

/// A program that a test can't do without. Where the gate runs it must be there.
pub(crate) fn needs(path: &str) {
    if !has(path) {
        ignore(format!("there is no {path}"));
    }
}

/// What a client says, which must succeed.
pub(crate) fn output(command: &mut Command) -> String {
    let (done, said) = outcome(command);
    assert!(done, "{command:?}: {said}");
    said
}

/// Whether a client succeeds, and what it says either way.
pub(crate) fn outcome(command: &mut Command) -> (bool, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let said = [stdout, stderr].concat();
    (status.success(), String::from_utf8_lossy(&said).trim().to_owned())
}

/// What a web server answers to `curl URL`.
pub(crate) fn fetch(url: &str) -> (bool, String) {
    needs("/usr/bin/curl");
    outcome(Command::new("curl").args(["-sS", "--path-as-is", "--max-time", "30", url]))
}

/// Apache's bench: so many requests, ten at once, each answered.
pub(crate) fn bench(url: &str, requests: u32) {
    needs("/usr/bin/ab");
    let requests = requests.to_string();
    let said = output(Command::new("ab").args(["-q", "-l", "-n", &requests, "-c", "10", url]));
    let count = |what: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(what));
        line.unwrap_or_else(|| panic!("{what}: {said}")).trim().to_owned()
    };
    assert_eq!(count("Complete requests:"), requests, "{said}");
    assert_eq!(count("Failed requests:"), "0", "{said}");
    assert!(!said.contains("Non-2xx"), "{said}");
}

/// A service of this machine that no policy declares.
pub(crate) struct Elsewhere(TcpListener);

impl Elsewhere {
    pub(crate) fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// Nobody has come, though anybody could.
    pub(crate) fn is_untouched(&self) {
        let came = self.0.accept().map(|(_, from)| from);
        assert!(came.is_err(), "{came:?} has come");
        let _control = TcpStream::connect(self.address()).unwrap();
        crate::harness::eventually("the control comes", || self.0.accept().is_ok());
    }
}
