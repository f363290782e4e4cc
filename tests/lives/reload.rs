//! `cofferdam reload` and SIGHUP: what a new policy changes, and what it leaves alone.

use std::io::{ErrorKind, Read};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output};

use rustix::process::{Signal, kill_process};
use serde_json::Value;

use crate::Test;
use crate::harness::{Daemon, directory, eventually};
use crate::support::process::write_policy;

pub(crate) const TESTS: &[Test] = &[
    ("reload::what_does_not_change_goes_on", goes_on),
    ("reload::a_policy_that_cannot_hold_changes_nothing", refused),
    ("reload::a_gain_is_refused_where_none_is_wanted", no_gain),
    ("reload::a_policy_forbids_later_ones_to_gain", forbidden),
    ("reload::a_grant_that_is_gone_is_gone", taken),
    ("reload::signals_one_after_the_other_are_all_obeyed", signals),
    ("reload::a_listening_socket_stays", listener),
    ("reload::copies_come_and_go", copies),
    ("reload::the_log_has_both_policies", logged),
    ("reload::a_daemon_that_stops_reloads_nothing", stopping),
    ("reload::killed_layers_hold_up_no_reload", killed),
    ("reload::one_of_many_changes", many),
    ("reload::as_many_descriptors_as_at_the_start_are_enough", descriptors),
    ("reload::calls_go_on_where_their_channel_stays", calls),
];

/// A daemon of a name that no other has, and its policy.
struct Reloaded {
    daemon: Daemon,
    name: String,
    policy: PathBuf,
    runtime: PathBuf,
}

/// A layer that says `word` and waits, with what `more` says of it.
pub(crate) fn layer(name: &str, word: &str, more: &str) -> String {
    format!(
        "[layer.{name}]\n\
         exec = [\"/bin/sh\", \"-c\", \"trap 'echo ends; exit 0' TERM; echo {word}; \
         while :; do sleep 0.05; done\"]\n\
         syscalls = [\"@core\", \"@process\", \"@exec\", \"@signal\"]\n\
         because = \"a test\"\noptional = [\"cgroup\"]\n{more}\n"
    )
}

impl Reloaded {
    fn start(layers: &[String], flags: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
        command.arg("run").args(flags);
        Self::start_by(layers, command)
    }

    /// The same by a command that lacks only the policy.
    fn start_by(layers: &[String], mut command: Command) -> Self {
        let directory = directory();
        let nanos = std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos();
        let name = format!("reloaded-{}-{nanos}", std::process::id());
        let policy = write_policy(directory.path(), &text(&name, layers));
        let runtime = directory.path().to_owned();
        command.arg(&policy).env("XDG_RUNTIME_DIR", &runtime);
        let daemon = Daemon::run(command, directory);
        let reloaded = Self { daemon, name, policy, runtime };
        eventually("the layers to run", || {
            reloaded.all_run(layers.iter().filter(|it| it.starts_with("[layer.")).count())
        });
        reloaded
    }

    fn write(&self, layers: &[String]) {
        std::fs::write(&self.policy, text(&self.name, layers)).unwrap();
    }

    fn ask(&self, verb: &str, more: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
        command.args([verb, &self.name]).args(more).env("XDG_RUNTIME_DIR", &self.runtime);
        command.output().unwrap()
    }

    /// Reloads, and gives what was said.
    fn reload(&self, layers: &[String]) -> String {
        self.write(layers);
        let output = self.ask("reload", &[]);
        assert_eq!(output.status.code(), Some(0), "{}{}", said(&output), self.daemon);
        said(&output)
    }

    fn status(&self) -> Value {
        let output = self.ask("status", &["--format", "json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
    }

    /// The instances of the policy's layers: `a/0.g1`, and the process.
    fn lives(&self) -> Vec<(String, u64)> {
        lives(&self.status())
    }

    fn names(&self) -> Vec<String> {
        self.lives().into_iter().map(|it| it.0).collect()
    }

    fn all_run(&self, least: usize) -> bool {
        all_run(&self.ask("status", &["--format", "json"]), least)
    }
}

/// The instances of the policy's layers in what `status` says: `a/0.g1`, and the process.
pub(crate) fn lives(status: &Value) -> Vec<(String, u64)> {
    let all = status["instances"].as_array().unwrap().iter().filter(|it| it["own"] == false);
    let mut lives: Vec<_> = all
        .map(|it| {
            let layer = it["layer"].as_str().unwrap();
            let life = format!("{layer}/{}.g{}", it["copy"], it["generation"]);
            (life, it["pid"].as_u64().unwrap_or(0))
        })
        .collect();
    lives.sort();
    lives
}

/// Whether so many of them run, and none doesn't.
pub(crate) fn all_run(status: &Output, least: usize) -> bool {
    let Ok(status) = serde_json::from_slice::<Value>(&status.stdout) else { return false };
    let Some(all) = status["instances"].as_array() else { return false };
    let stated: Vec<_> = all.iter().filter(|it| it["own"] == false).collect();
    stated.len() >= least && stated.iter().all(|it| it["state"] == "running")
}

fn text(name: &str, layers: &[String]) -> String {
    format!("cofferdam = 1\nname = \"{name}\"\n{}", layers.concat())
}

pub(crate) fn said(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    String::from_utf8_lossy(out).into_owned() + &String::from_utf8_lossy(err)
}

fn goes_on() {
    let [a, b, c] = ["a", "b", "c"].map(|name| layer(name, "here", ""));
    let mut daemon = Reloaded::start(&[a.clone(), b, c], &[]);
    let before = daemon.lives();
    let policy = daemon.status()["policy"].clone();
    let told = daemon.reload(&[a, layer("b", "again", ""), layer("d", "come", "")]);
    assert!(told.contains("+ d: a new layer") && told.contains("- c: no layer any more"), "{told}");
    // Which comes first is not said.
    daemon.daemon.line("cofferdam: reloaded");
    let after = daemon.lives();
    let names: Vec<_> = after.iter().map(|it| it.0.as_str()).collect();
    assert_eq!(names, ["a/0.g1", "b/0.g2", "d/0.g1"]);
    assert_eq!(after[0], before[0]);
    assert_ne!(daemon.status()["policy"], policy);
    // One that comes back is no new one.
    let told = daemon.reload(&["a", "b", "c"].map(|name| layer(name, "here", "")));
    assert!(told.contains("- d: no layer any more"), "{told}");
    assert_eq!(daemon.names(), ["a/0.g1", "b/0.g3", "c/0.g2"]);
    assert_eq!(daemon.lives()[0], before[0]);
    let told = daemon.reload(&["a", "b", "c"].map(|name| layer(name, "here", "")));
    assert_eq!(told, "the policy is the same as before\n");
    assert_eq!(daemon.daemon.stop(), Some(0));
    for said in ["b/0.g1: ends", "c/0.g1: ends", "b/0.g2: again", "d/0.g1: come", "d/0.g1: ends"] {
        assert_eq!(daemon.daemon.count(said), 1, "{said}: {}", daemon.daemon);
    }
}

fn refused() {
    let a = || layer("a", "here", "");
    let mut daemon = Reloaded::start(&[a()], &[]);
    let before = daemon.lives();
    let mistakes = [
        ("[layer.b]\nrun = 7\n".to_owned(), "error["),
        (layer("b", "x", "capabilities = [\"CAP_NET_RAW\"]"), "capability"),
        (layer("b", "x", "").replace("@core\"", "@core\", \"ptrace\""), "system call"),
    ];
    for (more, why) in mistakes {
        daemon.write(&[a(), more]);
        let output = daemon.ask("reload", &[]);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(said(&output).contains(why), "{}", said(&output));
        assert!(said(&output).contains("nothing is reloaded"), "{}", said(&output));
        assert_eq!(daemon.lives(), before);
    }
    let other = text("another", &[a()]);
    std::fs::write(&daemon.policy, other).unwrap();
    let output = daemon.ask("reload", &[]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("another `name`"), "{}", said(&output));
    std::fs::remove_file(&daemon.policy).unwrap();
    assert_eq!(daemon.ask("reload", &[]).status.code(), Some(1));
    assert_eq!(daemon.lives(), before);
    daemon.reload(&[a(), layer("b", "here", "")]);
    assert_eq!(daemon.lives()[0], before[0]);
    assert_eq!(daemon.daemon.stop(), Some(0));
}

fn no_gain() {
    let (a, b) = (layer("a", "here", ""), layer("b", "here", ""));
    let daemon = Reloaded::start(std::slice::from_ref(&a), &[]);
    daemon.write(&[a.clone(), b.clone()]);
    let output = daemon.ask("reload", &["--no-gain"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("+ b: a new layer"), "{}", said(&output));
    assert_eq!(daemon.names(), ["a/0.g1"]);
    daemon.reload(&[a.clone(), b]);
    // Less is no gain.
    daemon.write(&[a]);
    let output = daemon.ask("reload", &["--no-gain"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(daemon.names(), ["a/0.g1"]);
}

/// What holds decides, and not what comes: nobody lifts it by a reload.
fn forbidden() {
    let (a, b) = (layer("a", "here", ""), layer("b", "here", ""));
    let (no, yes) = ("[reload]\ngain = false\n".to_owned(), "[reload]\ngain = true\n".to_owned());
    let daemon = Reloaded::start(&[a.clone(), no.clone()], &[]);
    for wanted in
        [vec![a.clone(), b.clone()], vec![a.clone(), b.clone(), yes.clone()], vec![a.clone(), yes]]
    {
        daemon.write(&wanted);
        let output = daemon.ask("reload", &[]);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        let why = "`gain` in [reload] of the present one forbids";
        assert!(said(&output).contains(why), "{}", said(&output));
        assert_eq!(daemon.names(), ["a/0.g1"]);
    }
    // A change that is no gain is none.
    let said = daemon.reload(&[layer("a", "here", "grace = \"5s\""), no]);
    assert!(said.contains("reloaded"), "{said}");
    assert_eq!(daemon.names(), ["a/0.g2"]);
}

/// A layer that tries to read a file, again in each life.
fn taken() {
    let kept = tempfile::tempdir().unwrap();
    let file = kept.path().join("secret");
    std::fs::write(&file, "of old\n").unwrap();
    for path in [kept.path(), &file] {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let file = std::fs::canonicalize(file).unwrap();
    let reads = format!("$(cat {} || echo nothing)", file.display());
    let layer = layer("a", &reads, "").replace("@core\"", "@core\", \"@file-read\"");
    let grant =
        format!("[file.secret]\npath = \"{}\"\ngrant = {{ a = [\"read\"] }}\n", file.display());
    let mut daemon = Reloaded::start(&[layer.clone(), grant.clone()], &[]);
    daemon.daemon.line("a/0.g1: of old");
    let told = daemon.reload(std::slice::from_ref(&layer));
    assert!(told.contains("- a: reads file.secret"), "{told}");
    daemon.daemon.line("a/0.g2: nothing");
    let told = daemon.reload(&[layer, grant]);
    assert!(told.contains("+ a: reads file.secret"), "{told}");
    daemon.daemon.line("a/0.g3: of old");
}

fn signals() {
    let mut daemon = Reloaded::start(&[layer("a", "here", ""), layer("b", "one", "")], &[]);
    let before = daemon.lives();
    daemon.write(&[layer("a", "here", ""), layer("b", "two", "")]);
    kill_process(daemon.daemon.pid(), Signal::HUP).unwrap();
    daemon.daemon.line("b/0.g2: two");
    for word in ["three", "four"] {
        daemon.write(&[layer("a", "here", ""), layer("b", word, "")]);
        kill_process(daemon.daemon.pid(), Signal::HUP).unwrap();
    }
    daemon.daemon.line(": four");
    eventually("the last policy to hold", || daemon.all_run(2));
    assert_eq!(daemon.lives()[0], before[0]);
    assert_eq!(daemon.daemon.stop(), Some(0));
}

fn listener() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listen = format!("listen = {{ door = \"tcp:127.0.0.1:{port}\" }}");
    let daemon = Reloaded::start(&[layer("a", "one", &listen)], &[]);
    let mut waits = TcpStream::connect(("127.0.0.1", port)).unwrap();
    daemon.reload(&[layer("a", "two", &listen)]);
    assert_eq!(daemon.names(), ["a/0.g2"]);
    // Nobody has accepted it, and nobody has let go of it.
    waits.set_nonblocking(true).unwrap();
    let read = waits.read(&mut [0; 8]).map_err(|error| error.kind());
    assert_eq!(read, Err(ErrorKind::WouldBlock));
    // It goes over to another layer with those who wait.
    daemon.reload(&[layer("a", "two", ""), layer("b", "two", &listen)]);
    let read = waits.read(&mut [0; 8]).map_err(|error| error.kind());
    assert_eq!(read, Err(ErrorKind::WouldBlock));
    daemon.reload(&[layer("a", "two", "")]);
    TcpStream::connect(("127.0.0.1", port)).unwrap_err();
    daemon.reload(&[layer("a", "two", &listen)]);
    TcpStream::connect(("127.0.0.1", port)).unwrap();
}

fn copies() {
    let daemon = Reloaded::start(&[layer("a", "here", ""), layer("b", "here", "")], &[]);
    let before = daemon.lives();
    daemon.reload(&[layer("a", "here", "instances = 3"), layer("b", "here", "")]);
    assert_eq!(daemon.names(), ["a/0.g1", "a/1.g1", "a/2.g1", "b/0.g1"]);
    daemon.reload(&[layer("a", "here", "instances = 2"), layer("b", "here", "")]);
    assert_eq!(daemon.names(), ["a/0.g1", "a/1.g1", "b/0.g1"]);
    daemon.reload(&[layer("a", "here", "instances = 3"), layer("b", "here", "")]);
    assert_eq!(daemon.names(), ["a/0.g1", "a/1.g1", "a/2.g2", "b/0.g1"]);
    let after = daemon.lives();
    assert_eq!((&after[0], &after[3]), (&before[0], &before[1]));
}

fn logged() {
    let log = directory();
    let log = log.path().join("log");
    let audit = ["--audit", log.to_str().unwrap()];
    let mut daemon = Reloaded::start(&[layer("a", "here", ""), layer("b", "here", "")], &audit);
    daemon.reload(&[layer("a", "here", ""), layer("c", "here", "")]);
    let new = daemon.status()["policy"].as_str().unwrap().to_owned();
    assert_eq!(daemon.daemon.stop(), Some(0));
    let audit = |verb: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
        let output = command.arg("audit").args(verb).arg(&log).output().unwrap();
        (output.status.code(), said(&output))
    };
    let (code, told) = audit(&["verify"]);
    assert_eq!(code, Some(0), "{told}");
    let (code, told) = audit(&["policy"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("[layer.c]") && !told.contains("[layer.b]"), "{told}");
    let (_, told) = audit(&["query", "--kind", "command"]);
    assert!(told.contains("reload: uid"), "{told}");
    let (_, told) = audit(&["query", "--kind", "policy"]);
    assert!(told.lines().count() >= 2, "{new}: {told}");
    // Whoever is gone keeps its name.
    let (_, told) = audit(&["query", "--kind", "exit"]);
    assert!(told.contains("b/0.g1") && told.contains("c/0.g1"), "{told}");
}

fn stopping() {
    let slow = layer("a", "here", "").replace("exit 0", "sleep 1; exit 0");
    let mut daemon = Reloaded::start(&[slow], &[]);
    daemon.write(&[layer("a", "never", "")]);
    kill_process(daemon.daemon.pid(), Signal::TERM).unwrap();
    kill_process(daemon.daemon.pid(), Signal::HUP).unwrap();
    assert_eq!(daemon.daemon.end(), Some(0), "{}", daemon.daemon);
    assert_eq!(daemon.daemon.count("a/0.g2"), 0, "{}", daemon.daemon);
}

fn killed() {
    let both = |word: &str| [layer("a", "here", ""), layer("b", word, "")];
    let mut daemon = Reloaded::start(&both("0"), &[]);
    for round in 1..6 {
        daemon.write(&both(&format!("round{round}")));
        kill_process(daemon.daemon.pid(), Signal::HUP).unwrap();
        for (_, pid) in daemon.lives() {
            let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap());
            if let Some(pid) = pid {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        daemon.daemon.line(&format!(": round{round}"));
    }
    assert_eq!(daemon.daemon.stop(), Some(0), "{}", daemon.daemon);
}

fn many() {
    let all = |last: &str| -> Vec<String> {
        (0..50)
            .map(|it| layer(&format!("l{it}"), if it == 49 { last } else { "here" }, ""))
            .collect()
    };
    let daemon = Reloaded::start(&all("here"), &[]);
    let before = daemon.lives();
    daemon.reload(&all("other"));
    let after = daemon.lives();
    let same = before.iter().filter(|it| after.contains(it)).count();
    assert_eq!((same, after.len()), (49, 50));
    // Nor is it anything to the framework's own that write no log of it.
    let status = daemon.status();
    let own = status["instances"].as_array().unwrap().iter().filter(|it| it["own"] == true);
    let again: Vec<_> = own.filter(|it| it["generation"] != 1).map(|it| &it["layer"]).collect();
    assert!(again.is_empty(), "{again:?}");
    assert!(daemon.names().contains(&"l49/0.g2".to_owned()));
}

/// Root's daemon raises its limit of descriptors at the start, where nothing of a reload has it.
fn descriptors() {
    let all = |last: &str| -> Vec<String> {
        (0..8).map(|it| layer(&format!("l{it}"), if it == 7 { last } else { "here" }, "")).collect()
    };
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "ulimit -n 1500 && exec \"$0\" run \"$1\""]);
    command.arg(env!("CARGO_BIN_EXE_cofferdam"));
    let daemon = Reloaded::start_by(&all("here"), command);
    daemon.reload(&all("other"));
    assert!(daemon.names().contains(&"l7/0.g2".to_owned()));
}

/// The ends of a channel that stays never notice; those of one that is another begin anew and talk.
fn calls() {
    let policy = |methods: &str, word: &str| {
        let end =
            |name: &str| format!("[layer.{name}]\nrun = \"{name}\"\nsyscalls = [\"@core\"]\n");
        let (ends, other) = (["caller", "callee"].map(end).concat(), layer("other", word, ""));
        format!(
            "{ends}{other}\
             [channel.talk]\nfrom = \"caller\"\nto = \"callee\"\nmethods = [{methods}]\n"
        )
    };
    let mut daemon = Daemon::start("talk", &policy("\"echo\"", "one"));
    daemon.line("answer: hello from callee/0.g1");
    let reload = |daemon: &Daemon, policy: &str| {
        let path = daemon.directory().join("policy.toml");
        std::fs::write(path, format!("cofferdam = 1\nname = \"test\"\n{policy}")).unwrap();
        kill_process(daemon.pid(), Signal::HUP).unwrap();
    };
    for word in ["two", "three"] {
        reload(&daemon, &policy("\"echo\"", word));
        daemon.line("cofferdam: reloaded");
    }
    assert_eq!(daemon.count("answer: lost") + daemon.count("restarted:"), 0, "{daemon}");
    assert_eq!(daemon.count("caller done") + daemon.count("callee done"), 0, "{daemon}");
    reload(&daemon, &policy("\"echo\", \"more\"", "three"));
    daemon.line("caller/0.g2: answer: hello from callee/0.g2");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert_eq!(daemon.count("other/0.g3: three"), 1, "{daemon}");
    assert_eq!(daemon.count("other/0.g4"), 0, "{daemon}");
}
