//! `cofferdam upgrade` and SIGUSR2: another program in the same process, and what it finds there.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rustix::process::{Signal, kill_process};
use serde_json::Value;

use crate::Test;
use crate::harness::{Daemon, directory, eventually};
use crate::reload::{all_run, layer, lives, said};
use crate::support::process::write_policy;

pub(crate) const TESTS: &[Test] = &[
    ("upgrade::the_process_stays_and_every_program_is_another", another),
    ("upgrade::a_program_that_cannot_take_over_changes_nothing", refused),
    ("upgrade::one_that_hangs_is_killed_and_changes_nothing", hanging),
    ("upgrade::whose_file_others_could_write_is_not_executed", unsafe_file),
    ("upgrade::a_policy_that_cannot_hold_changes_nothing", bad_policy),
    ("upgrade::a_new_policy_comes_with_it", with_policy),
    ("upgrade::a_listening_socket_stays", listener),
    ("upgrade::callers_end_before_those_they_call", calls),
    ("upgrade::lives_begin_beside_those_of_before", beside),
    ("upgrade::what_facilities_hold_stays", holds),
    ("upgrade::the_audit_log_goes_on", logged),
    ("upgrade::a_signal_asks_for_it_too", signal),
    ("upgrade::asked_for_twice_it_is_done_twice", twice),
    ("upgrade::a_daemon_that_stops_is_not_upgraded", stopping),
];

/// A daemon whose program is a copy of its own.
struct Upgraded {
    daemon: Daemon,
    name: String,
    program: PathBuf,
    policy: PathBuf,
    runtime: PathBuf,
}

fn text(name: &str, layers: &[String]) -> String {
    format!("cofferdam = 1\nname = \"{name}\"\n{}", layers.concat())
}

/// Puts a program at a path, in the place of the one that is there, as a package manager does.
fn install(at: &Path, bytes: &[u8], mode: u32) {
    let (written, fresh) = (at.with_extension("bytes"), at.with_extension("new"));
    std::fs::write(&written, bytes).unwrap();
    // By another process: one that another test forks just now would hold a file open that we write, and
    // nobody could execute it (`ETXTBSY`).
    let copied = Command::new("cp").args([&written, &fresh]).status().unwrap();
    assert!(copied.success());
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(mode)).unwrap();
    std::fs::rename(&fresh, at).unwrap();
}

fn own() -> Vec<u8> {
    std::fs::read(env!("CARGO_BIN_EXE_cofferdam")).unwrap()
}

impl Upgraded {
    fn start(layers: &[String], flags: &[&str]) -> Self {
        // Beneath the directory for temporary files nobody may run a program: anybody could write there.
        let directory = tempfile::tempdir_in(home()).unwrap();
        let program = directory.path().join("program");
        install(&program, &own(), 0o755);
        let nanos = std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos();
        let name = format!("renewed-{}-{nanos}", std::process::id());
        let policy = write_policy(directory.path(), &text(&name, layers));
        let runtime = directory.path().to_owned();
        let mut command = Command::new(&program);
        command.arg("run").args(flags).arg(&policy).env("XDG_RUNTIME_DIR", &runtime);
        let daemon = Daemon::run(command, directory);
        let upgraded = Self { daemon, name, program, policy, runtime };
        eventually("the layers to run", || {
            upgraded.all_run(layers.iter().filter(|it| it.starts_with("[layer.")).count())
        });
        upgraded
    }

    fn ask(&self, verb: &str, more: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
        command.args([verb, &self.name]).args(more).env("XDG_RUNTIME_DIR", &self.runtime);
        command.output().unwrap()
    }

    /// Installs the program once more, which is another file then, and upgrades.
    fn upgrade(&self) -> String {
        install(&self.program, &own(), 0o755);
        let output = self.ask("upgrade", &[]);
        assert_eq!(output.status.code(), Some(0), "{}{}", said(&output), self.daemon);
        said(&output)
    }

    /// Upgrades to something that can't take over, and gives what was said.
    fn refused(&self) -> String {
        let before = self.lives();
        let output = self.ask("upgrade", &[]);
        assert_eq!(output.status.code(), Some(1), "{}{}", said(&output), self.daemon);
        assert!(said(&output).contains("nothing is upgraded: "), "{}", said(&output));
        assert_eq!(self.lives(), before);
        said(&output)
    }

    fn status(&self) -> Value {
        let output = self.ask("status", &["--format", "json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
    }

    /// The supervisor's process, and the instances of the policy's layers with theirs.
    fn lives(&self) -> (u64, Vec<(String, u64)>) {
        let status = self.status();
        (status["pid"].as_u64().unwrap(), lives(&status))
    }

    fn names(&self) -> Vec<String> {
        self.lives().1.into_iter().map(|it| it.0).collect()
    }

    fn all_run(&self, least: usize) -> bool {
        all_run(&self.ask("status", &["--format", "json"]), least)
    }
}

/// Where nobody else may write, on the whole way.
fn home() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    if is_root() {
        return own.parent().unwrap().to_owned();
    }
    std::env::var_os("HOME").map_or_else(std::env::temp_dir, PathBuf::from)
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether some process runs the program in a file: then nobody may write to it.
fn runs(program: &Path) -> bool {
    match OpenOptions::new().write(true).open(program) {
        Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => true,
        opened => opened.map(|_| false).unwrap(),
    }
}

fn another() {
    let layers = ["a", "b"].map(|name| layer(name, "here", ""));
    let mut daemon = Upgraded::start(&layers, &[]);
    let (pid, lives) = daemon.lives();
    for generation in 2..4 {
        let old = daemon.program.with_extension(format!("old{generation}"));
        std::fs::hard_link(&daemon.program, &old).unwrap();
        assert!(runs(&old));
        let told = daemon.upgrade();
        assert_eq!(told, "upgraded\n");
        let (now, after) = daemon.lives();
        assert_eq!(now, pid);
        let names: Vec<_> = after.iter().map(|it| it.0.clone()).collect();
        assert_eq!(names, [format!("a/0.g{generation}"), format!("b/0.g{generation}")]);
        assert!(after.iter().all(|it| !lives.contains(it)));
        assert!(runs(&daemon.program));
        // Supervisor, steward, helpers: only who answers us may be there a moment longer.
        eventually("nobody to run the old program", || !runs(&old));
    }
    assert_eq!(daemon.ask("reload", &[]).status.code(), Some(0));
    assert_eq!(daemon.daemon.stop(), Some(0));
    for said in ["a/0.g1: ends", "b/0.g2: ends", "a/0.g3: here", "a/0.g3: ends"] {
        assert_eq!(daemon.daemon.count(said), 1, "{said}: {}", daemon.daemon);
    }
    // What it is found by has gone with it.
    assert_ne!(daemon.ask("status", &[]).status.code(), Some(0));
    let registered = daemon.runtime.join("cofferdam/daemons");
    assert!(std::fs::read_dir(registered).is_ok_and(|mut all| all.next().is_none()) || is_root());
}

/// The program with something else where it begins.
fn beginning_with(code: &[u8]) -> Vec<u8> {
    let mut bytes = own();
    let word = |at: usize, bytes: &[u8]| {
        usize::try_from(u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())).unwrap()
    };
    let half =
        |at: usize, bytes: &[u8]| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
    // elf(5): the entry, and the segment that it is in.
    let (entry, headers, size, count) =
        (word(24, &bytes), word(32, &bytes), half(54, &bytes), half(56, &bytes));
    let place = (0..count).map(|it| headers + it * size).find_map(|at| {
        let (offset, start, length) =
            (word(at + 8, &bytes), word(at + 16, &bytes), word(at + 32, &bytes));
        let is_it = bytes[at..at + 4] == [1, 0, 0, 0] && (start..start + length).contains(&entry);
        is_it.then(|| offset + entry - start)
    });
    let place = place.unwrap();
    bytes[place..place + code.len()].copy_from_slice(code);
    bytes
}

fn refused() {
    let mut daemon = Upgraded::start(&[layer("a", "here", "")], &[]);
    let whole = own();
    let other = |path: &str| std::fs::read(path).unwrap();
    // What no processor runs.
    let crashing = beginning_with(&[0; 16]);
    let table = [
        ("nothing", Vec::new(), 0o755, "Exec format error"),
        ("no program", b"not a program".to_vec(), 0o755, "Exec format error"),
        ("half a program", whole[..100_000].to_vec(), 0o755, "took nothing over"),
        ("not to be executed", whole.clone(), 0o644, "not executable"),
        ("one that ends at once", other("/bin/true"), 0o755, "took nothing over"),
        ("one that knows no such arguments", other("/bin/sh"), 0o755, "took nothing over"),
        ("one that crashes", crashing, 0o755, "took nothing over"),
    ];
    for (what, bytes, mode, why) in table {
        install(&daemon.program, &bytes, mode);
        let told = daemon.refused();
        assert!(told.contains(why), "{what}: {told}");
        // The policy still can be read anew, by the program that runs.
        assert_eq!(daemon.ask("reload", &[]).status.code(), Some(0), "{what}");
    }
    std::fs::remove_file(&daemon.program).unwrap();
    let told = daemon.refused();
    assert!(told.contains("it isn't there"), "{told}");
    daemon.upgrade();
    assert_eq!(daemon.names(), ["a/0.g2"]);
    assert_eq!(daemon.daemon.stop(), Some(0));
}

fn hanging() {
    let jump: &[u8] =
        if cfg!(target_arch = "x86_64") { &[0xeb, 0xfe] } else { &[0x00, 0x00, 0x00, 0x14] };
    let mut daemon = Upgraded::start(&[layer("a", "here", "")], &[]);
    install(&daemon.program, &beginning_with(jump), 0o755);
    let told = daemon.refused();
    assert!(told.contains("didn't come to `Daemon::main`"), "{told}");
    eventually("it to be killed", || !runs(&daemon.program));
    daemon.upgrade();
    assert_eq!(daemon.names(), ["a/0.g2"]);
    assert_eq!(daemon.daemon.stop(), Some(0));
}

fn unsafe_file() {
    let daemon = Upgraded::start(&[layer("a", "here", "")], &[]);
    for mode in [0o775, 0o757, 0o777] {
        install(&daemon.program, &own(), mode);
        let told = daemon.refused();
        assert!(told.contains("can change it"), "{told}");
    }
    install(&daemon.program, &own(), 0o755);
    if is_root() {
        std::os::unix::fs::chown(&daemon.program, Some(65534), None).unwrap();
        let told = daemon.refused();
        assert!(told.contains("belongs to user 65534"), "{told}");
    }
    daemon.upgrade();
}

fn bad_policy() {
    let a = || layer("a", "here", "");
    let mut daemon = Upgraded::start(&[a()], &[]);
    let mistakes = [
        (text(&daemon.name, &[a(), "[layer.b]\nrun = 7\n".to_owned()]), "error["),
        (text("another", &[a()]), "another `name`"),
        (text(&daemon.name, &[a()]).replace("cofferdam = 1", "cofferdam = 9"), "cofferdam = 9"),
        (
            text(&daemon.name, &[a(), layer("b", "x", "capabilities = [\"CAP_NET_RAW\"]")]),
            "capability",
        ),
    ];
    for (policy, why) in mistakes {
        std::fs::write(&daemon.policy, policy).unwrap();
        let told = daemon.refused();
        assert!(told.contains(why), "{told}");
    }
    std::fs::write(&daemon.policy, text(&daemon.name, &[a(), layer("b", "here", "")])).unwrap();
    let before = daemon.lives();
    let output = daemon.ask("upgrade", &["--no-gain"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("gains authority"), "{}", said(&output));
    assert_eq!(daemon.lives(), before);
    assert_eq!(daemon.daemon.stop(), Some(0));
}

fn with_policy() {
    let [a, b, c] = ["a", "b", "c"].map(|name| layer(name, "here", ""));
    let mut daemon = Upgraded::start(&[a.clone(), b], &[]);
    std::fs::write(&daemon.policy, text(&daemon.name, &[a.clone(), c])).unwrap();
    let told = daemon.upgrade();
    assert!(told.contains("+ c: a new layer") && told.contains("- b: no layer any more"), "{told}");
    assert_eq!(daemon.names(), ["a/0.g2", "c/0.g1"]);
    // The numbers of what has gone stay taken.
    std::fs::write(&daemon.policy, text(&daemon.name, &[a, layer("b", "again", "")])).unwrap();
    daemon.upgrade();
    assert_eq!(daemon.names(), ["a/0.g3", "b/0.g2"]);
    assert_eq!(daemon.daemon.stop(), Some(0));
}

fn listener() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listen = format!("listen = {{ door = \"tcp:127.0.0.1:{port}\" }}");
    let daemon = Upgraded::start(&[layer("a", "one", &listen)], &[]);
    let mut waits = TcpStream::connect(("127.0.0.1", port)).unwrap();
    for _ in 0..2 {
        daemon.upgrade();
        // Nobody has accepted it, and nobody has let go of it.
        waits.set_nonblocking(true).unwrap();
        let read = waits.read(&mut [0; 8]).map_err(|error| error.kind());
        assert_eq!(read, Err(ErrorKind::WouldBlock));
        TcpStream::connect(("127.0.0.1", port)).unwrap();
    }
}

fn calls() {
    // `after` binds the end as a call does.
    let first = layer("a", "here", "");
    let second = layer("b", "here", "after = [\"a\"]");
    let third = layer("c", "here", "after = [\"b\"]");
    let mut daemon = Upgraded::start(&[first, second, third], &[]);
    daemon.upgrade();
    assert_eq!(daemon.daemon.stop(), Some(0));
    let lines = daemon.daemon.to_string();
    let at = |text: &str| lines.find(text).unwrap_or_else(|| panic!("{text}: {lines}"));
    assert!(at("c/0.g1 ended") < at("b/0.g1 ended"), "{lines}");
    assert!(at("b/0.g1 ended") < at("a/0.g1 ended"), "{lines}");
    assert!(at("a/0.g2 is confined") < at("b/0.g2 is confined"), "{lines}");
}

fn beside() {
    // The callee holds nothing that is there once; the caller asks it all the time.
    let policy = "[layer.caller]\nrun = \"caller\"\nsyscalls = [\"@core\"]\n\
                  [layer.callee]\nrun = \"callee\"\nsyscalls = [\"@core\"]\ninstances = 2\n\
                  [channel.talk]\nfrom = \"caller\"\nto = \"callee\"\nmethods = [\"echo\"]\n";
    let mut daemon = Daemon::start("talk", policy);
    daemon.line("answer: hello from callee/");
    for generation in 2..5 {
        kill_process(daemon.pid(), Signal::USR2).unwrap();
        daemon.line("cofferdam: upgraded");
        // What it prints may come later than that.
        let said = format!("caller/0.g{generation}: answer: hello from callee/");
        eventually("the new caller to be answered", || daemon.seen(&said));
    }
    assert_eq!(daemon.stop(), Some(0));
    let lines = daemon.to_string();
    let at = |text: &str| lines.find(text).unwrap_or_else(|| panic!("{text}: {lines}"));
    assert!(at("callee/1.g2 is confined") < at("caller/0.g1 ended"), "{lines}");
    assert!(at("caller/0.g1 ended") < at("callee/1.g1 ended"), "{lines}");
    // No call was lost, and nobody met a life of another program.
    for other in ["answer: lost", "restarted:", "event:"] {
        assert_eq!(daemon.count(other), 0, "{lines}");
    }
    for (caller, callee) in [(1, 2), (2, 1), (2, 3), (3, 2)] {
        let met = |line: &&str| {
            line.starts_with(&format!("caller/0.g{caller}: answer"))
                && line.ends_with(&format!(".g{callee}"))
        };
        assert_eq!(lines.lines().find(met), None, "{lines}");
    }
}

fn holds() {
    let policy = "[layer.puts]\nrun = \"putting\"\nsyscalls = [\"@core\"]\n\
                  [layer.takes]\nrun = \"finding\"\nsyscalls = [\"@core\"]\n\
                  [queue.jobs]\nsend = [\"puts\"]\nreceive = [\"takes\"]\ndepth = 4\n\
                  max = \"64B\"\npriorities = 1\non-full = \"reject\"\n\
                  [semaphore.turn]\npermits = 1\nholders = [\"puts\"]\nlease = \"1h\"\n\
                  [region.board]\nsize = \"4KiB\"\ngrant = { puts = \"rw\", takes = \"r\" }\n";
    let mut daemon = Daemon::start("holding", policy);
    let fence = |line: &str| -> u64 {
        assert!(line.ends_with("abandoned false"), "{line}");
        let number = line.split("fence ").nth(1).unwrap().split(',').next().unwrap();
        number.parse().unwrap()
    };
    let mut before = fence(&daemon.line("puts/0.g1: fence "));
    for generation in 2..4 {
        kill_process(daemon.pid(), Signal::USR2).unwrap();
        daemon.line("cofferdam: upgraded");
        let own = |text: &str| format!("/0.g{generation}: {text}");
        eventually("all to be taken up", || {
            daemon.seen(&own("fence ")) && daemon.seen(&own("the board: "))
        });
        let lines = daemon.lines();
        let line = |text: &str| lines.iter().find(|it| it.contains(&own(text))).unwrap().clone();
        assert!(line("the board: ").ends_with("Some(\"written by the first\")"), "{lines:?}");
        let now = fence(&line("fence "));
        assert!(now > before, "{lines:?}");
        before = now;
    }
    eventually("the messages to come", || daemon.seen("takes/0.g2: took job 2"));
    assert_eq!(daemon.stop(), Some(0));
    for number in 0..3 {
        assert_eq!(daemon.count(&format!("took job {number}")), 1, "{daemon}");
    }
    assert_eq!(daemon.count("not taken"), 0, "{daemon}");
}

fn logged() {
    let kept = directory();
    let log = kept.path().join("log");
    let flags = ["--audit", log.to_str().unwrap()];
    let mut daemon = Upgraded::start(&[layer("a", "here", "")], &flags);
    let pid = daemon.lives().0;
    for _ in 0..2 {
        daemon.upgrade();
    }
    assert_eq!(daemon.daemon.stop(), Some(0));
    let ask = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
        command.arg("audit").args(arguments).output().unwrap()
    };
    let verified = ask(&["verify", log.to_str().unwrap()]);
    assert_eq!(verified.status.code(), Some(0), "{}", said(&verified));
    let all = ask(&["query", log.to_str().unwrap(), "--format", "json"]);
    let text = String::from_utf8_lossy(&all.stdout).into_owned();
    let records: Vec<Value> = text.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
    let of = |kind: &str| records.iter().filter(|it| it["kind"] == kind).count();
    let upgrades = records.iter().filter(|it| it["kind"] == "command");
    assert_eq!(upgrades.clone().count(), 2, "{pid}: {text}");
    assert!(upgrades.clone().all(|it| it.to_string().contains("upgrade: uid")), "{text}");
    // Three lives of the layer; of the helpers at least as many.
    assert!(of("spawn") >= 9, "{text}");
    assert!(!text.contains("\"lost\""), "{text}");
}

fn signal() {
    let mut daemon = Upgraded::start(&[layer("a", "here", "")], &[]);
    let pid = daemon.lives().0;
    install(&daemon.program, &own(), 0o755);
    kill_process(daemon.daemon.pid(), Signal::USR2).unwrap();
    daemon.daemon.line("cofferdam: upgraded");
    assert_eq!((daemon.lives().0, daemon.names()), (pid, vec!["a/0.g2".to_owned()]));
    // It still obeys, and its signals come to what is there now.
    kill_process(daemon.daemon.pid(), Signal::HUP).unwrap();
    daemon.daemon.line("the policy is the same as before");
    assert_eq!(daemon.daemon.stop(), Some(0));
}

fn twice() {
    let mut daemon = Upgraded::start(&[layer("a", "here", "")], &[]);
    let asked: Vec<_> = (0..3)
        .map(|_| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
            command.args(["upgrade", &daemon.name]).env("XDG_RUNTIME_DIR", &daemon.runtime);
            command.stdout(std::process::Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for asked in asked {
        let output = asked.wait_with_output().unwrap();
        assert_eq!(said(&output), "upgraded\n", "{}", daemon.daemon);
    }
    assert_eq!(daemon.names(), ["a/0.g4"]);
    assert_eq!(daemon.daemon.stop(), Some(0));
}

fn stopping() {
    let stubborn = layer("a", "here", "grace = \"30s\"").replace("exit 0", "sleep 3; exit 0");
    let mut daemon = Upgraded::start(&[stubborn], &[]);
    daemon.daemon.signal(Signal::TERM);
    daemon.daemon.line("stopping");
    let output = daemon.ask("upgrade", &[]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("the daemon stops"), "{}", said(&output));
    assert_eq!(daemon.daemon.end(), Some(0));
}
