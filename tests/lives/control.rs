//! `cofferdam status`, `restart` and `stop`: what a running daemon answers, and who may ask.

use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::Test;
use crate::harness::{Daemon, PATIENCE, directory, eventually};
use crate::support::process::write_policy;

pub(crate) const TESTS: &[Test] = &[
    ("control::status_tells_of_every_layer", status),
    ("control::a_layer_is_restarted_in_order", restart),
    ("control::all_layers_are_restarted_one_after_the_other", restart_all),
    ("control::a_daemon_stops_when_told", stop),
    ("control::who_asks_is_in_the_audit_log", recorded),
    ("control::only_root_and_its_own_user_may_ask", strangers),
    ("control::hostile_callers_change_nothing", hostile),
    ("control::the_helper_may_die", helper_dies),
];

const POLICY: &str = r#"
cofferdam = 1
name = "NAME"

[layer.server]
exec = ["/bin/sh", "-c", "trap 'echo finishing; exit 0' TERM; echo ready; while :; do sleep 0.05; done"]
instances = 2
syscalls = ["@core", "@process", "@exec", "@signal"]
because = "a test"
restart = { on = "never" }
optional = ["cgroup"]

[layer.once]
exec = ["/bin/sh", "-c", "echo done"]
syscalls = ["@core", "@process", "@exec", "@signal"]
because = "a test"
restart = { on = "never" }
optional = ["cgroup"]
"#;

/// A daemon of a name that no other has, and where it is found.
struct Asked {
    daemon: Daemon,
    name: String,
    runtime: PathBuf,
}

impl Asked {
    fn start(flags: &[&str]) -> Self {
        let directory = directory();
        let name = format!("asked-{}-{}", std::process::id(), fastrand());
        let path = write_policy(directory.path(), &POLICY.replace("NAME", &name));
        let runtime = directory.path().to_owned();
        let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
        command.arg("run").args(flags).arg(path).env("XDG_RUNTIME_DIR", &runtime);
        let mut asked = Self { daemon: Daemon::run(command, directory), name, runtime };
        asked.daemon.line("server/0.g1: ready");
        asked.running(2);
        asked
    }

    fn ask(&self, verb: &str, more: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
        command.args([verb, &self.name]).args(more).env("XDG_RUNTIME_DIR", &self.runtime);
        command.output().unwrap()
    }

    fn status(&self) -> Value {
        let output = self.ask("status", &["--format", "json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
    }

    /// Waits until so many copies of the server run, and the other layer has finished.
    fn running(&self, copies: usize) {
        eventually("the layers to run", || {
            let status = self.status();
            let all = status["instances"].as_array().unwrap();
            let runs = |it: &&Value| it["layer"] == "server" && it["state"] == "running";
            let over = all.iter().any(|it| it["layer"] == "once" && it["finished"] == true);
            all.iter().filter(runs).count() == copies && over
        });
    }

    fn instance(&self, layer: &str, copy: u64) -> Value {
        let status = self.status();
        let all = status["instances"].as_array().unwrap();
        all.iter().find(|it| it["layer"] == layer && it["copy"] == copy).unwrap().clone()
    }

    fn door(&self) -> PathBuf {
        let root = rustix::process::geteuid().is_root();
        let base = if root { PathBuf::from("/run") } else { self.runtime.clone() };
        base.join(format!("cofferdam/daemons/{}.socket", self.name))
    }

    fn helper(&self) -> Option<Pid> {
        let pid = self.instance("cofferdam-control", 0)["pid"].as_u64()?;
        Pid::from_raw(i32::try_from(pid).ok()?)
    }
}

fn fastrand() -> u32 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos()
}

fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    String::from_utf8_lossy(out).into_owned() + &String::from_utf8_lossy(err)
}

fn status() {
    let asked = Asked::start(&[]);
    let status = asked.status();
    assert_eq!(status["name"], asked.name.as_str());
    assert_eq!(status["pid"], asked.daemon.pid().as_raw_nonzero().get());
    assert_eq!(status["stopping"], false);
    assert_eq!(status["policy"].as_str().unwrap().len(), 64);
    for copy in 0..2 {
        let server = asked.instance("server", copy);
        assert_eq!((&server["state"], &server["generation"]), (&"running".into(), &1.into()));
        assert_eq!((&server["restarts"], &server["own"]), (&0.into(), &false.into()));
        let pid = server["pid"].as_u64().unwrap();
        assert!(std::path::Path::new(&format!("/proc/{pid}")).exists());
        assert!(server["usage"]["memory"].as_u64().unwrap() > 0, "{server}");
        assert!(server["receipt"].as_str().unwrap().contains("protections in force"));
    }
    let once = asked.instance("once", 0);
    assert_eq!((&once["state"], &once["finished"]), (&"down".into(), &true.into()));
    assert!(once["last"].as_str().unwrap().contains("exit code 0"), "{once}");
    assert_eq!(asked.instance("cofferdam-log", 0)["own"], true);

    let output = asked.ask("status", &[]);
    let shown = text(&output);
    assert_eq!(output.status.code(), Some(0), "{shown}");
    for part in ["running for", "LAYER", "server/0", "server/1", "once/0", "finished"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let other = Command::new(env!("CARGO_BIN_EXE_cofferdam"))
        .args(["status", "no-such-daemon"])
        .env("XDG_RUNTIME_DIR", &asked.runtime)
        .output()
        .unwrap();
    assert_eq!(other.status.code(), Some(2), "{}", text(&other));
    assert!(text(&other).contains(&asked.name), "{}", text(&other));
}

fn restart() {
    let mut asked = Asked::start(&[]);
    let before = asked.instance("server", 1)["pid"].clone();
    let output = asked.ask("restart", &["server"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(text(&output), "server/0.g2 runs\nserver/1.g2 runs\n");
    // It was asked, not killed: the program had its say.
    asked.daemon.line("server/0.g1: finishing");
    asked.running(2);
    let server = asked.instance("server", 1);
    assert_eq!((&server["generation"], &server["restarts"]), (&2.into(), &1.into()));
    assert_ne!(server["pid"], before);
    assert_eq!(asked.instance("once", 0)["generation"], 1);
    // One that has finished begins again, whatever the policy says of restarts.
    let output = asked.ask("restart", &["once"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    asked.daemon.line("once/0.g2: done");
    let output = asked.ask("restart", &["nobody"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("once, server"), "{}", text(&output));
    assert_eq!(asked.daemon.stop(), Some(0));
}

fn restart_all() {
    let asked = Asked::start(&[]);
    let output = asked.ask("restart", &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    // One that has little to do may be seen while it does that.
    let said = text(&output).replace("once/0.g2 runs", "once/0.g2 has finished");
    assert_eq!(said, "once/0.g2 has finished\nserver/0.g2 runs\nserver/1.g2 runs\n");
    asked.running(2);
    // Those of the framework's own aren't among them, and may be named.
    assert_eq!(asked.instance("cofferdam-log", 0)["generation"], 1);
    let output = asked.ask("restart", &["cofferdam-log"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(asked.instance("cofferdam-log", 0)["generation"], 2);
}

fn stop() {
    let mut asked = Asked::start(&[]);
    let door = asked.door();
    let kind = std::fs::symlink_metadata(&door).unwrap();
    assert!(kind.file_type().is_socket());
    let output = asked.ask("stop", &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    // It had ended before the verb did.
    assert!(!door.exists() && !door.with_extension("json").exists());
    assert_eq!(asked.daemon.end(), Some(0), "{}", asked.daemon);
    assert_eq!(asked.daemon.count("server/0.g1: finishing"), 1, "{}", asked.daemon);
    assert_eq!(asked.daemon.count("stopping: uid"), 1, "{}", asked.daemon);
    let output = asked.ask("stop", &[]);
    assert!(matches!(output.status.code(), Some(1 | 2)), "{}", text(&output));
}

fn recorded() {
    let log = directory();
    let log = log.path().join("log");
    let mut asked = Asked::start(&["--audit", log.to_str().unwrap()]);
    asked.ask("restart", &["once"]);
    asked.ask("stop", &[]);
    assert_eq!(asked.daemon.end(), Some(0), "{}", asked.daemon);
    let query = Command::new(env!("CARGO_BIN_EXE_cofferdam"))
        .args(["audit", "query", "--kind", "command"])
        .arg(&log)
        .output()
        .unwrap();
    let said = text(&query);
    let uid = rustix::process::getuid().as_raw();
    assert!(said.contains(&format!("once/0.g1 allowed restart: uid {uid}, pid ")), "{said}");
    assert!(said.contains(&format!("stop: uid {uid}, pid ")), "{said}");
    let verify = Command::new(env!("CARGO_BIN_EXE_cofferdam"))
        .args(["audit", "verify"])
        .arg(&log)
        .output()
        .unwrap();
    assert_eq!(verify.status.code(), Some(0), "{}", text(&verify));
}

fn strangers() {
    let asked = Asked::start(&[]);
    let door = asked.door();
    assert_eq!(std::fs::symlink_metadata(&door).unwrap().mode() & 0o777, 0o600);
    if !rustix::process::geteuid().is_root() {
        eprintln!("not tried: an ordinary user can't become another");
        return;
    }
    let shell = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])";
    let stranger = || {
        let mut command = Command::new("python3");
        command.args(["-c", shell]).arg(&door).uid(54_321).gid(54_321);
        text(&command.output().unwrap())
    };
    assert!(stranger().contains("Permission denied"), "{}", stranger());
    // Where somebody has opened the way to it, the kernel's word about who comes still holds.
    std::fs::set_permissions(&door, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let ask = r#"
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
try:
    s.sendall(b'{"ask":"stop"}\n')
    print(s.recv(100))
except OSError as error:
    print(error)
"#;
    let mut command = Command::new("python3");
    let output = command.args(["-c", ask]).arg(&door).uid(54_321).gid(54_321).output().unwrap();
    assert!(!text(&output).contains("done"), "{}", text(&output));
    assert_eq!(asked.status()["stopping"], false);
}

fn hostile() {
    let asked = Asked::start(&[]);
    let connect = || UnixStream::connect(asked.door()).unwrap();
    let held =
        || std::fs::read_dir(format!("/proc/{}/fd", asked.daemon.pid())).map(Iterator::count);
    asked.status();
    let before = held().ok();
    // Garbage, too much of it, nothing, half a word, and half a request.
    let long = vec![b'x'; 1 << 16];
    for bytes in [&b"\0\xff\n"[..], &long, b"", b"{\"ask\"", b"{\"ask\":\"reboot\"}\n", b"[]\n"] {
        let mut line = connect();
        line.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = line.write_all(bytes);
        let _ = line.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = line.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("{\"wrong\""), "{answer}");
    }
    // A crowd of whom nobody says anything: those who come later are heard all the same.
    let crowd: Vec<UnixStream> = (0..8).map(|_| connect()).collect();
    assert_eq!(asked.status()["stopping"], false);
    drop(crowd);
    for _ in 0..1000 {
        let mut line = connect();
        let _ = line.write_all(b"{\"ask\":\"status\"}\n");
    }
    // One who asks for a restart and goes away in the middle.
    let mut line = connect();
    line.write_all(b"{\"ask\":\"restart\",\"layer\":\"server\"}\n").unwrap();
    drop(line);
    asked.running(2);
    eventually("nothing to be left of them", || {
        std::thread::sleep(Duration::from_millis(50));
        // The one who asks has come and gone by then.
        held().ok() <= before.map(|before| before + 2)
    });
}

fn helper_dies() {
    let asked = Asked::start(&[]);
    for _ in 0..3 {
        let helper = asked.helper().expect("it answers just now");
        kill_process(helper, Signal::KILL).unwrap();
        asked.running(2);
    }
    let output = asked.ask("restart", &["server"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
}
